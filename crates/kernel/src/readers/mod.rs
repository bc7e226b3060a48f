//! Readers of one buffer, record by record, for callers who want its controls.
//!
//! [`Records`](crate::Records) gives the records of many buffers to a function and fits most. These two read one buffer each and
//! lend one record at a time: [`RingReader`] without a copy, [`PerfReader`] with its losses, what remains, pausing, wakeups of one's
//! choice and buffers that are written over. Both wait until a deadline, and another thread may end the waiting ([`Flusher`]).

mod perf;
mod ring;

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use skep_engine::Error;
use skep_sys::epoll::Epoll;
use skep_sys::wake::Wake;

use crate::map::failed;

pub use perf::{PerfOptions, PerfReader, PerfRecord, Wakeup};
pub use ring::RingReader;

/// What reading comes to.
#[derive(Debug)]
pub enum Next<R> {
    /// A record.
    Record(R),
    /// The deadline is over, and everything that was there before was given.
    Deadline,
    /// A [`Flusher`] asked, and everything that was there when it did was given.
    Flushed,
}

/// Ends the waiting of a reader, from any thread: it gives what is there, whether or not it was worth waking it, and then
/// [`Next::Flushed`].
#[derive(Clone, Debug)]
pub struct Flusher(Arc<Flush>);

/// The question whether to end, and what wakes a reader that has to hear it.
#[derive(Debug)]
struct Flush {
    asked: AtomicBool,
    wake: Wake,
}

impl Flusher {
    /// Does that, once, for the reading that goes on now or for the next one.
    pub fn flush(&self) {
        self.0.asked.store(true, Ordering::Release);
        self.0.wake.wake();
    }
}

/// Why no more records are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Deadline,
    Flushed,
}

/// Number of the eventfd among an epoll instance's members; all others are buffers.
const FLUSH: u64 = 1;
const BUFFER: u64 = 0;

/// What both readers wait with.
#[derive(Debug)]
struct Waiter {
    epoll: Epoll,
    flush: Arc<Flush>,
    deadline: Option<Instant>,
    ready: Vec<u64>,
}

impl Waiter {
    fn new() -> Result<Waiter, Error> {
        let what = |errno| failed("cannot wait for events", errno);
        let (epoll, wake) = (Epoll::new().map_err(what)?, Wake::new().map_err(what)?);
        epoll.add_readable(wake.as_fd(), FLUSH).map_err(what)?;
        let flush = Arc::new(Flush { asked: AtomicBool::new(false), wake });
        Ok(Waiter { epoll, flush, deadline: None, ready: Vec::new() })
    }

    fn add(&self, buffer: BorrowedFd<'_>) -> Result<(), Error> {
        self.epoll.add_readable(buffer, BUFFER).map_err(|errno| failed("cannot wait for events", errno))
    }

    /// Waits for a buffer, or for a reason to end. A signal is neither.
    fn wait(&mut self) -> Result<(), Error> {
        let timeout = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.epoll.wait(&mut self.ready, timeout).map_err(|errno| failed("cannot wait for events", errno))?;
        if self.ready.contains(&FLUSH) {
            self.flush.wake.clear();
        }
        Ok(())
    }

    /// Whether there is a reason to end. Asked before each record: programs may write without pause, and then nobody waits.
    fn over(&self) -> Option<End> {
        if self.flushed() {
            return Some(End::Flushed);
        }
        let late = self.deadline.is_some_and(|deadline| deadline <= Instant::now());
        late.then_some(End::Deadline)
    }

    fn flushed(&self) -> bool {
        let asked = self.flush.asked.load(Ordering::Relaxed) && self.flush.asked.swap(false, Ordering::Acquire);
        if asked {
            self.flush.wake.clear();
        }
        asked
    }

    fn flusher(&self) -> Flusher {
        Flusher(Arc::clone(&self.flush))
    }
}
