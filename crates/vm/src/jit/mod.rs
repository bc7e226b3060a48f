//! The compiler: operations to code of this processor, in one pass.
//!
//! # What it promises
//!
//! A program that was compiled does what the interpreter does, bit by bit: results, registers, memory, fuel that is left, and the
//! [`Trap`](crate::Trap) when it is stopped. The tests run every case and random programs both ways. One thing is left open, which no verifier
//! lets a program read: what r1 to r5 hold behind the call of a function that went on in another program by a tail call.
//!
//! # Theory
//!
//! Loading left little to find out (see the module `load`): operations are decoded, jumps stay in their function, r10 is never written.
//! So each operation becomes code on its own, in order; the registers of the program live in registers of the processor
//! throughout, and a jump is a jump. What is left:
//!
//! - *Memory.* Of the three kinds of access that the [crate](crate#memory) knows the checked one is the default, in line: what lies in the window
//!   of the access before it, which the code remembers, is right, which one compare decides. Otherwise the table says for the
//!   slot of the address from where to where it is accessible, and that is remembered next. A short address is made long
//!   there, and checked again. Whatever else does not pass (an access over a border of slots, a wrong one) asks [`native`], which
//!   gives the true address or stops the program. The window is forgotten when a helper ran and when the frame changes, so a program sees
//!   what its own helpers did at once; what another thread takes away from it, which stays mapped, it may reach until then. Checks are
//!   the default although they cost more than masked access with a fault handler (`cargo xtask bench vm`), because they find what the
//!   interpreter finds, to the byte, where pages without memory
//!   find it to the page only; because that takes no signal away from the process that the machine is part of; and because blocks of
//!   read-only memory need no second mapping. Who wants the speed asks for it ([`CompileOptions`]).
//! - *What is known* ([`facts`]). Accesses of the frame, of values that a lookup in a known map gave, and of global data need no check; lookups in known
//!   maps are in line. The code keeps these maps, and is left to the interpreter once one of them was removed from the machine.
//! - *Lookups.* What sets up r1 and r2 for one in line is left out where nobody reads them behind it, and a branch for what is absent is the one
//!   that the lookup makes anyway.
//! - *Shorter code.* Rotations ([`rotate`]) stand in place of shifts where nobody reads the other register ([`live`]); a number that
//!   is loaded byte by byte is one load ([`merge`]), where all of it is known to be there; a branch over a move is a move with a condition; a move and a sum are one
//!   instruction, and so is a load, a sum and a store of what is counted in memory; what was stored into the frame and is read back is moved; small functions that only compute are copied to where they are
//!   called ([`copy`]), and the end of a loop that stands before its body to where the body ends, so that a round has one jump. A run that is stopped shows memory, fuel and the place, all of which are the same.
//! - *Fuel.* A jump back and its price are one subtraction from a register and a jump that is never taken.
//! - *Calls.* Functions of the program do not call each other on the processor's stack, but in the frames of [`Cpu`](crate::Cpu), which
//!   say where to go on. So frames, callbacks, tail calls and their limits are the interpreter's own, a program cannot exhaust the stack,
//!   and code can be entered at any operation. Calls and returns inside of one program change the frames in line.
//! - *Runs.* A run of the same program as before costs little: the processor keeps what its code works with, the code saves only those registers
//!   that the program names, and clears only those that it reads before it writes them ([`live`]). A program of one function does not ask whose frame it leaves.
//! - *Code.* It is written first and made executable afterwards ([`code`]), exactly as long as it turned out.
//!
//! [`compile`] walks over a program and tells a [`Backend`] what to do; what is known about the processor is behind that trait. There are
//! two, for x86-64 and aarch64, with the same files: an encoder (`asm`), the operations (`emit`), frames (`call`), and what stands
//! behind the code (`glue`).

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod code;
mod copy;
mod facts;
mod live;
mod merge;
mod native;
mod rotate;
mod shape;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use skep_insn::{AluOp, AtomicOp, Cond, LoadType, Size, Width};

use crate::op::{Code, Op};
#[cfg(target_arch = "x86_64")]
use crate::options::Reach;
use crate::program::{Function, Program};
use crate::{Access, CompileError, CompileOptions, Map, STACK_BYTES};
#[cfg(target_arch = "aarch64")]
use aarch64::Emitter;
use code::CodeBlock;
use facts::{Fact, Facts};
pub(crate) use native::Context;
use rotate::Rotation;
use shape::Shape;
#[cfg(target_arch = "x86_64")]
use x86_64::{Emitter, Guarded};

/// A program that was compiled.
#[derive(Debug)]
pub(crate) struct Native {
    /// For code whose accesses may find no memory. Ends before the code does.
    #[cfg(target_arch = "x86_64")]
    #[expect(dead_code, reason = "held as long as the code")]
    guarded: Option<Guarded>,
    code: CodeBlock,
    /// The address of the code of each slot.
    places: Vec<usize>,
    /// Where the code is entered, and where it is left.
    enter: u32,
    leave: u32,
    /// Where the first function is entered with its arguments as those of a function of C, if there is such a place.
    begin: Option<u32>,
    /// The maps whose values the code knows. They are there as long as the code.
    maps: Vec<Arc<Map>>,
    /// How many maps of the machine had been removed when all of these were still there.
    removals: AtomicU64,
}

/// What a back end made of a program.
#[derive(Debug)]
struct Assembled {
    code: Vec<u8>,
    places: Vec<u32>,
    enter: u32,
    leave: u32,
    begin: Option<u32>,
}

/// The second operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Reg(u8),
    /// Of 32 bits, whose sign is extended where 64 are wanted.
    Imm(i32),
}

/// Where a jump leads, and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Jump {
    /// The slot that jumps.
    at: u32,
    target: u32,
    /// 0 for a jump forwards.
    cost: u32,
}

/// A call of a function of the same program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    /// The slot that calls.
    at: u32,
    target: u32,
    cost: u32,
    /// How much of the frame is cleared, in whole words.
    stack_bytes: u32,
}

/// An access of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The slot that makes it.
    at: u32,
    base: u8,
    off: i32,
    size: Size,
    access: Access,
    /// Whether it is known to be right, and its address to be the true one: in the frame, or by what the code before it did.
    known: bool,
}

/// What a back end is told ahead.
#[derive(Debug)]
struct Plan {
    options: CompileOptions,
    /// Which operations something else than the one before them leads to.
    leaders: Vec<bool>,
    /// To which operations jumps lead back.
    loops: Vec<bool>,
    /// A bit for each register: which ones are read before they are written, and which ones are named at all.
    read_at_start: u16,
    used: u16,
    /// Whether the program is one function that calls itself nowhere, jumps nowhere by a register, and goes on in no other program.
    alone: bool,
}

/// A lookup whose map is known, with its key in the frame. r1 and r2 need not hold them.
#[derive(Debug)]
struct Lookup<'a> {
    /// Where the key is, from r10.
    key_off: i32,
    /// The register whose lower half is the key, too, when one is known; and whether that is all it has.
    key_in: Option<(u8, bool)>,
    map: &'a Arc<Map>,
    /// Where it goes on without a value, when the operation behind the call asks that; it need not ask any more then.
    absent: Option<Jump>,
    /// Whether r3 is read behind it.
    keeps_r3: bool,
}

/// What knows a processor. It is told the operations in their order, each after [`Backend::slot`]. Registers are the program's.
trait Backend: Sized {
    /// Comes first. Who does not look at the options checks and meters, which is always right.
    fn prepare(&mut self, _plan: &Plan) {}
    /// Whether there is [`Backend::look_up`] for this map.
    fn looks_up(&self, _map: &Map) -> bool {
        false
    }
    /// A lookup of the machine's own helper.
    fn look_up(&mut self, _lookup: &Lookup<'_>) {}
    /// Whether there is [`Backend::rotate`].
    fn rotates(&self) -> bool {
        false
    }
    /// `dst = src` rotated to the left.
    fn rotate(&mut self, _rotation: Rotation) {}
    /// Whether there are [`Backend::begin_copy`] and its like.
    fn copies(&self) -> bool {
        false
    }
    /// Whether there are [`Backend::sum`] and [`Backend::load_sum`].
    fn sums(&self) -> bool {
        false
    }
    /// `dst = a + b`.
    fn sum(&mut self, _width: Width, _dst: u8, _a: u8, _b: Source) {}
    /// `dst = *(a + b + off)`; `false` when it is to be done in two steps.
    fn load_sum(&mut self, _ty: LoadType, _dst: u8, _a: u8, _b: u8, _off: i16) -> bool {
        false
    }
    /// Whether no access is checked.
    fn trusts(&self) -> bool {
        false
    }
    /// Whether there is [`Backend::add_to`].
    fn adds_to_memory(&self) -> bool {
        false
    }
    /// `*on += by`, of an access that needs no check.
    fn add_to(&mut self, _on: Place, _by: Source) {}
    /// What follows is one more copy of the code of these slots, in place of a call at `at`, which is paid as a call is; jumps that lead there lead to
    /// the copy.
    fn begin_copy(&mut self, _call: Call, _end: u32) {}
    /// The function returns.
    fn leave_copy(&mut self) {}
    /// It is complete.
    fn end_copy(&mut self) {}
    /// What follows is the code of this slot.
    fn slot(&mut self, at: u32);
    /// `dst = dst op src`.
    fn alu(&mut self, op: AluOp, width: Width, dst: u8, src: Source);
    /// A move, or something that a register does with itself: the codes of [`Shape::Move`].
    fn unary(&mut self, code: Code, dst: u8, src: u8, imm: u64);
    /// `dst = *from`; one that acquires is a plain one with [`Access::AtomicRead`].
    fn load(&mut self, ty: LoadType, dst: u8, from: Place);
    /// `*to = src`; one that releases is a plain one with [`Access::Atomic`].
    fn store(&mut self, to: Place, src: Source);
    /// An operation on memory in one step.
    fn atomic(&mut self, op: AtomicOp, width: Width, on: Place, src: u8);
    /// Always.
    fn jump(&mut self, jump: Jump);
    /// Whether there is [`Backend::pay`].
    fn pays(&self) -> bool {
        false
    }
    /// What a jump costs, without the jump.
    fn pay(&mut self, _jump: Jump) {}
    /// If `dst cond src`.
    fn branch(&mut self, cond: Cond, width: Width, dst: u8, src: Source, jump: Jump);
    /// Whether there is [`Backend::select`].
    fn selects(&self) -> bool {
        false
    }
    /// `copy`, a move of all 64 bits, unless `dst cond src`.
    fn select(&mut self, _cond: Cond, _width: Width, _dst: u8, _src: Source, _copy: &Op) {}
    /// If the counter of this frame is used up; otherwise counts.
    fn may_goto(&mut self, jump: Jump);
    /// Calls the helper of the slot, which comes back.
    fn helper(&mut self, at: u32);
    /// As [`Cpu::enter`](crate::Cpu); what goes wrong is left to [`native`].
    fn call(&mut self, call: Call);
    /// As [`Cpu::leave`](crate::Cpu), back to the same program; anything else is left to [`native`].
    fn exit(&mut self, at: u32);
    /// The end of the entry function. [`Backend::control`] does the same. Code that is [`alone`](Plan::alone) may come back as the function that
    /// was called first, whosever it is.
    fn exit_entry(&mut self, at: u32) {
        self.control(at);
    }
    /// Leaves the slot to [`native`], which says where to go on.
    fn control(&mut self, at: u32);
    /// All of it.
    fn finish(self) -> Assembled;
    /// All of it, and where the code goes on after an access that found no memory, if it makes such ones.
    fn finish_with_fault(self) -> (Assembled, Option<u32>) {
        (self.finish(), None)
    }
}

/// Compiles a program for this processor.
pub(crate) fn compile(program: &Program, options: CompileOptions) -> Result<Native, CompileError> {
    #[cfg(target_arch = "x86_64")]
    if options.reach == Reach::Masked {
        x86_64::catch_faults();
    }
    let made = assemble(program, options, Emitter::new(program.ops.len()));
    let wanted = made.assembled.code.len();
    Native::new(made).map_err(|cause| CompileError::Memory { wanted, cause })
}

/// A program's code before it is executable.
struct Made {
    assembled: Assembled,
    fault: Option<u32>,
    maps: Vec<Arc<Map>>,
    removals: u64,
}

impl Native {
    fn new(made: Made) -> std::io::Result<Native> {
        let Made { assembled: Assembled { code, places, enter, leave, begin }, fault, maps, removals } = made;
        #[cfg(not(target_arch = "x86_64"))]
        debug_assert!(fault.is_none(), "the other back end checks");
        let code = CodeBlock::new(&code)?;
        let places = places.into_iter().map(|place| code.at(place).expose_provenance()).collect();
        Ok(Native {
            #[cfg(target_arch = "x86_64")]
            guarded: fault.map(|fault| Guarded::new(code.range(), code.at(fault).addr())),
            code,
            places,
            enter,
            leave,
            begin,
            maps,
            removals: AtomicU64::new(removals),
        })
    }
}

fn assemble(program: &Program, options: CompileOptions, mut backend: impl Backend) -> Made {
    let live = live::behind(program);
    let (used, alone) = live::used(program);
    let plan = Plan {
        options,
        leaders: facts::leaders(program),
        loops: facts::loops(&program.ops),
        read_at_start: live::at_start(program, &live),
        used,
        alone,
    };
    backend.prepare(&plan);
    // Before the maps are looked up: what is removed meanwhile is noticed.
    let removals = program.registry.upgrade().map_or(0, |registry| registry.removals());
    let mut walk = Walk { program, plan: &plan, live, backend, facts: Facts::new(), maps: Vec::new(), in_copy: false };
    walk.all(0..program.ops.len());
    let (assembled, fault) = walk.backend.finish_with_fault();
    Made { assembled, fault, maps: walk.maps, removals }
}

/// The way over a program.
struct Walk<'a, B> {
    program: &'a Program,
    plan: &'a Plan,
    /// Which registers are read behind each operation.
    live: Vec<u16>,
    backend: B,
    facts: Facts,
    /// Those that the code relies on.
    maps: Vec<Arc<Map>>,
    /// Whether a function is being copied to where it is called.
    in_copy: bool,
}

impl<B: Backend> Walk<'_, B> {
    fn all(&mut self, slots: std::ops::Range<usize>) {
        let ops = &self.program.ops;
        // Behind the operations that were done as one: those that do what each of them says, and those after which the facts are known.
        let (mut joined, mut done) = (0, 0);
        for at in slots {
            let op = &ops[at];
            self.backend.slot(at as u32);
            if at < done {
                continue;
            }
            if self.plan.leaders[at] {
                self.facts.forget();
            }
            if at >= joined
                && let Some(end) = self.look_up(at).or_else(|| self.add_to(at))
            {
                done = end;
                continue;
            }
            if at >= joined
                && self.backend.rotates()
                && let Some(rotation) = rotate::at(ops, &self.plan.leaders, &self.live, at)
            {
                self.backend.rotate(rotation);
                joined = at + rotation.len;
            }
            if at >= joined
                && let Some(len) = self.merge(at)
            {
                joined = at + len;
            }
            if at >= joined
                && let Some(len) = self.select(at)
            {
                joined = at + len;
            }
            if at >= joined
                && self.backend.sums()
                && let Some(len) = self.sum(at)
            {
                joined = at + len;
            }
            if at >= joined {
                self.emit(at as u32, op);
            } else {
                self.facts.step(op);
            }
        }
    }

    /// A number that is loaded byte by byte, where all of it may be read. Gives how many operations that were.
    fn merge(&mut self, at: usize) -> Option<usize> {
        let ops = &self.program.ops;
        if Shape::of(ops[at].code) != (Shape::Load { ty: LoadType::U8 }) {
            return None;
        }
        let merged = merge::at(ops, &self.plan.leaders, &self.live, at)?;
        let known = self.is_known(merged.base, merged.off.into(), merged.size, Access::Read);
        if !known && !self.backend.trusts() {
            return None;
        }
        let place =
            Place { at: at as u32, base: merged.base, off: merged.off, size: merged.size, access: Access::Read, known };
        self.backend.load(unsigned(merged.size), merged.dst, place);
        if merged.big_endian {
            let swap = match merged.size {
                Size::B | Size::H => Code::Swap16,
                Size::W => Code::Swap32,
                Size::Dw => Code::Swap64,
            };
            self.backend.unary(swap, merged.dst, merged.dst, 0);
        }
        Some(merged.len)
    }

    /// A branch over one move: what compilers make of `a ? b : c`, and what the processor does without a jump. Gives how many operations
    /// that were.
    fn select(&mut self, at: usize) -> Option<usize> {
        let [branch, copy, ..] = self.program.ops.get(at..)? else { return None };
        let Shape::Branch { cond, width, imm } = Shape::of(branch.code) else { return None };
        if !self.backend.selects() || branch.off != 1 || copy.code != Code::Mov64 || self.plan.leaders[at + 1] {
            return None;
        }
        let src = if imm { Source::Imm(branch.imm as i32) } else { Source::Reg(branch.src) };
        self.backend.select(cond, width, branch.dst, src, copy);
        Some(2)
    }

    /// A move and a sum, as clang writes the sum of two registers into a third; and a load from there into the same register. Gives how many
    /// operations that were.
    fn sum(&mut self, at: usize) -> Option<usize> {
        let [copy, add, ..] = self.program.ops.get(at..)? else { return None };
        let (dst, a) = (copy.dst, copy.src);
        let (width, imm) = match (copy.code, Shape::of(add.code)) {
            (Code::Mov64, Shape::Alu { op: AluOp::Add, width, imm }) => (width, imm),
            (Code::Mov32, Shape::Alu { op: AluOp::Add, width: Width::W32, imm }) => (Width::W32, imm),
            _ => return None,
        };
        let to_itself = add.dst != dst || dst == a || !imm && add.src == dst;
        if to_itself || *self.plan.leaders.get(at + 1)? {
            return None;
        }
        let load = self.program.ops.get(at + 2).filter(|op| {
            let own = op.dst == dst && op.src == dst && width == Width::W64 && !imm;
            own && matches!(Shape::of(op.code), Shape::Load { .. }) && !self.plan.leaders[at + 2]
        });
        if let Some(op) = load
            && let (Shape::Load { ty }, Ok(off)) = (Shape::of(op.code), i16::try_from(op.off))
            && self.backend.load_sum(ty, dst, a, add.src, off)
        {
            return Some(3);
        }
        let b = if imm { Source::Imm(add.imm as i32) } else { Source::Reg(add.src) };
        self.backend.sum(width, dst, a, b);
        Some(2)
    }

    /// A count in memory: a load, a sum and a store to the same place, of a register that nobody reads behind them. That register is not
    /// written. Gives where it goes on.
    fn add_to(&mut self, at: usize) -> Option<usize> {
        if !self.backend.adds_to_memory() {
            return None;
        }
        let [load, add, store, ..] = self.program.ops.get(at..)? else { return None };
        let (dst, base) = (load.dst, load.src);
        let (Shape::Load { ty }, Shape::Alu { op: AluOp::Add, width, imm }) =
            (Shape::of(load.code), Shape::of(add.code))
        else {
            return None;
        };
        let size = ty.size();
        let stores = matches!(Shape::of(store.code), Shape::Store { size: of, imm: false } if of == size);
        let whole = size == Size::W || size == Size::Dw && width == Width::W64;
        let same = (store.dst, store.off, store.src) == (base, load.off, dst) && add.dst == dst;
        if !stores || !whole || !same || dst == base || !imm && add.src == dst {
            return None;
        }
        let unseen = self.live.get(at + 2)? >> dst & 1 == 0;
        if !unseen || self.plan.leaders.get(at + 1..at + 3)?.contains(&true) {
            return None;
        }
        let read = self.place(at as u32, load, base, size, Access::Read);
        let write = self.place(at as u32 + 2, store, base, size, Access::Write);
        let right = read.known && write.known || self.backend.trusts();
        if !right {
            return None;
        }
        let by = if imm { Source::Imm(add.imm as i32) } else { Source::Reg(add.src) };
        self.backend.add_to(write, by);
        self.facts.store(base, store.off.into(), size, write.known, None);
        Some(at + 3)
    }

    fn emit(&mut self, at: u32, op: &Op) {
        let program = self.program;
        let source = |imm: bool| if imm { Source::Imm(op.imm as i32) } else { Source::Reg(op.src) };
        let jump = || jump_of(at, op);
        match Shape::of(op.code) {
            Shape::Alu { op: alu, width, imm } => self.backend.alu(alu, width, op.dst, source(imm)),
            Shape::Branch { cond, width, imm } => self.backend.branch(cond, width, op.dst, source(imm), jump()),
            Shape::Load { ty } => {
                let place = self.place(at, op, op.src, ty.size(), Access::Read);
                match self.stored(op, ty) {
                    Some(reg) if ty == LoadType::U64 => self.backend.unary(Code::Mov64, op.dst, reg, 0),
                    Some(reg) if reg == op.dst && self.facts.is_short(reg) => {}
                    Some(reg) => self.backend.unary(Code::Mov32, op.dst, reg, 0),
                    None => self.backend.load(ty, op.dst, place),
                }
            }
            Shape::LoadAcquire { size } => {
                let place = self.place(at, op, op.src, size, Access::AtomicRead);
                self.backend.load(unsigned(size), op.dst, place);
            }
            Shape::Store { size, imm } => {
                let place = self.place(at, op, op.dst, size, Access::Write);
                self.backend.store(place, source(imm));
                self.facts.store(op.dst, op.off.into(), size, place.known, (!imm).then_some(op.src));
            }
            Shape::StoreRelease { size } => {
                let place = self.place(at, op, op.dst, size, Access::Atomic);
                self.backend.store(place, Source::Reg(op.src));
                self.facts.store(op.dst, op.off.into(), size, place.known, Some(op.src));
            }
            Shape::Atomic { op: atomic, width } => {
                let size = if width == Width::W32 { Size::W } else { Size::Dw };
                let place = self.place(at, op, op.dst, size, Access::Atomic);
                self.backend.atomic(atomic, width, place, op.src);
                self.facts.store(op.dst, op.off.into(), size, place.known, None);
            }
            Shape::Move => self.backend.unary(op.code, op.dst, op.src, op.imm),
            Shape::Jump => self.jump(jump()),
            Shape::MayGoto => self.backend.may_goto(jump()),
            Shape::Helper => return self.helper(at, op),
            Shape::Call => {
                let Function { start, end, stack_bytes } = program.functions[op.imm as usize];
                let call = Call { at, target: start, cost: end - start, stack_bytes };
                let slots = start as usize..end as usize;
                if self.backend.copies() && copy::fits(&program.ops[slots.clone()]) {
                    self.backend.begin_copy(call, end);
                    self.in_copy = true;
                    self.all(slots);
                    self.in_copy = false;
                    self.backend.end_copy();
                } else {
                    self.backend.call(call);
                }
            }
            Shape::Exit if self.in_copy => self.backend.leave_copy(),
            // The entry function is called by Rust, but for recursion.
            Shape::Exit if program.functions[0].end <= at => self.backend.exit(at),
            Shape::Exit => self.backend.exit_entry(at),
            Shape::Control => self.backend.control(at),
            Shape::Nothing => {}
        }
        self.facts.step(op);
    }

    /// A jump back to a short piece that ends with a branch, as compilers put the end of a loop before its body, has a copy of that piece
    /// instead: a loop then jumps once in each round.
    fn jump(&mut self, jump: Jump) {
        let ops = &self.program.ops;
        let branch = facts::end_of_piece(ops, jump.target as usize, jump.at as usize).map(|branch| branch as u32);
        let Some(branch) = branch.filter(|_| self.backend.pays()) else {
            return self.backend.jump(jump);
        };
        self.backend.pay(jump);
        for at in jump.target..=branch {
            self.emit(at, &ops[at as usize]);
        }
        self.backend.jump(Jump { at: branch, target: branch + 1, cost: 0 });
    }

    fn helper(&mut self, at: u32, op: &Op) {
        self.backend.helper(at);
        match facts::is_lookup(self.program, op).then(|| self.map_of(self.facts.of(1))).flatten() {
            Some(map) => self.facts.looked_up(map),
            None => self.facts.step(op),
        }
    }

    /// A lookup in line, when one begins at `at`: the operations that set up its map and its key, the call, and the branch for what is absent.
    /// Gives where it goes on.
    fn look_up(&mut self, at: usize) -> Option<usize> {
        /// The moves and sums that set up two registers, a number of two slots among them.
        const LONGEST: usize = 6;
        let ops = &self.program.ops;
        let mut facts = self.facts;
        let mut call = at;
        while ops.get(call)?.code != Code::Helper {
            let op = &ops[call];
            let sets_up = match op.code {
                Code::Mov64 => op.dst == 2 && op.src == 10,
                Code::Add64K => op.dst == 2,
                Code::Imm => op.dst == 1,
                _ => Shape::of(op.code) == Shape::Nothing,
            };
            if !sets_up || call - at == LONGEST {
                return None;
            }
            facts.step(op);
            call += 1;
        }
        let behind = self.live.get(call).copied().unwrap_or(u16::MAX);
        // Without anything to set up it is the same whoever reads them.
        let keeps = |reg: u8| behind >> reg & 1 != 0;
        if call > at && (keeps(1) || keeps(2)) || self.plan.leaders[at + 1..=call].contains(&true) {
            return None;
        }
        let (true, Fact::Frame(key_off)) = (facts::is_lookup(self.program, &ops[call]), facts.of(2)) else {
            return None;
        };
        let map = self.map_of(facts.of(1))?;
        let key_bytes = i64::from(self.maps[map].spec().key_size);
        let in_frame = key_off >= -i64::from(STACK_BYTES) && key_off <= -key_bytes;
        if !in_frame || !self.backend.looks_up(&self.maps[map]) {
            return None;
        }
        // What sets up r1 and r2 is left out, so it is asked what these have now.
        let key_in = self.facts.stored_at(key_off, Size::W).filter(|_| key_bytes == 4);
        let key_in = key_in.map(|reg| (reg, self.facts.is_short(reg)));
        if call > at {
            // They do not get what the operations say.
            facts.leave_out_arguments(&self.facts);
        }
        if !keeps(3) {
            facts.lose(3);
        }
        facts.looked_up(map);
        let mut end = call + 1;
        let asks = ops.get(end).filter(|op| op.code == Code::JEq64K && op.dst == 0 && op.imm == 0);
        let absent = asks.filter(|_| !self.plan.leaders[end]).map(|op| {
            facts.step(op);
            jump_of(end as u32, op)
        });
        end += usize::from(absent.is_some());
        let lookup = Lookup { key_off: key_off as i32, key_in, map: &self.maps[map], absent, keeps_r3: keeps(3) };
        self.backend.look_up(&lookup);
        self.facts = facts;
        Some(end)
    }

    /// The register that has what a load gives, which was stored there before.
    fn stored(&self, op: &Op, ty: LoadType) -> Option<u8> {
        let (Fact::Frame(from), false) = (self.facts.of(op.src), ty.is_signed()) else { return None };
        self.facts.stored_at(from.saturating_add(op.off.into()), ty.size())
    }

    /// The map whose handle is known, if its values can be reached.
    fn map_of(&mut self, handle: Fact) -> Option<usize> {
        let Fact::Number(handle) = handle else { return None };
        let map = self.program.registry.upgrade()?.with_handle(handle)?;
        map.values().is_some().then(|| self.keep(map))
    }

    fn keep(&mut self, map: Arc<Map>) -> usize {
        let found = self.maps.iter().position(|kept| Arc::ptr_eq(kept, &map));
        found.unwrap_or_else(|| {
            self.maps.push(map);
            self.maps.len() - 1
        })
    }

    fn place(&mut self, at: u32, op: &Op, base: u8, size: Size, access: Access) -> Place {
        let off = op.off;
        let known = self.is_known(base, off.into(), size, access);
        Place { at, base, off, size, access, known }
    }

    /// Whether an access cannot go wrong.
    fn is_known(&mut self, base: u8, off: i64, size: Size, access: Access) -> bool {
        let len = u64::from(size.len_bytes());
        let writes = matches!(access, Access::Write | Access::Atomic);
        let atomic = matches!(access, Access::AtomicRead | Access::Atomic);
        match self.facts.of(base) {
            Fact::Frame(from) => facts::in_frame(from.saturating_add(off), size, access),
            Fact::Value { map, off: from, or_null: false } => {
                let map = &self.maps[map];
                let at = u64::try_from(from.saturating_add(off)).unwrap_or(u64::MAX);
                let fits = at.checked_add(len).is_some_and(|end| end <= u64::from(map.spec().value_size));
                fits && (!writes || map.spec().programs_write()) && (!atomic || at.is_multiple_of(len))
            }
            Fact::Number(number) => {
                let addr = number.wrapping_add_signed(off);
                if addr >> 32 != self.program.space.base() >> 32 || atomic && !addr.is_multiple_of(len) {
                    return false;
                }
                let map = self.program.registry.upgrade().and_then(|registry| registry.with_value(addr));
                let right = |map: &Arc<Map>| {
                    let has = map.values().is_some_and(|values| values.has(addr, len));
                    has && (!writes || map.spec().programs_write())
                };
                match map.filter(right) {
                    Some(map) => {
                        self.keep(map);
                        true
                    }
                    None => false,
                }
            }
            Fact::Value { .. } | Fact::Unknown => false,
        }
    }
}

/// Where the jump of an operation leads.
fn jump_of(at: u32, op: &Op) -> Jump {
    Jump { at, target: (at + 1).wrapping_add_signed(op.off), cost: if op.off < 0 { op.off.unsigned_abs() } else { 0 } }
}

fn unsigned(size: Size) -> LoadType {
    match size {
        Size::B => LoadType::U8,
        Size::H => LoadType::U16,
        Size::W => LoadType::U32,
        Size::Dw => LoadType::U64,
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use skep_insn::text;

    use super::*;
    use crate::{Cpu, Helpers, Image, Machine};

    /// Runs a program as it is compiled for a processor without BMI2.
    fn run_without_bmi2(machine: &std::sync::Arc<Machine>, asm: &str) -> [u64; 2] {
        let insns = text::assemble(asm).unwrap().code;
        let [interpreted, compiled] =
            [(); 2].map(|()| machine.load(&Image { insns: &insns, ..Image::default() }).unwrap());
        let made = assemble(&compiled, CompileOptions::default(), x86_64::Emitter::with(insns.len(), false));
        // No VEX prefix in front of one of the three opcodes.
        assert!(!made.assembled.code.windows(4).any(|bytes| bytes[0] == 0xc4 && bytes[3] == 0xf7), "{asm}");
        compiled.native.set(Native::new(made).unwrap()).unwrap();
        let mut cpu = Cpu::new(machine).unwrap();
        [interpreted, compiled].map(|program| cpu.run(&program, [0, 0]).unwrap())
    }

    #[test]
    fn shifts_without_bmi2_keep_every_other_register() {
        let machine = Machine::new(Helpers::none()).unwrap();
        let mix: String = (1..10).map(|reg| format!("r0 *= 0x1000193\nr0 ^= r{reg}\n")).collect();
        for op in ["<<=", ">>=", "s>>="] {
            for width in ["r", "w"] {
                for (dst, src) in (0..10).flat_map(|dst| (0..10).map(move |src| (dst, src))) {
                    let set: String =
                        (0..10).map(|reg| format!("r{reg} = 0x8123456789abcd{:02x} ll\n", 0x30 + 7 * reg)).collect();
                    let asm = format!("{set}{width}{dst} {op} {width}{src}\n{mix}exit");
                    let [wanted, found] = run_without_bmi2(&machine, &asm);
                    assert_eq!(wanted, found, "{asm}");
                }
            }
        }
    }
}
