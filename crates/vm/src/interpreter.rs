//! The interpreter: one operation after the other (the module `steps`), every access checked.
//!
//! It is the reference for whatever else runs programs, and what runs them where nothing is compiled. A function call of a program
//! is no call of Rust; only a helper that calls back into the program starts another loop, and frames bound how many.

use std::sync::Arc;

use crate::cpu::{Caller, Cpu};
use crate::jit::Native;
use crate::program::Program;
use crate::steps::steps;
use crate::{Stop, Trap};

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
