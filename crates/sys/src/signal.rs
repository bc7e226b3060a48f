//! Signals as bytes in a pipe, so that a loop can wait for them beside everything else.
//!
//! # Safety
//!
//! The handler does only what signal-safety(7) allows: atomic stores, write(2) on a descriptor that is never closed; it keeps `errno`.
#![expect(unsafe_code, reason = "sigaction(2) and a signal handler")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// Whether a signal of [`SignalPipe::ENDING`] came since the last [`SignalPipe::new`].
static END_ASKED: AtomicBool = AtomicBool::new(false);

/// Write end of the pipe; -1 before the first [`SignalPipe::new`].
static WRITE_END: AtomicI32 = AtomicI32::new(-1);

/// The signals caught since the last look.
///
/// In a [worker](crate::front) it knows of stops too: whoever looks is held until the job is continued or asked to end, while all other
/// threads go on.
#[derive(Debug)]
pub struct SignalPipe {
    read_end: OwnedFd,
    /// Whether the job is stopped; `None` when the kernel does all that is to be done.
    stopped: Option<AtomicBool>,
}

impl SignalPipe {
    /// The signals that ask a program to end: Ctrl-C, `kill`, a terminal that goes away.
    const ENDING: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

    /// The signals that ask this process to end; a terminal that goes away does not under nohup(1).
    pub fn ending() -> Vec<i32> {
        SignalPipe::ENDING.into_iter().filter(|signal| *signal != libc::SIGHUP || !is_ignored(*signal)).collect()
    }

    /// Catches `signals` for the whole process from now on. A process has one such pipe: a second one takes over.
    pub fn new(signals: &[i32]) -> io::Result<SignalPipe> {
        END_ASKED.store(false, Ordering::SeqCst);
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // The write end lives as long as the process, since a handler may run at any time.
        WRITE_END.store(write_end.into_raw_fd(), Ordering::SeqCst);
        for &signal in signals {
            catch(signal)?;
        }
        let stopped = crate::front::is_worker().then(AtomicBool::default);
        if stopped.is_some() {
            catch(libc::SIGTSTP)?;
            catch(libc::SIGCONT)?;
        }
        Ok(SignalPipe { read_end, stopped })
    }

    /// Whether the process was asked to end, though nobody has taken the signal from the pipe yet.
    pub fn is_end_asked() -> bool {
        END_ASKED.load(Ordering::SeqCst)
    }

    /// A signal that came since the last call; `None` when there is none. Blocks only while the job is stopped.
    pub fn take(&self) -> Option<i32> {
        loop {
            if self.stopped.as_ref().is_some_and(|stopped| stopped.load(Ordering::SeqCst)) {
                let _ = poll(&mut [PollFd::new(self, PollFlags::IN)], None);
            }
            let signal = self.next()?;
            let Some(stopped) = &self.stopped else { return Some(signal) };
            match signal {
                libc::SIGTSTP => stopped.store(true, Ordering::SeqCst),
                libc::SIGCONT => stopped.store(false, Ordering::SeqCst),
                _ => {
                    if SignalPipe::ENDING.contains(&signal) {
                        stopped.store(false, Ordering::SeqCst);
                    }
                    return Some(signal);
                }
            }
        }
    }

    fn next(&self) -> Option<i32> {
        let mut byte = [0u8; 1];
        match rustix::io::read(&self.read_end, &mut byte) {
            Ok(1) => Some(i32::from(byte[0])),
            _ => None,
        }
    }
}

impl AsFd for SignalPipe {
    /// Readable when [`SignalPipe::take`] has something to give.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read_end.as_fd()
    }
}

impl AsRawFd for SignalPipe {
    fn as_raw_fd(&self) -> i32 {
        self.read_end.as_raw_fd()
    }
}

fn catch(signal: i32) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_signal as extern "C" fn(i32) as usize;
    // No SA_RESTART: a blocking call should end and let the loop look at the pipe.
    // SAFETY: `action` is a whole `sigaction`, and the handler is signal-safe (see above).
    match unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn on_signal(signal: i32) {
    if SignalPipe::ENDING.contains(&signal) {
        END_ASKED.store(true, Ordering::SeqCst);
    }
    let byte = signal as u8;
    keep_errno(|| {
        let fd = WRITE_END.load(Ordering::SeqCst);
        // SAFETY: one byte of our own is written; a full pipe only means that there is enough to see already.
        unsafe { libc::write(fd, std::ptr::from_ref(&byte).cast(), 1) };
    });
}

/// What a handler does, so that who was interrupted does not see its errors.
pub(crate) fn keep_errno(handler: impl FnOnce()) {
    // SAFETY: `errno` is the thread's own.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; the pointer is valid for the thread's life.
    let saved = unsafe { *errno };
    handler();
    // SAFETY: as above.
    unsafe { *errno = saved };
}

/// Whether a signal does nothing to this process.
pub(crate) fn is_ignored(signal: i32) -> bool {
    // SAFETY: all-zero bytes are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: sigaction(2) writes one `sigaction`.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    asked == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Makes one thread's blocking system call return with `EINTR`.
///
/// It sends `SIGURG`, which every process ignores unless it asked for it. A thread that is not blocking yet misses it, so whoever nudges has to
/// do it again until the thread shows that it has noticed.
#[derive(Clone, Copy, Debug)]
pub struct Nudge {
    tid: i32,
}

impl Nudge {
    /// For the calling thread.
    ///
    /// # Errors
    ///
    /// When the signal cannot be caught.
    pub fn here() -> io::Result<Nudge> {
        // SAFETY: all-zero bytes are a valid `sigaction`.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_nudge as extern "C" fn(i32) as usize;
        // SAFETY: `action` is a whole `sigaction`, and the handler does nothing.
        match unsafe { libc::sigaction(libc::SIGURG, &raw const action, std::ptr::null_mut()) } {
            0 => Ok(Nudge { tid: rustix::thread::gettid().as_raw_nonzero().get() }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Interrupts the calling thread, which only who traces it notices.
    pub(crate) fn send_here() {
        Nudge { tid: rustix::thread::gettid().as_raw_nonzero().get() }.send();
    }

    /// Interrupts what the thread waits for.
    pub fn send(self) {
        let pid = std::process::id();
        // SAFETY: tgkill(2) with numbers only; a thread that has ended is not found.
        unsafe { libc::syscall(libc::SYS_tgkill, pid, self.tid, libc::SIGURG) };
    }
}

extern "C" fn on_nudge(_signal: i32) {}
