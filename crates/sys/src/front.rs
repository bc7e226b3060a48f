//! Two processes for one command: a front that the shell waits for, and a worker that may outlive it.
//!
//! A tracer of tasks that have a filter ([`seccomp`](crate::seccomp)) must not go away before they do, and yet the prompt should come back
//! at once, and somebody may kill what he sees. So the process that the shell started does nothing but wait, and its child does the
//! work. When the work is over the worker says with what status, and may live on; when the front dies first, the worker gets
//! SIGTERM, as if it had been asked to end.
//!
//! Signals that a terminal sends reach both, since they are of one process group; the front leaves them to the worker. Those that
//! somebody sends to the front alone (kill(1)) are passed on.
//!
//! # Safety
//!
//! fork(2) happens while the process has one thread, which is checked, so the child may do everything. The front's signal handler
//! only stores an atomic and calls kill(2), which signal-safety(7) allows.
#![expect(unsafe_code, reason = "fork(2), sigaction(2)")]

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

/// The worker, for the front's signal handler.
static WORKER: AtomicI32 = AtomicI32::new(0);

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
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
                // It may have died before we asked.
                if rustix::process::getppid() != Some(front) {
                    leave(1);
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
        if let Ok(nothing) = std::fs::File::options().read(true).write(true).open("/dev/null") {
            let _ = rustix::stdio::dup2_stdin(&nothing);
            let _ = rustix::stdio::dup2_stdout(&nothing);
            let _ = rustix::stdio::dup2_stderr(&nothing);
        }
        let _ = rustix::process::setsid();
        let _ = rustix::io::write(&self.to_front, &[status]);
    }
}

/// The front's life.
fn wait_for(worker: i32, from_worker: &OwnedFd) -> ! {
    WORKER.store(worker, Ordering::SeqCst);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2] {
        // SAFETY: all-zero bytes are a valid `sigaction`.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_signal as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
        // SAFETY: `action` is a whole `sigaction`, and the handler is signal-safe (see above).
        unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    }
    let mut status = [0];
    if let Ok(1) = rustix::io::retry_on_intr(|| rustix::io::read(from_worker, &mut status)) {
        leave(i32::from(status[0]));
    }
    // It ended without a word: its status is ours, as a shell would say it.
    let mut how = 0;
    loop {
        // SAFETY: waitpid(2) writes one `int`.
        let done = unsafe { libc::waitpid(worker, &raw mut how, 0) };
        if done == worker || io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            break;
        }
    }
    leave(if libc::WIFEXITED(how) { libc::WEXITSTATUS(how) } else { 128 + libc::WTERMSIG(how) })
}

fn leave(status: i32) -> ! {
    // SAFETY: leaves at once: buffers and handlers are the worker's.
    unsafe { libc::_exit(status) }
}

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: `errno` is the thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; the pointer is valid for the thread's life.
    let saved = unsafe { *errno };
    // SAFETY: the kernel gives a whole `siginfo_t` to a handler with SA_SIGINFO.
    let code = unsafe { (*info).si_code };
    // Positive codes are the kernel's own: a key on the terminal, of which the worker has heard as well.
    if code <= 0 {
        // SAFETY: kill(2) with numbers only.
        unsafe { libc::kill(WORKER.load(Ordering::SeqCst), signal) };
    }
    // SAFETY: as above.
    unsafe { *errno = saved };
}
