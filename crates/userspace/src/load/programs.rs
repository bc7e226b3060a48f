//! Programs of an object: their references bound, taken by the machine, compiled where it can.

use std::collections::HashMap;

use skep_engine::{Error, ErrorKind};
use skep_insn::InsnIdx;
use skep_spec::resolved::{BindTarget, Explanation, Outcome, ResolvedProgram};
use skep_spec::{ExternKind, MapId, ProgId, ProgType, Program, Spec};
use skep_vm::{Block, Image, Line, LoadErrorKind};

use super::{Objects, Ready};

/// What has the rest.
const KERNEL: &str = "the kernel has it: run with `--engine kernel` as root";

/// Loads one program. `missing` are the maps that could not be made, and why.
pub(super) fn load(
    spec: &Spec,
    id: ProgId,
    resolved: ResolvedProgram,
    objects: &Objects,
    missing: &HashMap<MapId, String>,
) -> Result<Ready, Error> {
    let program = spec.program(id);
    if let Some(needs) = foreign(program.prog_type) {
        return Err(refer(program, &format!("programs of type {} need {needs}", program.prog_type))
            .with_kind(ErrorKind::Unsupported)
            .with_hint(KERNEL));
    }
    let mut tables = Vec::new();
    let mut binds = Vec::with_capacity(resolved.binds.len());
    for bind in &resolved.binds {
        let value = match &bind.target {
            BindTarget::Map(map) => made(spec, program, objects, missing, *map)?.handle(),
            BindTarget::MapValue(map) => {
                let made = made(spec, program, objects, missing, *map)?;
                let start = made.value_addr().ok_or_else(|| {
                    refer(program, &format!("map `{}` has no value whose address could be taken", spec.map(*map).name))
                })?;
                let second = resolved.insns.get(bind.insn.0 as usize + 1);
                start.wrapping_add(second.map_or(0, |insn| u64::from(insn.imm as u32)))
            }
            BindTarget::JumpTable { targets, .. } => {
                let table = jump_table(program, objects, targets)?;
                let addr = table.addr();
                tables.push(table);
                addr
            }
            BindTarget::ModuleKsym { module } | BindTarget::ModuleKfunc { module } => {
                return Err(refer(program, &format!("it needs the kernel's module `{module}`"))
                    .with_kind(ErrorKind::Unsupported)
                    .with_hint(KERNEL));
            }
        };
        binds.push((bind.insn, value));
    }
    let lines = lines(spec, &resolved);
    let kfuncs: Vec<(InsnIdx, &str)> = resolved.explanations.iter().filter_map(|it| called(spec, it)).collect();
    let image = Image { name: &program.name, insns: &resolved.insns, lines: &lines, binds: &binds, kfuncs: &kfuncs };
    let loaded = objects.machine.load(&image).map_err(|error| {
        let named = named(spec, &resolved, &error);
        let absent = matches!(
            error.kind,
            LoadErrorKind::HelperNotHere { .. } | LoadErrorKind::Kfunc { .. } | LoadErrorKind::Unbound { .. }
        );
        let told = refer(program, &named);
        if absent { told.with_kind(ErrorKind::Unsupported).with_hint(KERNEL) } else { told }
    })?;
    // Where there is no compiler, or no memory for code, it is interpreted.
    let _ = loaded.compile();
    Ok(Ready { program: loaded, explanations: resolved.explanations, tables })
}

/// The function of the kernel that an instruction calls, whether the target has it or not.
fn called<'s>(spec: &'s Spec, explanation: &Explanation) -> Option<(InsnIdx, &'s str)> {
    let (Outcome::Found { external, .. } | Outcome::Absent { external }) = explanation.outcome else { return None };
    let external = spec.external(external);
    matches!(external.kind, ExternKind::Kfunc { .. }).then_some((explanation.insn, external.name.as_str()))
}

/// Types whose programs mean nothing without the kernel: what they need.
fn foreign(of: ProgType) -> Option<&'static str> {
    match of {
        ProgType::STRUCT_OPS => Some("a structure of the kernel that calls them"),
        ProgType::EXT => Some("a program in the kernel, of which they replace a function"),
        _ => None,
    }
}

/// What is wrong, with the name of the kernel's thing in place of its number.
fn named(spec: &Spec, resolved: &ResolvedProgram, error: &skep_vm::LoadError) -> String {
    let external = resolved.explanations.iter().find(|it| it.insn == error.at).and_then(|it| match it.outcome {
        Outcome::Found { external, .. } => Some(&spec.external(external).name),
        _ => None,
    });
    let place = error.line.as_ref().map(|line| format!(" ({}:{}: `{}`)", line.file, line.line, line.text.trim()));
    let place = place.unwrap_or_default();
    match (&error.kind, external) {
        (LoadErrorKind::Kfunc { .. }, Some(name)) => {
            format!("instruction {}: calls `{name}`, a function of the kernel{place}", error.at)
        }
        (LoadErrorKind::Unbound { .. }, Some(name)) => {
            format!("instruction {}: needs `{name}`, a variable of the kernel{place}", error.at)
        }
        _ => error.to_string(),
    }
}

fn made<'o>(
    spec: &Spec,
    program: &Program,
    objects: &'o Objects,
    missing: &HashMap<MapId, String>,
    id: MapId,
) -> Result<&'o skep_vm::Map, Error> {
    if let Some(made) = objects.maps.get(id.0 as usize).and_then(Option::as_ref) {
        return Ok(made.map());
    }
    Err(match missing.get(&id) {
        Some(reason) => refer(program, reason).with_kind(ErrorKind::Unsupported),
        None => refer(program, &format!("it needs map `{}`, which is switched off", spec.map(id).name)),
    })
}

/// Where an indirect jump may lead: 8 bytes for each entry.
fn jump_table(program: &Program, objects: &Objects, targets: &[InsnIdx]) -> Result<Block, Error> {
    let table = objects.machine.space().allocate(8 * targets.len() as u64, false);
    let table = table.map_err(|error| refer(program, &format!("no room for a jump table: {error}")))?;
    for (index, target) in (0u64..).zip(targets) {
        let written = table.write(8 * index, &skep_vm::Program::code_addr(*target).to_ne_bytes());
        debug_assert!(written.is_some(), "the table has as many entries");
    }
    Ok(table)
}

fn lines(spec: &Spec, resolved: &ResolvedProgram) -> Vec<Line> {
    let Some(btf) = &spec.btf else { return Vec::new() };
    let lines = resolved.lines.iter().filter_map(|line| {
        let file = btf.string_lossy(line.file_name_off).ok()?;
        let file = file.rsplit('/').next().unwrap_or_default().to_owned();
        let text = btf.string_lossy(line.line_off).ok()?.trim().to_owned();
        Some(Line { insn: line.insn, file, line: line.line(), column: line.column(), text })
    });
    lines.collect()
}

fn refer(program: &Program, reason: &str) -> Error {
    Error::new(format!("program `{}` ({}): {reason}", program.name, program.section))
}
