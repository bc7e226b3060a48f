//! What helpers know of the world: the task that an event happened in, its memory, the event, and where text goes.
//!
//! A machine knows none of this by itself. Whoever runs programs sets it on the [`Cpu`](crate::Cpu) before a run; without it the
//! helpers answer as the kernel's do where there is no task, or where memory cannot be read.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The task that is running.
pub trait Task: fmt::Debug + Send + Sync {
    /// Thread group id in the upper half, thread id in the lower: what `bpf_get_current_pid_tgid` gives.
    fn pid_tgid(&self) -> u64;

    /// Group id in the upper half, user id in the lower: what `bpf_get_current_uid_gid` gives.
    fn uid_gid(&self) -> u64;

    /// Its name, of which 15 bytes count.
    fn comm(&self) -> Vec<u8>;

    /// The number that programs get for its address in the kernel. There is nothing to read there; it tells tasks apart.
    fn address(&self) -> u64 {
        self.pid_tgid()
    }

    /// Sends a signal to its process (`bpf_send_signal`); `None` when it cannot.
    #[must_use]
    fn signal(&self, _signal: u32) -> Option<()> {
        None
    }

    /// Where the task is in user space, and where each caller goes on: the innermost first, at most `max`. `None` when that cannot be told.
    fn user_stack(&self, _max: usize) -> Option<Vec<u64>> {
        None
    }
}

/// Memory outside of the programs' own: that of the task.
pub trait Memory: fmt::Debug + Send + Sync {
    /// Reads all of the bytes at a user address; `None` when one of them cannot be read. A piece never crosses a page of 4 KiB when
    /// a string is read.
    #[must_use]
    fn read(&self, addr: u64, to: &mut [u8]) -> Option<()>;

    /// Writes all of the bytes; `None` when it cannot.
    #[must_use]
    fn write(&self, addr: u64, from: &[u8]) -> Option<()>;
}

/// What is known of the event that a program runs for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// What the user of the link gave it (`bpf_get_attach_cookie`).
    pub cookie: u64,
    /// Address of the function that is traced (`bpf_get_func_ip`); 0 when there is none.
    pub func_ip: u64,
    /// Of a program that runs at the entry and at the return of a function: at which, and where the word is that both share.
    pub session: Option<Moment>,
}

/// A moment of a function that a session's program runs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// It is the return (`bpf_session_is_return`).
    pub is_return: bool,
    /// Address of eight bytes in the programs' space (`bpf_session_cookie`).
    pub cookie_at: u64,
}

/// A text that a program printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Number of the processor.
    pub cpu: u32,
    /// [`Task::pid_tgid`]; 0 when there was no task.
    pub pid_tgid: u64,
    /// [`Task::comm`].
    pub comm: Vec<u8>,
    /// When, by the monotonic clock.
    pub time_ns: u64,
    /// The text, as the program's format made it.
    pub text: Vec<u8>,
}

/// Most texts that wait.
const MAX_TEXTS: usize = 1 << 16;

/// Texts that wait to be read.
#[derive(Debug, Default)]
pub struct Printed {
    texts: Mutex<(VecDeque<Text>, u64)>,
}

impl Printed {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<Text>, u64)> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, text: Text) {
        let (texts, lost) = &mut *self.lock();
        if texts.len() == MAX_TEXTS {
            *lost += 1;
        } else {
            texts.push_back(text);
        }
    }

    /// Takes the oldest one.
    pub fn take(&self) -> Option<Text> {
        self.lock().0.pop_front()
    }

    /// How many found no place since this was asked last.
    pub fn take_lost(&self) -> u64 {
        std::mem::take(&mut self.lock().1)
    }
}
