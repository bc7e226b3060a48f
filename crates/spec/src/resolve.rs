//! Resolving: from a [`Spec`] and a [`Target`] to a [`Resolved`].
//!
//! The steps, each in a module of its own:
//!
//! 1. **What is needed** (`needs`): the functions that the wanted programs reach, and all names that they ask the kernel's
//!    types for: roots of CO-RE records, externs, attach targets, struct_ops. The types are scanned once for all of them;
//!    modules are only looked at for what the kernel proper does not have.
//! 2. **CO-RE** (`relocate`): every record is answered once per function ([`skep_btf::core`]), whatever the number of
//!    programs that contain it, in the order of the object.
//! 3. **Externs** (`externs`, `kconfig`): kernel configuration values into the `.kconfig` map, typed kernel symbols and
//!    kernel functions to BTF ids, typeless ones to addresses with one question for all.
//! 4. **Attach targets** (`attach`) and **struct_ops** (`struct_ops`).
//! 5. **Linking** (`link`), per program: functions laid out one after the other, calls and references made good; types of
//!    arguments marked `__arg_ctx` put as old kernels want them (`arg_ctx`).
//!
//! # The order of functions
//!
//! The entry comes first. Its instructions are walked in order; at the first call of a function, or the first time that
//! its address is taken, that function is appended and walked at once, before the caller goes on. So a function stands
//! where its first use by depth-first order puts it. The order is libbpf's (`bpf_object__reloc_code`), so that the bytes
//! sent to the kernel are the same. A function named by an `exception_callback:` tag of the entry comes last.
//!
//! # What is missing
//!
//! Something absent must not keep a program from loading whose code checks for it first. So a CO-RE question without an
//! answer, a weak kernel function that is absent and a map that is switched off turn the instructions that need them into
//! calls of helpers that no kernel has: [`core::POISON`], [`POISON_KFUNC`] and [`POISON_MAP`]. The verifier removes them
//! when they cannot be reached, and else complains about `invalid func unknown#N`, from which [`poison_reason`] makes the
//! true reason.

use std::fmt;

use skep_btf::{Btf, core};

use crate::resolved::{Explanation, Outcome};
use crate::target::{Feature, TargetError};
use crate::{ExternId, MapId, Resolved, Spec, Target};

mod arg_ctx;
mod attach;
mod externs;
mod kconfig;
mod link;
mod needs;
mod relocate;
mod struct_ops;
mod types;

pub(crate) use attach::wanted;

/// Helper number that stands for a load of a map that is switched off, plus the map's number.
pub const POISON_MAP: i32 = 2_001_000_000;

/// Helper number that stands for a call of a kernel function that is absent, plus its number among the externs in libbpf's
/// order (configuration values first, then by name).
pub const POISON_KFUNC: i32 = 2_002_000_000;

/// How many numbers follow [`POISON_MAP`] and [`POISON_KFUNC`].
const POISON_SPAN: i32 = 1_000_000;

/// Why one program has no instructions for this target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Name of the program.
    pub program: String,
    /// What is missing or wrong, lower case.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program `{}`: {}", self.program, self.message)
    }
}

impl std::error::Error for Error {}

/// What is missing or wrong, before it is known which programs suffer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    message: String,
    hint: Option<String>,
}

impl Problem {
    fn new(message: impl Into<String>) -> Problem {
        Problem { message: message.into(), hint: None }
    }

    fn hint(self, hint: impl Into<Option<String>>) -> Problem {
        Problem { hint: hint.into(), ..self }
    }
}

/// Fits an object to a machine. Programs that are switched off are left out; a program that cannot be fitted has its reason
/// in the result and does not harm the others.
///
/// Asks the target only for what the wanted programs need, so an object without CO-RE, externs and typed attach targets
/// never makes it read the kernel's types.
pub fn resolve(spec: &Spec, target: &dyn Target) -> Resolved {
    let needs = needs::Needs::of(spec);
    let mut types = types::Types::new(target);
    let mut resolver = spec.btf.as_ref().map(core::Resolver::new);
    if let Some(resolver) = &mut resolver {
        needs.declare(spec, resolver, &mut types);
    }
    let functions = relocate::relocate(spec, &needs, resolver.as_mut(), &mut types);
    let externs = externs::resolve(spec, &needs, target, &mut types);
    let struct_ops = struct_ops::resolve(spec, &mut types);

    let mut arg_ctx = arg_ctx::ArgCtx::new(spec, target);
    let mut programs = Vec::with_capacity(needs.programs.len());
    for &id in &needs.programs {
        let program = spec.program(id);
        let result = link::link(spec, program, &functions, &externs.values, target)
            .and_then(|mut linked| {
                attach::attach(program, id, target, &mut types, &struct_ops, &mut linked)?;
                let fixed = arg_ctx.fix(program.prog_type, &mut linked.functions);
                fixed.map_err(|err| Problem::new(format!("the types of its functions are damaged: {err}")))?;
                Ok(linked)
            })
            .map_err(|it| Error { program: program.name.clone(), message: it.message, hint: it.hint });
        programs.push((id, result));
    }
    let struct_ops = struct_ops.into_iter().map(|it| (it.map, it.result.map(|it| it.kernel).map_err(|it| it.message)));
    Resolved { programs, contents: externs.contents, struct_ops: struct_ops.collect(), btf: arg_ctx.finish() }
}

/// The true reason behind `invalid func unknown#N` in a verifier log, where `N` is `helper` and `insn` the instruction that
/// the log complains about; `None` when the number is none of ours.
pub fn poison_reason(spec: &Spec, explanations: &[Explanation], insn: u32, helper: i32) -> Option<String> {
    if helper == core::POISON {
        return explanations.iter().find(|it| it.insn.0 == insn).and_then(|it| match &it.outcome {
            Outcome::Poisoned { refused } => Some(format!("this kernel has no {}: {}", it.asked, refused.join("; "))),
            _ => None,
        });
    }
    if let Some(number) = helper.checked_sub(POISON_MAP).filter(|it| (0..POISON_SPAN).contains(it)) {
        let name = spec.maps.get(number as usize).map(|map| map.name.as_str())?;
        return Some(format!("map `{name}` is switched off"));
    }
    let number = helper.checked_sub(POISON_KFUNC).filter(|it| (0..POISON_SPAN).contains(it))?;
    let id = (0..spec.externs.len() as u32).map(ExternId).find(|&id| poison_number(spec, id) == number as usize)?;
    Some(format!("this kernel has no function `{}`", spec.external(id).name))
}

/// The number of an extern in libbpf's order: configuration values first, then by name.
fn poison_number(spec: &Spec, id: ExternId) -> usize {
    let key = |it: &crate::Extern| (!matches!(it.kind, crate::ExternKind::Kconfig { .. }), it.name.clone());
    let own = key(spec.external(id));
    spec.externs.iter().filter(|it| key(it) < own).count()
}

/// The map that holds the kernel's configuration.
fn kconfig_map(spec: &Spec) -> Option<MapId> {
    spec.maps().find(|(_, map)| map.origin == crate::map::MapOrigin::Kconfig).map(|(id, _)| id)
}

/// For fuzzers and mutation tests: a machine whose types are the object's own, so that hostile types stand on both sides
/// and almost every name is found. It has one module with the same names, every symbol and every feature but one.
pub(crate) struct Mirror<'s>(pub(crate) &'s Spec);

impl Target for Mirror<'_> {
    fn kernel_version(&self) -> u32 {
        0x60c00
    }

    fn btf(&self) -> Result<Option<Btf>, TargetError> {
        Ok(self.0.btf.clone())
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        Ok(vec!["mirror".to_string()])
    }

    fn module_btf(&self, _: &str) -> Result<Option<Btf>, TargetError> {
        Ok(self.0.btf.clone())
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        Ok(names.iter().map(|name| Some(name.len() as u64)).collect())
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        Ok(names.iter().map(|name| Some(["y", "m", "-5", "\"text\""][name.len() % 4].to_string())).collect())
    }

    fn supports(&self, feature: Feature) -> bool {
        feature != Feature::ArgCtxTag
    }
}
