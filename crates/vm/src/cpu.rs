//! A processor: what running programs need beside their own registers, and the frames of their functions.
//!
//! # Frames
//!
//! A processor has one [`Block`] of [`MAX_FRAMES`] times [`STACK_BYTES`] for stacks. The frame of the entry function is at its upper
//! end, and each function that is called inside of another has the next [`STACK_BYTES`] below: r10 of depth `d` (the entry has 1) is
//! `end - (d - 1) * STACK_BYTES`. A function may use the addresses of its callers' frames, which are above its own; the block's window
//! follows the depth, so the frames of functions that have returned are out of bounds. A frame is cleared as its function starts,
//! as far as the function may touch it (`stack_bytes`), so no program sees what another one left there, unless it makes
//! up an address in its callers' frames.
//!
//! What a call has to keep (r6 to r9, where to go on, in which program) is not in the programs' memory.
//!
//! # Fuel
//!
//! Time is metered where code can repeat: a jump back over `n` slots costs `n`, entering a function (by a call, a callback, a tail
//! call, or as the entry) costs its length. Everything else is free, and yet no program runs more instructions than it has fuel:
//! in one activation of a function every instruction moves forward by a slot at least, or back by a jump that is paid; so
//! the number of instructions is at most the slots that jumps went back, plus the length of the function. The costs are
//! constants of the code, which a compiler can put into an immediate.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use skep_insn::InsnIdx;

use crate::environment::{Event, Memory, Task};
use crate::jit::{Context, Native};
use crate::map::{Known, Map};
use crate::program::{Function, Program};
use crate::{Access, Block, Machine, PacketBuffer, Space, SpaceError, Stop, Trap, TrapKind, interpreter};

/// Functions inside of each other, the entry included (`MAX_CALL_FRAMES`).
pub const MAX_FRAMES: usize = 8;
/// Bytes of a function's stack (`MAX_BPF_STACK`).
pub const STACK_BYTES: u32 = 512;
/// Tail calls in one run (`MAX_TAIL_CALL_CNT`).
pub const MAX_TAIL_CALLS: u32 = 33;
/// How often `may_goto` falls through in one activation of a function (`BPF_MAX_LOOPS`).
pub const MAX_MAY_GOTO: u32 = 8 << 20;
/// Fuel for one run, unless it is set: some seconds of interpreting.
pub const DEFAULT_FUEL: u64 = 1 << 30;

/// Runs programs of one [`Machine`], one at a time. Several processors may run at once, in a thread each.
#[derive(Debug)]
pub struct Cpu {
    machine: Arc<Machine>,
    stack: Block,
    fuel: u64,
    pub(crate) fuel_left: u64,
    /// Programs of this run: the first one and those that tail calls brought.
    pub(crate) programs: Vec<Arc<Program>>,
    /// For the next run of the first one, when it is compiled and does not run.
    pub(crate) ready: Option<Box<Context>>,
    frames: [Frame; MAX_FRAMES],
    /// Frames in use.
    depth: usize,
    tail_calls: u32,
    tail: Option<Arc<Program>>,
    packet: Option<Packet>,
    buffer: Option<Box<PacketBuffer>>,
    number: u32,
    maps: Known,
    task: Option<Arc<dyn Task>>,
    memory: Option<Arc<dyn Memory>>,
    event: Event,
    /// State of the numbers that look random.
    pub(crate) random: u64,
    /// Memory for the keys that helpers show to callbacks; one for each that is going on.
    pub(crate) key_blocks: Vec<Block>,
    /// Records that the running program has reserved, by address, with their ring buffers.
    pub(crate) reserved: Vec<(u64, Arc<Map>)>,
    /// The lock that the running program holds.
    pub(crate) lock: Option<u64>,
    /// The timer whose callback runs.
    pub(crate) timer: Option<u64>,
}

/// An activation of a function.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Frame {
    /// Index of its program.
    program: usize,
    /// How often `may_goto` will still fall through.
    may_goto: u32,
    /// What the caller wants back.
    caller: Caller,
}

/// What a call keeps of the calling function.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct Caller {
    /// r6 to r9.
    pub(crate) saved: [u64; 4],
    /// Where it goes on.
    pub(crate) pc: usize,
}

/// Where compiled code finds what [`Cpu::enter`] and [`Cpu::leave`] change, in bytes.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) mod layout {
    use std::mem::offset_of;

    use super::{Caller, Cpu, Frame};

    /// In a processor: the number of frames in use.
    pub(crate) const DEPTH: usize = offset_of!(Cpu, depth);
    /// In a processor: its number.
    #[cfg(target_arch = "x86_64")]
    pub(crate) const NUMBER: usize = offset_of!(Cpu, number);
    /// In a processor: its first frame.
    pub(crate) const FRAMES: usize = offset_of!(Cpu, frames);
    /// From a frame to the next.
    pub(crate) const FRAME_BYTES: usize = size_of::<Frame>();
    /// In a frame.
    pub(crate) const PROGRAM: usize = offset_of!(Frame, program);
    pub(crate) const MAY_GOTO: usize = offset_of!(Frame, may_goto);
    pub(crate) const SAVED: usize = offset_of!(Frame, caller) + offset_of!(Caller, saved);
    pub(crate) const PC: usize = offset_of!(Frame, caller) + offset_of!(Caller, pc);
}

/// The packet behind legacy packet loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Address of its data.
    pub addr: u64,
    /// Bytes of data.
    pub len: u32,
    /// Where the network header is, in bytes from the data.
    pub network_off: i32,
    /// Where the link layer's header is, in bytes from the data; negative when it was taken off.
    pub mac_off: i32,
}

impl Cpu {
    /// A processor.
    ///
    /// # Errors
    ///
    /// When there is no memory for its stacks.
    pub fn new(machine: &Arc<Machine>) -> Result<Cpu, SpaceError> {
        let stack = machine.space().allocate(MAX_FRAMES as u64 * u64::from(STACK_BYTES), true)?;
        stack.set_window(0, 0);
        Ok(Cpu {
            machine: machine.clone(),
            stack,
            fuel: DEFAULT_FUEL,
            fuel_left: 0,
            programs: Vec::new(),
            ready: None,
            frames: [Frame::default(); MAX_FRAMES],
            depth: 0,
            tail_calls: 0,
            tail: None,
            packet: None,
            buffer: None,
            number: machine.processors.fetch_add(1, Ordering::Relaxed) % machine.cpus(),
            maps: Known::default(),
            task: None,
            memory: None,
            event: Event::default(),
            random: RandomState::new().hash_one(0),
            key_blocks: Vec::new(),
            reserved: Vec::new(),
            lock: None,
            timer: None,
        })
    }

    /// Its number, below [`Machine::cpus`]: which values of per-CPU maps are its own.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Sets its number, which is the next one in turn at first. Two that run at once should not have the same.
    pub fn set_number(&mut self, number: u32) {
        self.number = number % self.machine.cpus();
    }

    /// The task for the runs to come.
    pub fn set_task(&mut self, task: Option<Arc<dyn Task>>) {
        self.task = task;
    }

    /// The task.
    pub fn task(&self) -> Option<&Arc<dyn Task>> {
        self.task.as_ref()
    }

    /// The memory outside of the programs' own, for the runs to come.
    pub fn set_memory(&mut self, memory: Option<Arc<dyn Memory>>) {
        self.memory = memory;
    }

    /// The memory outside of the programs' own.
    pub fn memory(&self) -> Option<&Arc<dyn Memory>> {
        self.memory.as_ref()
    }

    /// The event for the runs to come.
    pub fn set_event(&mut self, event: Event) {
        self.event = event;
    }

    /// The event.
    pub fn event(&self) -> Event {
        self.event
    }

    /// For a helper: the map with a handle, and the memory.
    #[inline]
    pub(crate) fn map(&mut self, handle: u64) -> Result<(&Arc<Map>, &Space), TrapKind> {
        let map = self.maps.get(self.machine.registry(), handle).ok_or(TrapKind::NoMap { value: handle })?;
        Ok((map, self.machine.space()))
    }

    /// The machine that it belongs to.
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// The memory of its programs.
    pub fn space(&self) -> &Arc<Space> {
        self.machine.space()
    }

    /// How many instructions a run may take, about; see the module's text for what is counted.
    pub fn set_fuel(&mut self, fuel: u64) {
        self.fuel = fuel;
    }

    /// What was left of the fuel when the last run ended.
    pub fn fuel_left(&self) -> u64 {
        self.fuel_left
    }

    /// The packet for legacy loads of the runs to come.
    pub fn set_packet(&mut self, packet: Option<Packet>) {
        self.packet = packet;
    }

    /// The packet for legacy loads: the one in the buffer, if there is a buffer.
    pub fn packet(&self) -> Option<Packet> {
        self.buffer.as_ref().map_or(self.packet, |buffer| Some(buffer.packet()))
    }

    /// The packet that helpers of packets are about, for the runs to come; programs get its context.
    pub fn set_buffer(&mut self, buffer: Option<Box<PacketBuffer>>) {
        self.buffer = buffer;
    }

    /// The packet that helpers are about.
    pub fn buffer(&self) -> Option<&PacketBuffer> {
        self.buffer.as_deref()
    }

    /// The packet that helpers are about, to be changed.
    pub fn buffer_mut(&mut self) -> Option<&mut PacketBuffer> {
        self.buffer.as_deref_mut()
    }

    /// Runs a program, compiled when it was, with `args` in r1 and r2, and gives its r0.
    ///
    /// # Errors
    ///
    /// What stopped it, where. Whatever it wrote by then stays written.
    pub fn run(&mut self, program: &Arc<Program>, args: [u64; 2]) -> Result<u64, Box<Trap>> {
        self.begin();
        match self.begin_again(program) {
            Some(native) => {
                let result = interpreter::run_begun(self, program, native, args);
                self.end(result)
            }
            None => self.run_anew(program, args),
        }
    }

    /// Apart from the usual case, which then keeps fewer registers.
    #[inline(never)]
    fn run_anew(&mut self, program: &Arc<Program>, args: [u64; 2]) -> Result<u64, Box<Trap>> {
        self.begin_anew(program);
        let result = interpreter::run(self, Some(program), 0, 0, &args);
        self.end(result)
    }

    /// As [`Cpu::run`], for one function of a program.
    pub(crate) fn run_function(
        &mut self,
        program: &Arc<Program>,
        function: usize,
        args: &[u64],
    ) -> Result<u64, Box<Trap>> {
        self.begin();
        self.begin_anew(program);
        let result = interpreter::run(self, None, 0, function, args);
        self.end(result)
    }

    #[inline(always)]
    fn begin(&mut self) {
        // What costs a run most is what it writes.
        if self.tail_calls != 0 {
            self.tail_calls = 0;
        }
        self.maps.refresh(self.machine.registry());
    }

    /// Whatever ran before.
    fn begin_anew(&mut self, program: &Arc<Program>) {
        // The same one again costs no counting.
        if !matches!(self.programs.as_slice(), [only] if Arc::ptr_eq(only, program)) {
            self.ready = None;
            self.programs.clear();
            self.programs.push(program.clone());
        }
        self.fuel_left = self.fuel;
        self.depth = 0;
        self.tail = None;
    }

    #[inline(always)]
    fn end(&mut self, result: Result<u64, Box<Trap>>) -> Result<u64, Box<Trap>> {
        if result.is_err() || self.lock.is_some() || !self.reserved.is_empty() {
            self.clean_up(result.is_err());
        }
        result
    }

    /// The usual case, which costs little: the program of the last run once more, compiled, with enough fuel to begin. Its entry function is
    /// in its frame afterwards, as after [`Cpu::enter`]; otherwise nothing has changed.
    #[inline(always)]
    fn begin_again<'a>(&mut self, program: &'a Arc<Program>) -> Option<&'a Native> {
        let native = program.native.get()?;
        let [only] = self.programs.as_slice() else { return None };
        let Function { start, end, stack_bytes } = *program.functions.first()?;
        let left = self.fuel.checked_sub(u64::from(end - start))?;
        if !Arc::ptr_eq(only, program) || self.tail.is_some() || !native.holds(self.machine.registry()) {
            return None;
        }
        self.fuel_left = left;
        self.depth = 1;
        // Nobody asks what the caller of the first function wants back. Its program is the first, since no other one came by a tail call.
        if self.frames[0].may_goto != MAX_MAY_GOTO {
            self.frames[0].may_goto = MAX_MAY_GOTO;
        }
        self.open_window();
        self.stack.zero_last(stack_bytes as usize / 8);
        Some(native)
    }

    /// What a program left open when it ended.
    #[cold]
    fn clean_up(&mut self, stopped: bool) {
        // After a result all frames were left.
        if stopped {
            self.depth = 0;
            self.stack.set_window(0, 0);
        }
        if self.lock.is_some() {
            self.unlock();
        }
        for (addr, map) in self.reserved.drain(..) {
            // One that is not there was ended by another program; then nothing is to be done.
            let _ = map.ring().and_then(|ring| ring.finish(addr, 0, false));
        }
    }

    /// Gives back the lock that the program holds, if it holds one.
    pub(crate) fn unlock(&mut self) {
        let held = self.lock.take().and_then(|addr| self.machine.space().near().atomic32(addr, Access::Atomic));
        if let Some(word) = held {
            word.store(0, Ordering::Release);
        }
    }

    /// For a helper: calls a function of the running program by its address, and gives its r0.
    ///
    /// # Errors
    ///
    /// When `function` is none, or the call stops the program.
    pub fn call(&mut self, function: u64, args: &[u64]) -> Result<u64, Stop> {
        let current = self.current();
        let start = Program::slot_of(function);
        let index = start.and_then(|start| self.programs[current].function_at(start));
        let index = index.ok_or(TrapKind::BadCallee { value: function })?;
        Ok(interpreter::run(self, None, current, index, args)?)
    }

    /// For a helper: goes on with another program in place of the running one, as soon as the helper has returned. `false` when
    /// there were too many such calls in this run; the program then goes on itself.
    pub fn tail_call(&mut self, program: Arc<Program>) -> bool {
        let allowed = self.tail_calls < MAX_TAIL_CALLS;
        if allowed {
            self.tail_calls += 1;
            self.tail = Some(program);
        }
        allowed
    }

    /// Pays.
    #[inline(always)]
    pub(crate) fn burn(&mut self, cost: u64) -> Result<(), TrapKind> {
        match self.fuel_left.checked_sub(cost) {
            Some(left) => {
                self.fuel_left = left;
                Ok(())
            }
            None => Err(self.exhausted()),
        }
    }

    /// Frames in use.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    /// Index of the program that the innermost function belongs to.
    pub(crate) fn current(&self) -> usize {
        self.depth.checked_sub(1).map_or(0, |top| self.frames[top].program)
    }

    /// r10 of the innermost function.
    pub(crate) fn frame_pointer(&self) -> u64 {
        self.stack.addr() + self.stack.len() - self.depth.saturating_sub(1) as u64 * u64::from(STACK_BYTES)
    }

    /// Starts a function in a frame of its own.
    pub(crate) fn enter(&mut self, program: usize, function: usize, caller: Caller) -> Result<(), TrapKind> {
        let frame = self.frames.get_mut(self.depth).ok_or(TrapKind::CallDepth)?;
        // Field by field: a copy of the whole, made in wider pieces than its parts were written in, waits for them.
        frame.program = program;
        frame.may_goto = MAX_MAY_GOTO;
        frame.caller.saved = caller.saved;
        frame.caller.pc = caller.pc;
        self.depth += 1;
        self.open_window();
        self.start(program, function)
    }

    /// Ends the innermost function.
    pub(crate) fn leave(&mut self) -> Caller {
        let Some(top) = self.depth.checked_sub(1) else { return Caller::default() };
        self.depth = top;
        self.open_window();
        self.frames[top].caller
    }

    /// As [`Cpu::leave`], where nobody wants to know the caller.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(crate) fn drop_frame(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.open_window();
    }

    /// Starts the program that a helper asked for in the innermost frame; `false` when none did.
    pub(crate) fn take_tail_call(&mut self) -> Result<bool, TrapKind> {
        let (Some(next), Some(top)) = (self.tail.take(), self.depth.checked_sub(1)) else { return Ok(false) };
        let program = self.programs.len();
        self.programs.push(next);
        self.frames[top].program = program;
        self.frames[top].may_goto = MAX_MAY_GOTO;
        self.start(program, 0)?;
        Ok(true)
    }

    /// Whether `may_goto` of the innermost function falls through once more.
    #[inline(always)]
    pub(crate) fn may_go_on(&mut self) -> bool {
        let Some(frame) = self.frames.get_mut(self.depth.wrapping_sub(1)) else { return false };
        let goes_on = frame.may_goto != 0;
        frame.may_goto -= u32::from(goes_on);
        goes_on
    }

    /// What a run that cannot pay ends with.
    pub(crate) fn exhausted(&self) -> TrapKind {
        TrapKind::FuelExhausted { fuel: self.fuel }
    }

    /// Pays for a function and clears what it may touch of its frame.
    fn start(&mut self, program: usize, function: usize) -> Result<(), TrapKind> {
        let function = self.programs[program].functions[function];
        let below =
            self.depth as u64 * u64::from(STACK_BYTES) - u64::from(STACK_BYTES) + u64::from(function.stack_bytes);
        let cleared = self.stack.zero(self.stack.len() - below, function.stack_bytes as usize);
        debug_assert!(cleared.is_some(), "frames lie in the block");
        self.burn(u64::from(function.end - function.start))
    }

    #[inline]
    fn open_window(&self) {
        const LEN: u64 = MAX_FRAMES as u64 * STACK_BYTES as u64;
        self.stack.set_first_window(LEN - self.depth as u64 * u64::from(STACK_BYTES), LEN);
    }

    /// What stopped a program, with the place.
    pub(crate) fn trap(&self, program: usize, pc: usize, stop: Stop) -> Box<Trap> {
        let kind = match stop {
            Stop::Here(kind) => kind,
            Stop::Inside(trap) => return trap,
        };
        let program = &self.programs[program];
        let at = InsnIdx(pc as u32);
        Box::new(Trap {
            program: program.name.clone(),
            at,
            insn: program.insns.get(pc).copied().unwrap_or_default(),
            line: program.line(at).cloned(),
            kind,
        })
    }
}

/// For compiled code.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Cpu {
    /// The counter behind [`Cpu::may_go_on`], for compiled code; null when nothing runs.
    pub(crate) fn may_goto_left(&mut self) -> *mut u32 {
        let frame = self.frames.get_mut(self.depth.wrapping_sub(1));
        frame.map_or(std::ptr::null_mut(), |frame| &raw mut frame.may_goto)
    }

    /// As [`Cpu::drop_frame`], for the first frame.
    #[inline]
    pub(crate) fn drop_first_frame(&mut self) {
        self.depth = 0;
        self.open_window();
    }

    /// r10 of the entry function.
    #[inline]
    pub(crate) fn first_frame_pointer(&self) -> u64 {
        self.stack.addr() + self.stack.len()
    }

    /// The counter of the first frame.
    #[inline]
    pub(crate) fn first_may_goto(&mut self) -> *mut u32 {
        &raw mut self.frames[0].may_goto
    }

    /// The entry in the space's table that holds the window of the stacks: the block has one slot.
    #[inline]
    pub(crate) fn window(&self) -> *const std::sync::atomic::AtomicU64 {
        self.stack.entry()
    }
}
