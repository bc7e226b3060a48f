//! The interpreter: one loop over operations, one match, every access checked.
//!
//! It is the reference for whatever else runs programs, and what runs them where nothing is compiled. A function call of a program
//! is no call of Rust; only a helper that calls back into the program starts another loop, and frames bound how many.

use std::ops::{BitAnd, BitOr, BitXor};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cpu::{Caller, Cpu};
use crate::jit::Native;
use crate::op::{Code, Op};
use crate::program::Program;
use crate::{Access, Space, Stop, Trap, TrapKind, alu, packet};

/// Registers and the place in the code.
pub(crate) struct State {
    /// r0 to r10, and room so that four bits are an index.
    pub(crate) regs: [u64; 16],
    /// The next operation; when a program stops, the one that did it.
    pub(crate) pc: usize,
}

/// How a run of compiled code ended that did not just return.
pub(crate) struct Left {
    pub(crate) event: Result<Event, Stop>,
    pub(crate) state: State,
}

/// Why the loop ended.
pub(crate) enum Event {
    /// The function that was called first has returned this.
    Exit(u64),
    /// The innermost frame belongs to another program now.
    Switch,
}

/// Runs a function of a program, on top of the frames that are in use. Programs that were compiled run as such; both kinds may call
/// each other's. `first` is the processor's first program, when the caller has it at hand.
pub(crate) fn run(
    cpu: &mut Cpu,
    first: Option<&Arc<Program>>,
    program: usize,
    function: usize,
    args: &[u64],
) -> Result<u64, Box<Trap>> {
    let floor = cpu.depth();
    let start = cpu.programs[program].functions[function].start as usize;
    cpu.enter(program, function, Caller::default()).map_err(|kind| cpu.trap(program, start, kind.into()))?;
    let mut state = State { regs: [0; 16], pc: start };
    if let Some(first) = first
        && let Some(native) = first.native.get()
        && native.holds(cpu.machine().registry())
    {
        match native.start(cpu, first, args, &mut state, floor) {
            Ok(Event::Exit(value)) => return Ok(value),
            Ok(Event::Switch) => {}
            Err(stop) => return Err(cpu.trap(program, state.pc, stop)),
        }
    } else {
        for (reg, arg) in state.regs[1..=5].iter_mut().zip(args) {
            *reg = *arg;
        }
        state.regs[10] = cpu.frame_pointer();
    }
    go_on(cpu, first, &mut state, floor)
}

/// Runs the compiled program whose entry function is in its frame.
#[inline(always)]
pub(crate) fn run_begun(
    cpu: &mut Cpu,
    program: &Arc<Program>,
    native: &Native,
    args: [u64; 2],
) -> Result<u64, Box<Trap>> {
    native.begin(cpu, program, args).or_else(|left| go_on_behind(cpu, program, *left))
}

#[cold]
fn go_on_behind(cpu: &mut Cpu, program: &Arc<Program>, left: Left) -> Result<u64, Box<Trap>> {
    let Left { event, mut state } = left;
    match event {
        Ok(Event::Exit(value)) => Ok(value),
        Ok(Event::Switch) => go_on(cpu, Some(program), &mut state, 0),
        Err(stop) => Err(cpu.trap(0, state.pc, stop)),
    }
}

/// Runs until the frame at `floor` returns.
fn go_on(cpu: &mut Cpu, first: Option<&Arc<Program>>, state: &mut State, floor: usize) -> Result<u64, Box<Trap>> {
    loop {
        let current = cpu.current();
        let kept;
        let program = match first {
            Some(first) if current == 0 => first,
            _ => {
                kept = cpu.programs[current].clone();
                &kept
            }
        };
        let event = match program.native.get() {
            Some(native) if native.holds(cpu.machine().registry()) => native.steps(cpu, program, state, floor),
            _ => steps(cpu, program, state, floor),
        };
        match event {
            Ok(Event::Exit(value)) => return Ok(value),
            Ok(Event::Switch) => {}
            Err(stop) => return Err(cpu.trap(current, state.pc, stop)),
        }
    }
}

/// Runs until the frame at `floor` returns, or the program changes.
fn steps(cpu: &mut Cpu, program: &Arc<Program>, state: &mut State, floor: usize) -> Result<Event, Stop> {
    let ops: &[Op] = &program.ops;
    let space: &Space = &program.space;
    let State { regs, pc: place } = state;
    let mut pc = *place;
    loop {
        let at = pc;
        // Loading made sure that there is one.
        let Some(op) = ops.get(at) else {
            *place = at;
            return Err(TrapKind::BadTarget { value: at as u64 }.into());
        };
        pc += 1;
        let (dst, src) = (usize::from(op.dst & 15), usize::from(op.src & 15));

        macro_rules! stop {
            ($stop:expr) => {{
                *place = at;
                return Err(Stop::from($stop));
            }};
        }
        macro_rules! check {
            ($result:expr) => {
                match $result {
                    Ok(value) => value,
                    Err(stop) => stop!(stop),
                }
            };
        }
        macro_rules! right {
            (reg) => {
                regs[src]
            };
            (imm) => {
                op.imm
            };
        }
        macro_rules! alu64 {
            ($what:expr, $right:ident) => {
                regs[dst] = $what(regs[dst], right!($right))
            };
        }
        macro_rules! alu32 {
            ($what:expr, $right:ident) => {
                regs[dst] = u64::from($what(regs[dst] as u32, right!($right) as u32))
            };
        }
        macro_rules! jump {
            () => {{
                pc = pc.wrapping_add_signed(op.off as isize);
                if op.off < 0 {
                    check!(cpu.burn(u64::from(op.off.unsigned_abs())));
                }
            }};
        }
        macro_rules! branch {
            ($word:ty, $right:ident, |$a:ident, $b:ident| $holds:expr) => {{
                let ($a, $b) = (regs[dst] as $word, right!($right) as $word);
                if $holds {
                    jump!();
                }
            }};
        }
        macro_rules! address {
            ($base:expr) => {
                regs[$base].wrapping_add(op.off as u64)
            };
        }
        macro_rules! load {
            ($word:ty, |$value:ident| $extended:expr) => {{
                let addr = address!(src);
                let Some($value) = space.load::<$word>(addr) else {
                    stop!(space.explain(addr, size_of::<$word>() as u64, Access::Read))
                };
                regs[dst] = $extended;
            }};
        }
        macro_rules! store {
            ($word:ty, $value:expr) => {{
                let addr = address!(dst);
                if space.store(addr, $value as $word).is_none() {
                    stop!(space.explain(addr, size_of::<$word>() as u64, Access::Write))
                }
            }};
        }
        macro_rules! place {
            ($place:ident, $base:expr, $len:expr, $access:expr) => {{
                let addr = address!($base);
                match space.$place(addr, $access) {
                    Some(place) => place,
                    None => stop!(space.explain(addr, $len as u64, $access)),
                }
            }};
        }
        macro_rules! load_acquire {
            ($place:ident, $len:literal) => {
                regs[dst] = place!($place, src, $len, Access::AtomicRead).load(Ordering::Acquire).into()
            };
        }
        macro_rules! store_release {
            ($place:ident, $word:ty) => {
                place!($place, dst, size_of::<$word>(), Access::Atomic).store(regs[src] as $word, Ordering::Release)
            };
        }
        macro_rules! atomic {
            ($place:ident, $word:ty, $what:ident, keep) => {
                regs[src] = atomic!($place, $word, $what).into()
            };
            ($place:ident, $word:ty, $what:ident, drop) => {{
                atomic!($place, $word, $what);
            }};
            ($place:ident, $word:ty, $what:ident) => {
                place!($place, dst, size_of::<$word>(), Access::Atomic).$what(regs[src] as $word, Ordering::SeqCst)
            };
        }
        macro_rules! compare_exchange {
            ($place:ident, $word:ty) => {{
                let place = place!($place, dst, size_of::<$word>(), Access::Atomic);
                let (old, new) = (regs[0] as $word, regs[src] as $word);
                let (Ok(found) | Err(found)) = place.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
                regs[0] = found.into();
            }};
        }
        macro_rules! packet {
            ($len:literal, $off:expr) => {
                match check!(packet::load(cpu, $off as i32, $len)) {
                    Some(value) => regs[0] = value,
                    None => {
                        regs[0] = 0;
                        exit!()
                    }
                }
            };
        }
        macro_rules! exit {
            () => {{
                let from = cpu.current();
                let caller = cpu.leave();
                if cpu.depth() == floor {
                    return Ok(Event::Exit(regs[0]));
                }
                regs[6..10].copy_from_slice(&caller.saved);
                regs[10] = cpu.frame_pointer();
                pc = caller.pc;
                if cpu.current() != from {
                    *place = pc;
                    return Ok(Event::Switch);
                }
            }};
        }
        macro_rules! args {
            () => {
                [regs[1], regs[2], regs[3], regs[4], regs[5]]
            };
        }
        macro_rules! call {
            ($function:expr) => {{
                let function = $function;
                let saved = [regs[6], regs[7], regs[8], regs[9]];
                check!(cpu.enter(cpu.current(), function, Caller { saved, pc }));
                regs[10] = cpu.frame_pointer();
                pc = program.functions[function].start as usize;
            }};
        }
        macro_rules! tail_call {
            () => {
                if check!(cpu.take_tail_call()) {
                    *place = 0;
                    return Ok(Event::Switch);
                }
            };
        }

        match op.code {
            Code::Add64 => alu64!(u64::wrapping_add, reg),
            Code::Add64K => alu64!(u64::wrapping_add, imm),
            Code::Add32 => alu32!(u32::wrapping_add, reg),
            Code::Add32K => alu32!(u32::wrapping_add, imm),
            Code::Sub64 => alu64!(u64::wrapping_sub, reg),
            Code::Sub64K => alu64!(u64::wrapping_sub, imm),
            Code::Sub32 => alu32!(u32::wrapping_sub, reg),
            Code::Sub32K => alu32!(u32::wrapping_sub, imm),
            Code::Mul64 => alu64!(u64::wrapping_mul, reg),
            Code::Mul64K => alu64!(u64::wrapping_mul, imm),
            Code::Mul32 => alu32!(u32::wrapping_mul, reg),
            Code::Mul32K => alu32!(u32::wrapping_mul, imm),
            Code::Div64 => alu64!(alu::div64, reg),
            Code::Div64K => alu64!(alu::div64, imm),
            Code::Div32 => alu32!(alu::div32, reg),
            Code::Div32K => alu32!(alu::div32, imm),
            Code::SDiv64 => alu64!(alu::sdiv64, reg),
            Code::SDiv64K => alu64!(alu::sdiv64, imm),
            Code::SDiv32 => alu32!(alu::sdiv32, reg),
            Code::SDiv32K => alu32!(alu::sdiv32, imm),
            Code::Or64 => alu64!(u64::bitor, reg),
            Code::Or64K => alu64!(u64::bitor, imm),
            Code::Or32 => alu32!(u32::bitor, reg),
            Code::Or32K => alu32!(u32::bitor, imm),
            Code::And64 => alu64!(u64::bitand, reg),
            Code::And64K => alu64!(u64::bitand, imm),
            Code::And32 => alu32!(u32::bitand, reg),
            Code::And32K => alu32!(u32::bitand, imm),
            Code::Lsh64 => alu64!(alu::lsh64, reg),
            Code::Lsh64K => alu64!(alu::lsh64, imm),
            Code::Lsh32 => alu32!(alu::lsh32, reg),
            Code::Lsh32K => alu32!(alu::lsh32, imm),
            Code::Rsh64 => alu64!(alu::rsh64, reg),
            Code::Rsh64K => alu64!(alu::rsh64, imm),
            Code::Rsh32 => alu32!(alu::rsh32, reg),
            Code::Rsh32K => alu32!(alu::rsh32, imm),
            Code::Mod64 => alu64!(alu::mod64, reg),
            Code::Mod64K => alu64!(alu::mod64, imm),
            Code::Mod32 => alu32!(alu::mod32, reg),
            Code::Mod32K => alu32!(alu::mod32, imm),
            Code::SMod64 => alu64!(alu::smod64, reg),
            Code::SMod64K => alu64!(alu::smod64, imm),
            Code::SMod32 => alu32!(alu::smod32, reg),
            Code::SMod32K => alu32!(alu::smod32, imm),
            Code::Xor64 => alu64!(u64::bitxor, reg),
            Code::Xor64K => alu64!(u64::bitxor, imm),
            Code::Xor32 => alu32!(u32::bitxor, reg),
            Code::Xor32K => alu32!(u32::bitxor, imm),
            Code::Arsh64 => alu64!(alu::arsh64, reg),
            Code::Arsh64K => alu64!(alu::arsh64, imm),
            Code::Arsh32 => alu32!(alu::arsh32, reg),
            Code::Arsh32K => alu32!(alu::arsh32, imm),
            Code::Mov64 => regs[dst] = regs[src],
            Code::Mov32 => regs[dst] = u64::from(regs[src] as u32),
            Code::Imm => {
                regs[dst] = op.imm;
                // 1 for a wide load, whose second slot holds nothing.
                pc += op.off as usize;
            }
            Code::Sx8To32 => regs[dst] = u64::from(regs[src] as i8 as u32),
            Code::Sx16To32 => regs[dst] = u64::from(regs[src] as i16 as u32),
            Code::Sx8To64 => regs[dst] = regs[src] as i8 as u64,
            Code::Sx16To64 => regs[dst] = regs[src] as i16 as u64,
            Code::Sx32To64 => regs[dst] = regs[src] as i32 as u64,
            Code::Neg64 => regs[dst] = regs[dst].wrapping_neg(),
            Code::Neg32 => regs[dst] = u64::from((regs[dst] as u32).wrapping_neg()),
            Code::Zx16 => regs[dst] = u64::from(regs[dst] as u16),
            Code::Zx32 => regs[dst] = u64::from(regs[dst] as u32),
            Code::Nop | Code::Hole => {}
            Code::Swap16 => regs[dst] = u64::from((regs[dst] as u16).swap_bytes()),
            Code::Swap32 => regs[dst] = u64::from((regs[dst] as u32).swap_bytes()),
            Code::Swap64 => regs[dst] = regs[dst].swap_bytes(),
            Code::CastUser => {
                let short = u64::from(regs[src] as u32);
                regs[dst] = if short == 0 { 0 } else { op.imm | short };
            }
            Code::LoadU8 => load!(u8, |value| value as u64),
            Code::LoadU16 => load!(u16, |value| value as u64),
            Code::LoadU32 => load!(u32, |value| value as u64),
            Code::LoadU64 => load!(u64, |value| value as u64),
            Code::LoadS8 => load!(u8, |value| value as i8 as u64),
            Code::LoadS16 => load!(u16, |value| value as i16 as u64),
            Code::LoadS32 => load!(u32, |value| value as i32 as u64),
            Code::Store8 => store!(u8, regs[src]),
            Code::Store8K => store!(u8, op.imm),
            Code::Store16 => store!(u16, regs[src]),
            Code::Store16K => store!(u16, op.imm),
            Code::Store32 => store!(u32, regs[src]),
            Code::Store32K => store!(u32, op.imm),
            Code::Store64 => store!(u64, regs[src]),
            Code::Store64K => store!(u64, op.imm),
            Code::LoadAcquire8 => load_acquire!(atomic8, 1),
            Code::StoreRelease8 => store_release!(atomic8, u8),
            Code::LoadAcquire16 => load_acquire!(atomic16, 2),
            Code::StoreRelease16 => store_release!(atomic16, u16),
            Code::LoadAcquire32 => load_acquire!(atomic32, 4),
            Code::StoreRelease32 => store_release!(atomic32, u32),
            Code::LoadAcquire64 => load_acquire!(atomic64, 8),
            Code::StoreRelease64 => store_release!(atomic64, u64),
            Code::AtomicAdd64 => atomic!(atomic64, u64, fetch_add, drop),
            Code::AtomicAdd32 => atomic!(atomic32, u32, fetch_add, drop),
            Code::AtomicOr64 => atomic!(atomic64, u64, fetch_or, drop),
            Code::AtomicOr32 => atomic!(atomic32, u32, fetch_or, drop),
            Code::AtomicAnd64 => atomic!(atomic64, u64, fetch_and, drop),
            Code::AtomicAnd32 => atomic!(atomic32, u32, fetch_and, drop),
            Code::AtomicXor64 => atomic!(atomic64, u64, fetch_xor, drop),
            Code::AtomicXor32 => atomic!(atomic32, u32, fetch_xor, drop),
            Code::AtomicFetchAdd64 => atomic!(atomic64, u64, fetch_add, keep),
            Code::AtomicFetchAdd32 => atomic!(atomic32, u32, fetch_add, keep),
            Code::AtomicFetchOr64 => atomic!(atomic64, u64, fetch_or, keep),
            Code::AtomicFetchOr32 => atomic!(atomic32, u32, fetch_or, keep),
            Code::AtomicFetchAnd64 => atomic!(atomic64, u64, fetch_and, keep),
            Code::AtomicFetchAnd32 => atomic!(atomic32, u32, fetch_and, keep),
            Code::AtomicFetchXor64 => atomic!(atomic64, u64, fetch_xor, keep),
            Code::AtomicFetchXor32 => atomic!(atomic32, u32, fetch_xor, keep),
            Code::AtomicXchg64 => atomic!(atomic64, u64, swap, keep),
            Code::AtomicXchg32 => atomic!(atomic32, u32, swap, keep),
            Code::AtomicCmpXchg64 => compare_exchange!(atomic64, u64),
            Code::AtomicCmpXchg32 => compare_exchange!(atomic32, u32),
            Code::PacketAbs8 => packet!(1, op.imm),
            Code::PacketInd8 => packet!(1, op.imm.wrapping_add(regs[src])),
            Code::PacketAbs16 => packet!(2, op.imm),
            Code::PacketInd16 => packet!(2, op.imm.wrapping_add(regs[src])),
            Code::PacketAbs32 => packet!(4, op.imm),
            Code::PacketInd32 => packet!(4, op.imm.wrapping_add(regs[src])),
            Code::Jump => jump!(),
            Code::JumpReg => {
                let value = regs[dst];
                let target = Program::slot_of(value).filter(|to| program.may_jump(at as u32, *to));
                let Some(target) = target.map(|target| target as usize) else { stop!(TrapKind::BadTarget { value }) };
                check!(cpu.burn((pc.saturating_sub(target)) as u64));
                pc = target;
            }
            Code::MayGoto => {
                if !cpu.may_go_on() {
                    jump!();
                }
            }
            Code::JEq64 => branch!(u64, reg, |a, b| a == b),
            Code::JEq64K => branch!(u64, imm, |a, b| a == b),
            Code::JEq32 => branch!(u32, reg, |a, b| a == b),
            Code::JEq32K => branch!(u32, imm, |a, b| a == b),
            Code::JNe64 => branch!(u64, reg, |a, b| a != b),
            Code::JNe64K => branch!(u64, imm, |a, b| a != b),
            Code::JNe32 => branch!(u32, reg, |a, b| a != b),
            Code::JNe32K => branch!(u32, imm, |a, b| a != b),
            Code::JSet64 => branch!(u64, reg, |a, b| a & b != 0),
            Code::JSet64K => branch!(u64, imm, |a, b| a & b != 0),
            Code::JSet32 => branch!(u32, reg, |a, b| a & b != 0),
            Code::JSet32K => branch!(u32, imm, |a, b| a & b != 0),
            Code::JGt64 => branch!(u64, reg, |a, b| a > b),
            Code::JGt64K => branch!(u64, imm, |a, b| a > b),
            Code::JGt32 => branch!(u32, reg, |a, b| a > b),
            Code::JGt32K => branch!(u32, imm, |a, b| a > b),
            Code::JGe64 => branch!(u64, reg, |a, b| a >= b),
            Code::JGe64K => branch!(u64, imm, |a, b| a >= b),
            Code::JGe32 => branch!(u32, reg, |a, b| a >= b),
            Code::JGe32K => branch!(u32, imm, |a, b| a >= b),
            Code::JLt64 => branch!(u64, reg, |a, b| a < b),
            Code::JLt64K => branch!(u64, imm, |a, b| a < b),
            Code::JLt32 => branch!(u32, reg, |a, b| a < b),
            Code::JLt32K => branch!(u32, imm, |a, b| a < b),
            Code::JLe64 => branch!(u64, reg, |a, b| a <= b),
            Code::JLe64K => branch!(u64, imm, |a, b| a <= b),
            Code::JLe32 => branch!(u32, reg, |a, b| a <= b),
            Code::JLe32K => branch!(u32, imm, |a, b| a <= b),
            Code::JSGt64 => branch!(u64, reg, |a, b| (a as i64) > (b as i64)),
            Code::JSGt64K => branch!(u64, imm, |a, b| (a as i64) > (b as i64)),
            Code::JSGt32 => branch!(u32, reg, |a, b| (a as i32) > (b as i32)),
            Code::JSGt32K => branch!(u32, imm, |a, b| (a as i32) > (b as i32)),
            Code::JSGe64 => branch!(u64, reg, |a, b| (a as i64) >= (b as i64)),
            Code::JSGe64K => branch!(u64, imm, |a, b| (a as i64) >= (b as i64)),
            Code::JSGe32 => branch!(u32, reg, |a, b| (a as i32) >= (b as i32)),
            Code::JSGe32K => branch!(u32, imm, |a, b| (a as i32) >= (b as i32)),
            Code::JSLt64 => branch!(u64, reg, |a, b| (a as i64) < (b as i64)),
            Code::JSLt64K => branch!(u64, imm, |a, b| (a as i64) < (b as i64)),
            Code::JSLt32 => branch!(u32, reg, |a, b| (a as i32) < (b as i32)),
            Code::JSLt32K => branch!(u32, imm, |a, b| (a as i32) < (b as i32)),
            Code::JSLe64 => branch!(u64, reg, |a, b| (a as i64) <= (b as i64)),
            Code::JSLe64K => branch!(u64, imm, |a, b| (a as i64) <= (b as i64)),
            Code::JSLe32 => branch!(u32, reg, |a, b| (a as i32) <= (b as i32)),
            Code::JSLe32K => branch!(u32, imm, |a, b| (a as i32) <= (b as i32)),
            Code::Helper => {
                let helper = &program.helpers[op.imm as usize];
                regs[0] = check!((helper.run)(cpu, args!()));
            }
            Code::TailCall => {
                let helper = &program.helpers[op.imm as usize];
                regs[0] = check!((helper.run)(cpu, args!()));
                tail_call!();
            }
            Code::Call => call!(op.imm as usize),
            Code::CallReg => {
                let value = regs[dst];
                if let Some(function) = Program::slot_of(value).and_then(|start| program.function_at(start)) {
                    call!(function);
                } else {
                    // A small number is a helper's.
                    let helper = u32::try_from(value).ok().and_then(|id| cpu.machine().helpers().get(id)).copied();
                    let Some(helper) = helper else { stop!(TrapKind::BadCallee { value }) };
                    regs[0] = check!((helper.run)(cpu, args!()));
                    tail_call!();
                }
            }
            Code::Exit => exit!(),
        }
    }
}
