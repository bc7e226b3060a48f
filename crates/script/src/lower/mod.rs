//! From what a script means to programs: [`lower`] turns a [`typed::Script`] into a [`Module`] of the intermediate
//! form, the maps of a Spec, and the [`Plan`] for user space.
//!
//! # Where values live
//!
//! A scalar is one SSA value of 64 bits, always extended as its type says: by its sign when it is signed, with zeroes when
//! not. Everything larger lies in a `Place`: on the stack while it is at most `on_stack_limit` bytes (and the
//! function has stack left), else in *scratch*. Values are made directly where they are wanted (a map's key, a record of the
//! ring buffer), so most large values are never copied.
//!
//! **Scratch** is an array map with four elements for each processor. Programs interleave on one processor:
//! a raw tracepoint fires inside a uprobe's program, and a uprobe's program may be preempted by another one. So a program does
//! not own the scratch of its processor, it *takes* one of the elements: the first u64 of an element counts who wants it, and
//! only who raised it from 0 has it. Taking is not nested (a preempted program may come back after the one that preempted it
//! was itself preempted), hence counters and not a depth. A program that finds no element free gives up and counts a loss.
//! It is taken before the first statement that needs it, and given back at the program's only exit.
//!
//! # Variables
//!
//! A scalar variable has an 8-byte stack slot; the passes turn slots whose address is not taken into values. Variables that
//! are used in a loop lie in the *frame*, see below. A variable is set to zero at the start unless its first use is an
//! assignment that every other use comes after (`uses`).
//!
//! # Loops
//!
//! `while` and `for range` call `bpf_loop` (kernel 5.17), `for map` calls `bpf_for_each_map_elem` (5.13). The body becomes a
//! function of its own, which gets the address of the frame: one stack slot of the outermost function with everything that a
//! body may need: the scratch pointer, the context, the flag that says "the program returned", and variables. The verifier
//! follows pointers that are spilled there. `break` is the callback's result 1, `continue` is 0, `return` sets the flag and
//! breaks; whoever called the loop looks at the flag.
//!
//! # Maps
//!
//! | script | map | update |
//! | --- | --- | --- |
//! | `@ = v` | array of one | store |
//! | `@[k] = v` | hash of `max_map_keys` | `bpf_map_update_elem` |
//! | `@++`, `@[k] += v` | the same | atomic add; insert a zero with `BPF_NOEXIST` first when the key is new |
//! | `@ = count()` and its relatives | per-CPU array of one | load, add, store |
//! | `@[k] = count()` | per-CPU hash | the same, with the insert |
//!
//! Aggregations are not atomic where nothing of the same kind can come between (tracepoints, kprobes, perf events run with
//! preemption off), and atomic where it can (uprobes, fentry). A map that is both printed and cleared has two generations,
//! and a u64 in `.data` says which one programs write.
//!
//! # What fails
//!
//! A helper's error never ends a program. Each place in the script has a number ([`Site`]); the functions in
//! `shared` count it and send a record the first time. A record that the ring buffer has no room for is
//! counted for its probe.

mod aggregate;
mod builtin;
mod call;
mod context;
mod expr;
mod loops;
mod map;
mod memory;
mod orc;
mod place;
mod plan;
mod record;
mod shared;
mod stack;
mod statement;
mod string;
mod task;
mod unwind;
mod uses;

pub(crate) use self::context::stack_argument;

use std::collections::HashMap;

use skep_insn::Endian;
use skep_spec::map::{BPF_F_RDONLY_PROG, DataKind, DataSection, MapContents, MapOrigin};
use skep_spec::{Map, MapId, MapType, Spec};

use crate::ir::{self, FuncRef, Module};
use crate::plan::{KernelStacks, Parameter, ParameterKind, Plan, Site};
use crate::{Diagnostic, Options, Span, Target, typed};

/// What comes out: everything but the code itself.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Functions.
    pub module: Module,
    /// Maps; no functions and no programs yet.
    pub spec: Spec,
    /// What user space does. Its programs are in the order of [`Lowered::entries`], which are the Spec's programs to be.
    pub plan: Plan,
    /// Programs.
    pub entries: Vec<Entry>,
    /// What this machine's kernel has not.
    pub diagnostics: Vec<Diagnostic>,
}

/// A function that the kernel enters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which; several entries may share one.
    pub func: FuncRef,
    /// Name of the program.
    pub name: String,
    /// Section, as [`SectionTable`](skep_spec::section::SectionTable) reads it.
    pub section: String,
}

/// How much stack functions may use for values that are larger than a register; the rest of the 512 bytes, which all functions
/// of a chain of calls share, is for spills and for what they call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    program_bytes: u32,
    callback_bytes: u32,
}

impl Stack {
    /// From what suits most scripts to nothing: who does not fit with one may fit with the next.
    pub const CHOICES: [Stack; 3] = [
        Stack { program_bytes: 224, callback_bytes: 96 },
        Stack { program_bytes: 96, callback_bytes: 32 },
        Stack { program_bytes: 0, callback_bytes: 0 },
    ];
}

/// Lowers a script without errors for `target`.
pub fn lower(script: &typed::Script, target: &dyn Target, options: &Options) -> Lowered {
    lower_within(script, target, options, Stack::CHOICES[0])
}

/// The same with less on the stack, and more in scratch.
pub fn lower_within(script: &typed::Script, target: &dyn Target, options: &Options, stack: Stack) -> Lowered {
    let mut unit = Unit::new(script, target, options, stack);
    unit.maps();
    unit.subprograms();
    for probe in &script.probes {
        unit.probe(probe);
    }
    unit.finish()
}

/// A script on its way.
pub(crate) struct Unit<'a> {
    script: &'a typed::Script,
    target: &'a dyn Target,
    options: &'a Options,
    stack: Stack,
    module: Module,
    spec: Spec,
    plan: Plan,
    entries: Vec<Entry>,
    maps: Vec<map::Storage>,
    /// Functions for [`typed::FunctionRef`], in their order.
    subprograms: Vec<FuncRef>,
    shared: HashMap<shared::Shared, FuncRef>,
    rodata: Data,
    data: Data,
    /// Bytes of scratch that the hungriest function needs, and the map once something needs it.
    scratch: u32,
    scratch_map: Option<MapId>,
    /// Rules of the kernel's own stacks by place.
    kernel_rules: Option<MapId>,
    /// What walks of them name, once that was looked for.
    kernel_stacks: Option<Option<KernelStacks>>,
    /// Whether a program sends records of its own, not only errors of helpers.
    sends: bool,
    usdt: Option<MapId>,
    /// Sites that were made, to share those of one place and helper.
    sites: HashMap<(String, Span, Option<u32>, u32), u32>,
    /// Strings in read-only data.
    strings: HashMap<Vec<u8>, u32>,
    /// First zero bytes in read-only data and how many.
    zeroes: Option<u32>,
    zero_bytes: u32,
    unknown_zero: Option<(MapId, u32)>,
    names: HashMap<String, u32>,
    diagnostics: Vec<Diagnostic>,
}

/// The value of a data map in the making.
#[derive(Default)]
struct Data {
    map: Option<MapId>,
    bytes: Vec<u8>,
}

impl<'a> Unit<'a> {
    fn new(script: &'a typed::Script, target: &'a dyn Target, options: &'a Options, stack: Stack) -> Unit<'a> {
        let mut spec = Spec::new("skep");
        spec.endian = Endian::NATIVE;
        spec.license = Some(script.config.license.clone());
        let plan = Plan {
            config: script.config.clone(),
            structs: script.structs.clone(),
            time_formats: script.time_formats.clone(),
            cgroup_filters: script.cgroup_filters.clone(),
            ..Plan::default()
        };
        Unit {
            script,
            target,
            options,
            stack,
            module: Module::default(),
            spec,
            plan,
            entries: Vec::new(),
            maps: Vec::new(),
            subprograms: Vec::new(),
            shared: HashMap::new(),
            rodata: Data::default(),
            data: Data::default(),
            scratch: 0,
            scratch_map: None,
            kernel_rules: None,
            kernel_stacks: None,
            sends: false,
            usdt: None,
            sites: HashMap::new(),
            strings: HashMap::new(),
            zeroes: None,
            zero_bytes: 0,
            unknown_zero: None,
            names: HashMap::new(),
            diagnostics: Vec::new(),
        }
    }

    /// Puts a finished function into the module.
    fn add_function(&mut self, function: ir::Function) -> FuncRef {
        self.module.functions.push(function);
        FuncRef(self.module.functions.len() as u32 - 1)
    }

    /// A name that no other function has: `stem`, with everything that C does not know replaced, and a number when it is
    /// taken.
    fn unique_name(&mut self, stem: &str) -> String {
        let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let mut name: String = stem.chars().map(clean).take(100).collect();
        if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
            name.insert(0, '_');
        }
        let uses = self.names.entry(name.clone()).or_default();
        *uses += 1;
        match *uses {
            1 => name,
            n => self.unique_name(&format!("{name}_{n}")),
        }
    }

    fn add_map(&mut self, map: Map) -> MapId {
        self.spec.maps.push(map);
        MapId(self.spec.maps.len() as u32 - 1)
    }

    fn data_map(&mut self, kind: DataKind) -> MapId {
        let (data, name) = match kind {
            DataKind::Rodata => (&self.rodata, ".rodata"),
            _ => (&self.data, ".data"),
        };
        if let Some(map) = data.map {
            return map;
        }
        let section = DataSection { kind, align_bytes: 8, datasec: None, variables: Vec::new() };
        let flags = if kind == DataKind::Rodata { BPF_F_RDONLY_PROG } else { 0 };
        let map =
            self.add_map(Map { flags, origin: MapOrigin::Data(section), ..Map::new(name, MapType::ARRAY, 4, 0, 1) });
        match kind {
            DataKind::Rodata => self.rodata.map = Some(map),
            _ => self.data.map = Some(map),
        }
        map
    }

    /// Bytes in read-only data, aligned to 8: the map and where in it.
    fn constant_bytes(&mut self, bytes: &[u8]) -> (MapId, u32) {
        let map = self.data_map(DataKind::Rodata);
        if let Some(off) = self.strings.get(bytes) {
            return (map, *off);
        }
        let off = append(&mut self.rodata.bytes, bytes);
        self.strings.insert(bytes.to_vec(), off);
        (map, off)
    }

    /// At least `len` zero bytes in read-only data: the map and where in it.
    fn zeroes(&mut self, len: u32) -> (MapId, u32) {
        let map = self.data_map(DataKind::Rodata);
        match self.zeroes {
            Some(off) if len <= self.zero_bytes => (map, off),
            _ => {
                let off = append(&mut self.rodata.bytes, &vec![0; len as usize]);
                (self.zeroes, self.zero_bytes) = (Some(off), len);
                (map, off)
            }
        }
    }

    /// A u64 that user space fills in: the map and where in it. The start time changes after loading, everything else
    /// is constant for the verifier.
    fn parameter(&mut self, kind: ParameterKind) -> (MapId, u32) {
        if let Some(known) = self.plan.parameters.iter().find(|known| known.kind == kind) {
            return (known.map, known.off);
        }
        let (map, off) = match kind {
            ParameterKind::StartTime => {
                let map = self.data_map(DataKind::Data);
                (map, append(&mut self.data.bytes, &[0; 8]))
            }
            _ => {
                let map = self.data_map(DataKind::Rodata);
                (map, append(&mut self.rodata.bytes, &[0; 8]))
            }
        };
        self.plan.parameters.push(Parameter { map, off, kind });
        (map, off)
    }

    /// A u64 that starts as zero and that programs read.
    fn switch(&mut self) -> (MapId, u32) {
        let map = self.data_map(DataKind::Data);
        (map, append(&mut self.data.bytes, &[0; 8]))
    }

    /// A u64 that is always zero, which the verifier does not know.
    fn unknown_zero(&mut self) -> (MapId, u32) {
        if let Some(known) = self.unknown_zero {
            return known;
        }
        let made = self.switch();
        self.unknown_zero = Some(made);
        made
    }

    /// Number of a place where a helper may fail.
    fn site(&mut self, helper: &str, span: Span, map: Option<u32>, probe: u32, quiet: bool) -> u32 {
        let key = (helper.to_owned(), span, map, probe);
        if let Some(site) = self.sites.get(&key) {
            return *site;
        }
        self.plan.sites.push(Site { helper: helper.to_owned(), span, map, probe, quiet });
        let site = self.plan.sites.len() as u32 - 1;
        self.sites.insert(key, site);
        site
    }

    fn finish(mut self) -> Lowered {
        for data in [&self.rodata, &self.data] {
            if let Some(map) = data.map {
                let map = &mut self.spec.maps[map.0 as usize];
                map.value_size = data.bytes.len() as u32;
                map.contents = MapContents::Data(data.bytes.clone());
            }
        }
        self.size_maps();
        let Unit { module, spec, plan, entries, diagnostics, .. } = self;
        Lowered { module, spec, plan, entries, diagnostics }
    }
}

/// Appends at the next multiple of 8 and says where that is.
fn append(data: &mut Vec<u8>, bytes: &[u8]) -> u32 {
    data.resize(data.len().next_multiple_of(8), 0);
    let off = data.len() as u32;
    data.extend_from_slice(bytes);
    off
}
