//! Running compiled code: how it is entered and left, and what it asks of Rust.
//!
//! # Safety
//!
//! - Code is entered only at places of its own [`Native`], with a [`Context`] that lives on the caller's stack until it comes back. The
//!   program, its code and the processor are borrowed by the caller for as long.
//! - Code gets at memory of programs only at addresses inside of a block, which stay mapped as long as the space that the program holds
//!   (see the module `memory`): those of the frame that it runs in, those that the table of the space allows, and those
//!   that [`place`] gave. It gets at nothing else but its context, the frames of the processor and how many there are, the window of
//!   its stacks, which it changes as [`Cpu::enter`] and [`Cpu::leave`] do, and the atomics of the tables of hash maps that its [`Native`]
//!   keeps, which it reads as [`find`] does.
//! - While code runs, nobody else uses the processor; each function here makes a reference to it that ends when it returns.
//! - Nothing unwinds through compiled code: a panic in a function that it called ends the process, as a panic in an `extern "C"` function does.
#![expect(unsafe_code, reason = "jumps into code that was made here")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Native;
use skep_insn::{Size, Width};

use super::shape::Shape;
use crate::cpu::{Caller, Cpu};
use crate::interpreter::{Event, Left, State};
use crate::map::Registry;
use crate::memory::Word;
use crate::op::Code;
use crate::program::Program;
use crate::{Access, Map, Stop, TrapKind, packet};

/// What compiled code works with beside registers. Back ends know where the public fields are.
///
/// A processor keeps the one of its last run for the next run of the same program: most of it is the same then.
#[repr(C)]
pub(crate) struct Context {
    /// r0 to r10, while Rust runs.
    pub(super) regs: [u64; 11],
    /// What is left; the processor's own field is right while Rust runs.
    pub(super) fuel: u64,
    /// Of the space.
    pub(super) base: u64,
    /// Of the space: one entry for each 64 KiB.
    pub(super) table: *const AtomicU64,
    /// How often `may_goto` of this frame will still fall through.
    pub(super) may_goto: *mut u32,
    /// See [`layout`](crate::cpu::layout).
    pub(super) cpu: *mut Cpu,
    /// When a program stops, the operation that did it.
    pub(super) pc: u64,
    /// How many frames are not of this run.
    pub(super) floor: usize,
    /// The entry of the table that says which frames are accessible.
    pub(super) window: *const AtomicU64,
    /// Where the code of each slot is.
    pub(super) places: *const usize,
    /// r10 of the entry function.
    pub(super) first_frame: u64,
    program: *const Program,
    native: *const Native,
    /// Why the code was left; nothing yet when the fuel did not suffice.
    outcome: Option<Result<Event, Stop>>,
}

// SAFETY: its pointers lead to a program, its code, its space and the stacks of a processor, which threads may hand to each other, and to
// the processor itself; they are used while code runs only, whose caller holds all of these.
unsafe impl Send for Context {}
// SAFETY: whoever only sees it uses none of its pointers.
unsafe impl Sync for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

/// What code is entered by: it takes all registers from the context and goes to a place in the code. It comes back with 0, or with [`RETURNED`].
type Enter = unsafe extern "C" fn(*mut Context, *const u8) -> u64;

/// What the first function is entered by: r1 and r2 are given, r10 is its frame, the others are 0.
type Begin = unsafe extern "C" fn(*mut Context, u64, u64) -> u64;

/// The code was left because the function that was called first returned what is in r0 of the context. Its frame is still there. Code that calls
/// nothing does not look whose function it is: a program that another one went on with may have been called by a function of that one.
pub(super) const RETURNED: u64 = 1;

/// Functions that compiled code calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    /// `(context, slot) -> 0`, with r0 in the context, or anything else when the program stops.
    pub(super) helper: u64,
    /// `(context, slot) -> where to go on`.
    pub(super) step: u64,
    /// `(context, address, [`reach`], slot) -> address`, or 0 when the program stops.
    pub(super) place: u64,
    /// `(context, place in the code)`: an access there found no memory; the program stops.
    pub(super) fault: u64,
}

/// The function `(context, address of the key, map) -> address of the value` that looks up keys of so many bytes in hash maps.
pub(super) fn finder(key_bytes: u32) -> Option<u64> {
    match key_bytes {
        4 => Some(find::<1, 4> as *const () as u64),
        8 => Some(find::<1, 8> as *const () as u64),
        16 => Some(find::<2, 8> as *const () as u64),
        24 => Some(find::<3, 8> as *const () as u64),
        32 => Some(find::<4, 8> as *const () as u64),
        _ => None,
    }
}

impl Entries {
    pub(super) fn new() -> Entries {
        Entries {
            helper: helper as *const () as u64,
            step: step as *const () as u64,
            place: place as *const () as u64,
            fault: fault as *const () as u64,
        }
    }
}

/// A length and what is done with it, in one number.
pub(super) fn reach(len: u32, access: Access) -> u32 {
    let access = match access {
        Access::Read => 0,
        Access::Write => 1,
        Access::AtomicRead => 2,
        Access::Atomic => 3,
    };
    access << 8 | len
}

impl Native {
    /// Whether all maps that the code relies on are still the machine's. Programs that use removed ones are interpreted, which stops
    /// them where they do.
    #[inline(always)]
    pub(crate) fn holds(&self, registry: &Registry) -> bool {
        let removals = registry.removals();
        removals == self.removals.load(Ordering::Relaxed) || self.still_holds(registry, removals)
    }

    #[cold]
    fn still_holds(&self, registry: &Registry, removals: u64) -> bool {
        let whole = registry.has_all(&self.maps);
        if whole {
            self.removals.store(removals, Ordering::Relaxed);
        }
        whole
    }

    /// As the interpreter's: runs until the frame at `floor` returns, or the program changes.
    pub(crate) fn steps(
        &self,
        cpu: &mut Cpu,
        program: &Arc<Program>,
        state: &mut State,
        floor: usize,
    ) -> Result<Event, Stop> {
        let mut context = self.context(cpu, program, floor);
        context.regs.copy_from_slice(&state.regs[..11]);
        self.enter(cpu, &mut context, state.pc, state)
    }

    /// The same from the start of a function, with its arguments. `state` is set if it does not return.
    #[inline]
    pub(crate) fn start(
        &self,
        cpu: &mut Cpu,
        program: &Arc<Program>,
        args: &[u64],
        state: &mut State,
        floor: usize,
    ) -> Result<Event, Stop> {
        let mut context = self.context(cpu, program, floor);
        // One by one: they are read one by one.
        for (reg, arg) in context.regs[1..=5].iter_mut().zip(args) {
            *reg = *arg;
        }
        context.regs[10] = cpu.frame_pointer();
        self.enter(cpu, &mut context, state.pc, state)
    }

    /// Runs the processor's first program, whose entry function is in its frame, from its start. Gives what that returned.
    #[inline(always)]
    pub(crate) fn begin(&self, cpu: &mut Cpu, program: &Arc<Program>, args: [u64; 2]) -> Result<u64, Box<Left>> {
        // Nobody else finds it meanwhile. A helper that runs another program may have left that one as the processor's first, and the
        // context of its own: which one that is tells the address, since both programs were there at once.
        let ready = cpu.ready.take().filter(|ready| std::ptr::eq(ready.program, Arc::as_ptr(program)));
        let mut context = ready.unwrap_or_else(|| self.get_ready(cpu, program));
        debug_assert!(context.floor == 0 && context.outcome.is_none(), "that of a run that returned");
        context.fuel = cpu.fuel_left;
        context.may_goto = cpu.first_may_goto();
        let left = match self.begin {
            Some(begin) => self.go(cpu, &mut context, |context| {
                // SAFETY: the back end put the code of this signature there.
                let begin = unsafe { std::mem::transmute::<*const u8, Begin>(self.code.at(begin)) };
                // SAFETY: the context is whole, and outlives the call.
                unsafe { begin(context, args[0], args[1]) }
            }),
            None => {
                context.regs = [0; 11];
                context.regs[1] = args[0];
                context.regs[2] = args[1];
                context.regs[10] = context.first_frame;
                self.go_to(cpu, &mut context, self.place(0))
            }
        };
        if left == RETURNED {
            cpu.drop_first_frame();
            let value = context.regs[0];
            cpu.ready = Some(context);
            return Ok(value);
        }
        let mut state = State { regs: [0; 16], pc: 0 };
        let event = Self::left(cpu, &mut context, &mut state);
        Err(Box::new(Left { event, state }))
    }

    /// What runs of a processor's first program begin with.
    #[cold]
    fn get_ready(&self, cpu: &mut Cpu, program: &Arc<Program>) -> Box<Context> {
        Box::new(self.context(cpu, program, 0))
    }

    #[inline(always)]
    fn context(&self, cpu: &mut Cpu, program: &Arc<Program>, floor: usize) -> Context {
        Context {
            regs: [0; 11],
            fuel: cpu.fuel_left,
            base: program.space.base(),
            table: program.space.table(),
            may_goto: cpu.may_goto_left(),
            window: cpu.window(),
            cpu,
            pc: 0,
            floor,
            places: self.places.as_ptr(),
            first_frame: cpu.first_frame_pointer(),
            program: Arc::as_ptr(program),
            native: self,
            outcome: None,
        }
    }

    #[inline(always)]
    fn enter(&self, cpu: &mut Cpu, context: &mut Context, pc: usize, state: &mut State) -> Result<Event, Stop> {
        let floor = context.floor;
        let left = self.go_to(cpu, context, self.place(pc));
        if left == RETURNED && cpu.depth() <= floor + 1 {
            cpu.drop_frame();
            return Ok(Event::Exit(context.regs[0]));
        }
        if left == RETURNED {
            match leave(cpu, &mut context.regs, floor) {
                Next::Return(value) => return Ok(Event::Exit(value)),
                Next::At(pc) | Next::Switch(pc) => {
                    context.pc = pc as u64;
                    context.outcome = Some(Ok(Event::Switch));
                }
            }
        }
        Self::left(cpu, context, state)
    }

    #[inline(always)]
    fn go_to(&self, cpu: &mut Cpu, context: &mut Context, place: *const u8) -> u64 {
        self.go(cpu, context, |context| {
            // SAFETY: the back end put the code of this signature there.
            let enter = unsafe { std::mem::transmute::<*const u8, Enter>(self.code.at(self.enter)) };
            // SAFETY: the context is whole, and outlives the call; the place is one of this code. See the module's text.
            unsafe { enter(context, place) }
        })
    }

    #[inline(always)]
    fn go(&self, cpu: &mut Cpu, context: &mut Context, enter: impl FnOnce(&mut Context) -> u64) -> u64 {
        // The place for a reference to it that code and what it calls make.
        context.cpu = cpu;
        let left = enter(context);
        cpu.fuel_left = context.fuel;
        left
    }

    /// What the code was left with, when the first function did not return.
    #[cold]
    fn left(cpu: &Cpu, context: &mut Context, state: &mut State) -> Result<Event, Stop> {
        state.regs[..11].copy_from_slice(&context.regs);
        state.pc = context.pc as usize;
        context.outcome.take().unwrap_or_else(|| Err(cpu.exhausted().into()))
    }

    fn place(&self, slot: usize) -> *const u8 {
        // Of the mapping that `code` owns.
        std::ptr::with_exposed_provenance(self.places[slot])
    }
}

impl Context {
    /// Lets `run` use the processor, and takes over what it did with it.
    fn with_cpu<T>(&mut self, run: impl FnOnce(&mut Cpu, &mut [u64; 11]) -> T) -> T {
        // SAFETY: `steps` borrowed it for as long as this context is in use, and uses it only when the code has come back.
        let cpu = unsafe { &mut *self.cpu };
        cpu.fuel_left = self.fuel;
        let result = run(cpu, &mut self.regs);
        self.fuel = cpu.fuel_left;
        self.may_goto = cpu.may_goto_left();
        result
    }

    fn stop(&mut self, slot: u32, stop: Stop) {
        self.pc = slot.into();
        self.outcome = Some(Err(stop));
    }
}

/// A call of a helper: 0, or something else when it stopped the program.
///
/// # Safety
///
/// Compiled code calls it with its context, for an operation of its program that calls a helper.
unsafe extern "C" fn helper(context: *mut Context, slot: u32) -> u64 {
    // SAFETY: the code's own context; the code waits.
    let context = unsafe { &mut *context };
    // SAFETY: `steps` holds it.
    let program = unsafe { &*context.program };
    let helper = program.helpers[program.ops[slot as usize].imm as usize];
    match context.with_cpu(|cpu, regs| (helper.run)(cpu, arguments(regs))) {
        Ok(value) => {
            context.regs[0] = value;
            0
        }
        Err(stop) => {
            context.stop(slot, stop);
            1
        }
    }
}

/// An access that the check in the code did not let pass: over a border of slots, or wrong. Gives the true address, or
/// 0.
///
/// # Safety
///
/// Compiled code calls it with its context.
unsafe extern "C" fn place(context: *mut Context, addr: u64, reach: u32, slot: u32) -> u64 {
    // SAFETY: the code's own context; the code waits.
    let context = unsafe { &mut *context };
    // SAFETY: `steps` holds it.
    let program = unsafe { &*context.program };
    let access = match reach >> 8 {
        0 => Access::Read,
        1 => Access::Write,
        2 => Access::AtomicRead,
        _ => Access::Atomic,
    };
    match program.space.translate(addr, u64::from(reach & 0xff), access) {
        Ok(addr) => addr,
        Err(fault) => {
            context.stop(slot, fault.into());
            0
        }
    }
}

/// A lookup in a hash map, whose key of words of `BYTES` is in the frame.
///
/// # Safety
///
/// Compiled code calls it with its context, the place of a whole key in its frame, and a map that its [`Native`] keeps, which is a hash map with such
/// keys.
unsafe extern "C" fn find<const WORDS: usize, const BYTES: usize>(
    context: *const Context,
    key: *const u8,
    map: *const Map,
) -> u64 {
    let words = std::array::from_fn(|word| {
        let at = key.wrapping_add(word * BYTES);
        if BYTES == 4 {
            // SAFETY: the frame has the key.
            u64::from(unsafe { u32::read(at) })
        } else {
            // SAFETY: as above.
            unsafe { u64::read(at) }
        }
    });
    // SAFETY: the map is kept as long as the code.
    let map = unsafe { &*map };
    // SAFETY: the code's own context; the code waits.
    let cpu = unsafe { (*context).cpu };
    // SAFETY: `steps` holds the processor, and nobody uses it meanwhile.
    let number = unsafe { (*cpu).number() };
    map.hash().map_or(0, |hash| hash.find_words::<WORDS>(words, number))
}

/// An access found no memory.
///
/// # Safety
///
/// Compiled code calls it with its context and all registers in it, and the place in its own code where that happened.
unsafe extern "C" fn fault(context: *mut Context, place: usize) {
    // SAFETY: the code's own context; the code waits.
    let context = unsafe { &mut *context };
    // SAFETY: `steps` holds it.
    let program = unsafe { &*context.program };
    // SAFETY: as above.
    let native = unsafe { &*context.native };
    // Operations without code are where the next one is: the last of them did it.
    let slot = native.places.partition_point(|start| *start <= place).saturating_sub(1);
    let op = &program.ops[slot];
    let (base, size, access) = match Shape::of(op.code) {
        Shape::Load { ty } => (op.src, ty.size(), Access::Read),
        Shape::LoadAcquire { size } => (op.src, size, Access::AtomicRead),
        Shape::StoreRelease { size } => (op.dst, size, Access::Atomic),
        Shape::Atomic { width: Width::W32, .. } => (op.dst, Size::W, Access::Atomic),
        Shape::Atomic { width: Width::W64, .. } => (op.dst, Size::Dw, Access::Atomic),
        Shape::Store { size, .. } => (op.dst, size, Access::Write),
        // Nothing else accesses memory that may not be there.
        _ => (op.dst, Size::B, Access::Read),
    };
    let addr = context.regs[usize::from(base)].wrapping_add_signed(op.off.into());
    context.stop(slot as u32, program.space.explain(addr, size.len_bytes().into(), access).into());
}

/// An operation that needs the processor: gives where the code goes on.
///
/// # Safety
///
/// Compiled code calls it with its context, for an operation of its program, with all registers in the context.
unsafe extern "C" fn step(context: *mut Context, slot: u32) -> *const u8 {
    // SAFETY: the code's own context; the code waits.
    let context = unsafe { &mut *context };
    // SAFETY: `steps` holds it.
    let program = unsafe { &*context.program };
    // SAFETY: as above.
    let native = unsafe { &*context.native };
    let floor = context.floor;
    match context.with_cpu(|cpu, regs| control(cpu, program, regs, slot as usize, floor)) {
        Ok(Next::At(pc)) => return native.place(pc),
        Ok(Next::Switch(pc)) => {
            context.pc = pc as u64;
            context.outcome = Some(Ok(Event::Switch));
        }
        Ok(Next::Return(value)) => context.outcome = Some(Ok(Event::Exit(value))),
        Err(stop) => context.stop(slot, stop),
    }
    native.code.at(native.leave)
}

/// Where a program goes on.
enum Next {
    /// At an operation of the same program.
    At(usize),
    /// At an operation of another one.
    Switch(usize),
    /// The function that was called first has returned this.
    Return(u64),
}

fn arguments(regs: &[u64; 11]) -> [u64; 5] {
    [regs[1], regs[2], regs[3], regs[4], regs[5]]
}

/// What the interpreter does for operations that change frames or programs, or look at the packet.
fn control(cpu: &mut Cpu, program: &Program, regs: &mut [u64; 11], at: usize, floor: usize) -> Result<Next, Stop> {
    let op = program.ops[at];
    let next = at + 1;
    let (dst, src) = (regs[usize::from(op.dst)], regs[usize::from(op.src)]);
    let (len, off) = match op.code {
        Code::Exit => return Ok(leave(cpu, regs, floor)),
        Code::Call => return call(cpu, program, regs, op.imm as usize, next),
        Code::TailCall => {
            regs[0] = (program.helpers[op.imm as usize].run)(cpu, arguments(regs))?;
            return tail_call(cpu, next);
        }
        Code::CallReg => {
            if let Some(function) = Program::slot_of(dst).and_then(|start| program.function_at(start)) {
                return call(cpu, program, regs, function, next);
            }
            // A small number is a helper's.
            let helper = u32::try_from(dst).ok().and_then(|id| cpu.machine().helpers().get(id)).copied();
            let helper = helper.ok_or(TrapKind::BadCallee { value: dst })?;
            regs[0] = (helper.run)(cpu, arguments(regs))?;
            return tail_call(cpu, next);
        }
        Code::JumpReg => {
            let target = Program::slot_of(dst).filter(|to| program.may_jump(at as u32, *to));
            let target = target.ok_or(TrapKind::BadTarget { value: dst })? as usize;
            cpu.burn(next.saturating_sub(target) as u64)?;
            return Ok(Next::At(target));
        }
        Code::PacketAbs8 => (1, op.imm),
        Code::PacketAbs16 => (2, op.imm),
        Code::PacketAbs32 => (4, op.imm),
        Code::PacketInd8 => (1, op.imm.wrapping_add(src)),
        Code::PacketInd16 => (2, op.imm.wrapping_add(src)),
        // The last of those whose shape is `Control`.
        _ => (4, op.imm.wrapping_add(src)),
    };
    let value = packet::load(cpu, off as i32, len)?;
    regs[0] = value.unwrap_or(0);
    Ok(if value.is_some() { Next::At(next) } else { leave(cpu, regs, floor) })
}

fn call(cpu: &mut Cpu, program: &Program, regs: &mut [u64; 11], function: usize, next: usize) -> Result<Next, Stop> {
    let saved = [regs[6], regs[7], regs[8], regs[9]];
    cpu.enter(cpu.current(), function, Caller { saved, pc: next })?;
    regs[10] = cpu.frame_pointer();
    Ok(Next::At(program.functions[function].start as usize))
}

fn tail_call(cpu: &mut Cpu, next: usize) -> Result<Next, Stop> {
    Ok(if cpu.take_tail_call()? { Next::Switch(0) } else { Next::At(next) })
}

fn leave(cpu: &mut Cpu, regs: &mut [u64; 11], floor: usize) -> Next {
    let from = cpu.current();
    let caller = cpu.leave();
    if cpu.depth() == floor {
        return Next::Return(regs[0]);
    }
    regs[6..10].copy_from_slice(&caller.saved);
    regs[10] = cpu.frame_pointer();
    if cpu.current() == from { Next::At(caller.pc) } else { Next::Switch(caller.pc) }
}
