//! CO-RE records applied to functions.

use skep_btf::CoreReloKind;
use skep_btf::core::{Patched, Resolver, patch};
use skep_insn::RawInsn;

use super::Problem;
use super::needs::{Needs, relo};
use super::types::Types;
use crate::Spec;
use crate::function::{CoreRelo, Function};
use crate::resolved::{Explanation, Outcome};

/// A function with its CO-RE records applied.
pub(super) struct Fitted {
    pub(super) insns: Vec<RawInsn>,
    /// Instructions count from the function's start.
    pub(super) explanations: Vec<Explanation>,
    /// Why no program can contain it.
    pub(super) problem: Option<Problem>,
}

/// Applies the records of all needed functions, in the order of the object. `None` for functions that are not needed.
pub(super) fn relocate(
    spec: &Spec,
    needs: &Needs,
    resolver: Option<&mut Resolver<'_>>,
    types: &mut Types<'_>,
) -> Vec<Option<Fitted>> {
    let needed = |index: usize| needs.functions[index];
    // Numbers of the object's own types need nobody else's.
    let asks = |it: &CoreRelo| CoreReloKind(it.kind) != CoreReloKind::TYPE_ID_LOCAL;
    let any = spec.functions.iter().enumerate().any(|(at, it)| needed(at) && it.core_relos.iter().any(asks));
    let mut resolver = resolver;
    let no_types = match &mut resolver {
        Some(resolver) if any => offer(resolver, types).err(),
        Some(_) => None,
        None => Some(Problem::new("the object has CO-RE records but no types (BTF)")),
    };
    let fit = |(index, function): (usize, &Function)| {
        needed(index).then(|| {
            let mut fitted = Fitted { insns: function.insns.clone(), explanations: Vec::new(), problem: None };
            match (&mut resolver, &no_types) {
                (_, Some(problem)) if function.core_relos.iter().any(asks) => fitted.problem = Some(problem.clone()),
                (Some(resolver), _) => apply(spec, function, resolver, &mut fitted),
                (None, _) => {}
            }
            fitted
        })
    };
    spec.functions.iter().enumerate().map(fit).collect()
}

fn offer(resolver: &mut Resolver<'_>, types: &mut Types<'_>) -> Result<(), Problem> {
    if let Some(core) = types.core() {
        resolver.offer(&core.btf, &core.found);
        return Ok(());
    }
    let kernel = types.kernel()?;
    resolver.offer(&kernel.btf, &kernel.found);
    if resolver.needs_modules()
        // Without the right to list modules there are none to find anything in.
        && let Ok(modules) = types.modules()
    {
        for (name, scanned) in modules {
            resolver.offer_module(name, &scanned.btf, &scanned.found);
        }
    }
    Ok(())
}

fn apply(spec: &Spec, function: &Function, resolver: &mut Resolver<'_>, fitted: &mut Fitted) {
    for record in &function.core_relos {
        let failed = |err: &dyn std::fmt::Display, asked: Option<&str>| {
            let about = match asked {
                Some(asked) => format!(" for {asked}"),
                None => String::new(),
            };
            let at = place(spec, function, record);
            Problem::new(format!("{at}: CO-RE relocation `{}`{about}: {err}", relo(record).kind))
        };
        let found = match resolver.resolve(&relo(record)) {
            Ok(found) => found,
            Err(err) => {
                fitted.problem = Some(failed(&err, None));
                return;
            }
        };
        let patched = match patch(&mut fitted.insns, record.insn.0 as usize, &found.answer) {
            Ok(patched) => patched,
            Err(err) => {
                fitted.problem = Some(failed(&err, Some(&found.asked)));
                return;
            }
        };
        let mut refused = found.refused;
        let outcome = match patched {
            Patched::Value(value) => match found.matched {
                Some(candidate) => Outcome::Matched { candidate, value },
                None => Outcome::AbsentType { value, refused },
            },
            Patched::PoisonedAbsent => Outcome::Poisoned { refused },
            Patched::PoisonedWidth => {
                refused.extend(found.matched.map(|candidate| {
                    let (from, to) = found.answer.resize.unwrap_or_default();
                    format!("{candidate} has {to} bytes instead of {from}, and is not an unsigned number or a pointer in both")
                }));
                Outcome::Poisoned { refused }
            }
        };
        fitted.explanations.push(Explanation { insn: record.insn, asked: found.asked, outcome });
    }
}

/// `function `f`, instruction 12 (prog.bpf.c:34)`.
fn place(spec: &Spec, function: &Function, record: &CoreRelo) -> String {
    let mut text = format!("function `{}`, instruction {}", function.name, record.insn);
    let before = function.lines.partition_point(|line| line.insn <= record.insn);
    if let Some(line) = before.checked_sub(1).map(|at| &function.lines[at])
        && let Some(btf) = &spec.btf
        && let Ok(file) = btf.string_lossy(line.file_name_off)
    {
        text += &format!(" ({file}:{})", line.line());
    }
    text
}
