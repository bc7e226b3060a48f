//! Random programs of several functions: what compilers make of loops, calls, callbacks and maps.
//!
//! A program is written in blocks, with what each register holds ([`Kind`]) known at every place, so that a kernel's verifier takes it: where
//! two ways meet, a register that holds different kinds is not read any more. Loops count a register, or a word of the stack, that
//! nothing in them writes; whatever else is a number when a loop begins is one again when it goes round. Functions call only those that were
//! made before them. So every program ends, and its *cost*, an upper bound of the instructions that it runs, is known.
//!
//! Programs for the kernel do less: no value of a hash map is used behind an update that may give its place to another key, nothing walks a
//! map whose order is not known, there are no tail calls, which its programs of this type cannot make, and what atomic instructions fetch from
//! the stack is unknown to its verifier ([`unknown_before`](super::random::unknown_before)).

mod arithmetic;
mod calls;
mod flow;
mod lookups;
mod memory;
mod writer;

use skep_insn::build::{call_local, load_func, load_imm64, slots};
use skep_insn::{Cond, Imm64, Insn, Operand, RawInsn, Reg, Width};
use skep_vm::{F_RDONLY_PROG, MapKind, MapSpec};

use super::random::{For, INPUT_BYTES, Isa, Rng};

/// A map that programs use: kind, bytes of a key, bytes of a value, entries, flags.
type Table = (MapKind, u32, u32, u32, u32);

/// All of them. Those up to [`PROGRAMS`] are the kernel's, too.
const MAPS: [Table; 10] = [
    (MapKind::Array, 4, 24, 5, 0),
    (MapKind::Array, 4, 64, 1, 0),
    (MapKind::Array, 4, 32, 1, F_RDONLY_PROG),
    (MapKind::PerCpuArray, 4, 16, 3, 0),
    (MapKind::Hash, 4, 16, 6, 0),
    (MapKind::Hash, 8, 8, 6, 0),
    (MapKind::PerCpuHash, 4, 24, 5, 0),
    (MapKind::LruHash, 16, 16, 128, 0),
    (MapKind::Array, 4, 8, 4, 0),
    (MapKind::ProgArray, 4, 4, 3, 0),
];
/// The array of programs.
pub(crate) const PROGRAMS: usize = 9;
/// Those whose values stay where they are, whatever happens.
const ARRAYS: [usize; 3] = [0, 3, 8];
/// Whose values are global data.
const DATA: [usize; 2] = [1, 2];

/// What they are made from.
pub(crate) fn maps() -> Vec<MapSpec> {
    let spec = |&(kind, key_size, value_size, max_entries, flags): &Table| MapSpec {
        kind,
        key_size,
        value_size,
        max_entries,
        flags,
        ..MapSpec::default()
    };
    MAPS.iter().map(spec).collect()
}

/// What a wide load is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Map(usize),
    /// So many bytes into the first value.
    Value(usize, u32),
}

/// A program.
#[derive(Debug)]
pub(crate) struct Shaped {
    insns: Vec<RawInsn>,
    /// Slots of wide loads.
    binds: Vec<(usize, Bound)>,
    /// First slots of functions, in order.
    pub(crate) functions: Vec<u32>,
    /// Most instructions that it runs.
    pub(crate) cost: u64,
}

impl Shaped {
    /// Its instructions, with wide loads of the numbers that `number` gives.
    pub(crate) fn with_numbers(&self, number: impl Fn(Bound) -> u64) -> Vec<RawInsn> {
        let mut insns = self.insns.clone();
        for &(at, bound) in &self.binds {
            let value = number(bound);
            insns[at].imm = value as i32;
            insns[at + 1].imm = (value >> 32) as i32;
        }
        insns
    }

    /// Its instructions, with wide loads of the kernel's maps.
    pub(crate) fn with_descriptors(&self, fds: &[i32]) -> Vec<RawInsn> {
        let mut insns = self.insns.clone();
        for &(at, bound) in &self.binds {
            let value = match bound {
                Bound::Map(map) => Imm64::MapFd(fds[map]),
                Bound::Value(map, off) => Imm64::MapValue { fd: fds[map], off },
            };
            let dst = Reg::ALL[usize::from(insns[at].dst_reg)];
            insns[at..at + 2].copy_from_slice(&slots(&[Insn::LoadImm64 { dst, value }]));
        }
        insns
    }
}

/// What a run starts with, and is compared by: the input, and for each map the keys and the values (of one processor).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) input: Vec<u8>,
    pub(crate) maps: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// The world, the program, and those that it may go on with.
pub(crate) fn shaped(seed: u64, runner: For) -> (World, Shaped, Vec<Shaped>) {
    let rng = Rng::new(seed ^ 0x5be9);
    let input = numbers(&rng, INPUT_BYTES);
    let maps = MAPS[..PROGRAMS].iter().map(|table| contents(&rng, table, runner)).collect();
    let program = whole(&rng, runner);
    let others = if program.binds.iter().any(|(_, bound)| *bound == Bound::Map(PROGRAMS)) { 3 } else { 0 };
    let others = (0..others).map(|_| whole(&rng, runner)).collect();
    (World { input, maps }, program, others)
}

fn numbers(rng: &Rng, len: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| rng.number().to_ne_bytes()).collect();
    bytes[..len].to_vec()
}

fn contents(rng: &Rng, &(kind, key, value, entries, _): &Table, runner: For) -> Vec<(Vec<u8>, Vec<u8>)> {
    let value = value as usize;
    let array = matches!(kind, MapKind::Array | MapKind::PerCpuArray);
    // What a changed program reads beyond a value depends on where that is: only these stay in their places from run to run.
    let stays = array || kind == MapKind::PerCpuHash;
    let keys = 0..entries.min(6);
    let keys =
        keys.filter(|_| if runner == For::Changed { stays } else { array || rng.below(2) == 0 }).collect::<Vec<_>>();
    // What fills all that there is room for must be able to grow.
    let keys = keys.into_iter().map(|number| (key_of(key, number), numbers(rng, value)));
    keys.collect()
}

/// The bytes of a key, as programs make them of a number.
fn key_of(len: u32, number: u32) -> Vec<u8> {
    let mut key = number.to_ne_bytes().to_vec();
    key.resize(len as usize, 0);
    key
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing that may be read.
    Junk,
    Number,
    /// An address in front of so many bytes: of a map's value, or of numbers in the frame of a caller.
    Bytes {
        len: i16,
        writable: bool,
        /// The map, unless it is the stack.
        map: Option<usize>,
    },
    Input,
}

impl Kind {
    fn is_address(self) -> bool {
        matches!(self, Kind::Bytes { .. } | Kind::Input)
    }

    /// What is known where two ways meet.
    fn meet(self, other: Kind) -> Kind {
        match (self, other) {
            _ if self == other => self,
            (Kind::Bytes { len: a, writable: c, map: e }, Kind::Bytes { len: b, writable: d, map: f }) if e == f => {
                Kind::Bytes { len: a.min(b), writable: c && d, map: e }
            }
            _ => Kind::Junk,
        }
    }
}

/// What r0 to r9 hold.
type Kinds = [Kind; 10];

const JUNK: Kinds = [Kind::Junk; 10];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Label(usize);

#[derive(Clone, Copy, Debug)]
enum Item {
    Insn(Insn),
    Bind(Label),
    Goto(Label, bool),
    If(Width, Cond, Reg, Operand, Label),
    MayGoto(Label),
    Call(usize),
    Address(Reg, usize),
    Load(Reg, Bound),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Entry,
    /// Of numbers only, and small: it may be copied to where it is called.
    Small,
    /// Of numbers, and of bytes by address in r1.
    Function {
        by_address: Option<i16>,
    },
    /// Of a loop: the round, and some bytes by address.
    Round,
    /// Of a walk over this map: the map, the key, the value, and some bytes.
    Visit(usize),
}

/// Bytes that functions get by address.
const PASSED: i16 = 16;

struct Function {
    role: Role,
    items: Vec<Item>,
    labels: usize,
    cost: u64,
    depth: u32,
}

fn whole(rng: &Rng, runner: For) -> Shaped {
    let mut functions: Vec<Function> = Vec::new();
    let count = [0, 1, 2, 3, 5][rng.below(5) as usize];
    for _ in 0..count {
        let role = match rng.below(8) {
            0..=2 => Role::Small,
            3 => Role::Round,
            4 => Role::Visit(rng.one_of(&walked(runner))),
            5 => Role::Function { by_address: None },
            _ => Role::Function { by_address: Some(PASSED) },
        };
        functions.push(Writer::new(rng, runner, role, &functions).function());
    }
    functions.push(Writer::new(rng, runner, Role::Entry, &functions).function());
    let cost = functions.last().map_or(0, |entry| entry.cost);
    // The entry comes first, the others in some order; those that nobody calls are left out, since the kernel takes no code that is dead.
    let mut order: Vec<usize> = vec![functions.len() - 1];
    let mut next = 0;
    while next < order.len() {
        for item in &functions[order[next]].items {
            if let Item::Call(to) | Item::Address(_, to) = *item
                && !order.contains(&to)
            {
                let at = 1 + rng.below(order.len() as u64) as usize;
                order.insert(at.max(next + 1), to);
            }
        }
        next += 1;
    }
    link(&functions, &order, cost)
}

fn walked(runner: For) -> Vec<usize> {
    match runner {
        For::Engines => vec![0, 3, 4, 5, 6, 7, 8],
        For::Changed | For::Kernel(_) => ARRAYS.to_vec(),
    }
}

fn len_of(item: &Item) -> i32 {
    match item {
        Item::Bind(_) => 0,
        Item::Insn(insn) => insn.len_slots() as i32,
        Item::Address(..) | Item::Load(..) => 2,
        _ => 1,
    }
}

/// Puts functions behind each other.
fn link(functions: &[Function], order: &[usize], cost: u64) -> Shaped {
    let mut starts = vec![0; functions.len()];
    let mut at = 0;
    for &index in order {
        starts[index] = at;
        at += functions[index].items.iter().map(len_of).sum::<i32>();
    }
    let (mut insns, mut binds) = (Vec::new(), Vec::new());
    for &index in order {
        let function = &functions[index];
        let mut labels = vec![0; function.labels];
        let mut at = starts[index];
        for item in &function.items {
            if let Item::Bind(label) = item {
                labels[label.0] = at;
            }
            at += len_of(item);
        }
        at = starts[index];
        for item in &function.items {
            let to = |label: Label| labels[label.0] - at - 1;
            let insn = match *item {
                Item::Bind(_) => continue,
                Item::Insn(insn) => insn,
                Item::Goto(label, false) => Insn::Jump { off: to(label) as i16 },
                Item::Goto(label, true) => Insn::JumpLong { off: to(label) },
                Item::If(width, cond, dst, src, label) => Insn::Branch { width, cond, dst, src, off: to(label) as i16 },
                Item::MayGoto(label) => Insn::MayGoto { off: to(label) as i16 },
                Item::Call(of) => call_local(starts[of] - at - 1),
                Item::Address(dst, of) => load_func(dst, starts[of] - at - 1),
                Item::Load(dst, bound) => {
                    binds.push((at as usize, bound));
                    load_imm64(dst, 0)
                }
            };
            insns.push(insn);
            at += len_of(item);
        }
    }
    let functions = order.iter().map(|index| starts[*index] as u32).collect();
    Shaped { insns: slots(&insns), binds, functions, cost }
}

/// More than this a program does not run, about.
const MOST: u64 = 6000;

/// Writes one function.
struct Writer<'a> {
    rng: &'a Rng,
    runner: For,
    isa: Isa,
    role: Role,
    made: &'a [Function],
    items: Vec<Item>,
    /// What registers hold at each label that jumps lead to.
    labels: Vec<Option<Kinds>>,
    kinds: Kinds,
    /// Whether it may go on here.
    reached: bool,
    /// Registers that are not written: counters and addresses in loops.
    locked: u16,
    /// Words of numbers at the top of the frame; then 16 bytes for keys, then two words for what is put aside.
    words: i16,
    /// How many they are when no loop counts in one of them.
    top: i16,
    aside: i16,
    /// Maps whose values may have got another key.
    changed: u16,
    /// Ends of the loops around: to go out, and to go round.
    out: Vec<Label>,
    round: Vec<Label>,
    times: u64,
    cost: u64,
    depth: u32,
    /// Whether r1 to r5 may be lost.
    calls: bool,
    left: u32,
}
