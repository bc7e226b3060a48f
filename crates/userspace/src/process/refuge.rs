//! What saves a process that comes by a breakpoint when nobody traces it any more.
//!
//! Who traces may be killed, and SIGTRAP kills whoever has no tracer and no handler. So a process with breakpoints gets a handler for SIGTRAP, unless it
//! has one or ignores the signal: some instructions in its area that look the breakpoint up in a list and go on in the slot. A trampoline needs nothing
//! but to go on, and neither does a task that was led on already when its tracer died: it has the signal still to come, but is behind no breakpoint any more.
//! Any other SIGTRAP ends the process as it would have without us: the handler gives itself up and sends the signal again.
//!
//! Behind the list is room for what a task has to find back to that makes a call for us ([`super::way_back`]).
//!
//! While we trace, the handler does not run for breakpoints. A SIGTRAP of the process's own reaches it, and ends the process by a second one.

use std::collections::HashMap;

use skep_sys::patches::BREAKPOINT;

use super::inject::SYSCALL;
use super::sigtrap::SI_KERNEL;
use super::way_back::{self, FRAME_BYTES, WayBack};

/// Bytes before the list.
const LIST_OFF: u64 = 0x170;
/// Bytes of an entry: the address behind the breakpoint, and where to go on.
const ENTRY_BYTES: u64 = 16;
/// Where `struct sigaction` of no handler and of the handler are (`include/uapi/asm-generic/signal.h`), and where the trampolines are.
const DEFAULT_OFF: u64 = 0x100;
const ACTION_OFF: u64 = 0x120;
const POOL_OFF: u64 = 0x140;
/// Where the `struct sigaction` of the process's own handler is written before it is installed again.
const OWN_OFF: u64 = 0x150;
/// Where the code is that makes calls for us, and the handler's return, which is its second part.
const CODE_OFF: u64 = RESTORER_OFF - SYSCALL.len() as u64;
const RESTORER_OFF: u64 = 0xe0;

/// The handler: `rdx` points at the context of the signal, in which `rip` is 168 bytes in (`struct ucontext`, x86-64).
fn handler(pool_bytes: u32) -> Vec<u8> {
    let mut code = Vec::with_capacity(0x100);
    // lea/mov with a displacement from the end of the instruction to a place of the refuge.
    let relative = |code: &mut Vec<u8>, opcode: [u8; 3], to: u64| {
        code.extend(opcode);
        let end = code.len() as u64 + 4;
        code.extend((to.wrapping_sub(end) as u32).to_le_bytes());
    };
    code.extend([0x48, 0x8b, 0x82, 168, 0, 0, 0]); // mov rax, [rdx + 168]
    relative(&mut code, [0x48, 0x8d, 0x0d], LIST_OFF); // lea rcx, [list]
    code.extend([0x4c, 0x8b, 0x01]); // next: mov r8, [rcx]
    code.extend([0x4d, 0x85, 0xc0]); // test r8, r8
    code.extend([0x74, 29]); // jz none
    code.extend([0x49, 0x39, 0xc0]); // cmp r8, rax
    code.extend([0x74, 12]); // je found
    code.extend([0x48, 0x39, 0x41, 8]); // cmp [rcx + 8], rax
    code.extend([0x74, 17]); // je done
    code.extend([0x48, 0x83, 0xc1, 16]); // add rcx, 16
    code.extend([0xeb, 0xe7]); // jmp next
    code.extend([0x4c, 0x8b, 0x41, 8]); // found: mov r8, [rcx + 8]
    code.extend([0x4c, 0x89, 0x82, 168, 0, 0, 0]); // mov [rdx + 168], r8
    code.push(0xc3); // done: ret
    relative(&mut code, [0x4c, 0x8b, 0x05], POOL_OFF); // none: mov r8, [pool]
    code.extend([0x49, 0xf7, 0xd8, 0x49, 0x01, 0xc0]); // neg r8; add r8, rax
    code.extend([0x49, 0x81, 0xf8]); // cmp r8, bytes
    code.extend(pool_bytes.to_le_bytes());
    code.extend([0x77, 1, 0xc3]); // ja elsewhere; ret
    code.extend([0x81, 0x7e, 8]); // elsewhere: cmp dword [rsi + 8], SI_KERNEL
    code.extend(SI_KERNEL.to_le_bytes());
    code.extend([0x75, 15]); // jne other
    code.extend([0x80, 0x78, 0xff, BREAKPOINT]); // cmp byte [rax - 1], int3
    code.extend([0x74, 9]); // je other
    code.extend([0x66, 0x81, 0x78, 0xfe, 0xcd, 3]); // cmp word [rax - 2], int 3
    code.extend([0x74, 1, 0xc3]); // je other; ret
    // other: mov eax, 13 (rt_sigaction); mov edi, 5
    code.extend([0xb8, 13, 0, 0, 0, 0xbf, 5, 0, 0, 0]);
    relative(&mut code, [0x48, 0x8d, 0x35], DEFAULT_OFF); // lea rsi, [default]
    code.extend([0x31, 0xd2, 0x41, 0xba, 8, 0, 0, 0, 0x0f, 0x05]); // xor edx, edx; mov r10d, 8; syscall
    code.extend([0xb8, 39, 0, 0, 0, 0x0f, 0x05]); // mov eax, 39 (getpid); syscall
    code.extend([0x89, 0xc7, 0xbe, 5, 0, 0, 0, 0xb8, 62, 0, 0, 0, 0x0f, 0x05]); // kill it with 5
    code.push(0xc3); // ret
    code.resize(CODE_OFF as usize, 0xcc);
    code.extend(way_back::CODE); // from the restorer on: mov eax, 15 (rt_sigreturn); syscall
    code.resize(DEFAULT_OFF as usize, 0xcc);
    code
}

/// A handler and its list, in the memory of a process.
#[derive(Clone, Debug)]
pub(super) struct Refuge {
    base: u64,
    len: u64,
    capacity: u64,
    /// Which entry an address has.
    entries: HashMap<u64, u64>,
    /// Entries of addresses that have no breakpoint any more.
    free: Vec<u64>,
    /// So many entries were written.
    used: u64,
}

impl Refuge {
    /// Bytes for so many breakpoints.
    pub(super) fn len(breakpoints: u64) -> u64 {
        LIST_OFF + (breakpoints + 1) * ENTRY_BYTES + FRAME_BYTES
    }

    /// At an address, with so many bytes that are zero now.
    pub(super) fn new(base: u64, len: u64) -> Refuge {
        let capacity = len.saturating_sub(LIST_OFF + FRAME_BYTES) / ENTRY_BYTES;
        Refuge { base, len, capacity: capacity.saturating_sub(1), entries: HashMap::new(), free: Vec::new(), used: 0 }
    }

    /// The code of the handler.
    pub(super) fn code(pool_bytes: u32) -> Vec<u8> {
        let mut code = handler(pool_bytes);
        code.truncate(RESTORER_OFF as usize);
        code
    }

    /// What stands there before any breakpoint is set.
    pub(super) fn bytes(&self, pool: Option<u64>, pool_bytes: u32) -> Vec<u8> {
        const SA_SIGINFO_RESTORER_ONSTACK: u64 = 4 | 0x0400_0000 | 0x0800_0000;
        let mut bytes = handler(pool_bytes);
        bytes.resize(ACTION_OFF as usize, 0);
        for word in [self.base, SA_SIGINFO_RESTORER_ONSTACK, self.base + RESTORER_OFF, 0, pool.unwrap_or(0)] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    /// Where the address of the trampolines is kept.
    pub(super) fn pool_at(&self) -> u64 {
        self.base + POOL_OFF
    }

    /// Whether an instruction is one of the handler's.
    pub(super) fn has_code_at(&self, ip: u64) -> bool {
        (self.base..self.base + DEFAULT_OFF).contains(&ip)
    }

    /// Where tasks make calls for us.
    pub(super) fn way_back(&self) -> WayBack {
        WayBack::new(self.base + CODE_OFF, self.base + self.len - FRAME_BYTES)
    }

    /// Where the handler is.
    pub(super) fn handler(&self) -> u64 {
        self.base
    }

    /// Where the `struct sigaction` of the handler is.
    pub(super) fn action_at(&self) -> u64 {
        self.base + ACTION_OFF
    }

    /// Where some bytes are that are zero.
    pub(super) fn zeros_at(&self) -> u64 {
        self.base + DEFAULT_OFF
    }

    /// Where one of the process's own can be written.
    pub(super) fn own_at(&self) -> u64 {
        self.base + OWN_OFF
    }

    /// The entry for a breakpoint, and where it is written; `None` when there is no room.
    pub(super) fn entry(&mut self, breakpoint: u64, go_on: u64) -> Option<(u64, [u8; 16])> {
        let known = self.entries.get(&breakpoint).copied();
        let index = match known.or_else(|| self.free.pop()) {
            Some(index) => index,
            None if self.used < self.capacity => {
                self.used += 1;
                self.used - 1
            }
            None => return None,
        };
        self.entries.insert(breakpoint, index);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&breakpoint.wrapping_add(1).to_le_bytes());
        bytes[8..].copy_from_slice(&go_on.to_le_bytes());
        Some((self.base + LIST_OFF + index * ENTRY_BYTES, bytes))
    }

    /// Nobody comes by an address any more: its entry is one for the next.
    pub(super) fn forget(&mut self, breakpoint: u64) {
        self.free.extend(self.entries.remove(&breakpoint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_binary::decode::{Kind, decode};

    #[test]
    fn jumps_of_the_handler_lead_to_instructions() {
        let code = handler(0x8000);
        let (mut at, mut starts, mut targets) = (0, Vec::new(), Vec::new());
        while code[at] != 0xcc {
            let insn = decode(&code[at..]).expect("it is code");
            starts.push(at);
            at += usize::from(insn.len);
            if let Kind::Branch { by, .. } | Kind::Jump { by } = insn.kind {
                targets.push(at.wrapping_add_signed(by as isize));
            }
        }
        assert!(at < CODE_OFF as usize, "{at}");
        assert_eq!(targets.len(), 8);
        assert!(targets.iter().all(|target| starts.contains(target)), "{targets:?} of {starts:?}");
        // The end of the list, what was found, what was led on, the next entry; then twice to what ends the process.
        let starts_with = |at: usize, bytes: &[u8]| assert_eq!(code[targets[at]..][..bytes.len()], *bytes, "{at}");
        starts_with(0, &[0x4c, 0x8b, 0x05]);
        starts_with(1, &[0x4c, 0x8b, 0x41, 8]);
        starts_with(2, &[0xc3]);
        starts_with(3, &[0x4c, 0x8b, 0x01]);
        starts_with(4, &[0x81, 0x7e, 8]);
        (5..8).for_each(|other| starts_with(other, &[0xb8, 13]));
    }

    #[test]
    fn a_full_list_takes_what_it_has() {
        let mut refuge = Refuge::new(0x1000, Refuge::len(2));
        assert_eq!(refuge.entry(1, 2).map(|(at, _)| at), Some(0x1000 + LIST_OFF));
        assert_eq!(refuge.entry(2, 2).map(|(at, _)| at), Some(0x1000 + LIST_OFF + 16));
        assert_eq!(refuge.entry(3, 2), None);
        assert_eq!(refuge.entry(1, 9).map(|(at, _)| at), Some(0x1000 + LIST_OFF));
        refuge.forget(1);
        refuge.forget(7);
        assert_eq!(refuge.entry(3, 2).map(|(at, _)| at), Some(0x1000 + LIST_OFF));
        assert_eq!(refuge.entry(1, 2), None);
        assert_eq!(refuge.bytes(None, 1).len() as u64, POOL_OFF + 8);
    }
}
