//! All stages in a row.

use skep_spec::Spec;
use skep_spec::section::SectionTable;

use crate::diagnostic::{Diagnostic, Severity};
use crate::lower::{self, Lowered};
use crate::plan::Plan;
use crate::{Options, SourceId, Sources, Span, Target, check, codegen, expand, parser, passes};

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
    let lowered = lower::lower(&script, target, options);
    match assemble(lowered, sources, target) {
        Ok((spec, plan)) => Compiled { spec, plan, diagnostics },
        Err(error) => {
            let mut diagnostic = Diagnostic::error(Span::default(), error.to_string());
            diagnostic.span = None;
            diagnostic.hints.extend(error.hint);
            diagnostics.push(diagnostic);
            nothing(diagnostics)
        }
    }
}

/// Turns what was lowered into a whole Spec: optimizes, generates code, and makes the programs.
///
/// # Errors
///
/// When a function does not fit the machine: too much stack.
pub fn assemble(lowered: Lowered, sources: &Sources, target: &dyn Target) -> Result<(Spec, Plan), codegen::Error> {
    let Lowered { mut module, mut spec, plan, entries } = lowered;
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
