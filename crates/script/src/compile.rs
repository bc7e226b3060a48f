//! All stages in a row.

use std::collections::HashMap;

use skep_spec::Spec;
use skep_spec::section::SectionTable;

use crate::diagnostic::{Diagnostic, Severity};
use crate::lower::{self, Lowered, Stack};
use crate::plan::{Missing, Plan};
use crate::{Options, SourceId, Sources, Span, Target, check, codegen, expand, parser, passes, typed};

/// Operations of ISA v4 came with this kernel; programs without them run on every kernel that skep supports.
const ISA_V4: u32 = 6 << 16 | 6 << 8;

/// What became of a script.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Programs and maps; empty when a diagnostic is an error.
    pub spec: Spec,
    /// What user space does; empty when a diagnostic is an error.
    pub plan: Plan,
    /// What there is to say, in the order of the stages.
    pub diagnostics: Vec<Diagnostic>,
}

impl Compiled {
    /// Whether the script does not run.
    pub fn has_errors(&self) -> bool {
        has_errors(&self.diagnostics)
    }
}

fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

/// Compiles the script `id` for `target`. What it imports is added to `sources`.
pub fn compile(sources: &mut Sources, id: SourceId, options: &Options, target: &dyn Target) -> Compiled {
    let nothing = |diagnostics| Compiled { spec: Spec::new("skep"), plan: Plan::default(), diagnostics };
    let (script, mut diagnostics) = parser::parse(sources, id);
    if has_errors(&diagnostics) {
        return nothing(diagnostics);
    }
    let (script, mut more) = expand::expand(script, sources, options, target);
    diagnostics.append(&mut more);
    if has_errors(&diagnostics) {
        return nothing(diagnostics);
    }
    let (script, mut more) = check::check(&script, sources, options, target);
    diagnostics.append(&mut more);
    if has_errors(&diagnostics) {
        return nothing(diagnostics);
    }
    if let Some(diagnostic) = without_probes(&script) {
        diagnostics.push(diagnostic);
        return nothing(diagnostics);
    }
    let mut refused = None;
    // The walk of the kernel's stack wants room that the helper does not.
    let plain = Options { walks_kernel_stacks: false, ..options.clone() };
    let without = options.walks_kernel_stacks.then_some((Stack::CHOICES[Stack::CHOICES.len() - 1], &plain));
    for (stack, options) in Stack::CHOICES.into_iter().map(|stack| (stack, options)).chain(without) {
        let mut lowered = lower::lower_within(&script, target, options, stack);
        let mut told = std::mem::take(&mut lowered.diagnostics);
        if has_errors(&told) {
            diagnostics.append(&mut told);
            return nothing(diagnostics);
        }
        let origins = origins(&script, &lowered);
        match assemble(lowered, sources, target) {
            Ok((spec, plan)) => {
                diagnostics.append(&mut told);
                return Compiled { spec, plan, diagnostics };
            }
            // Only of what the script asks too much there can be less.
            Err(error) => {
                let is_last = error.hint.is_none();
                refused = Some(explain(error, &origins));
                if is_last {
                    break;
                }
            }
        }
    }
    diagnostics.extend(refused);
    nothing(diagnostics)
}

/// Nobody means a script without probes, unless they may be missing on some machines.
fn without_probes(script: &typed::Script) -> Option<Diagnostic> {
    if !script.probes.is_empty() || script.config.missing_probes != Missing::Error {
        return None;
    }
    let mut diagnostic = Diagnostic::error(Span::default(), "No probes to attach")
        .with_hint("a probe is a place and what to do there: `begin { print(\"hello\"); }`");
    diagnostic.span = None;
    Some(diagnostic)
}

/// Where in the script each function comes from: its probe, or the first thing that it was made for.
fn origins(script: &typed::Script, lowered: &Lowered) -> HashMap<String, Span> {
    let mut origins = HashMap::new();
    for function in &lowered.module.functions {
        let spans = function
            .blocks
            .iter()
            .flat_map(|block| block.insns.iter().map(|insn| insn.span).chain(std::iter::once(block.end_span)));
        if let Some(span) = spans.into_iter().find(|span| *span != Span::default()) {
            origins.insert(function.name.clone(), span);
        }
    }
    for (entry, program) in lowered.entries.iter().zip(&lowered.plan.programs) {
        let probe = script.probes.iter().find(|probe| probe.index == program.probe);
        let function = lowered.module.functions.get(entry.func.0 as usize);
        if let (Some(probe), Some(function)) = (probe, function) {
            origins.insert(function.name.clone(), probe.span);
        }
    }
    origins
}

/// What a person can do about an error of code generation. Scripts that passed the checks fail there for want of stack, or because
/// something is wrong with the compiler itself.
fn explain(error: codegen::Error, origins: &HashMap<String, Span>) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(Span::default(), error.to_string());
    diagnostic.span = origins.get(&error.function).copied();
    match error.hint {
        Some(hint) => diagnostic.with_hint(hint),
        None => {
            diagnostic.message = format!("this is a bug of skep, not of the script: {error}");
            diagnostic.with_hint("report it with the script, and with what `skep --version` and `uname -rm` print")
        }
    }
}

/// Turns what was lowered into a whole Spec: optimizes, generates code, and makes the programs.
///
/// # Errors
///
/// When a function does not fit the machine: too much stack.
pub fn assemble(lowered: Lowered, sources: &Sources, target: &dyn Target) -> Result<(Spec, Plan), codegen::Error> {
    let Lowered { mut module, mut spec, plan, entries, .. } = lowered;
    passes::run(&mut module);
    let isa = if target.kernel_version() >= ISA_V4 { 4 } else { 3 };
    let functions = codegen::generate(&module, &mut spec, sources, &codegen::Options { isa })?;
    let table = SectionTable::new();
    for entry in entries {
        let id = functions[entry.func.0 as usize];
        let meaning = table.lookup(&entry.section);
        spec.functions[id.0 as usize].section.clone_from(&entry.section);
        spec.programs.push(skep_spec::Program {
            attach_type: meaning.attach_type,
            attach_type_required: meaning.attach_type_required,
            flags: meaning.flags,
            attach: meaning.attach,
            ..skep_spec::Program::new(&entry.name, id, &entry.section, meaning.prog_type)
        });
    }
    Ok((spec, plan))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SourceId;

    #[test]
    fn a_fault_of_the_compiler_says_so_and_where() {
        let span = Span { source: SourceId(0), start: 3, end: 9 };
        let origins = HashMap::from([("probe".to_owned(), span)]);
        let fault = codegen::Error { function: "probe".to_owned(), message: "no register".to_owned(), hint: None };
        let told = explain(fault, &origins);
        assert_eq!(told.span, Some(span));
        assert_eq!(told.message, "this is a bug of skep, not of the script: function `probe`: no register");
        assert!(told.hints.concat().contains("report it"), "{told:?}");
    }
}
