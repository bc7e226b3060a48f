//! ptrace(2) and the waiting that goes with it: seeing what other processes do, without privileges over the kernel.
//!
//! A tracer is a *thread*: only the thread that seized a task may ask about it, resume it or wait for it. Every function here
//! that takes a thread id wants it to be a tracee of the calling thread and, unless it says otherwise, one that is stopped. Of any other, and of
//! one that was killed meanwhile, the answer is `ESRCH`.
//!
//! Only the calls after `PTRACE_SEIZE` (kernel 3.4) are used, never `PTRACE_ATTACH`: seizing sends no signal, and a stopped job can
//! be left stopped. System calls are asked for with `PTRACE_GET_SYSCALL_INFO` (kernel 5.3).
//!
//! Sources: ptrace(2), `include/uapi/linux/ptrace.h` and `kernel/ptrace.c` of 6.18.
//!
//! # Safety
//!
//! ptrace(2) writes only where it is given a pointer, and every pointer here is to a local variable of the type that the request
//! writes. wait4(2) writes one `int`, waitid(2) one `siginfo_t`.
#![expect(unsafe_code, reason = "ptrace(2), wait4(2), waitid(2), process_vm_readv(2)")]

use std::ffi::{c_int, c_long, c_void};

use crate::Errno;

/// What stops a tracee beside signals, as bits of `PTRACE_O_*`.
const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
    | libc::PTRACE_O_TRACEFORK
    | libc::PTRACE_O_TRACEVFORK
    | libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEEXIT;

const EVENT_STOP: c_int = 128;
const GET_SYSCALL_INFO: c_int = 0x420e;

/// Why [`wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// A tracee is stopped.
    Stopped {
        /// Its thread id.
        tid: u32,
        /// Why.
        stop: Stop,
    },
    /// A tracee is no more; the status is wait(2)'s, for [`std::os::unix::process::ExitStatusExt::from_raw`].
    Ended {
        /// Its thread id.
        tid: u32,
        /// The status.
        status: i32,
    },
    /// None of the tracees has anything to say (only if told not to block).
    Nothing,
}

/// Why a tracee is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At the entry or at the end of a system call, see [`syscall_info`].
    Syscall,
    /// A seccomp filter wants the tracer to see this system call, which has not started yet; [`syscall_info`] has the filter's mark.
    Seccomp,
    /// It made a task (fork, vfork or clone), whose id is [`event_message`].
    Born,
    /// It has executed a program; [`event_message`] is the thread id that it had before.
    Executed,
    /// It is about to end; its memory is still there, and [`event_message`] is the status.
    Ending,
    /// A signal is about to be delivered: resume with it, or it is swallowed.
    Signal(i32),
    /// It is stopped as a job is (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU): [`listen`] leaves it so.
    Job,
    /// A new tracee is here, or [`interrupt`] was obeyed, or a stopped job goes on.
    Trap,
    /// Something of a newer kernel: resume it.
    Other,
}

/// A system call as it is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyscallInfo {
    /// It starts.
    Entry {
        /// Number, in the table of `arch`.
        nr: u64,
        /// Arguments.
        args: [u64; 6],
        /// Instruction and stack pointer.
        at: (u64, u64),
        /// `AUDIT_ARCH_*` of the system call's table.
        arch: u32,
        /// What the filter gave that stopped it (`SECCOMP_RET_DATA`), if one did.
        mark: Option<u16>,
    },
    /// It ends.
    Exit {
        /// Its value; errors are negative.
        ret: i64,
        /// Instruction and stack pointer.
        at: (u64, u64),
    },
    /// It is stopped elsewhere.
    None {
        /// Instruction and stack pointer.
        at: (u64, u64),
    },
}

/// `AUDIT_ARCH_*` of this machine's own system calls.
pub const NATIVE_ARCH: u32 = if cfg!(target_arch = "x86_64") {
    0xc000_003e
} else if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else if cfg!(target_arch = "riscv64") {
    0xc000_00f3
} else {
    0
};

fn result(value: c_long) -> Result<(), Errno> {
    if value == -1 { Err(Errno::last()) } else { Ok(()) }
}

fn request(request: c_int, tid: u32, addr: usize, data: usize) -> Result<(), Errno> {
    // SAFETY: the requests made through here take numbers, no pointers.
    result(unsafe { libc::ptrace(request as _, tid as libc::pid_t, addr as *mut c_void, data as *mut c_void) })
}

/// Makes a task a tracee of the calling thread, without stopping it; tasks that it makes from now on are tracees too. `filtered`: calls that
/// a seccomp filter wants traced stop ([`Stop::Seccomp`]); without it they fail as they do where there is no tracer.
///
/// # Errors
///
/// `EPERM` when it is traced already, is another user's, or may not be traced (`/proc/sys/kernel/yama/ptrace_scope`); `ESRCH`.
pub fn seize(tid: u32, filtered: bool) -> Result<(), Errno> {
    let options = OPTIONS | if filtered { libc::PTRACE_O_TRACESECCOMP } else { 0 };
    request(libc::PTRACE_SEIZE as c_int, tid, 0, options as usize)
}

/// Makes a task a tracee of the calling thread that stops for nothing but signals and its end ([`Stop::Ending`]).
///
/// # Errors
///
/// As those of [`seize`].
pub(crate) fn follow(tid: u32) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE as c_int, tid, 0, libc::PTRACE_O_TRACEEXIT as usize)
}

/// Asks a running tracee to stop; it will, as [`Stop::Trap`] if nothing else stops it earlier.
pub fn interrupt(tid: u32) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT as c_int, tid, 0, 0)
}

/// Lets it go on, with a signal unless that is 0.
pub fn resume(tid: u32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_CONT as c_int, tid, 0, signal as usize)
}

/// Lets it go on to the next entry or end of a system call, with a signal unless that is 0. After [`Stop::Seccomp`] the next one is
/// the end of that call.
pub fn resume_to_syscall(tid: u32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_SYSCALL as c_int, tid, 0, signal as usize)
}

/// Leaves a stopped job stopped, and hears of it again when it goes on.
pub fn listen(tid: u32) -> Result<(), Errno> {
    request(libc::PTRACE_LISTEN as c_int, tid, 0, 0)
}

/// Sets it free, with a signal unless that is 0.
pub fn detach(tid: u32, signal: i32) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH as c_int, tid, 0, signal as usize)
}

/// The number that goes with the stop (`PTRACE_GETEVENTMSG`), see [`Stop`].
pub fn event_message(tid: u32) -> Result<u64, Errno> {
    let mut message: libc::c_ulong = 0;
    let at = std::ptr::from_mut(&mut message).cast::<c_void>();
    // SAFETY: the request writes one `unsigned long` to `at`.
    result(unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG as _, tid as libc::pid_t, 0, at) })?;
    Ok(message)
}

/// What the signal brings that is about to be delivered: number, error and code as of `siginfo_t`.
pub fn signal_info(tid: u32) -> Result<(i32, i32, i32), Errno> {
    // SAFETY: all-zero bytes are a valid `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let at = std::ptr::from_mut(&mut info).cast::<c_void>();
    // SAFETY: the request writes one `siginfo_t` to `at`.
    result(unsafe { libc::ptrace(libc::PTRACE_GETSIGINFO as _, tid as libc::pid_t, 0, at) })?;
    Ok((info.si_signo, info.si_errno, info.si_code))
}

/// `struct ptrace_syscall_info` of `include/uapi/linux/ptrace.h`; the union at its end is seven or nine words.
#[repr(C)]
#[derive(Default)]
struct RawSyscallInfo {
    op: u8,
    pad: [u8; 3],
    arch: u32,
    instruction_pointer: u64,
    stack_pointer: u64,
    words: [u64; 8],
}

/// The system call that a tracee stopped in ([`Stop::Syscall`], [`Stop::Seccomp`]; kernel 5.3).
pub fn syscall_info(tid: u32) -> Result<SyscallInfo, Errno> {
    let mut raw = RawSyscallInfo::default();
    let at = std::ptr::from_mut(&mut raw).cast::<c_void>();
    let len = size_of::<RawSyscallInfo>();
    // SAFETY: the request writes at most `len` bytes to `at`, which has as many.
    result(unsafe { libc::ptrace(GET_SYSCALL_INFO as _, tid as libc::pid_t, len as *mut c_void, at) })?;
    let place = (raw.instruction_pointer, raw.stack_pointer);
    let [nr, a0, a1, a2, a3, a4, a5, mark] = raw.words;
    Ok(match raw.op {
        1 | 3 => SyscallInfo::Entry {
            nr,
            args: [a0, a1, a2, a3, a4, a5],
            at: place,
            arch: raw.arch,
            mark: (raw.op == 3).then_some(mark as u16),
        },
        2 => SyscallInfo::Exit { ret: nr as i64, at: place },
        _ => SyscallInfo::None { at: place },
    })
}

/// Waits for any tracee of the calling thread; children that this thread does not trace, and those of other threads, are left to
/// those who wait for them.
///
/// A stop is looked at, and not taken: it is told of again until the task goes on. If the thread dies meanwhile, the task does what it would have done, so a signal that it
/// was stopped with arrives. One that is taken (wait4(2)) would be lost with its tracer: `ptrace_stop` of kernel/signal.c returns what nobody has asked for. An end is
/// taken.
///
/// # Errors
///
/// `ECHILD` when there is none, `EINTR` after a signal.
pub fn wait(block: bool) -> Result<Wait, Errno> {
    // SAFETY: all-zero bytes are a valid `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let block = if block { 0 } else { libc::WNOHANG };
    let flags = libc::WEXITED | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD | block;
    // SAFETY: waitid(2) writes one `siginfo_t`.
    result(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) }.into())?;
    // SAFETY: waitid(2) fills this and the next, or leaves all of it zero.
    let tid = unsafe { info.si_pid() } as u32;
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    match info.si_code {
        _ if tid == 0 => Ok(Wait::Nothing),
        // The status has the event in its upper half, as that of wait4(2) has it eight bits higher.
        libc::CLD_TRAPPED => Ok(Wait::Stopped { tid, stop: Stop::of(status << 8 | 0x7f) }),
        _ => wait_for(tid),
    }
}

/// Takes the stop of a tracee that does not go on yet: [`wait`] tells of others then.
pub fn take_stop(tid: u32) {
    let flags = libc::WSTOPPED | libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: a null pointer asks for no information.
    unsafe { libc::waitid(libc::P_PID, tid, std::ptr::null_mut(), flags) };
}

impl Stop {
    fn of(status: c_int) -> Stop {
        let signal = libc::WSTOPSIG(status);
        match status >> 16 {
            0 if signal == libc::SIGTRAP | 0x80 => Stop::Syscall,
            0 => Stop::Signal(signal),
            libc::PTRACE_EVENT_SECCOMP => Stop::Seccomp,
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => Stop::Born,
            libc::PTRACE_EVENT_EXEC => Stop::Executed,
            libc::PTRACE_EVENT_EXIT => Stop::Ending,
            EVENT_STOP if signal != libc::SIGTRAP => Stop::Job,
            EVENT_STOP => Stop::Trap,
            _ => Stop::Other,
        }
    }
}

/// Reads another process's memory (process_vm_readv(2)): how many bytes could be read, from the first on.
///
/// # Errors
///
/// `EFAULT` when not even the first byte can be read, `EPERM` when the process may not be traced, `ESRCH`.
pub fn read_memory(pid: u32, addr: u64, to: &mut [u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: to.as_mut_ptr().cast(), iov_len: to.len() };
    let remote = libc::iovec { iov_base: addr as *mut c_void, iov_len: to.len() };
    // SAFETY: `local` describes the whole of `to`; the remote address is the other process's.
    let read = unsafe { libc::process_vm_readv(pid as libc::pid_t, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(read).map_err(|_| Errno::last())
}

/// Writes another process's memory (process_vm_writev(2)): how many bytes could be written, from the first on.
///
/// # Errors
///
/// As those of [`read_memory`].
pub fn write_memory(pid: u32, addr: u64, from: &[u8]) -> Result<usize, Errno> {
    let local = libc::iovec { iov_base: from.as_ptr().cast_mut().cast(), iov_len: from.len() };
    let remote = libc::iovec { iov_base: addr as *mut c_void, iov_len: from.len() };
    // SAFETY: `local` describes the whole of `from`, which is only read; the remote address is the other process's.
    let wrote = unsafe { libc::process_vm_writev(pid as libc::pid_t, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(wrote).map_err(|_| Errno::last())
}

/// Lets a stopped tracee go on as if nobody traced it.
///
/// # Errors
///
/// `ESRCH` when it was killed meanwhile.
pub fn pass(tid: u32, stop: Stop) -> Result<(), Errno> {
    match stop {
        Stop::Signal(signal) => resume(tid, signal),
        Stop::Job => listen(tid),
        _ => resume(tid, 0),
    }
}

/// The general registers of a stopped tracee, as `struct user_pt_regs` (arm64, riscv) or the head of `struct user_regs_struct` (x86-64)
/// has them: in either case as the kernel's `struct pt_regs` begins. Empty when they cannot be read.
pub fn registers(tid: u32) -> Vec<u8> {
    const NT_PRSTATUS: usize = 1;
    // All of x86-64 are 216 bytes, those of arm64 272.
    register_set(tid, NT_PRSTATUS, 288)
}

/// The extended state of a stopped tracee on x86-64 (floating point, vectors, protection keys), as XSAVE writes it in its standard form; what the
/// processor leaves free at byte 464 says which components the kernel uses. Empty when it cannot be read.
pub fn extended_registers(tid: u32) -> Vec<u8> {
    const NT_X86_XSTATE: usize = 0x202;
    // With all components of today's processors 11008.
    register_set(tid, NT_X86_XSTATE, 16 << 10)
}

/// The floating point and vector registers of a stopped tracee on x86-64, as FXSAVE writes them. Empty when they cannot be read.
pub fn float_registers(tid: u32) -> Vec<u8> {
    const NT_PRFPREG: usize = 2;
    register_set(tid, NT_PRFPREG, 512)
}

fn register_set(tid: u32, kind: usize, max: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; max];
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let at = std::ptr::from_mut(&mut vector).cast::<c_void>();
    // SAFETY: the request writes at most `iov_len` bytes to `iov_base`, and how many to `vector`.
    let ret = unsafe { libc::ptrace(libc::PTRACE_GETREGSET as _, tid as libc::pid_t, kind as *mut c_void, at) };
    bytes.truncate(if ret == -1 { 0 } else { vector.iov_len });
    bytes
}

/// Sets the general registers, in the form of [`registers`].
///
/// # Errors
///
/// `ESRCH` when it was killed meanwhile, `EINVAL` for values that no user's registers may have.
pub fn set_registers(tid: u32, bytes: &[u8]) -> Result<(), Errno> {
    const NT_PRSTATUS: usize = 1;
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let at = std::ptr::from_mut(&mut vector).cast::<c_void>();
    // SAFETY: the request reads at most `iov_len` bytes from `iov_base`, and writes how many to `vector`.
    result(unsafe { libc::ptrace(libc::PTRACE_SETREGSET as _, tid as libc::pid_t, NT_PRSTATUS as *mut c_void, at) })
}

/// Writes eight bytes of its memory, also where it may only read and execute.
///
/// # Errors
///
/// `EIO` when nothing is mapped there.
pub fn poke(tid: u32, addr: u64, value: u64) -> Result<(), Errno> {
    request(libc::PTRACE_POKEDATA as c_int, tid, addr as usize, value as usize)
}

/// Which signals it holds back, as a bit for each from signal 1 on (`PTRACE_GETSIGMASK`, kernel 3.11).
pub fn signal_mask(tid: u32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    let at = std::ptr::from_mut(&mut mask).cast::<c_void>();
    // SAFETY: the request writes 8 bytes to `at`, which has as many.
    result(unsafe { libc::ptrace(GET_SIGMASK as _, tid as libc::pid_t, 8usize as *mut c_void, at) })?;
    Ok(mask)
}

/// Sets which signals it holds back, in the form of [`signal_mask`].
pub fn set_signal_mask(tid: u32, mask: u64) -> Result<(), Errno> {
    let mut mask = mask;
    let at = std::ptr::from_mut(&mut mask).cast::<c_void>();
    // SAFETY: the request reads 8 bytes from `at`, which has as many.
    result(unsafe { libc::ptrace(SET_SIGMASK as _, tid as libc::pid_t, 8usize as *mut c_void, at) })
}

const GET_SIGMASK: c_int = 0x420a;
const SET_SIGMASK: c_int = 0x420b;

/// Waits for one tracee of the calling thread.
///
/// # Errors
///
/// `ECHILD` when it is none.
pub fn wait_for(tid: u32) -> Result<Wait, Errno> {
    loop {
        let mut status: c_int = 0;
        let flags = libc::__WALL | libc::__WNOTHREAD;
        // SAFETY: wait4(2) writes one `int`; the resource usage is not asked for.
        let got = unsafe { libc::wait4(tid as libc::pid_t, &raw mut status, flags, std::ptr::null_mut()) };
        match got {
            -1 if Errno::last() == Errno::EINTR => {}
            -1 => return Err(Errno::last()),
            _ if libc::WIFSTOPPED(status) => return Ok(Wait::Stopped { tid, stop: Stop::of(status) }),
            _ => return Ok(Wait::Ended { tid, status }),
        }
    }
}

/// Whether two tasks have the same memory (kcmp(2)): a process and what it made by vfork.
///
/// # Errors
///
/// `ENOSYS` for a kernel without `CONFIG_KCMP`, `EPERM` when one of them may not be traced.
pub fn have_same_memory(one: u32, other: u32) -> Result<bool, Errno> {
    const KCMP_VM: c_int = 1;
    // SAFETY: kcmp(2) with numbers only.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one as libc::pid_t, other as libc::pid_t, KCMP_VM, 0, 0) };
    if order < 0 { Err(Errno::last()) } else { Ok(order == 0) }
}

/// Whom a signal goes to that was kept back: one task.
///
/// # Errors
///
/// `ESRCH` when it has ended.
pub fn send_signal(pid: u32, tid: u32, signal: i32) -> Result<(), Errno> {
    // SAFETY: tgkill(2) with numbers only.
    result(unsafe { libc::syscall(libc::SYS_tgkill, pid as libc::pid_t, tid as libc::pid_t, signal) })
}
