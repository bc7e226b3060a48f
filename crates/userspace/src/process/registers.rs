//! The general registers of a stopped task, on x86-64.

use skep_sys::{Errno, ptrace};

/// Bytes of the kernel's `struct pt_regs`, which `struct user_regs_struct` begins with.
const PT_REGS_BYTES: usize = 168;

/// What a register's place in `struct user_regs_struct` is, in words (`arch/x86/include/asm/user_64.h`, Linux 6.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reg {
    R10 = 7,
    R9 = 8,
    R8 = 9,
    Rax = 10,
    Rdx = 12,
    Rsi = 13,
    Rdi = 14,
    OrigRax = 15,
    Rip = 16,
    Rsp = 19,
}

/// Where the arguments of a system call are.
pub(super) const CALL_ARGS: [Reg; 6] = [Reg::Rdi, Reg::Rsi, Reg::Rdx, Reg::R10, Reg::R8, Reg::R9];

/// Places of the registers in the order of their numbers in instructions.
const BY_NUMBER: [usize; 16] = [10, 11, 12, 5, 19, 4, 13, 14, 9, 8, 7, 6, 3, 2, 1, 0];

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    bytes: Vec<u8>,
}

impl Registers {
    /// Reads them.
    pub(super) fn of(tid: u32) -> Result<Registers, Errno> {
        let bytes = ptrace::registers(tid);
        if bytes.len() < PT_REGS_BYTES { Err(Errno::ESRCH) } else { Ok(Registers { bytes }) }
    }

    /// Sets the task's to these.
    pub(super) fn set(&self, tid: u32) -> Result<(), Errno> {
        ptrace::set_registers(tid, &self.bytes)
    }

    /// The one at a place of `struct user_regs_struct`.
    pub(super) fn word(&self, index: usize) -> u64 {
        let bytes = self.bytes.get(8 * index..8 * index + 8);
        bytes.and_then(|bytes| bytes.first_chunk().copied()).map_or(0, u64::from_ne_bytes)
    }

    pub(super) fn get(&self, reg: Reg) -> u64 {
        self.word(reg as usize)
    }

    /// The arguments of a system call.
    pub(super) fn call_args(&self) -> [u64; 6] {
        CALL_ARGS.map(|reg| self.get(reg))
    }

    /// The register that has this number in instructions.
    pub(super) fn numbered(&self, number: u8) -> u64 {
        self.word(BY_NUMBER[usize::from(number & 15)])
    }

    pub(super) fn put(&mut self, reg: Reg, value: u64) {
        let at = 8 * reg as usize;
        if let Some(bytes) = self.bytes.get_mut(at..at + 8) {
            bytes.copy_from_slice(&value.to_ne_bytes());
        }
    }

    /// Whether the task is in a call that was interrupted and starts again when it goes on: ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND or ERESTART_RESTARTBLOCK of
    /// include/linux/errno.h.
    pub(super) fn starts_a_call_again(&self) -> bool {
        matches!(self.get(Reg::Rax) as i64, -514..=-512 | -516) && self.get(Reg::OrigRax) as i64 >= 0
    }

    /// As the task itself would have them, if the kernel did nothing more for its call: it makes that again, if that is to be. A wait by nanosleep(2) or poll(2) is
    /// then as long as the whole one: rt_sigreturn(2) makes restart_syscall(2) fail, which would wait for the rest.
    pub(super) fn as_if_call_was_over(&self) -> Registers {
        const CALL_BYTES: u64 = 2;
        let mut own = self.clone();
        if self.starts_a_call_again() {
            own.put(Reg::Rax, self.get(Reg::OrigRax));
            own.put(Reg::Rip, self.get(Reg::Rip).wrapping_sub(CALL_BYTES));
        }
        own
    }

    /// As the kernel's programs get them.
    pub(super) fn pt_regs(&self) -> Vec<u8> {
        self.bytes[..PT_REGS_BYTES].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_was_interrupted_is_made_again() {
        let at = |rax: i64, orig_rax: i64| {
            let mut registers = Registers { bytes: vec![0; PT_REGS_BYTES] };
            registers.put(Reg::Rax, rax as u64);
            registers.put(Reg::OrigRax, orig_rax as u64);
            registers.put(Reg::Rip, 0x1002);
            let own = registers.as_if_call_was_over();
            (registers.starts_a_call_again(), own.get(Reg::Rax) as i64, own.get(Reg::Rip))
        };
        assert_eq!(at(-512, 7), (true, 7, 0x1000));
        assert_eq!(at(-516, 35), (true, 35, 0x1000));
        assert_eq!(at(-512, -1), (false, -512, 0x1002));
        assert_eq!(at(-4, 7), (false, -4, 0x1002));
    }
}
