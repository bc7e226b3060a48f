//! The last stop of a thread: who traces it is asked before anything of it goes away.
//!
//! A thread that dies sets its tracees free, and those run on at once. But when it is a tracee itself, it stops as the first thing of its end
//! (`do_exit` of kernel/exit.c, Linux 6.18), also when it was killed, and its own tracees stay what they are while it stands there. So a process that
//! follows it has all the time it wants to make ready for their freedom.
//!
//! What it costs is that signals to the thread take the way through its follower. That of a stopped tracee (SIGCHLD) would be one for each stop, though nobody
//! has a handler for it: whoever is traced hears of signals that do nothing too. So the process asks for none.
//!
//! Sources: ptrace(2), `kernel/signal.c` of 6.18 (`sig_ignored`, `do_notify_parent_cldstop`), `Documentation/admin-guide/LSM/Yama.rst`.
//!
//! # Safety
//! prctl(2) with numbers, and sigaction(2) and pthread_sigmask(3) with structures of their own.
#![expect(unsafe_code, reason = "prctl(2), sigaction(2), pthread_sigmask(3)")]

use crate::Errno;
use crate::ptrace::{Stop, Wait, detach, follow, pass, wait};
use crate::robust::{RobustWord, Waiting};

/// A thread that stands still, about to end; it goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct LastStop {
    tid: u32,
}

impl Drop for LastStop {
    fn drop(&mut self) {
        // One that is gone needs nothing.
        let _ = detach(self.tid, 0);
    }
}

/// Makes the calling thread ready for a follower, starts it, and returns when it is there or will not be.
pub(crate) fn invite<E>(word: &RobustWord, start: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    no_signals_of_tracees();
    // Without Yama it is an error, and not needed.
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
    let started = start().map(|()| word.wait_for_answer());
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, 0) };
    started
}

/// Stops of tracees send the process no signal any more, if it had no use for it; their ends leave the calling thread alone.
fn no_signals_of_tracees() {
    // SAFETY: all-zero bytes are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: sigaction(2) writes one `sigaction`.
    let asked = unsafe { libc::sigaction(libc::SIGCHLD, std::ptr::null(), &raw mut action) };
    if asked == 0 && action.sa_sigaction == libc::SIG_DFL {
        action.sa_flags |= libc::SA_NOCLDSTOP;
        // SAFETY: a whole `sigaction`.
        unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) };
    }
    // SAFETY: all-zero bytes are a valid set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a whole set.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
    // SAFETY: as above.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Waits until the thread of a word is about to die, or has, or has dropped its word. The thread stands still in the first case, which is the only one if it may be
/// traced and nothing else kills us. Allocates nothing.
pub(crate) fn wait_for_end(word: Waiting<'_>) -> Option<LastStop> {
    let tid = word.owner();
    let is_followed = follow(tid).is_ok();
    word.answer(is_followed);
    let last_stop = if is_followed { follow_to_end(word) } else { None };
    if last_stop.is_none() {
        word.wait();
    }
    last_stop
}

fn follow_to_end(word: Waiting<'_>) -> Option<LastStop> {
    loop {
        match wait(true) {
            Ok(Wait::Stopped { tid, stop }) if word.is_over() => {
                let signal = match stop {
                    // It is what told us.
                    Stop::Signal(libc::SIGURG) => 0,
                    Stop::Signal(signal) => signal,
                    _ => 0,
                };
                let _ = detach(tid, signal);
                return None;
            }
            Ok(Wait::Stopped { tid, stop: Stop::Ending }) => return Some(LastStop { tid }),
            Ok(Wait::Stopped { tid, stop }) => drop(pass(tid, stop)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}
