//! How a task finds back by itself from a call that it makes for us.
//!
//! Such a task has registers and blocked signals of ours ([`super::inject`]). If we die in that moment, the kernel lets it go on with them: it makes the call, and would go
//! on behind it, in the middle of somebody's code. So the call is made by an instruction with rt_sigreturn(2) behind it, and the stack pointer leads to what
//! that call reads: all that the task had before, as the kernel itself writes it for a handler of signals. Who lives puts everything back himself,
//! before the task executes anything more.
//!
//! A process with an area of ours has room for both there ([`super::refuge`]). The call that maps the first one is made from the zeros that fill up the last page of
//! some code, and what it had is written below its stack, if that is the first one of its process: other stacks may be as small as they need to be.
//!
//! Sources: `struct rt_sigframe` and `struct sigcontext` of `arch/x86/include/uapi/asm/sigcontext.h`, `arch/x86/kernel/signal_64.c`, `fpu/signal.c` and
//! `fpu/regset.c`, Linux 6.18; Intel's manual, volume 1, chapter 13, for the layout of the extended state.

use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use skep_sys::ptrace;

use super::inject::Failed;
use super::mappings::{self, Mapping};
use super::registers::{Reg, Registers};

/// `syscall`, and then rt_sigreturn until it is made: without a tracer, a filter answers it with an error until there is one again.
pub(super) const CODE: [u8; 11] = [0x0f, 0x05, 0xb8, 15, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
/// Bytes that what a task had takes at most.
pub(super) const FRAME_BYTES: u64 = 4096;
/// What it is aligned to.
const FRAME_ALIGN: u64 = 64;
/// Where the extended state is in it, behind `struct ucontext`.
const STATE_OFF: usize = 320;
/// Bytes below a stack pointer that are in use (System V ABI, x86-64), and what we write there at other times.
const BELOW_STACK: u64 = 1024;
/// Components of the extended state that a task has to ask for: tiles (AMX). Its state is longer only then. They are lost with us.
const ON_DEMAND: u64 = 3 << 17;
/// The components that the kernel uses, which are always the same, and the bytes of their state: in a virtual machine the processor takes long to tell.
static LEN: OnceLock<(u64, usize)> = OnceLock::new();

/// Where a task makes calls for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WayBack {
    /// Where [`CODE`] is.
    pub(super) code: u64,
    /// Where what the task had is written.
    pub(super) frame: u64,
}

impl WayBack {
    /// One with a frame that begins at an address or a little below.
    pub(super) fn new(code: u64, frame: u64) -> WayBack {
        WayBack { code, frame: frame & !(FRAME_ALIGN - 1) }
    }

    /// One for a process that has no area of ours: nothing but zeros is in the place of the code. `None` where no place is known to be nobody's.
    pub(super) fn without_area(tid: u32, all: &[Mapping]) -> Option<WayBack> {
        let stack = Registers::of(tid).ok()?.get(Reg::Rsp);
        let own = all.iter().find(|mapping| mapping.name == "[stack]")?;
        let frame = stack.checked_sub(BELOW_STACK + FRAME_BYTES)?;
        (own.start <= frame && stack <= own.end).then_some(())?;
        let ends_with_zeros = |mapping: &&Mapping| {
            let mut bytes = [1; CODE.len()];
            let is_read = ptrace::read_memory(tid, mapping.end - bytes.len() as u64, &mut bytes) == Ok(bytes.len());
            is_read && bytes == [0; CODE.len()]
        };
        let is_code = |mapping: &&Mapping| mapping.executes && !mapping.shared && mapping.name != "[vsyscall]";
        let padded = all.iter().filter(is_code).find(ends_with_zeros)?;
        Some(WayBack::new(padded.end - CODE.len() as u64, frame))
    }

    /// Does something while the code is in the place of zeros, and the frame in that of a stack, where something may be that somebody still uses.
    pub(super) fn lent<T>(&self, pid: u32, make: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
        let memory = mappings::memory_of(pid)?;
        let mut kept = [0; FRAME_BYTES as usize];
        memory.read_exact_at(&mut kept, self.frame)?;
        memory.write_all_at(&CODE, self.code)?;
        let made = make();
        // A process that has ended has no code.
        let _ = memory.write_all_at(&[0; CODE.len()], self.code);
        let _ = memory.write_all_at(&kept, self.frame);
        made
    }

    /// What has to be written at the frame, so that a task is as it is now; `None` when its state is too long.
    pub(super) fn frame_of(&self, tid: u32, registers: &Registers, mask: u64) -> Option<Vec<u8>> {
        let extended = extended_state(ptrace::extended_registers(tid));
        let is_extended = extended.is_some();
        // A processor without XSAVE has the older state only.
        let state = extended.or_else(|| Some(ptrace::float_registers(tid)).filter(|state| !state.is_empty()))?;
        let frame = frame(registers, mask, self.frame, &state, is_extended);
        (frame.len() as u64 <= FRAME_BYTES).then_some(frame)
    }
}

/// The extended state as a handler's frame has it, made from what ptrace(2) tells: with the marks that say how long it is.
fn extended_state(mut state: Vec<u8>) -> Option<Vec<u8>> {
    // Of `struct _fpx_sw_bytes`, whose place has the components that the kernel uses, and of the header, where those are that are not as in the beginning.
    const MARKS_OFF: usize = 464;
    const PRESENT_OFF: usize = 512;
    const MAGIC1: u32 = 0x4650_5853;
    const MAGIC2: u32 = 0x4650_5845;
    let components = u64::from_ne_bytes(*state.get(MARKS_OFF..)?.first_chunk()?) & !ON_DEMAND;
    let present = u64::from_ne_bytes(*state.get(PRESENT_OFF..)?.first_chunk()?) & !ON_DEMAND;
    let known = LEN.get().filter(|(of, _)| *of == components).map(|(_, len)| *len);
    let len = known.unwrap_or_else(|| len_of(components));
    let _ = LEN.set((components, len));
    (len <= state.len()).then(|| state.truncate(len))?;
    state[PRESENT_OFF..PRESENT_OFF + 8].copy_from_slice(&present.to_ne_bytes());
    let whole = (len + size_of_val(&MAGIC2)) as u32;
    let marks = [MAGIC1, whole, components as u32, (components >> 32) as u32, len as u32];
    let marks: Vec<u8> = marks.iter().flat_map(|mark| mark.to_ne_bytes()).collect();
    state[MARKS_OFF..MARKS_OFF + marks.len()].copy_from_slice(&marks);
    state.extend(MAGIC2.to_ne_bytes());
    Some(state)
}

/// Bytes of a state with these components.
fn len_of(components: u64) -> usize {
    // The first two and the header.
    const LEGACY: usize = 512 + 64;
    (2..63).filter(|component| components >> component & 1 == 1).map(end_of).fold(LEGACY, usize::max)
}

/// Where a component ends in the standard form, as the processor tells (CPUID leaf 13).
#[cfg(target_arch = "x86_64")]
fn end_of(component: u32) -> usize {
    let found = std::arch::x86_64::__cpuid_count(13, component);
    (found.eax + found.ebx) as usize
}

/// There are none.
#[cfg(not(target_arch = "x86_64"))]
fn end_of(_: u32) -> usize {
    usize::MAX
}

/// `struct ucontext` of a task, and its state.
fn frame(registers: &Registers, mask: u64, at: u64, state: &[u8], is_extended: bool) -> Vec<u8> {
    /// Places in `struct user_regs_struct` of what `struct sigcontext` begins with.
    const IN_ORDER: [usize; 18] = [9, 8, 7, 6, 3, 2, 1, 0, 14, 13, 4, 5, 12, 10, 11, 19, 16, 18];
    /// `UC_FP_XSTATE`, and `UC_SIGCONTEXT_SS` with `UC_STRICT_RESTORE_SS`.
    const EXTENDED: u64 = 1;
    const FLAGS: u64 = 6;
    /// No mode that a stack for handlers can have: the kernel leaves the one that the task has.
    const NO_MODE: u64 = 0x77;
    const USER_CS: u64 = 0x33;
    const USER_DS: u64 = 0x2b;
    let registers = registers.as_if_call_was_over();
    let mut words = vec![FLAGS | if is_extended { EXTENDED } else { 0 }, 0, 0, NO_MODE, 0];
    words.extend(IN_ORDER.map(|place| registers.word(place)));
    words.push(USER_CS | USER_DS << 48);
    words.extend([0; 4]);
    words.push(at + STATE_OFF as u64);
    words.extend([0; 8]);
    words.push(mask);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.resize(STATE_OFF, 0);
    bytes.extend(state);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_says_how_long_it_is() {
        // Legacy only, with tiles that nobody asked for.
        let mut state = vec![7; 4096];
        state[464..472].copy_from_slice(&(3 | ON_DEMAND).to_ne_bytes());
        state[512..520].copy_from_slice(&(1 | ON_DEMAND).to_ne_bytes());
        let made = extended_state(state).unwrap();
        assert_eq!(made.len(), 576 + 4);
        let word = |at: usize| u32::from_ne_bytes(made[at..at + 4].try_into().unwrap());
        assert_eq!([464, 468, 472, 476, 480].map(word), [0x4650_5853, 580, 3, 0, 576]);
        assert_eq!(([512, 516].map(word), word(576)), ([1, 0], 0x4650_5845));
        assert_eq!(extended_state(vec![0; 500]), None);
        assert_eq!(extended_state(Vec::new()), None);
    }

    #[test]
    fn the_code_goes_back_to_its_second_call() {
        let back = CODE.len() as i8 + CODE[10] as i8;
        assert_eq!(CODE[back as usize..][..5], [0xb8, 15, 0, 0, 0]);
    }
}
