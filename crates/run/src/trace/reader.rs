//! Emptying the ring buffer, whatever the formatter is doing.
//!
//! A thread waits for records, signals, the command's end and the deadline, copies what is there, and hands it over in
//! batches. A burst thus waits in our memory and not in the ring, up to a bound; behind that the ring fills, and programs
//! count what they lose. Batches go round: no memory is asked for while records come.
//!
//! A reader that has caught up is woken by the very next record, with an interrupt of the traced program each time. So after
//! some came, more are left to gather for a moment: at a million records a second that is one wakeup for hundreds of them.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use skep_engine::{Record, RecordSource};
use skep_sys::signal::SignalPipe;

use crate::Error;

/// When a batch is handed over though more is there, in bytes.
const BATCH_BYTES: usize = 256 << 10;
/// How many batches may wait.
const WAITING: usize = 64;
/// How long records gather: 4 million of 64 bytes a second are 64 kB in this time, a quarter of the smallest ring buffer.
const GATHER: Duration = Duration::from_micros(250);
/// How often the caller gets a chance to look at losses.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// How often when programs wait for something to be told.
pub(super) const SHORT_TICK: Duration = Duration::from_millis(50);

/// Records one behind the other, each behind its length as u64 and padded to 8 bytes.
#[derive(Debug, Default)]
pub(super) struct Batch(Vec<u8>);

impl Batch {
    fn push(&mut self, record: &[u8]) {
        self.0.extend_from_slice(&(record.len() as u64).to_ne_bytes());
        self.0.extend_from_slice(record);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }

    pub(super) fn iter(&self) -> Records<'_> {
        Records(&self.0)
    }
}

/// The records of a batch.
#[derive(Clone, Debug)]
pub(super) struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.0.split_first_chunk::<8>()?;
        let len = u64::from_ne_bytes(*len) as usize;
        let record = rest.get(..len)?;
        self.0 = rest.get(len.next_multiple_of(8)..).unwrap_or_default();
        Some(record)
    }
}

/// What the thread tells.
#[derive(Debug)]
pub(super) enum Message {
    /// Records.
    Batch(Batch),
    /// A signal came.
    Signal(i32),
    /// The deadline has passed, or one of the processes has ended.
    Ended,
    /// A second has passed.
    Tick,
    /// Records cannot be read any more.
    Failed(Error),
}

/// What the thread waits for.
pub(super) struct Reader {
    pub(super) source: Option<Box<dyn RecordSource>>,
    pub(super) signals: SignalPipe,
    /// Readable when one of the processes has ended.
    pub(super) processes: Vec<OwnedFd>,
    pub(super) deadline: Option<Instant>,
    pub(super) tick: Duration,
}

impl Reader {
    /// Adds what is there now to a batch; whether something was.
    pub(super) fn take(&mut self, batch: &mut Batch) -> Result<bool, Error> {
        let Some(source) = &mut self.source else { return Ok(false) };
        let before = batch.0.len();
        source.poll(Some(Duration::ZERO), &mut |record| {
            if let Record::Event { data, .. } = record {
                batch.push(data);
            }
            if batch.0.len() >= BATCH_BYTES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(batch.0.len() > before)
    }

    /// Starts the thread.
    pub(super) fn start(self) -> Result<Running, Error> {
        let failed = |cause: std::io::Error| Error::new("cannot start the reader of records").with_source(cause);
        let (wait, stop) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed(errno.into()))?;
        let (full, messages) = sync_channel(WAITING);
        let (empties, empty) = channel();
        let thread = std::thread::Builder::new()
            .name("skep-reader".to_owned())
            .spawn(move || self.run(&wait, &full, &empty))
            .map_err(failed)?;
        Ok(Running { messages, empties, stop: Some(stop), thread })
    }

    /// Until the other end of `stop` is closed, or nobody listens.
    fn run(mut self, stop: &OwnedFd, full: &SyncSender<Message>, empty: &Receiver<Batch>) -> Reader {
        let mut next_tick = Instant::now() + self.tick;
        loop {
            let end = self.deadline.map_or(next_tick, |deadline| deadline.min(next_tick));
            let stopped = match self.wait(stop, end.saturating_duration_since(Instant::now())) {
                Ok(stopped) => stopped,
                Err(error) => {
                    let _ = full.send(Message::Failed(error));
                    return self;
                }
            };
            if stopped {
                return self;
            }
            // Under load there is always one more batch: signals are looked at between two.
            let mut some = false;
            while !self.has_signal() {
                let mut batch = empty.try_recv().unwrap_or_default();
                batch.0.clear();
                let message = match self.take(&mut batch) {
                    Ok(false) => break,
                    Ok(true) => Message::Batch(batch),
                    Err(error) => Message::Failed(error),
                };
                let failed = matches!(message, Message::Failed(_));
                if full.send(message).is_err() || failed {
                    return self;
                }
                some = true;
            }
            if some {
                self.gather(stop);
            }
            if let Some(signal) = self.signals.take()
                && full.send(Message::Signal(signal)).is_err()
            {
                return self;
            }
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| now >= deadline) || self.has_ended() {
                let _ = full.send(Message::Ended);
                return self;
            }
            if now >= next_tick {
                next_tick = now + self.tick;
                // A formatter that is behind will look when it has caught up.
                if let Err(TrySendError::Disconnected(_)) = full.try_send(Message::Tick) {
                    return self;
                }
            }
        }
    }

    /// Waits for anything; whether the thread is to end.
    fn wait(&self, stop: &OwnedFd, timeout: Duration) -> Result<bool, Error> {
        let mut fds = vec![PollFd::new(stop, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        let source = self.source.as_ref().and_then(|source| source.as_fd());
        fds.extend(source.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        fds.extend(self.processes.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        let timeout =
            rustix::time::Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(Error::new("cannot wait for records").with_source(std::io::Error::from(error))),
        }
    }

    /// Waits a moment for anything but records; what came is found by the next look at it.
    fn gather(&self, stop: &OwnedFd) {
        let mut fds = [PollFd::new(stop, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        let moment = rustix::time::Timespec { tv_sec: 0, tv_nsec: i64::from(GATHER.subsec_nanos()) };
        // A signal ends the wait early, which is as good.
        let _ = poll(&mut fds, Some(&moment));
    }

    fn has_signal(&self) -> bool {
        let mut fds = [PollFd::new(&self.signals, PollFlags::IN)];
        poll(&mut fds, Some(&rustix::time::Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    fn has_ended(&self) -> bool {
        let mut fds: Vec<PollFd<'_>> = self.processes.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        !fds.is_empty() && poll(&mut fds, Some(&rustix::time::Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

/// A reader in its thread.
pub(super) struct Running {
    messages: Receiver<Message>,
    empties: Sender<Batch>,
    /// Closed to end the thread.
    stop: Option<OwnedFd>,
    thread: JoinHandle<Reader>,
}

impl Running {
    /// The next message if there is one already.
    pub(super) fn try_next(&self) -> Option<Message> {
        self.messages.try_recv().ok()
    }

    /// Waits for the next message; `None` when the thread has ended.
    pub(super) fn next(&self) -> Option<Message> {
        self.messages.recv().ok()
    }

    /// Gives a batch back to be filled again.
    pub(super) fn reuse(&self, batch: Batch) {
        // A thread that has ended needs none.
        let _ = self.empties.send(batch);
    }

    /// Ends the thread. What it has read comes still, by [`Running::next`].
    pub(super) fn stop(&mut self) {
        self.stop = None;
    }

    /// The reader, when its thread has ended.
    pub(super) fn join(mut self) -> Result<Reader, Error> {
        self.stop = None;
        // Nobody listens: a thread that waits for room goes on.
        drop(self.messages);
        self.thread.join().map_err(|_| Error::new("the reader of records panicked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_gives_back_what_was_put_in() {
        let mut batch = Batch::default();
        let records: [&[u8]; 4] = [b"", b"one", b"12345678", b"longer than eight"];
        for record in records {
            batch.push(record);
        }
        assert_eq!(batch.iter().collect::<Vec<_>>(), records);
        assert_eq!(Batch::default().iter().next(), None);
    }
}
