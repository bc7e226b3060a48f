//! From a resolved object to programs in the kernel.
//!
//! The order is: types, maps (made, filled, frozen), which is preparing; then programs (verified, several at a time), and what
//! needs both: slots of program arrays and of maps of maps, and the structures of struct_ops.
//!
//! Nothing here fails as a whole that can fail alone. A map that cannot be made takes along the programs that use it; a
//! program that is refused leaves the others. Only what would stop everything (no rights, another byte order) is an error of
//! the load.

pub(crate) mod maps;
mod programs;
mod replace;
pub(crate) mod shape;
mod token;
mod types;
pub(crate) mod verdict;

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use skep_engine::{Error, LoadOptions, Loaded};
use skep_insn::Endian;
use skep_spec::map::{DataKind, MapContents, MapOrigin, Slot};
use skep_spec::resolved::{KernelStructOps, ResolvedProgram};
use skep_spec::{AttachType, Map, MapId, ProgId, Resolved, Spec};
use skep_sys::Errno;
use skep_sys::bpf::{BtfFd, MapInfo, ProgFd, flags};

use crate::map::{KernelMap, failed};
use crate::permission::{self, Tried};
use crate::prepared::CloneOptions;
use crate::target::LiveTarget;

/// What an object is in the kernel. Dropping it lets everything go that nothing else holds.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    /// The object's types; `None` when it has none, or the kernel would not have them.
    pub(crate) btf: Option<BtfFd>,
    /// By the map's number; `None` was not made.
    pub(crate) maps: Vec<Option<KernelMap>>,
    /// By the program's number; `None` was not loaded.
    pub(crate) programs: Vec<Option<ProgFd>>,
    /// The attach type that each program was loaded with, where resolving chose another than the Spec's.
    pub(crate) attach_types: HashMap<ProgId, AttachType>,
    /// What became of each program that is switched on.
    pub(crate) loaded: Vec<Loaded>,
    /// The value of each struct_ops map with its programs in it, to be written when it is attached.
    pub(crate) struct_ops: HashMap<MapId, Vec<u8>>,
    /// What went wrong without keeping a program from loading.
    pub(crate) warnings: Vec<Error>,
}

/// An object whose types and maps are in the kernel, and none of whose programs is.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) objects: Objects,
    /// Why a map was not made.
    missing: HashMap<MapId, Error>,
    token: Option<OwnedFd>,
}

/// Gives types and maps of a resolved object to the kernel.
pub(crate) fn prepare(
    spec: &Spec,
    resolved: &Resolved,
    target: &LiveTarget,
    options: &LoadOptions,
) -> Result<Prepared, Error> {
    if spec.endian != Endian::NATIVE {
        let (object, machine) = match spec.endian {
            Endian::Big => ("big", "little"),
            Endian::Little => ("little", "big"),
        };
        return Err(Error::new(format!(
            "the object is for {object}-endian machines, and this one is {machine}-endian"
        ))
        .with_hint("compile it with `-target bpf`, without `el` or `eb`")
        .with_source(Errno::EINVAL));
    }
    let held = token::open(&options.token)?;
    let token = held.as_ref().map(AsFd::as_fd);
    let mut objects = Objects::default();
    if let Some(bytes) = resolved.btf_for_load(spec) {
        match types::upload(&bytes, token, || target.features().btf_kinds()) {
            Ok(btf) => objects.btf = Some(btf),
            Err(error) if errno_of(&error) == Some(Errno::EPERM) => {
                return Err(permission::explained(error, Tried::Map));
            }
            // Maps and most programs do without.
            Err(error) => objects.warnings.push(error),
        }
    }
    let missing = make_maps(spec, resolved, target, options, token, &mut objects)?;
    Ok(Prepared { objects, missing, token: held })
}

impl Prepared {
    fn loader<'a>(
        &'a self,
        spec: &'a Spec,
        target: &'a LiveTarget,
        options: &LoadOptions,
        replaced: Option<&'a replace::Target>,
    ) -> programs::Loader<'a> {
        programs::Loader {
            spec,
            target,
            token: self.token.as_ref().map(AsFd::as_fd),
            btf: self.objects.btf.as_ref(),
            maps: &self.objects.maps,
            missing: &self.missing,
            keep_logs: options.keep_logs,
            log: options.verifier_log,
            replaced,
        }
    }

    /// Loads one of the programs beside the object's own, changed as `options` say.
    pub(crate) fn load_clone(
        &self,
        spec: &Spec,
        (id, resolved): (ProgId, &ResolvedProgram),
        target: &LiveTarget,
        load: &LoadOptions,
        options: &CloneOptions<'_>,
    ) -> Result<ProgFd, Error> {
        let replaced = replace::Target::find(spec, load.replace)?;
        self.loader(spec, target, load, replaced.as_ref()).load_clone(spec.program(id), resolved, options)
    }

    /// Loads the programs and puts everything into its place.
    pub(crate) fn load(
        mut self,
        spec: &Spec,
        resolved: Resolved,
        target: &LiveTarget,
        options: &LoadOptions,
    ) -> Result<Objects, Error> {
        let replaced = replace::Target::find(spec, options.replace)?;
        let ready: Vec<(ProgId, &ResolvedProgram)> =
            resolved.programs.iter().filter_map(|(id, it)| it.as_ref().ok().map(|it| (*id, it))).collect();
        let outcomes = self.loader(spec, target, options, replaced.as_ref()).load_all(&ready);

        let objects = &mut self.objects;
        objects.programs = spec.programs.iter().map(|_| None).collect();
        let mut outcomes = outcomes.into_iter();
        for (id, program) in resolved.programs {
            let (result, log) = match program {
                Ok(program) => {
                    let slots = program.insns.len() as u32;
                    if let Some(attach_type) = program.attach_type {
                        objects.attach_types.insert(id, attach_type);
                    }
                    match outcomes.next() {
                        Some(outcome) => {
                            let result = outcome.result.map(|fd| {
                                bind_rodata(spec, &objects.maps, &fd);
                                objects.programs[id.0 as usize] = Some(fd);
                                slots
                            });
                            (result, outcome.log)
                        }
                        None => (Err(Error::new(format!("program `{}` was not tried", spec.program(id).name))), None),
                    }
                }
                Err(reason) => (Err(unresolved(reason)), None),
            };
            objects.loaded.push(Loaded { program: id, result, log });
        }
        fill_slots(spec, options, objects);
        for (id, ops) in resolved.struct_ops {
            if let Ok(ops) = ops {
                finish_struct_ops(spec, id, ops, objects);
            }
        }
        Ok(self.objects)
    }
}

/// Makes every map that is switched on. Answers with the reasons of those that could not be made.
fn make_maps(
    spec: &Spec,
    resolved: &Resolved,
    target: &LiveTarget,
    options: &LoadOptions,
    token: Option<BorrowedFd<'_>>,
    objects: &mut Objects,
) -> Result<HashMap<MapId, Error>, Error> {
    let maker = maps::Maker {
        spec,
        options,
        target,
        token,
        btf: objects.btf.as_ref(),
        contents: resolved.contents.iter().map(|(id, data)| (*id, data.as_slice())).collect(),
        programs: &resolved.programs,
        struct_ops: resolved.struct_ops.iter().map(|(id, ops)| (*id, ops.as_ref().map_err(String::as_str))).collect(),
    };
    let mut existing = maps::existing(spec, options)?;
    let mut missing = HashMap::new();
    let mut made = Vec::with_capacity(spec.maps.len());
    for (id, map) in spec.maps() {
        if let Some(existing) = existing.remove(&id) {
            made.push(Some(existing));
            continue;
        }
        // Jump tables are made once per program, with the program.
        let wanted = map.autocreate && !matches!(map.origin, MapOrigin::JumpTable);
        made.push(match wanted.then(|| maker.make(id)) {
            None => None,
            Some(Ok(map)) => Some(map),
            // Without the right to make one map there is none to make any, nor to load programs.
            Some(Err(error)) if errno_of(&error) == Some(Errno::EPERM) => return Err(error),
            Some(Err(error)) => {
                missing.insert(id, error.clone());
                objects.warnings.push(error);
                None
            }
        });
    }
    objects.maps = made;
    Ok(missing)
}

/// Lets a program hold the object's constants though no instruction may name them, so that tools find its metadata (kernel
/// 5.10; older ones do without).
pub(crate) fn bind_rodata(spec: &Spec, maps: &[Option<KernelMap>], prog: &ProgFd) {
    for ((_, map), made) in spec.maps().zip(maps) {
        if let (MapOrigin::Data(section), Some(made)) = (&map.origin, made)
            && section.kind == DataKind::Rodata
        {
            let _ = prog.bind_map(made.as_fd());
        }
    }
}

/// Fills program arrays and maps of maps, except those that were there before.
fn fill_slots(spec: &Spec, options: &LoadOptions, objects: &mut Objects) {
    for (id, map) in spec.maps().filter(|(_, map)| !options.existing_maps.contains_key(&map.name)) {
        let MapContents::Slots(slots) = &map.contents else { continue };
        let Some(made) = objects.maps.get(id.0 as usize).and_then(Option::as_ref) else { continue };
        let mut problems = Vec::new();
        for (index, slot) in slots {
            let (fd, what) = match slot {
                Slot::Map(inner) => (
                    objects.maps.get(inner.0 as usize).and_then(Option::as_ref).map(AsFd::as_fd),
                    format!("map `{}`", spec.map(*inner).name),
                ),
                Slot::Program(program) => (
                    objects.programs.get(program.0 as usize).and_then(Option::as_ref).map(AsFd::as_fd),
                    format!("program `{}`", spec.program(*program).name),
                ),
                Slot::Extern(id) => (None, format!("`{}` of another object", spec.external(*id).name)),
            };
            let Some(fd) = fd else {
                let why = if matches!(slot, Slot::Extern(_)) { "is not linked in" } else { "is not loaded" };
                problems.push(Error::new(format!("slot {index} of map `{}` stays empty: {what} {why}", map.name)));
                continue;
            };
            let value = (fd.as_raw_fd() as u32).to_ne_bytes();
            if let Err(errno) = made.fd().update(&index.to_ne_bytes(), &value, flags::ANY) {
                problems.push(failed(&format!("cannot put {what} into slot {index} of map `{}`", map.name), errno));
            }
        }
        objects.warnings.extend(problems);
    }
}

/// What differs between a map as an object declares it, on this machine, and one that is there; each as `what is this here and that
/// there`.
pub(crate) fn differences(declared: &Map, there: &MapInfo) -> Vec<String> {
    shape::Shape::of(declared).differences(there)
}

/// Puts the descriptors of its programs into the value of a struct_ops map.
fn finish_struct_ops(spec: &Spec, id: MapId, ops: KernelStructOps, objects: &mut Objects) {
    let KernelStructOps { mut data, programs, .. } = ops;
    for (offset, program) in programs {
        let at = offset as usize;
        let Some(fd) = objects.programs.get(program.0 as usize).and_then(Option::as_ref) else {
            objects.warnings.push(Error::new(format!(
                "map `{}` cannot be attached: its member, program `{}`, is not loaded",
                spec.map(id).name,
                spec.program(program).name
            )));
            return;
        };
        if let Some(member) = data.get_mut(at..at + 8) {
            member.copy_from_slice(&(fd.as_fd().as_raw_fd() as u64).to_ne_bytes());
        }
    }
    objects.struct_ops.insert(id, data);
}

pub(crate) fn unresolved(reason: skep_spec::resolve::Error) -> Error {
    let hint = reason.hint.clone();
    let error = Error::new(reason.to_string());
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// An error with its hint, for where it becomes part of another message.
fn one_line(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{error} ({hint})"),
        None => error.to_string(),
    }
}

/// The number that the kernel answered with, when that is among the causes of an error.
pub fn errno_of(error: &Error) -> Option<Errno> {
    let first = std::error::Error::source(error);
    std::iter::successors(first, |cause| cause.source()).find_map(|cause| cause.downcast_ref::<Errno>()).copied()
}
