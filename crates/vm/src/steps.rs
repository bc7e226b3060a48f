//! The steps of the interpreter: a function for each [`Code`], which ends by calling the one of the next operation.
//!
//! A loop around one `match` has one place from which everything is dispatched, and where a processor guesses badly what comes next, the
//! guess is most of what an operation costs. Here each function has a place of its own, which remembers what usually follows *it*, and what the
//! functions share stays in registers, since they pass it on. Such calls are the last thing that a function does, so a compiler makes jumps
//! of them, as every one that optimises does; but nothing promises it. So they are counted ([`DEPTH`]): after so many the function returns
//! to the loop in [`steps`], and without the jumps the stack grows no further than that.
//!
//! What needs more than registers and memory (calls, helpers, returns, errors) returns to the loop at once.

use std::ops::{BitAnd, BitOr, BitXor};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cpu::{Caller, Cpu};
use crate::interpreter::{Event, State};
use crate::memory::{Near, Word};
use crate::op::{Code, Op};
use crate::program::Program;
use crate::{Access, Space, Stop, TrapKind, alu, packet};

/// How many operations may follow each other before one returns to the loop.
const DEPTH: u32 = 512;

/// Does an operation and those behind it: the operation, all behind it in the program's order, how many more may follow.
type Step = fn(&mut Run<'_>, &Op, &[Op], u32) -> Next;

/// Where the loop goes on; [`Next::END`] where it does not.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Next(usize);

impl Next {
    const END: Next = Next(usize::MAX);
}

/// What all steps share.
struct Run<'a> {
    regs: [u64; 16],
    ops: &'a [Op],
    space: &'a Space,
    near: Near<'a>,
    cpu: &'a mut Cpu,
    program: &'a Arc<Program>,
    /// The run ends as the frame at this depth is left.
    floor: usize,
    /// Where it goes on, or what ended it.
    pc: usize,
    end: Result<Event, Stop>,
}

/// Runs until the frame at `floor` returns, or the program changes.
pub(crate) fn steps(cpu: &mut Cpu, program: &Arc<Program>, state: &mut State, floor: usize) -> Result<Event, Stop> {
    let mut run = Run {
        regs: state.regs,
        ops: &program.ops,
        space: &program.space,
        near: program.space.near(),
        cpu,
        program,
        floor,
        pc: 0,
        end: Ok(Event::Switch),
    };
    let mut next = Next(state.pc);
    while next != Next::END {
        next = run.go(next.0, DEPTH);
    }
    state.regs = run.regs;
    state.pc = run.pc;
    run.end
}

impl Run<'_> {
    /// The operation behind the running one.
    #[inline(always)]
    fn next(&mut self, rest: &[Op], left: u32) -> Next {
        match rest.split_first() {
            Some((op, rest)) if left != 0 => STEPS[op.code as usize](self, op, rest, left - 1),
            _ => Next(self.pc(rest)),
        }
    }

    /// The operation at a place.
    #[inline(always)]
    fn go(&mut self, pc: usize, left: u32) -> Next {
        match self.ops.get(pc..).and_then(<[Op]>::split_first) {
            Some((op, rest)) if left != 0 => STEPS[op.code as usize](self, op, rest, left - 1),
            Some(_) => Next(pc),
            None => self.no_op(pc),
        }
    }

    /// Where the target of a jump is.
    #[inline(always)]
    fn jump(&mut self, op: &Op, rest: &[Op], left: u32) -> Next {
        if op.off < 0 && self.cpu.burn(u64::from(op.off.unsigned_abs())).is_err() {
            return self.exhausted(rest);
        }
        self.go(self.pc(rest).wrapping_add_signed(op.off as isize), left)
    }

    /// The place of the first of the operations that are left.
    #[inline(always)]
    fn pc(&self, rest: &[Op]) -> usize {
        self.ops.len() - rest.len()
    }

    #[inline(always)]
    fn dst(&self, op: &Op) -> u64 {
        self.regs[usize::from(op.dst & 15)]
    }

    #[inline(always)]
    fn src(&self, op: &Op) -> u64 {
        self.regs[usize::from(op.src & 15)]
    }

    #[inline(always)]
    fn set(&mut self, op: &Op, value: u64) {
        self.regs[usize::from(op.dst & 15)] = value;
    }

    /// What an operation that wants the old value gives back.
    #[inline(always)]
    fn give_back(&mut self, op: &Op, value: u64) {
        self.regs[usize::from(op.src & 15)] = value;
    }

    fn args(&self) -> [u64; 5] {
        let [_, a, b, c, d, e, ..] = self.regs;
        [a, b, c, d, e]
    }

    /// Ends the run with an error of the operation at a place.
    #[cold]
    #[inline(never)]
    fn stop(&mut self, at: usize, stop: Stop) -> Next {
        self.pc = at;
        self.end = Err(stop);
        Next::END
    }

    // Steps that had an error in a variable of theirs, to hand it on, would have to be come back to from where they go on.

    #[cold]
    #[inline(never)]
    fn exhausted(&mut self, rest: &[Op]) -> Next {
        self.stop(self.pc(rest) - 1, self.cpu.exhausted().into())
    }

    /// Loading made sure that this does not happen.
    #[cold]
    #[inline(never)]
    fn no_op(&mut self, pc: usize) -> Next {
        self.stop(pc, TrapKind::BadTarget { value: pc as u64 }.into())
    }

    /// Ends the run with what is wrong with an access.
    #[cold]
    #[inline(never)]
    fn refuse(&mut self, rest: &[Op], addr: u64, len: usize, access: Access) -> Next {
        self.stop(self.pc(rest) - 1, self.space.explain(addr, len as u64, access).into())
    }

    /// A load that is not allowed, or lies across a border of slots.
    #[cold]
    #[inline(never)]
    fn load_far<W: Word>(&mut self, op: &Op, rest: &[Op], extend: impl Fn(W) -> u64) -> Next {
        let addr = self.src(op).wrapping_add(op.off as u64);
        let Some(value) = self.space.load(addr) else { return self.refuse(rest, addr, size_of::<W>(), Access::Read) };
        self.set(op, extend(value));
        Next(self.pc(rest))
    }

    /// A store that is not allowed, or lies across a border of slots.
    #[cold]
    #[inline(never)]
    fn store_far<W: Word>(&mut self, op: &Op, rest: &[Op], value: W) -> Next {
        let addr = self.dst(op).wrapping_add(op.off as u64);
        match self.space.store(addr, value) {
            Some(()) => Next(self.pc(rest)),
            None => self.refuse(rest, addr, size_of::<W>(), Access::Write),
        }
    }

    /// Ends the loop without an error.
    fn end(&mut self, pc: usize, event: Event) -> Next {
        self.pc = pc;
        self.end = Ok(event);
        Next::END
    }

    fn helper(&mut self, op: &Op) -> Result<(), Stop> {
        let helper = &self.program.helpers[op.imm as usize];
        self.regs[0] = (helper.run)(self.cpu, self.args())?;
        Ok(())
    }

    /// Goes on behind a helper that may have asked for another program.
    fn behind_helper(&mut self, pc: usize) -> Result<Next, Stop> {
        Ok(if self.cpu.take_tail_call()? { self.end(0, Event::Switch) } else { Next(pc) })
    }

    /// Calls a function of the program, which returns to `pc`.
    fn call(&mut self, function: usize, pc: usize) -> Result<Next, Stop> {
        let [.., a, b, c, d, _, _, _, _, _, _] = self.regs;
        self.cpu.enter(self.cpu.current(), function, Caller { saved: [a, b, c, d], pc })?;
        self.regs[10] = self.cpu.frame_pointer();
        Ok(Next(self.program.functions[function].start as usize))
    }

    fn call_reg(&mut self, op: &Op, pc: usize) -> Result<Next, Stop> {
        let value = self.dst(op);
        if let Some(function) = Program::slot_of(value).and_then(|start| self.program.function_at(start)) {
            return self.call(function, pc);
        }
        // A small number is a helper's.
        let helper = u32::try_from(value).ok().and_then(|id| self.cpu.machine().helpers().get(id)).copied();
        let helper = helper.ok_or(TrapKind::BadCallee { value })?;
        self.regs[0] = (helper.run)(self.cpu, self.args())?;
        self.behind_helper(pc)
    }

    fn jump_reg(&mut self, op: &Op, pc: usize) -> Result<Next, Stop> {
        let value = self.dst(op);
        let target = Program::slot_of(value).filter(|to| self.program.may_jump(pc as u32 - 1, *to));
        let target = target.ok_or(TrapKind::BadTarget { value })? as usize;
        self.cpu.burn(pc.saturating_sub(target) as u64)?;
        Ok(Next(target))
    }

    fn exit(&mut self) -> Next {
        let from = self.cpu.current();
        let caller = self.cpu.leave();
        if self.cpu.depth() == self.floor {
            return self.end(0, Event::Exit(self.regs[0]));
        }
        self.regs[6..10].copy_from_slice(&caller.saved);
        self.regs[10] = self.cpu.frame_pointer();
        if self.cpu.current() == from { Next(caller.pc) } else { self.end(caller.pc, Event::Switch) }
    }

    /// A legacy load, which ends the function where the packet has not so many bytes.
    fn packet(&mut self, off: u64, len: u32, pc: usize) -> Result<Next, Stop> {
        let value = packet::load(self.cpu, off as i32, len)?;
        self.regs[0] = value.unwrap_or(0);
        Ok(if value.is_some() { Next(pc) } else { self.exit() })
    }
}

static STEPS: [Step; Code::COUNT] = table();

/// The step of each code. One that is missing is an error of compilation.
const fn table() -> [Step; Code::COUNT] {
    let mut table: [Option<Step>; Code::COUNT] = [None; Code::COUNT];

    // What only changes registers.
    macro_rules! simple {
        ($code:ident, |$run:ident, $op:ident| $body:expr) => {
            table[Code::$code as usize] = Some(|$run, $op, rest, left| {
                $body;
                $run.next(rest, left)
            })
        };
    }
    macro_rules! alu {
        ($($code:ident, $short:ident, $code32:ident, $short32:ident: $what:expr, $what32:expr;)*) => {$(
            simple!($code, |run, op| run.set(op, $what(run.dst(op), run.src(op))));
            simple!($short, |run, op| run.set(op, $what(run.dst(op), op.imm)));
            simple!($code32, |run, op| run.set(op, $what32(run.dst(op) as u32, run.src(op) as u32) as u64));
            simple!($short32, |run, op| run.set(op, $what32(run.dst(op) as u32, op.imm as u32) as u64));
        )*};
    }
    alu! {
        Add64, Add64K, Add32, Add32K: u64::wrapping_add, u32::wrapping_add;
        Sub64, Sub64K, Sub32, Sub32K: u64::wrapping_sub, u32::wrapping_sub;
        Mul64, Mul64K, Mul32, Mul32K: u64::wrapping_mul, u32::wrapping_mul;
        Div64, Div64K, Div32, Div32K: alu::div64, alu::div32;
        SDiv64, SDiv64K, SDiv32, SDiv32K: alu::sdiv64, alu::sdiv32;
        Or64, Or64K, Or32, Or32K: u64::bitor, u32::bitor;
        And64, And64K, And32, And32K: u64::bitand, u32::bitand;
        Lsh64, Lsh64K, Lsh32, Lsh32K: alu::lsh64, alu::lsh32;
        Rsh64, Rsh64K, Rsh32, Rsh32K: alu::rsh64, alu::rsh32;
        Mod64, Mod64K, Mod32, Mod32K: alu::mod64, alu::mod32;
        SMod64, SMod64K, SMod32, SMod32K: alu::smod64, alu::smod32;
        Xor64, Xor64K, Xor32, Xor32K: u64::bitxor, u32::bitxor;
        Arsh64, Arsh64K, Arsh32, Arsh32K: alu::arsh64, alu::arsh32;
    }
    simple!(Mov64, |run, op| run.set(op, run.src(op)));
    simple!(Mov32, |run, op| run.set(op, u64::from(run.src(op) as u32)));
    simple!(Sx8To32, |run, op| run.set(op, u64::from(run.src(op) as i8 as u32)));
    simple!(Sx16To32, |run, op| run.set(op, u64::from(run.src(op) as i16 as u32)));
    simple!(Sx8To64, |run, op| run.set(op, run.src(op) as i8 as u64));
    simple!(Sx16To64, |run, op| run.set(op, run.src(op) as i16 as u64));
    simple!(Sx32To64, |run, op| run.set(op, run.src(op) as i32 as u64));
    simple!(Neg64, |run, op| run.set(op, run.dst(op).wrapping_neg()));
    simple!(Neg32, |run, op| run.set(op, u64::from((run.dst(op) as u32).wrapping_neg())));
    simple!(Zx16, |run, op| run.set(op, u64::from(run.dst(op) as u16)));
    simple!(Zx32, |run, op| run.set(op, u64::from(run.dst(op) as u32)));
    simple!(Swap16, |run, op| run.set(op, u64::from((run.dst(op) as u16).swap_bytes())));
    simple!(Swap32, |run, op| run.set(op, u64::from((run.dst(op) as u32).swap_bytes())));
    simple!(Swap64, |run, op| run.set(op, run.dst(op).swap_bytes()));
    simple!(CastUser, |run, op| {
        let short = u64::from(run.src(op) as u32);
        run.set(op, if short == 0 { 0 } else { op.imm | short });
    });
    let nothing: Step = |run, _, rest, left| run.next(rest, left);
    table[Code::Nop as usize] = Some(nothing);
    table[Code::Hole as usize] = Some(nothing);
    table[Code::Imm as usize] = Some(|run, op, rest, left| {
        run.set(op, op.imm);
        // 1 for a wide load, whose second slot holds nothing.
        run.next(rest.get(op.off as usize..).unwrap_or_default(), left)
    });

    // What reaches into memory. Accesses across a border of slots are loads and stores, and have their own, slower function, so that
    // the usual one calls nothing that it has to come back from.
    macro_rules! memory {
        ($code:ident, $base:ident, |$run:ident, $op:ident, $addr:ident, $rest:ident| $access:expr, else $refused:expr) => {
            table[Code::$code as usize] = Some(|$run, $op, $rest, left| {
                let $addr = $run.$base($op).wrapping_add($op.off as u64);
                let done: Option<()> = $access;
                if done.is_some() { $run.next($rest, left) } else { $refused }
            })
        };
    }
    macro_rules! load {
        ($($code:ident: $word:ty, $extend:expr;)*) => {$(
            memory!($code, src, |run, op, addr, rest| {
                run.near.load::<$word>(addr).map(|value| run.set(op, $extend(value)))
            }, else run.load_far::<$word>(op, rest, $extend));
        )*};
    }
    load! {
        LoadU8: u8, u64::from;
        LoadU16: u16, u64::from;
        LoadU32: u32, u64::from;
        LoadU64: u64, |value| value;
        LoadS8: u8, |value| value as i8 as u64;
        LoadS16: u16, |value| value as i16 as u64;
        LoadS32: u32, |value| value as i32 as u64;
    }
    macro_rules! store {
        ($($code:ident, $short:ident: $word:ty;)*) => {$(
            memory!($code, dst, |run, op, addr, rest| {
                run.near.store(addr, run.src(op) as $word)
            }, else run.store_far(op, rest, run.src(op) as $word));
            memory!($short, dst, |run, op, addr, rest| {
                run.near.store(addr, op.imm as $word)
            }, else run.store_far(op, rest, op.imm as $word));
        )*};
    }
    store! {
        Store8, Store8K: u8;
        Store16, Store16K: u16;
        Store32, Store32K: u32;
        Store64, Store64K: u64;
    }
    macro_rules! atomic {
        ($code:ident, $base:ident, $word:ty, $place:ident, $access:expr, |$run:ident, $op:ident, $found:ident| $body:expr) => {
            memory!($code, $base, |$run, $op, addr, rest| {
                $run.near.$place(addr, $access).map(|$found| $body)
            }, else $run.refuse(rest, addr, size_of::<$word>(), $access))
        };
    }
    macro_rules! ordered {
        ($($load:ident, $store:ident: $word:ty, $place:ident;)*) => {$(
            atomic!($load, src, $word, $place, Access::AtomicRead, |run, op, place| {
                run.set(op, place.load(Ordering::Acquire) as u64)
            });
            atomic!($store, dst, $word, $place, Access::Atomic, |run, op, place| {
                place.store(run.src(op) as $word, Ordering::Release)
            });
        )*};
    }
    ordered! {
        LoadAcquire8, StoreRelease8: u8, atomic8;
        LoadAcquire16, StoreRelease16: u16, atomic16;
        LoadAcquire32, StoreRelease32: u32, atomic32;
        LoadAcquire64, StoreRelease64: u64, atomic64;
    }
    macro_rules! atomics {
        ($word:ty, $place:ident, $exchange:ident, $compare:ident; $($drop:ident, $keep:ident: $what:ident;)*) => {
            $(
                atomic!($drop, dst, $word, $place, Access::Atomic, |run, op, place| {
                    place.$what(run.src(op) as $word, Ordering::SeqCst);
                });
                atomic!($keep, dst, $word, $place, Access::Atomic, |run, op, place| {
                    let old = place.$what(run.src(op) as $word, Ordering::SeqCst);
                    run.give_back(op, old as u64);
                });
            )*
            atomic!($exchange, dst, $word, $place, Access::Atomic, |run, op, place| {
                let old = place.swap(run.src(op) as $word, Ordering::SeqCst);
                run.give_back(op, old as u64);
            });
            atomic!($compare, dst, $word, $place, Access::Atomic, |run, op, place| {
                let (old, new) = (run.regs[0] as $word, run.src(op) as $word);
                let (Ok(found) | Err(found)) = place.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
                run.regs[0] = found as u64;
            });
        };
    }
    atomics! {
        u64, atomic64, AtomicXchg64, AtomicCmpXchg64;
        AtomicAdd64, AtomicFetchAdd64: fetch_add;
        AtomicOr64, AtomicFetchOr64: fetch_or;
        AtomicAnd64, AtomicFetchAnd64: fetch_and;
        AtomicXor64, AtomicFetchXor64: fetch_xor;
    }
    atomics! {
        u32, atomic32, AtomicXchg32, AtomicCmpXchg32;
        AtomicAdd32, AtomicFetchAdd32: fetch_add;
        AtomicOr32, AtomicFetchOr32: fetch_or;
        AtomicAnd32, AtomicFetchAnd32: fetch_and;
        AtomicXor32, AtomicFetchXor32: fetch_xor;
    }

    // Jumps.
    table[Code::Jump as usize] = Some(|run, op, rest, left| run.jump(op, rest, left));
    table[Code::MayGoto as usize] =
        Some(|run, op, rest, left| if run.cpu.may_go_on() { run.next(rest, left) } else { run.jump(op, rest, left) });
    macro_rules! branch {
        ($code:ident, $word:ty, $right:expr, |$a:ident, $b:ident| $holds:expr) => {
            table[Code::$code as usize] = Some(|run, op, rest, left| {
                let right: fn(&Run<'_>, &Op) -> u64 = $right;
                let ($a, $b) = (run.dst(op) as $word, right(run, op) as $word);
                if $holds { run.jump(op, rest, left) } else { run.next(rest, left) }
            })
        };
    }
    macro_rules! branches {
        ($($code:ident, $short:ident, $code32:ident, $short32:ident: $word:ty, $word32:ty, |$a:ident, $b:ident| $holds:expr;)*) => {$(
            branch!($code, $word, |run, op| run.src(op), |$a, $b| $holds);
            branch!($short, $word, |_, op| op.imm, |$a, $b| $holds);
            branch!($code32, $word32, |run, op| run.src(op), |$a, $b| $holds);
            branch!($short32, $word32, |_, op| op.imm, |$a, $b| $holds);
        )*};
    }
    branches! {
        JEq64, JEq64K, JEq32, JEq32K: u64, u32, |a, b| a == b;
        JNe64, JNe64K, JNe32, JNe32K: u64, u32, |a, b| a != b;
        JSet64, JSet64K, JSet32, JSet32K: u64, u32, |a, b| a & b != 0;
        JGt64, JGt64K, JGt32, JGt32K: u64, u32, |a, b| a > b;
        JGe64, JGe64K, JGe32, JGe32K: u64, u32, |a, b| a >= b;
        JLt64, JLt64K, JLt32, JLt32K: u64, u32, |a, b| a < b;
        JLe64, JLe64K, JLe32, JLe32K: u64, u32, |a, b| a <= b;
        JSGt64, JSGt64K, JSGt32, JSGt32K: i64, i32, |a, b| a > b;
        JSGe64, JSGe64K, JSGe32, JSGe32K: i64, i32, |a, b| a >= b;
        JSLt64, JSLt64K, JSLt32, JSLt32K: i64, i32, |a, b| a < b;
        JSLe64, JSLe64K, JSLe32, JSLe32K: i64, i32, |a, b| a <= b;
    }

    // What returns to the loop.
    macro_rules! slow {
        ($($code:ident, |$run:ident, $op:ident, $pc:ident| $body:expr;)*) => {$(
            table[Code::$code as usize] = Some(|$run, $op, rest, _| {
                let $pc = $run.pc(rest);
                let next: Result<Next, Stop> = $body;
                next.unwrap_or_else(|stop| $run.stop($pc - 1, stop))
            });
        )*};
    }
    slow! {
        PacketAbs8, |run, op, pc| run.packet(op.imm, 1, pc);
        PacketInd8, |run, op, pc| run.packet(op.imm.wrapping_add(run.src(op)), 1, pc);
        PacketAbs16, |run, op, pc| run.packet(op.imm, 2, pc);
        PacketInd16, |run, op, pc| run.packet(op.imm.wrapping_add(run.src(op)), 2, pc);
        PacketAbs32, |run, op, pc| run.packet(op.imm, 4, pc);
        PacketInd32, |run, op, pc| run.packet(op.imm.wrapping_add(run.src(op)), 4, pc);
        JumpReg, |run, op, pc| run.jump_reg(op, pc);
        Helper, |run, op, pc| run.helper(op).map(|()| Next(pc));
        TailCall, |run, op, pc| run.helper(op).and_then(|()| run.behind_helper(pc));
        Call, |run, op, pc| run.call(op.imm as usize, pc);
        CallReg, |run, op, pc| run.call_reg(op, pc);
    }

    table[Code::Exit as usize] = Some(|run, _, _, _| run.exit());

    let mut steps = [nothing; Code::COUNT];
    let mut code = 0;
    while code < Code::COUNT {
        steps[code] = table[code].expect("each code has a step");
        code += 1;
    }
    steps
}
