//! Seccomp filters that show chosen system calls to a tracer (seccomp(2), `SECCOMP_RET_TRACE`).
//!
//! A filter is a program of classic BPF that the kernel asks at each system call. Ours looks at two numbers only, the table of the
//! call (`arch`) and its number, so the kernel (5.11 and later) finds out once which calls are always let through and keeps
//! them in a bitmap: those cost next to nothing. The others are found by halving the sorted list.
//!
//! A task keeps its filters for ever, and so do those that it makes. Without a tracer a call that a filter wants traced fails
//! with `ENOSYS`: whoever installs one has to see to it that there is always a tracer.
//!
//! Sources: seccomp(2), `Documentation/userspace-api/seccomp_filter.rst` of 6.18.
//!
//! # Safety
//!
//! The kernel reads a filter while the call that installs it lasts, and keeps a copy. The calls made between fork and exec allocate nothing: the room for
//! the filter was made before the fork ([`Room`]).
#![expect(unsafe_code, reason = "seccomp(2)")]

use std::io;

use crate::ptrace::NATIVE_ARCH;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JUMP_GREATER_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
/// What our filters give the tracer with a call (`SECCOMP_RET_DATA`): others may be there as well.
pub const MARK: u16 = 0x5e9b;
const TRACE: u32 = libc::SECCOMP_RET_TRACE | MARK as u32;
/// Offsets in `struct seccomp_data`.
const NR_OFF: u32 = 0;
const ARCH_OFF: u32 = 4;

/// Offset of the lower half of an argument.
const fn arg_off(index: u32) -> u32 {
    16 + 8 * index + if cfg!(target_endian = "big") { 4 } else { 0 }
}

/// Most instructions that a filter may have (`BPF_MAXINSNS`).
const MAX_INSNS: usize = 4096;

/// A filter, ready to be installed.
#[derive(Clone, Debug)]
pub struct Filter {
    code: Vec<libc::sock_filter>,
}

/// Room for a filter that is not known yet: made before a fork, filled after it.
#[derive(Debug)]
pub struct Room {
    code: Vec<libc::sock_filter>,
}

impl Room {
    /// For the longest filter.
    pub fn new() -> Room {
        Room { code: vec![insn(0, 0); MAX_INSNS] }
    }

    /// Reads what [`Filter::bytes`] gave and puts the filter on the calling thread, for ever. Makes system calls only, and allocates nothing, so it may run
    /// between fork and exec.
    ///
    /// A process without `CAP_SYS_ADMIN` has to give up gaining rights by exec first (`PR_SET_NO_NEW_PRIVS`); that is done
    /// only then, because set-user-id programs behave differently after it.
    ///
    /// # Errors
    ///
    /// What `read` fails with, `InvalidData` for bytes that are no filter, `EINVAL` for a kernel without `CONFIG_SECCOMP_FILTER`.
    pub fn install(&mut self, mut read: impl FnMut(&mut [u8]) -> io::Result<()>) -> io::Result<()> {
        let mut count = [0; 4];
        read(&mut count)?;
        let count = u32::from_ne_bytes(count) as usize;
        let Some(code) = self.code.get_mut(..count) else { return Err(io::ErrorKind::InvalidData.into()) };
        for insn in &mut *code {
            let mut bytes = [0; 8];
            read(&mut bytes)?;
            let [c0, c1, jt, jf, k0, k1, k2, k3] = bytes;
            let (code, k) = (u16::from_ne_bytes([c0, c1]), u32::from_ne_bytes([k0, k1, k2, k3]));
            *insn = libc::sock_filter { code, jt, jf, k };
        }
        match set(code) {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => {}
            other => return other,
        }
        // SAFETY: prctl(2) with numbers only.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        set(code)
    }
}

impl Default for Room {
    fn default() -> Room {
        Room::new()
    }
}

fn set(code: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_ptr().cast_mut() };
    let at = std::ptr::from_ref(&program);
    // SAFETY: `program` describes `code`, which the kernel copies.
    match unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, at) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn insn(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

impl Filter {
    /// A filter that shows the calls with these numbers, of this machine's own table, to the tracer, and lets all others through.
    pub fn tracing(calls: &[u32]) -> Filter {
        let mut calls = calls.to_vec();
        calls.sort_unstable();
        calls.dedup();
        let allow = insn(RETURN, libc::SECCOMP_RET_ALLOW);
        // A foreign table: over the jump, which is one more instruction.
        let mut code = vec![insn(LOAD_WORD, ARCH_OFF), insn(JUMP_EQUAL, NATIVE_ARCH), allow, insn(LOAD_WORD, NR_OFF)];
        code[1].jt = 1;
        halve(&mut code, &calls);
        Filter { code }
    }

    /// Shows mappings of files (mmap(2), of this number) to the tracer as well, if their protection has one of these bits (`PROT_EXEC`): all
    /// others go through.
    #[must_use]
    pub fn and_mappings(mut self, mmap: u32, protection: u32) -> Filter {
        let allow = insn(RETURN, libc::SECCOMP_RET_ALLOW);
        let jump = |code, k, yes, no| libc::sock_filter { code, jt: yes, jf: no, k };
        let block = [
            // Another call: over the rest of this.
            jump(JUMP_EQUAL, mmap, 0, 6),
            insn(LOAD_WORD, arg_off(3)),
            jump(JUMP_ANY_BIT, libc::MAP_ANONYMOUS as u32, 2, 0),
            insn(LOAD_WORD, arg_off(2)),
            jump(JUMP_ANY_BIT, protection, 1, 0),
            allow,
            insn(RETURN, TRACE),
        ];
        // Behind the loading of the number.
        self.code.splice(4..4, block);
        self
    }

    /// Shows the call of this number to the tracer as well, where the lower half of an argument is this value: all others of its kind go through.
    #[must_use]
    pub fn and_argument(mut self, nr: u32, index: u32, value: u32) -> Filter {
        let jump = |k, yes, no| libc::sock_filter { code: JUMP_EQUAL, jt: yes, jf: no, k };
        let block = [
            // Another call: over the rest of this.
            jump(nr, 0, 4),
            insn(LOAD_WORD, arg_off(index)),
            jump(value, 1, 0),
            insn(RETURN, libc::SECCOMP_RET_ALLOW),
            insn(RETURN, TRACE),
        ];
        // Behind the loading of the number.
        self.code.splice(4..4, block);
        self
    }

    /// The filter as seccomp(2) takes it (`struct sock_fprog`), for a process that has these bytes at an address.
    pub fn program_at(&self, addr: u64) -> Vec<u8> {
        let mut bytes = (self.code.len() as u64).to_ne_bytes().to_vec();
        bytes.extend((addr + 16).to_ne_bytes());
        bytes.extend_from_slice(self.bytes().get(4..).unwrap_or_default());
        bytes
    }

    /// The filter as bytes for [`Room::install`].
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = (self.code.len() as u32).to_ne_bytes().to_vec();
        for insn in &self.code {
            bytes.extend(insn.code.to_ne_bytes());
            bytes.extend([insn.jt, insn.jf]);
            bytes.extend(insn.k.to_ne_bytes());
        }
        bytes
    }
}

/// Code that returns "trace" when the loaded number is one of `calls`, else "allow".
fn halve(code: &mut Vec<libc::sock_filter>, calls: &[u32]) {
    match calls {
        [] => code.push(insn(RETURN, libc::SECCOMP_RET_ALLOW)),
        [call] => {
            let mut equal = insn(JUMP_EQUAL, *call);
            equal.jf = 1;
            code.extend([equal, insn(RETURN, TRACE), insn(RETURN, libc::SECCOMP_RET_ALLOW)]);
        }
        _ => {
            let (low, high) = calls.split_at(calls.len() / 2);
            // A conditional jump reaches 255 instructions, an unconditional one everything.
            let at = code.len();
            let mut far = insn(JUMP_GREATER_EQUAL, high[0]);
            far.jf = 1;
            code.extend([far, insn((libc::BPF_JMP | libc::BPF_JA) as u16, 0)]);
            halve(code, low);
            code[at + 1].k = (code.len() - at - 2) as u32;
            halve(code, high);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(filter: &Filter, arch: u32, nr: u32) -> u32 {
        run_with(filter, arch, nr, [0; 6])
    }

    /// Runs a filter as the kernel would.
    fn run_with(filter: &Filter, arch: u32, nr: u32, args: [u32; 6]) -> u32 {
        let mut pc = 0;
        let mut a = 0;
        loop {
            let insn = &filter.code[pc];
            pc += 1;
            match insn.code {
                LOAD_WORD => {
                    a = match insn.k {
                        ARCH_OFF => arch,
                        NR_OFF => nr,
                        off => args[(off as usize - 16) / 8],
                    }
                }
                JUMP_ANY_BIT => pc += usize::from(if a & insn.k != 0 { insn.jt } else { insn.jf }),
                RETURN => return insn.k,
                JUMP_EQUAL => pc += usize::from(if a == insn.k { insn.jt } else { insn.jf }),
                JUMP_GREATER_EQUAL => pc += usize::from(if a >= insn.k { insn.jt } else { insn.jf }),
                _ => pc += insn.k as usize,
            }
        }
    }

    #[test]
    fn an_argument_decides_about_a_call() {
        let filter = Filter::tracing(&[1, 59]).and_mappings(9, libc::PROT_EXEC as u32).and_argument(13, 0, 5);
        let asks = |nr, first| run_with(&filter, NATIVE_ARCH, nr, [first, 5, 5, 5, 5, 5]);
        assert_eq!((asks(13, 5), asks(13, 6)), (TRACE, libc::SECCOMP_RET_ALLOW));
        assert_eq!((asks(59, 6), asks(12, 5), asks(14, 5)), (TRACE, libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ALLOW));
        let code = libc::PROT_EXEC as u32;
        assert_eq!(run_with(&filter, NATIVE_ARCH, 9, [0, 0, code, 0, 0, 0]), TRACE);
    }

    #[test]
    fn mappings_of_code_are_traced_and_no_others() {
        const MMAP: u32 = 9;
        let filter = Filter::tracing(&[1, 59]).and_mappings(MMAP, libc::PROT_EXEC as u32);
        let maps = |prot, flags| run_with(&filter, NATIVE_ARCH, MMAP, [0, 0, prot as u32, flags as u32, 0, 0]);
        assert_eq!(maps(libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE), TRACE);
        assert_eq!(maps(libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE), libc::SECCOMP_RET_ALLOW);
        assert_eq!(maps(libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), libc::SECCOMP_RET_ALLOW);
        for nr in [0, 1, 8, 10, 59, 60] {
            let want = if [1, 59].contains(&nr) { TRACE } else { libc::SECCOMP_RET_ALLOW };
            assert_eq!(run(&filter, NATIVE_ARCH, nr), want, "{nr}");
        }
        assert_eq!(run(&filter, 0x4000_0003, MMAP), libc::SECCOMP_RET_ALLOW);
    }

    #[test]
    fn chosen_calls_are_traced_and_no_others() {
        for calls in [vec![], vec![1], vec![59, 1, 0], (0..500).filter(|nr| nr % 3 != 1).collect::<Vec<u32>>()] {
            let filter = Filter::tracing(&calls);
            for nr in (0..600).chain([0x4000_0001, u32::MAX]) {
                let want = if calls.contains(&nr) { TRACE } else { libc::SECCOMP_RET_ALLOW };
                assert_eq!(run(&filter, NATIVE_ARCH, nr), want, "{nr} of {calls:?}");
                assert_eq!(run(&filter, 0x4000_0003, nr), libc::SECCOMP_RET_ALLOW);
            }
        }
    }
}
