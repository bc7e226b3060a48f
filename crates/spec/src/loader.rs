//! Loader programs: an object as one program that loads it from inside the kernel.
//!
//! Since 5.14 a program of type `syscall` may make bpf(2) calls itself (`bpf_sys_bpf`, kernel/bpf/syscall.c, 6.18). So the whole
//! work of a loader can be written down ahead as instructions and data: [`generate`] does that, once and on any machine, and
//! whoever has the result needs no ELF, no BTF and no CO-RE to load the object, but only to run one program. libbpf calls the
//! result a light skeleton (`gen_loader.c`); it is also what can be signed, since nothing changes it on its way to the kernel.
//!
//! # The two parts
//!
//! *Data* is one array map with one value, the *blob*: types, names, instructions, first values of data sections, and an
//! attribute (`union bpf_attr`) for every call, complete but for what only the run can tell, which are addresses inside the
//! blob, descriptors and BTF numbers.
//!
//! *Instructions* are straight-line code over the blob. Each step tells the context its number, fills in what its attribute
//! lacks, makes the call, and ends the program with the error when there is one. A step is one of:
//!
//! | step | call | fills in |
//! |---|---|---|
//! | types | `BTF_LOAD` | the address of the bytes |
//! | map | `MAP_CREATE` (before it one for the template of a map of maps) | descriptors of types and template |
//! | contents | `MAP_UPDATE_ELEM`, and `MAP_FREEZE` for constants | map, key, value |
//! | extern | `bpf_btf_find_by_name_kind`, `bpf_kallsyms_lookup_name` | the instructions that refer to it |
//! | program | `PROG_LOAD`, before it the search for what it attaches to | every address, types, place |
//! | slot | `MAP_UPDATE_ELEM` | map, and program or map as the value |
//!
//! # What the instructions of programs look like
//!
//! A map is named by its place in a table of descriptors (`BPF_PSEUDO_MAP_IDX`, `_VALUE`), which is in the blob too: no
//! instruction changes for it. An extern stands in its absent form (zero, or a call that no kernel has), and is put right when
//! it is found. CO-RE records are given to the kernel as they are (`core_relos`, 5.17), which answers them from its own types.
//!
//! # The context
//!
//! | offset | | |
//! |---|---|---|
//! | 0 | `u32` | the step that was begun last, out |
//! | 8 | `u32`, `u32`, `u64` | level, size and address of the buffer for the verifier's log, in |
//! | 24 | `i32` each | descriptors that were made, out: maps, programs, others; -1 before |
//!
//! Descriptors belong to the process that ran the program, which closes those it does not want, also after an error.
//!
//! # Sealed loader programs
//!
//! [`seal`] puts a check in front: the program ends at once unless its data has the SHA-256 that stands in its own instructions. The
//! kernel (6.18) computes that of a frozen map when it is asked for it, and keeps it in the map, where programs may read it. So who trusts the
//! instructions trusts all of it, and a signature of the instructions (PKCS#7, [`Seal::signature`]), which the kernel checks
//! against a keyring, is one of all that is loaded. It is none of what stands beside the loader program: by the object in front of it, `skep run` and
//! `skep load` know names, types of events and where programs are attached. Nothing in the data can be fitted to a machine then: values of the kernel's configuration and
//! settings are refused, buffers have their size from the start.
//!
//! # What cannot be written down
//!
//! What depends on more than bpf(2) calls: struct_ops (whose layout differs between kernels), arenas with globals, pinned maps,
//! maps for one program, jump tables, freplace. [`generate`] refuses these by name, with the way out.
//!
//! Values of the kernel's configuration are data that whoever runs the program puts in, like the values of settings
//! ([`LoaderMap::value`]).

use std::collections::BTreeMap;

use skep_btf::Kind;
use skep_insn::{Endian, RawInsn};

use crate::digest::sha256;
use crate::external::ExternKind;
use crate::function::RefTarget;
use crate::map::{DataKind, MapContents, MapOrigin, Pinning, Slot};
use crate::resolve::{self, wanted};
use crate::resolved::{BindTarget, ResolvedProgram};
use crate::target::{Feature, TargetError};
use crate::{AttachPoint, Error, ExternId, Map, MapId, MapType, ProgId, Program, Spec, Target};

mod code;
mod file;

use code::{Blob, Code, MAP_CREATE, MAP_FREEZE, MAP_UPDATE_ELEM, MAX_FDS, PROG_LOAD};

pub use code::{CTX_FDS, CTX_LOG};
pub use file::{TRAILER, attach, detach, is_attached};

/// A loader program for one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderProgram {
    /// Instructions of a sleepable `syscall` program whose `fd_array` holds the map with [`LoaderProgram::data`].
    pub insns: Vec<RawInsn>,
    /// The value of that map.
    pub data: Vec<u8>,
    /// One for each map of the Spec; `None` where the object leaves it out.
    pub maps: Vec<Option<LoaderMap>>,
    /// How many programs the Spec has; their descriptors follow those of the maps.
    pub programs: u32,
    /// How many descriptors there are in all.
    pub fds: u32,
    /// What each step does, by its number.
    pub steps: Vec<Step>,
    /// Set by [`seal`].
    pub seal: Option<Seal>,
}

/// What goes with a loader program that runs on its own data only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seal {
    /// A detached PKCS#7 message about the instructions, in DER; empty when nobody has signed.
    pub signature: Vec<u8>,
}

/// Where a map stands in the data. What depends on the machine (the size of a page, the number of CPUs) may be changed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderMap {
    /// Offset of its `BPF_MAP_CREATE` attribute.
    pub attr_off: u32,
    /// Offset and length of its first value in bytes, for data sections and values of the kernel's configuration. The latter are
    /// zero here: only the machine that runs the program can tell them.
    pub value: Option<(u32, u32)>,
}

/// What a step of a loader program is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The object's types.
    Types,
    /// A map is made.
    Map(MapId),
    /// A map gets its first value.
    Contents(MapId),
    /// A name is looked up.
    Extern(ExternId),
    /// What a program attaches to is looked up.
    Place(ProgId),
    /// A program is loaded.
    Program(ProgId),
    /// A slot of a map is filled.
    Slot(MapId),
}

impl LoaderProgram {
    /// Bytes of the context that the program wants.
    pub fn context_len(&self) -> usize {
        (CTX_FDS as usize + 4 * self.fds as usize).next_multiple_of(8)
    }
}

/// Writes down how an object is loaded.
///
/// # Errors
///
/// When the object needs something that cannot be written down (see the module's text), by the name of what needs it; and when
/// it has no types though the kernel is to answer its CO-RE records.
pub fn generate(spec: &Spec) -> Result<LoaderProgram, Error> {
    if spec.endian != Endian::NATIVE {
        return Err(Error::new("a loader program is for the byte order of the machine that makes it"));
    }
    refuse(spec)?;
    let types = spec.btf_for_load();
    let linked = link(spec)?;
    let mut writer = Writer {
        spec,
        types: types.as_deref().unwrap_or_default(),
        blob: Blob::default(),
        code: Code::default(),
        fd_array: 0,
        modules: 0,
        fds: (spec.maps.len() + spec.programs.len()) as u32,
        btf_fd: None,
        license: 0,
        steps: Vec::new(),
    };
    let kfuncs: usize = linked.iter().map(|(_, program)| externs_of(spec, program).count()).sum();
    // Place 0 of the table means the kernel itself to a call of a kernel function.
    writer.modules = spec.maps.len().max(1) as u32;
    writer.fd_array = writer.blob.reserve((writer.modules as usize + kfuncs) * 4);
    let license = [spec.license.as_deref().unwrap_or_default().as_bytes(), &[0]].concat();
    writer.license = writer.blob.bytes(&license);
    writer.types();
    let maps = spec.maps().map(|(id, map)| map.autocreate.then(|| writer.map(id, map))).collect();
    for (id, program) in &linked {
        writer.program(*id, program)?;
    }
    for (id, map) in spec.maps() {
        writer.slots(id, map);
    }
    writer.code.end();
    if writer.fds > MAX_FDS {
        return Err(Error::new(format!(
            "a loader program makes at most {MAX_FDS} descriptors, and this object needs {}",
            writer.fds
        )));
    }
    Ok(LoaderProgram {
        insns: writer.code.finish(),
        data: writer.blob.finish(),
        maps,
        programs: spec.programs.len() as u32,
        fds: writer.fds,
        steps: writer.steps,
        seal: None,
    })
}

/// As [`generate`], sealed: the program refuses any other data than its own. Needs kernel 6.18 to run.
///
/// # Errors
///
/// As those of [`generate`], and when a value of the object is known only on the machine that loads it.
pub fn seal(spec: &Spec) -> Result<LoaderProgram, Error> {
    /// A page nearly everywhere.
    const PAGE: u32 = 4096;
    /// More processors than there are.
    const CPUS: u32 = 4096;
    let mut whole = spec.clone();
    for map in whole.maps.iter_mut().filter(|map| map.autocreate) {
        match map.map_type {
            _ if map.origin == MapOrigin::Kconfig => {
                return Err(Error::new("a sealed loader program cannot hold values of the kernel's configuration")
                    .about(&map.name)
                    .hint("build it without a seal"));
            }
            MapType::RINGBUF | MapType::USER_RINGBUF => {
                map.max_entries = map.max_entries.max(PAGE).checked_next_power_of_two().unwrap_or(1 << 31);
            }
            MapType::PERF_EVENT_ARRAY if map.max_entries == 0 => map.max_entries = CPUS,
            _ => {}
        }
    }
    let mut loader = generate(&whole)?;
    loader.insns = [code::check_digest(&sha256(&loader.data)), loader.insns].concat();
    loader.seal = Some(Seal::default());
    Ok(loader)
}

/// What a loader program cannot do.
fn refuse(spec: &Spec) -> Result<(), Error> {
    let no = |what: &str, name: &str, instead: &str| {
        let way_out = format!("{instead}load the object itself");
        Err(Error::new(format!("a loader program cannot hold {what}")).about(name).hint(way_out))
    };
    for map in spec.maps.iter().filter(|map| map.autocreate) {
        match (&map.origin, &map.contents) {
            (MapOrigin::StructOps, _) => {
                return no("struct_ops, whose layout differs between kernels", &map.name, "");
            }
            (MapOrigin::Arena(_), _) => {
                return no("globals of an arena", &map.name, "allocate them from a program, or ");
            }
            (MapOrigin::JumpTable, _) => {
                return no("jump tables", &map.name, "compile with `-fno-jump-tables`, or ");
            }
            _ if map.pinning != Pinning::None => {
                return no("maps that are pinned by their names", &map.name, "take away the map's `pinning`, or ");
            }
            _ if map.exclusive_to.is_some() => {
                return no("maps for one program alone", &map.name, "share the map, or ");
            }
            _ => {}
        }
    }
    for program in spec.programs.iter().filter(|program| program.autoload) {
        if matches!(program.attach, AttachPoint::Freplace { .. }) {
            return no("programs that replace a function of another", &program.name, "");
        }
    }
    Ok(())
}

/// The programs with their functions in one piece, every reference to a map symbolic and every extern absent.
fn link(spec: &Spec) -> Result<Vec<(ProgId, ResolvedProgram)>, Error> {
    let mut plain = spec.clone();
    for function in &mut plain.functions {
        function.core_relos.clear();
    }
    for external in plain.externs.iter_mut().filter(|it| !it.kind.is_of_object()) {
        external.weak = true;
    }
    for program in &mut plain.programs {
        // What it attaches to is looked up by the kernel.
        program.prog_type = crate::ProgType::SOCKET_FILTER;
        program.attach = AttachPoint::None;
    }
    let resolved = resolve::resolve(&plain, &Nowhere);
    let whole = |(id, program): (ProgId, Result<ResolvedProgram, resolve::Error>)| match program {
        Ok(program) => Ok((id, program)),
        Err(error) => {
            let problem = Error::new(error.message).about(&error.program);
            Err(match error.hint {
                Some(hint) => problem.hint(hint),
                None => problem,
            })
        }
    };
    resolved.programs.into_iter().map(whole).collect()
}

/// A machine that says nothing: what it has is found out when the loader program runs there.
struct Nowhere;

impl Target for Nowhere {
    fn kernel_version(&self) -> u32 {
        0x5_0e_00
    }

    fn btf(&self) -> Result<Option<skep_btf::Btf>, TargetError> {
        Ok(None)
    }

    fn modules(&self) -> Result<Vec<String>, TargetError> {
        Ok(Vec::new())
    }

    fn module_btf(&self, _: &str) -> Result<Option<skep_btf::Btf>, TargetError> {
        Ok(None)
    }

    fn symbols(&self, names: &[&str]) -> Result<Vec<Option<u64>>, TargetError> {
        Ok(vec![None; names.len()])
    }

    fn kconfig(&self, names: &[&str]) -> Result<Vec<Option<String>>, TargetError> {
        Ok(vec![None; names.len()])
    }

    fn supports(&self, feature: Feature) -> bool {
        feature != Feature::UprobeMulti
    }
}

/// Instructions of a program that refer to externs.
fn externs_of<'a>(spec: &'a Spec, program: &'a ResolvedProgram) -> impl Iterator<Item = (u32, ExternId)> + 'a {
    program.layout.iter().flat_map(|(start, id)| {
        spec.function(*id).references.iter().filter_map(|reference| match reference.target {
            RefTarget::Extern(external) | RefTarget::ExternCall(external) => {
                Some((start.0 + reference.insn.0, external))
            }
            _ => None,
        })
    })
}

struct Writer<'a> {
    spec: &'a Spec,
    types: &'a [u8],
    blob: Blob,
    code: Code,
    /// Descriptors of the maps by their numbers, then those of modules' types.
    fd_array: u32,
    /// The next free place in it.
    modules: u32,
    fds: u32,
    /// Which descriptor the types are.
    btf_fd: Option<u32>,
    license: u32,
    steps: Vec<Step>,
}

impl Writer<'_> {
    fn step(&mut self, step: Step) {
        self.code.step(self.steps.len() as u32);
        self.steps.push(step);
    }

    /// A place for one more descriptor in the context.
    fn another_fd(&mut self) -> u32 {
        self.fds += 1;
        self.fds - 1
    }

    fn types(&mut self) {
        if self.types.is_empty() {
            return;
        }
        self.step(Step::Types);
        let bytes = self.blob.bytes(self.types);
        let attr = self.blob.reserve(28);
        self.blob.put(attr + 16, self.types.len() as u32);
        self.code.store_address(attr, bytes);
        self.code.call(code::BTF_LOAD, attr, 28);
        let fd = self.another_fd();
        self.code.keep_fd(fd);
        self.btf_fd = Some(fd);
    }

    /// The attribute of a map.
    fn map_attr(&mut self, map: &Map) -> u32 {
        let attr = self.blob.reserve(72);
        let words = [map.map_type.0, map.key_size, map.value_size, map.max_entries, map.flags];
        for (at, word) in (attr..).step_by(4).zip(words) {
            self.blob.put(at, word);
        }
        if let Some(node) = map.numa_node {
            self.blob.put(attr + 16, map.flags | 1 << 2);
            self.blob.put(attr + 24, node);
        }
        self.blob.name(attr + 28, &map.name);
        self.blob.put(attr + 64, map.map_extra as u32);
        self.blob.put(attr + 68, (map.map_extra >> 32) as u32);
        attr
    }

    fn map(&mut self, id: MapId, map: &Map) -> LoaderMap {
        self.step(Step::Map(id));
        let template = map.inner.as_deref().map(|inner| {
            let attr = self.map_attr(inner);
            self.blob.put(attr + 28, 0);
            self.code.call(MAP_CREATE, attr, 72);
            let fd = self.another_fd();
            self.code.keep_fd(fd);
            fd
        });
        let attr = self.map_attr(map);
        if let Some(template) = template {
            self.code.store_fd(attr + 20, template);
        }
        let value_type = match &map.origin {
            MapOrigin::Data(section) => map.value_type.or(section.datasec),
            _ => map.value_type,
        };
        if let Some(btf) = self.btf_fd
            && map.map_type.takes_types()
            // Only data sections may leave out the key's type (`map_check_btf`, kernel/bpf/syscall.c).
            && (map.key_type.is_some() || matches!(map.origin, MapOrigin::Data(_)) && value_type.is_some())
        {
            self.code.store_fd(attr + 48, btf);
            self.blob.put(attr + 52, map.key_type.map_or(0, |id| id.0));
            self.blob.put(attr + 56, value_type.map_or(0, |id| id.0));
        }
        self.code.call(MAP_CREATE, attr, 72);
        self.code.keep_fd(id.0);
        self.code.store_fd(self.fd_array + 4 * id.0, id.0);
        let has_value = matches!(map.origin, MapOrigin::Data(_) | MapOrigin::Kconfig);
        let value = has_value.then(|| self.contents(id, map));
        LoaderMap { attr_off: attr, value }
    }

    fn contents(&mut self, id: MapId, map: &Map) -> (u32, u32) {
        self.step(Step::Contents(id));
        let mut bytes = map.initial_value().unwrap_or_default();
        bytes.resize(map.value_size as usize, 0);
        let value = self.blob.bytes(&bytes);
        self.update(id, 0, value, 0);
        let constant = match &map.origin {
            MapOrigin::Data(section) => section.kind == DataKind::Rodata,
            origin => *origin == MapOrigin::Kconfig,
        };
        if constant {
            let attr = self.blob.reserve(4);
            self.code.store_fd(attr, id.0);
            self.code.call(MAP_FREEZE, attr, 4);
        }
        (value, map.value_size)
    }

    fn update(&mut self, map: MapId, index: u32, value: u32, update_flags: u32) {
        let key = self.blob.bytes(&index.to_ne_bytes());
        let attr = self.blob.reserve(32);
        self.blob.put(attr + 24, update_flags);
        self.code.store_fd(attr, map.0);
        self.code.store_address(attr + 8, key);
        self.code.store_address(attr + 16, value);
        self.code.call(MAP_UPDATE_ELEM, attr, 32);
    }

    fn slots(&mut self, id: MapId, map: &Map) {
        let MapContents::Slots(slots) = &map.contents else { return };
        if !map.autocreate {
            return;
        }
        for (index, slot) in slots {
            let fd = match slot {
                Slot::Map(inner) if self.spec.map(*inner).autocreate => inner.0,
                Slot::Program(program) if self.spec.program(*program).autoload => self.program_fd(*program),
                _ => continue,
            };
            self.step(Step::Slot(id));
            let value = self.blob.reserve(4);
            self.code.store_fd(value, fd);
            self.update(id, *index, value, 0);
        }
    }

    fn program_fd(&self, id: ProgId) -> u32 {
        self.spec.maps.len() as u32 + id.0
    }

    fn program(&mut self, id: ProgId, linked: &ResolvedProgram) -> Result<(), Error> {
        let program = self.spec.program(id);
        let mut insns = linked.insns.clone();
        for bind in &linked.binds {
            let Some(insn) = insns.get_mut(bind.insn.0 as usize) else { continue };
            (insn.src_reg, insn.imm) = match &bind.target {
                BindTarget::Map(map) => (skep_insn::consts::BPF_PSEUDO_MAP_IDX, map.0 as i32),
                BindTarget::MapValue(map) => (skep_insn::consts::BPF_PSEUDO_MAP_IDX_VALUE, map.0 as i32),
                _ => continue,
            };
        }
        self.core_form(linked, &mut insns);
        let code = self.blob.bytes(&skep_insn::slots_to_bytes(&insns, Endian::NATIVE));
        for (at, external) in externs_of(self.spec, linked).collect::<Vec<_>>() {
            let insn = insns.get(at as usize).copied().unwrap_or_default();
            self.external(external, code + 8 * at, insn)?;
        }
        let attr = self.blob.reserve(144);
        for (at, word) in [
            (0, program.prog_type.0),
            (4, insns.len() as u32),
            (40, self.spec.kernel_version.unwrap_or(0)),
            (44, program.flags),
            (68, program.attach_type.map_or(0, |it| it.0)),
        ] {
            self.blob.put(attr + at, word);
        }
        self.blob.name(attr + 48, &program.name);
        self.place(id, program, attr)?;
        self.step(Step::Program(id));
        self.code.store_address(attr + 8, code);
        self.code.store_address(attr + 16, self.license);
        self.code.store_address(attr + 120, self.fd_array);
        self.code.store_log(attr + 24);
        self.records(program, linked, attr)?;
        self.code.call(PROG_LOAD, attr, 144);
        self.code.keep_fd(self.program_fd(id));
        Ok(())
    }

    /// Instructions that CO-RE records are about go to the kernel as the compiler made them.
    fn core_form(&self, linked: &ResolvedProgram, insns: &mut [RawInsn]) {
        for (start, id) in &linked.layout {
            let function = self.spec.function(*id);
            for relo in &function.core_relos {
                let (to, from) = ((start.0 + relo.insn.0) as usize, relo.insn.0 as usize);
                if let (Some(to), Some(from)) = (insns.get_mut(to), function.insns.get(from)) {
                    *to = *from;
                }
            }
        }
    }

    /// Types of functions, source lines and CO-RE records.
    fn records(&mut self, program: &Program, linked: &ResolvedProgram, attr: u32) -> Result<(), Error> {
        let mut relos: Vec<[u32; 4]> = Vec::new();
        let mut offsets: BTreeMap<&str, u32> = BTreeMap::new();
        for (start, id) in &linked.layout {
            for relo in &self.spec.function(*id).core_relos {
                let access = match offsets.get(relo.access.as_str()) {
                    Some(&known) => known,
                    None => {
                        let found = code::string_offset(self.types, relo.access.as_bytes()).ok_or_else(|| {
                            Error::new("the object's types lack the access string of a CO-RE record")
                                .about(&program.name)
                        })?;
                        offsets.insert(&relo.access, found);
                        found
                    }
                };
                relos.push([(start.0 + relo.insn.0) * 8, relo.type_id.0, access, relo.kind]);
            }
        }
        let Some(btf) = self.btf_fd else { return Ok(()) };
        if linked.functions.is_empty() {
            return match relos.is_empty() {
                true => Ok(()),
                false => Err(Error::new("its functions have no types, so the kernel answers no CO-RE records")
                    .about(&program.name)
                    .hint("compile it with `-g`")),
            };
        }
        self.code.store_fd(attr + 72, btf);
        let words = |all: &mut dyn Iterator<Item = u32>| all.flat_map(u32::to_ne_bytes).collect::<Vec<u8>>();
        let functions = words(&mut linked.functions.iter().flat_map(|it| [it.insn.0, it.type_id.0]));
        let lines =
            words(&mut linked.lines.iter().flat_map(|it| [it.insn.0, it.file_name_off, it.line_off, it.line_col]));
        let relos = words(&mut relos.iter().flatten().copied());
        // Where the size of a record, the address of all and their number are.
        for (bytes, size, [size_at, address_at, count_at]) in
            [(functions, 8, [76, 80, 88]), (lines, 16, [92, 96, 104]), (relos, 16, [136, 128, 116])]
        {
            if bytes.is_empty() {
                continue;
            }
            let place = self.blob.bytes(&bytes);
            self.blob.put(attr + size_at, size);
            self.blob.put(attr + count_at, bytes.len() as u32 / size);
            self.code.store_address(attr + address_at, place);
        }
        Ok(())
    }

    /// The type that a program attaches to.
    fn place(&mut self, id: ProgId, program: &Program, attr: u32) -> Result<(), Error> {
        let Some(wanted) = wanted(program) else {
            return match program.prog_type {
                crate::ProgType::TRACING | crate::ProgType::LSM => {
                    Err(Error::new("its section does not say what to attach to").about(&program.name))
                }
                _ => Ok(()),
            };
        };
        self.step(Step::Place(id));
        let name = self.blob.string(&wanted.name);
        self.code.find_type(name, wanted.name.len() as u32 + 1, wanted.kind);
        self.code.fail_if_negative();
        let fd = self.another_fd();
        self.code.store_type(attr + 108, attr + 112, fd);
        Ok(())
    }

    /// Puts what an extern is into the instruction at `at`.
    fn external(&mut self, id: ExternId, at: u32, insn: RawInsn) -> Result<(), Error> {
        let external = self.spec.external(id);
        let name = skep_btf::core::essential_name(&external.name);
        match external.kind {
            ExternKind::Kfunc { .. } if !insn.is_wide() => {
                self.step(Step::Extern(id));
                let (place, len) = (self.blob.string(name), name.len() as u32 + 1);
                self.code.find_type(place, len, Kind::FUNC);
                let (fd, slot) = (self.another_fd(), self.modules);
                self.modules += 1;
                let slot_at = self.fd_array + 4 * slot;
                let index =
                    i16::try_from(slot).map_err(|_| Error::new("more kernel functions than a call can name"))?;
                self.code.patch_call(at, insn.dst_reg, external.weak, fd, slot_at, index);
            }
            // Whether a kernel function exists is asked by a load of its address.
            ExternKind::TypedKsym { .. } | ExternKind::Kfunc { .. } => {
                self.step(Step::Extern(id));
                let kind = if matches!(external.kind, ExternKind::Kfunc { .. }) { Kind::FUNC } else { Kind::VAR };
                let (place, len) = (self.blob.string(name), name.len() as u32 + 1);
                self.code.find_type(place, len, kind);
                let fd = self.another_fd();
                self.code.patch_variable(at, insn.dst_reg, external.weak, fd);
            }
            ExternKind::TypelessKsym => {
                self.step(Step::Extern(id));
                let (place, len) = (self.blob.string(&external.name), external.name.len() as u32 + 1);
                self.code.find_symbol(place, len);
                self.code.patch_address(at, external.weak);
            }
            // Linking made it a load from the map that holds them.
            ExternKind::Kconfig { .. } => {}
            // Weak, or linking would have complained: absent.
            ExternKind::Function { .. } | ExternKind::Variable { .. } | ExternKind::Map { .. } => {}
        }
        Ok(())
    }
}

impl MapType {
    /// Whether the kernel lets a map of this type have types for its key and value (libbpf's `bpf_object__create_map`, 1.8).
    pub fn takes_types(self) -> bool {
        ![
            MapType::PERF_EVENT_ARRAY,
            MapType::CGROUP_ARRAY,
            MapType::STACK_TRACE,
            MapType::ARRAY_OF_MAPS,
            MapType::HASH_OF_MAPS,
            MapType::DEVMAP,
            MapType::DEVMAP_HASH,
            MapType::CPUMAP,
            MapType::XSKMAP,
            MapType::SOCKMAP,
            MapType::SOCKHASH,
            MapType::ARENA,
            MapType::RINGBUF,
            MapType::USER_RINGBUF,
        ]
        .contains(&self)
    }
}
