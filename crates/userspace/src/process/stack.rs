//! The stack of a stopped task: where it is in user space, and where each caller goes on.
//!
//! The task's memory is read in pieces of many frames, not word by word. For each function the tables of its file tell about the caller
//! ([`skep_binary::unwind`]); code without tables, made at run time, is believed to keep frame pointers, as the kernel believes of all code
//! (`perf_callchain_user`, arch/x86/events/core.c, Linux 6.18). So a stack here may be longer than the kernel's, and misses
//! nothing that is in it.

use std::sync::Arc;

use skep_binary::unwind::{self, FP, RA, REGISTERS, Registers, SP, Tables};
use skep_sys::ptrace;

use super::mappings;

/// Bytes of the stack that are read at once.
const PIECE: usize = 16 << 10;
/// Most bytes of it that are looked at.
const MAX_STACK: usize = 8 << 20;

/// Code that is mapped.
#[derive(Debug)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
    /// Once somebody asked.
    tables: Option<Option<Arc<Tables>>>,
}

/// What code a process has mapped, as of the last look.
#[derive(Debug, Default)]
pub(super) struct Code {
    mappings: Vec<Mapping>,
}

impl Code {
    fn read(pid: u32) -> Code {
        let mappings = mappings::read(pid).into_iter().filter(|it| it.executes).map(|it| {
            // As the process sees it, which may have another root.
            let path = if it.name.starts_with('/') { format!("/proc/{pid}/root{}", it.name) } else { String::new() };
            Mapping { start: it.start, end: it.end, offset: it.off_bytes, path, tables: None }
        });
        Code { mappings: mappings.collect() }
    }

    fn at(&mut self, pc: u64) -> Option<&mut Mapping> {
        self.mappings.iter_mut().find(|mapping| (mapping.start..mapping.end).contains(&pc))
    }
}

/// Memory of the stack, which grows as it is asked for.
struct Memory {
    tid: u32,
    start: u64,
    bytes: Vec<u8>,
    /// Nothing is behind what was read.
    ended: bool,
}

impl Memory {
    fn word(&mut self, addr: u64) -> Option<u64> {
        let at = usize::try_from(addr.checked_sub(self.start)?).ok().filter(|at| at + 8 <= MAX_STACK)?;
        while self.bytes.len() < at + 8 && !self.ended {
            let from = self.bytes.len();
            self.bytes.resize((at + 8).next_multiple_of(PIECE).max(from + PIECE), 0);
            let read = ptrace::read_memory(self.tid, self.start + from as u64, &mut self.bytes[from..]).unwrap_or(0);
            self.ended = from + read < self.bytes.len();
            self.bytes.truncate(from + read);
        }
        self.bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
    }
}

/// The registers of a task by their DWARF numbers, and where it is.
fn registers(bytes: &[u8]) -> Option<(u64, Registers)> {
    let word = |index: usize| bytes.get(8 * index..)?.first_chunk().copied().map(u64::from_ne_bytes);
    let mut registers = [None; REGISTERS];
    if cfg!(target_arch = "x86_64") {
        // rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15 in `struct user_regs_struct`.
        const PLACES: [usize; 16] = [10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0];
        for (register, place) in registers.iter_mut().zip(PLACES) {
            *register = word(place);
        }
        Some((word(16)?, registers))
    } else if cfg!(target_arch = "aarch64") {
        for (index, register) in registers.iter_mut().take(32).enumerate() {
            *register = word(index);
        }
        Some((word(32)?, registers))
    } else {
        None
    }
}

/// Where a task with these registers is and where its callers go on, at most `max` addresses; `None` when there are none. `code` is kept
/// from one call to the next, as long as the process is the same program.
pub(super) fn walk(pid: u32, tid: u32, bytes: &[u8], code: &mut Code, max: usize) -> Option<Vec<u64>> {
    let (mut pc, mut registers) = registers(bytes)?;
    let mut memory = Memory { tid, start: registers[SP]?, bytes: Vec::new(), ended: false };
    let mut stack = Vec::new();
    let mut looked = false;
    // A call is before the address that it returns to, which may belong to the next function; an interrupted instruction is where it is.
    let mut interrupted = true;
    while stack.len() < max && pc != 0 {
        stack.push(pc);
        let inside = if interrupted { pc } else { pc - 1 };
        if code.at(inside).is_none() && !looked {
            looked = true;
            *code = Code::read(pid);
        }
        let by_tables = code.at(inside).and_then(|mapping| {
            let tables = mapping.tables.get_or_insert_with(|| unwind::tables(&mapping.path)).clone()?;
            let at = tables.address(inside - mapping.start + mapping.offset)?;
            tables.step(at, &registers, &mut |addr| memory.word(addr))
        });
        let caller = by_tables.or_else(|| by_frame_pointer(&registers, &mut memory).map(|caller| (caller, false)));
        let Some((caller, signal)) = caller else { break };
        let (Some(sp), Some(before), Some(next)) = (caller[SP], registers[SP], caller[RA]) else { break };
        // A stack grows down; only a function that has not touched it may share it with its caller.
        if sp < before || (sp == before && next == pc) {
            break;
        }
        (registers, pc, interrupted) = (caller, next, signal);
    }
    Some(stack)
}

/// The caller's registers, if the function keeps a frame pointer: it points at the caller's, and behind that is where the caller goes on.
fn by_frame_pointer(registers: &Registers, memory: &mut Memory) -> Option<Registers> {
    let frame = registers[FP].filter(|frame| *frame >= memory.start && frame.is_multiple_of(8))?;
    let mut caller = *registers;
    caller[FP] = Some(memory.word(frame)?);
    caller[RA] = Some(memory.word(frame + 8)?);
    caller[SP] = Some(frame + 16);
    Some(caller)
}
