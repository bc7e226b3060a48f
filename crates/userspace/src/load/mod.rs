//! From a resolved object to programs of the machine.
//!
//! As in the kernel's engine, nothing fails as a whole that can fail alone: a map that this machine has not takes along the
//! programs that use it, and a program that calls what is not to be had leaves the others.

mod maps;
mod programs;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use skep_engine::{Error, Loaded};
use skep_insn::Endian;
use skep_spec::map::{MapContents, MapOrigin, Slot};
use skep_spec::resolved::{Explanation, Resolved};
use skep_spec::{MapId, Spec, Target, resolve};
use skep_sys::cpu;
use skep_vm::{Block, Machine, Program};

use crate::map::{UserMap, failed};
use crate::target::{UserTarget, helpers};

/// A program that can run.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) program: Arc<Program>,
    /// Why instructions are poisoned.
    pub(crate) explanations: Vec<Explanation>,
    /// Jump tables, which it reads.
    #[expect(dead_code, reason = "held for the program")]
    tables: Vec<Block>,
}

/// What an object is in this machine.
#[derive(Debug)]
pub(crate) struct Objects {
    pub(crate) machine: Arc<Machine>,
    /// By the map's number; `None` was not made.
    pub(crate) maps: Vec<Option<UserMap>>,
    /// By the program's number; `None` was not loaded.
    pub(crate) programs: Vec<Option<Ready>>,
    pub(crate) loaded: Vec<Loaded>,
    /// What went wrong without keeping a program from loading.
    pub(crate) warnings: Vec<Error>,
}

pub(crate) fn load(spec: &Spec, target: &dyn Target) -> Result<Objects, Error> {
    if spec.endian != Endian::NATIVE {
        return Err(Error::new("the object is for machines of the other byte order")
            .with_hint("compile it with `-target bpf`, without `el` or `eb`"));
    }
    let resolved = resolve::resolve(spec, &UserTarget::new(target, spec.btf.as_ref()));
    // Two at least: events may come from more than one thread.
    let cpus = cpu::possible_count().max(2) as u32;
    let machine = Machine::with_cpus(helpers(poison(&resolved)), cpus)
        .map_err(|error| Error::new(format!("cannot set up the machine in user space: {error}")))?;
    let mut objects =
        Objects { machine, maps: Vec::new(), programs: Vec::new(), loaded: Vec::new(), warnings: Vec::new() };
    let missing = make_maps(spec, &resolved, &mut objects);
    objects.programs = spec.programs.iter().map(|_| None).collect();
    for (id, program) in resolved.programs {
        let result = match program {
            Err(reason) => {
                let error = Error::new(reason.to_string());
                Err(match reason.hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                })
            }
            Ok(resolved) => {
                let slots = resolved.insns.len() as u32;
                programs::load(spec, id, resolved, &objects, &missing).map(|ready| {
                    objects.programs[id.0 as usize] = Some(ready);
                    slots
                })
            }
        };
        objects.loaded.push(Loaded { program: id, result, log: None });
    }
    fill_slots(spec, &mut objects);
    Ok(objects)
}

/// Numbers of helpers that stand for what the target has not.
fn poison(resolved: &Resolved) -> BTreeSet<u32> {
    let programs = resolved.programs.iter().filter_map(|(_, program)| program.as_ref().ok());
    let numbers = programs.flat_map(|program| &program.insns).filter_map(|insn| insn.helper());
    numbers.filter(|number| *number >= skep_btf::core::POISON as u32).collect()
}

/// Makes every map that is switched on. Answers with the reasons of those that could not be made.
fn make_maps(spec: &Spec, resolved: &Resolved, objects: &mut Objects) -> HashMap<MapId, String> {
    let contents: HashMap<MapId, &[u8]> = resolved.contents.iter().map(|(id, data)| (*id, data.as_slice())).collect();
    let mut missing = HashMap::new();
    for (id, map) in spec.maps() {
        let wanted = map.autocreate && !matches!(map.origin, MapOrigin::JumpTable);
        let made =
            match wanted.then(|| maps::make(&objects.machine, spec.btf.as_ref(), map, contents.get(&id).copied())) {
                None => None,
                Some(Ok(made)) => Some(UserMap::new(made, objects.machine.space().clone())),
                Some(Err(error)) => {
                    missing.insert(id, error.to_string());
                    objects.warnings.push(error);
                    None
                }
            };
        objects.maps.push(made);
    }
    missing
}

/// Fills program arrays and maps of maps.
fn fill_slots(spec: &Spec, objects: &mut Objects) {
    let mut problems = Vec::new();
    for (id, map) in spec.maps() {
        let MapContents::Slots(slots) = &map.contents else { continue };
        if objects.maps.get(id.0 as usize).and_then(Option::as_ref).is_none() {
            continue;
        }
        for (index, slot) in slots {
            if let Err(error) = objects.set_slot(spec, id, *index, *slot) {
                problems.push(error);
            }
        }
    }
    objects.warnings.extend(problems);
}

impl Objects {
    pub(crate) fn made(&self, spec: &Spec, id: MapId) -> Result<&UserMap, Error> {
        let made = self.maps.get(id.0 as usize).and_then(Option::as_ref);
        made.ok_or_else(|| Error::new(format!("map `{}` was not created", spec.map(id).name)))
    }

    /// Puts a map or a program into a map.
    pub(crate) fn set_slot(&self, spec: &Spec, id: MapId, index: u32, slot: Slot) -> Result<(), Error> {
        let made = self.made(spec, id)?.map();
        let into = |what: &str| format!("cannot put {what} into slot {index} of map `{}`", spec.map(id).name);
        match slot {
            Slot::Map(inner) => {
                let what = into(&format!("map `{}`", spec.map(inner).name));
                let inner = self.made(spec, inner)?.map().id();
                made.update(&index.to_ne_bytes(), &inner.to_ne_bytes(), 0).map_err(|error| failed(&what, error))
            }
            Slot::Program(program) => {
                let name = &spec.program(program).name;
                let ready = self.programs.get(program.0 as usize).and_then(Option::as_ref);
                let ready = ready.ok_or_else(|| {
                    Error::new(format!(
                        "slot {index} of map `{}` stays empty: program `{name}` is not loaded",
                        spec.map(id).name
                    ))
                })?;
                let put = made.set_program(index, Some(ready.program.clone()));
                put.map_err(|error| failed(&into(&format!("program `{name}`")), error))
            }
            Slot::Extern(_) => Err(Error::new(into("what is not linked in"))),
        }
    }
}
