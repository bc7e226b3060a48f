//! A system call that a stopped task makes for us.

use skep_sys::ptrace::{self, Stop, SyscallInfo, Wait};
use skep_sys::{Errno, syscalls};

use super::procfs;
use super::registers::{CALL_ARGS, Reg, Registers};

/// The instruction `syscall`.
pub(super) const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// SIGKILL cannot be held back; SIGSTOP is sent again later.
const NO_SIGNALS: u64 = !0;

/// What a call is answered with that may not be made.
const SIGSYS: i32 = 31;

/// Why a call was not made.
#[derive(Debug)]
pub(super) enum Failed {
    /// The kernel said no, to the call or to us.
    Refused,
    /// The task is about to end or has ended: what was heard of it.
    Gone(Wait),
}

impl From<Errno> for Failed {
    fn from(_: Errno) -> Failed {
        Failed::Refused
    }
}

/// The number of a system call.
pub(super) fn number(name: &str) -> u32 {
    syscalls::all().find(|(_, it)| *it == name).map_or(u32::MAX, |(nr, _)| nr)
}

/// Whether a task may make calls that its own program would not: not one that has rules of its own for them (seccomp(2)), which may kill it
/// for a call that we meant. Ours, where it has one, and those that we have ourselves are known to allow it.
pub(super) fn is_safe(tid: u32, filtered: bool) -> bool {
    const STRICT: u32 = 1;
    if procfs::status_number(tid, "Seccomp:") == Some(STRICT) {
        return false;
    }
    // Kernels before 5.9 do not tell how many there are.
    let ours = procfs::status_number("self", "Seccomp_filters:").unwrap_or(0) + u32::from(filtered);
    procfs::status_number(tid, "Seccomp_filters:").is_none_or(|theirs| theirs <= ours)
}

/// Whether the instruction is there.
pub(super) fn is_at(tid: u32, addr: u64) -> bool {
    let mut bytes = [0; SYSCALL.len()];
    ptrace::read_memory(tid, addr, &mut bytes) == Ok(bytes.len()) && bytes == SYSCALL
}

/// Where the instruction is, in some bytes of memory from `start` on.
pub(super) fn find(tid: u32, start: u64, len: u64) -> Option<u64> {
    let mut bytes = vec![0; usize::try_from(len).ok()?.min(1 << 20)];
    let read = ptrace::read_memory(tid, start, &mut bytes).ok()?;
    let at = bytes[..read].windows(2).position(|pair| pair == SYSCALL)?;
    Some(start + at as u64)
}

/// Lets a task make a system call with the instruction at `from`, and puts everything back. It is stopped before and after.
///
/// # Errors
///
/// Those of the call, and the task's end.
pub(super) fn call(pid: u32, tid: u32, from: u64, nr: u32, args: [u64; 6]) -> Result<u64, Failed> {
    let before = Registers::of(tid)?;
    let mask = ptrace::signal_mask(tid)?;
    let mut during = before.clone();
    for (place, arg) in CALL_ARGS.into_iter().zip(args) {
        during.put(place, arg);
    }
    during.put(Reg::Rax, nr.into());
    // It is in no call that would have to start again.
    during.put(Reg::OrigRax, u64::MAX);
    during.put(Reg::Rip, from);
    ptrace::set_signal_mask(tid, NO_SIGNALS)?;
    during.set(tid)?;
    let mut kept = Vec::new();
    let ret = made(tid, &mut kept);
    let back = if matches!(ret, Err(Failed::Gone(_))) { Ok(()) } else { put_back(tid, &before, mask, &mut kept) };
    for signal in kept {
        let _ = ptrace::send_signal(pid, tid, signal);
    }
    back?;
    match ret? {
        -4095..=-1 => Err(Failed::Refused),
        ret => Ok(ret as u64),
    }
}

/// The value of the call, at its end.
fn made(tid: u32, kept: &mut Vec<i32>) -> Result<i64, Failed> {
    let mut started = false;
    loop {
        ptrace::resume_to_syscall(tid, 0)?;
        match ptrace::wait_for(tid)? {
            Wait::Stopped { stop: Stop::Syscall | Stop::Seccomp, .. } => match ptrace::syscall_info(tid)? {
                SyscallInfo::Entry { .. } => started = true,
                SyscallInfo::Exit { ret, .. } if started => return Ok(ret),
                _ => {}
            },
            // The call was taken for one of the program's, which wants to make its calls by itself (syscall user dispatch).
            Wait::Stopped { stop: Stop::Signal(SIGSYS), .. } if !started => return Err(Failed::Refused),
            Wait::Stopped { stop: Stop::Signal(signal), .. } => kept.push(signal),
            gone @ (Wait::Stopped { stop: Stop::Ending, .. } | Wait::Ended { .. }) => return Err(Failed::Gone(gone)),
            Wait::Stopped { .. } | Wait::Nothing => {}
        }
    }
}

/// Puts registers and signals back. A call that was interrupted starts again only behind a stop like the one that it was interrupted by.
fn put_back(tid: u32, before: &Registers, mask: u64, kept: &mut Vec<i32>) -> Result<(), Failed> {
    // ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND and ERESTART_RESTARTBLOCK of include/linux/errno.h.
    let starts_again = matches!(before.get(Reg::Rax) as i64, -514..=-512 | -516);
    if before.get(Reg::OrigRax) as i64 >= 0 && starts_again {
        ptrace::interrupt(tid)?;
        loop {
            ptrace::resume(tid, 0)?;
            match ptrace::wait_for(tid)? {
                Wait::Stopped { stop: Stop::Trap | Stop::Job, .. } => break,
                Wait::Stopped { stop: Stop::Signal(signal), .. } => kept.push(signal),
                gone @ (Wait::Stopped { stop: Stop::Ending, .. } | Wait::Ended { .. }) => {
                    return Err(Failed::Gone(gone));
                }
                Wait::Stopped { .. } | Wait::Nothing => {}
            }
        }
    }
    ptrace::set_signal_mask(tid, mask)?;
    Ok(before.set(tid)?)
}
