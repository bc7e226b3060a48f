//! Two processes for one command: a front that the shell waits for, and a worker that may outlive it.
//!
//! A tracer of tasks that have a filter ([`seccomp`](crate::seccomp)) must not go away before they do, and yet the prompt should come back
//! at once, and somebody may kill what he sees. So the process that the shell started does nothing but wait, and its child does the
//! work. When the work is over the worker says with what status, and may live on; when the front dies first, the worker gets
//! SIGTERM, as if it had been asked to end; its commands go on then ([`is_abandoned`]).
//!
//! The worker is called `skep-worker`: who kills by name (killall(1)) means the front, and the worker has the time to leave as if it was asked to.
//!
//! # Signals
//!
//! The worker has a process group of its own, and the commands that it starts are put into the front's ([`join_job`]). So for a terminal and a
//! shell the job is the front and its commands: what a key or somebody sends to the job's group reaches them once, and the front passes it
//! on, so that it reaches the worker once too. What is sent to the front alone takes the same way. Left out are signals that nobody can
//! catch and those of faults. What was ignored when we were started is ignored by the worker, unless it asks for the signal.
//!
//! A stop (Ctrl-Z) is told to the worker, which stops writing but not tracing ([`SignalPipe`](crate::signal::SignalPipe)): tasks that are
//! traced would stand still with it. Then the front stops, so that the prompt comes back.
//!
//! # Safety
//!
//! fork(2) happens while the process has one thread, which is checked, so the child may do everything. The front's signal handlers
//! only store atomics and call kill(2) and sigaction(2), which signal-safety(7) allows.
#![expect(unsafe_code, reason = "fork(2), sigaction(2), a step between fork and exec")]

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

/// The worker, for the front's signal handler.
static WORKER: AtomicI32 = AtomicI32::new(0);

/// Whether the front was continued since its last stop.
static CONTINUED: AtomicBool = AtomicBool::new(false);

/// The front, in the worker; 0 elsewhere.
static FRONT: AtomicI32 = AtomicI32::new(0);

/// The front's process group, in the worker; 0 elsewhere.
static JOB: AtomicI32 = AtomicI32::new(0);

/// What the worker was called before it was one, and its commands are until they execute.
static NAME: OnceLock<CString> = OnceLock::new();

/// The worker's way to tell the front that it may end.
#[derive(Debug)]
pub struct Worker {
    to_front: OwnedFd,
}

impl Worker {
    /// Splits this process in two. Returns in the worker only; the front ends with the status that the worker says or ends with.
    ///
    /// # Errors
    ///
    /// When there is more than one thread, or no process can be made.
    pub fn split() -> io::Result<Worker> {
        if std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() != 1) {
            return Err(io::Error::other("a process with several threads cannot be split"));
        }
        let (from_worker, to_front) = pipe_with(PipeFlags::CLOEXEC)?;
        let front = rustix::process::getpid();
        // SAFETY: there is one thread, so the child is a whole process.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                drop(from_worker);
                let _ = NAME.set(rustix::thread::name()?);
                rustix::thread::set_name(c"skep-worker")?;
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
                // It may have died before we asked.
                if rustix::process::getppid() != Some(front) {
                    leave(1);
                }
                FRONT.store(front.as_raw_pid(), Ordering::SeqCst);
                let job = rustix::process::getpgrp();
                // Without a group of its own it hears some signals twice, which is all.
                if rustix::process::setpgid(None, None).is_ok() {
                    JOB.store(job.as_raw_pid(), Ordering::SeqCst);
                    leave_terminal();
                }
                Ok(Worker { to_front })
            }
            worker => {
                drop(to_front);
                wait_for(worker, &from_worker)
            }
        }
    }

    /// Lets the front end with `status`, and lets go of its terminal: standard input and outputs are those of nobody from now on.
    pub fn finish(self, status: u8) {
        let _ = rustix::process::set_parent_process_death_signal(None);
        FRONT.store(0, Ordering::SeqCst);
        if let Ok(nothing) = std::fs::File::options().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&nothing);
            let _ = rustix::stdio::dup2_stdout(&nothing);
            let _ = rustix::stdio::dup2_stderr(&nothing);
        }
        // Who leads a group cannot leave its session.
        let job = rustix::process::Pid::from_raw(JOB.swap(0, Ordering::SeqCst));
        let _ = job.map(|job| rustix::process::setpgid(None, Some(job)));
        let _ = rustix::process::setsid();
        let _ = rustix::io::write(&self.to_front, &[status]);
    }
}

/// Whether this process is a worker whose front waits for it.
pub fn is_worker() -> bool {
    JOB.load(Ordering::SeqCst) != 0
}

/// Whether this process is a worker whose front was killed: it was asked to end by that, and nobody asked its commands to.
pub fn is_abandoned() -> bool {
    let front = FRONT.load(Ordering::SeqCst);
    front != 0 && rustix::process::getppid().is_none_or(|parent| parent.as_raw_pid() != front)
}

/// A process in the group of a worker's commands. When the last one of a group goes whose maker is of the same session but another group, and one of the rest is stopped, all get SIGHUP
/// (`kill_orphaned_pgrp` of kernel/exit.c, Linux 6.18). Usually the front is that one, and the worker after it.
#[derive(Debug)]
pub(crate) struct Tie {
    pid: i32,
}

impl Tie {
    /// For a process that was forked from a worker, and is of its session. `None` where there are no such commands. Allocates nothing.
    pub(crate) fn new() -> Option<Tie> {
        let job = Some(JOB.load(Ordering::SeqCst)).filter(|job| *job != 0)?;
        // SAFETY: the child makes system calls only.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: numbers only.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            // SAFETY: all-zero bytes are a valid set.
            let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
            // SAFETY: a whole set.
            unsafe { libc::sigfillset(&raw mut all) };
            // SAFETY: as above; nobody can end the pause but SIGKILL.
            unsafe { libc::sigsuspend(&raw const all) };
            leave(0);
        }
        // SAFETY: numbers only. Where the group is gone nobody needs the tie.
        unsafe { libc::setpgid(pid, job) };
        (pid > 0).then_some(Tie { pid })
    }
}

impl Drop for Tie {
    fn drop(&mut self) {
        // SAFETY: our own child, which nobody has waited for.
        unsafe { libc::kill(self.pid, libc::SIGKILL) };
        // SAFETY: as above; a null pointer asks for no status.
        unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
    }
}

/// In a worker: what the front is called.
pub fn name() -> Option<Vec<u8>> {
    NAME.get().map(|name| name.to_bytes().to_vec())
}

/// Lets a command be of the front's process group, so that the terminal is its own and keys reach it. Does nothing outside of a worker.
pub fn join_job(command: &mut Command) {
    let job = JOB.load(Ordering::SeqCst);
    if job == 0 {
        return;
    }
    let join = move || {
        // SAFETY: setpgid(2) with numbers only. Where the front was killed the group may be gone, and the command runs without it.
        unsafe { libc::setpgid(0, job) };
        NAME.get().map_or(Ok(()), |name| Ok(rustix::thread::set_name(name)?))
    };
    // SAFETY: `join` makes two system calls.
    unsafe { command.pre_exec(join) };
}

/// Lets this thread, and those that it starts, write to the terminal of another group (termios(3), `TOSTOP`). Commands start with nothing blocked.
fn leave_terminal() {
    // SAFETY: all-zero bytes are a valid `sigset_t`.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    for signal in [libc::SIGTTIN, libc::SIGTTOU] {
        // SAFETY: `set` is a whole `sigset_t`.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// The front's life.
fn wait_for(worker: i32, from_worker: &OwnedFd) -> ! {
    WORKER.store(worker, Ordering::SeqCst);
    for signal in (1..=libc::SIGRTMAX()).filter(|signal| is_passed_on(*signal)) {
        let handler = match signal {
            libc::SIGTSTP => on_stop,
            libc::SIGCONT => on_continue,
            _ => pass_on,
        };
        handle(signal, handler);
    }
    let mut status = [0];
    if let Ok(1) = rustix::io::retry_on_intr(|| rustix::io::read(from_worker, &mut status)) {
        leave(i32::from(status[0]));
    }
    // It ended without a word: its status is ours, as a shell would say it. It stays a zombie, so that its number is nobody else's while
    // signals are passed on.
    // SAFETY: all-zero bytes are a valid `siginfo_t`.
    let mut how: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: waitid(2) writes one `siginfo_t`.
        let done = unsafe { libc::waitid(libc::P_PID, worker as u32, &raw mut how, libc::WEXITED | libc::WNOWAIT) };
        if done == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            break;
        }
    }
    // SAFETY: waitid(2) has filled it as for SIGCHLD.
    let status = unsafe { how.si_status() };
    leave(if how.si_code == libc::CLD_EXITED { status } else { 128 + status })
}

/// Which signals of the front are its worker's.
fn is_passed_on(signal: i32) -> bool {
    let is_ours = matches!(
        signal,
        // Nobody catches these; the next are a child's, and those of whom a terminal makes wait.
        libc::SIGKILL | libc::SIGSTOP | libc::SIGCHLD | libc::SIGTTIN | libc::SIGTTOU
        // Faults, of which the front may die: the worker is told by that.
        | libc::SIGILL | libc::SIGTRAP | libc::SIGABRT | libc::SIGBUS | libc::SIGFPE | libc::SIGSEGV | libc::SIGSYS
    );
    // Those between are the C library's own.
    let exists = signal <= libc::SIGSYS || signal >= libc::SIGRTMIN();
    exists && !is_ours
}

fn handle(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: all-zero bytes are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_RESTART | libc::SA_NODEFER;
    // SAFETY: `action` is a whole `sigaction`, and the handlers are signal-safe (see above).
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

fn leave(status: i32) -> ! {
    // SAFETY: leaves at once: buffers and handlers are the worker's.
    unsafe { libc::_exit(status) }
}

extern "C" fn pass_on(signal: i32) {
    crate::signal::keep_errno(|| {
        // SAFETY: kill(2) with numbers only.
        unsafe { libc::kill(WORKER.load(Ordering::SeqCst), signal) };
    });
}

extern "C" fn on_continue(signal: i32) {
    CONTINUED.store(true, Ordering::SeqCst);
    pass_on(signal);
}

/// Tells the worker, and stops as if nobody had caught the signal.
extern "C" fn on_stop(signal: i32) {
    crate::signal::keep_errno(|| {
        CONTINUED.store(false, Ordering::SeqCst);
        pass_on(signal);
        // SAFETY: all-zero bytes are a valid `sigaction`: the default.
        let default: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: a whole `sigaction`.
        unsafe { libc::sigaction(signal, &raw const default, std::ptr::null_mut()) };
        // SAFETY: kill(2) with numbers only. It returns when we are continued (the handler does not block its own signal).
        unsafe { libc::kill(std::process::id() as i32, signal) };
        handle(signal, on_stop);
        // The kernel stops nobody whom no shell could continue.
        if !CONTINUED.load(Ordering::SeqCst) {
            pass_on(libc::SIGCONT);
        }
    });
}
