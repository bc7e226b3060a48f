//! The loop of a run: wait, format, count, stop.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::event::{PollFd, PollFlags, poll};
use skep_engine::{Progress, Record, RecordSource, RunningCommand, Session};
use skep_sys::signal::SignalPipe;

use crate::Error;
use crate::printk::Formats;
use crate::process::Watched;
use crate::writer::Writer;

/// How often somebody who watches is told about losses, and how long the loop sleeps when its source has no descriptor.
const TICK: Duration = Duration::from_secs(1);

/// How long records that were committed before the end are still read. They come from buffers of limited size, but
/// programs that are still attached refill them.
const DRAIN: Duration = Duration::from_secs(2);

/// What ends a run.
#[derive(Debug, Default)]
pub(crate) struct Until {
    pub(crate) deadline: Option<Instant>,
    pub(crate) max_events: Option<u64>,
    pub(crate) child: Option<Box<dyn RunningCommand>>,
    pub(crate) watched: Option<Watched>,
    pub(crate) signals: Option<SignalPipe>,
}

/// What came through.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) events: u64,
    pub(crate) lost: u64,
}

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nobody reads our output any more.
    ClosedPipe,
    /// A signal, the deadline, the number of events, the end of the command or of the watched process.
    Asked,
}

pub(crate) struct Pump<'a, 'w> {
    pub(crate) source: Box<dyn RecordSource>,
    pub(crate) writer: &'a mut Writer<'w>,
    pub(crate) formats: Option<Formats>,
    pub(crate) counts: Counts,
}

impl Pump<'_, '_> {
    /// Runs until something ends it, the last event of a source that `session` moves on among that. `tick` is called about once a second with
    /// the losses so far.
    pub(crate) fn run(
        &mut self,
        until: &mut Until,
        session: &dyn Session,
        mut tick: impl FnMut(&Counts),
    ) -> Result<Stop, Error> {
        let child_fd = until.child.as_ref().and_then(|child| crate::process::pidfd(child.pid()));
        let mut next_tick = Instant::now() + TICK;
        loop {
            if self.finished(until) {
                return Ok(Stop::Asked);
            }
            let now = Instant::now();
            if now >= next_tick {
                tick(&self.counts);
                next_tick = now + TICK;
            }
            let progress = session.advance()?;
            if progress == Progress::ByItself {
                let end = until.deadline.map_or(next_tick, |deadline| deadline.min(next_tick));
                self.wait(until, child_fd.as_ref(), end.saturating_duration_since(now))?;
            }
            self.read(until.max_events)?;
            if let Some(stop) = self.flush()? {
                return Ok(stop);
            }
            if progress == Progress::Done {
                return Ok(Stop::Asked);
            }
        }
    }

    /// Reads until the buffers are empty.
    pub(crate) fn drain(&mut self, max_events: Option<u64>) -> Result<(), Error> {
        let end = Instant::now() + DRAIN;
        while self.read(max_events)? > 0 && Instant::now() < end {}
        self.flush().map(|_| ())
    }

    /// Hands on what is there. Output that cannot be written ends the run: by an error, unless nobody wants it any more.
    fn flush(&mut self) -> Result<Option<Stop>, Error> {
        self.writer.flush();
        match self.writer.broken() {
            None => Ok(None),
            Some(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Some(Stop::ClosedPipe)),
            Some(error) => Err(Error::new(format!("cannot write the output: {}", skep_sys::io_text(error)))),
        }
    }

    fn finished(&self, until: &mut Until) -> bool {
        until.signals.as_ref().is_some_and(|signals| signals.take().is_some())
            || until.deadline.is_some_and(|deadline| Instant::now() >= deadline)
            || until.max_events.is_some_and(|max| self.counts.events >= max)
            || until.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
            || until.watched.as_ref().is_some_and(Watched::ended)
    }

    fn wait(&self, until: &Until, child: Option<&OwnedFd>, timeout: Duration) -> Result<(), Error> {
        let source = self.source.as_fd();
        let watched = until.watched.as_ref().and_then(Watched::fd);
        let fds = [source, until.signals.as_ref().map(AsFd::as_fd), child.map(AsFd::as_fd), watched.map(AsFd::as_fd)];
        let mut fds: Vec<PollFd<'_>> =
            fds.iter().flatten().map(|fd: &BorrowedFd<'_>| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        let timeout =
            rustix::time::Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: i64::from(timeout.subsec_nanos()) };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(Error::new("cannot wait for records").with_source(std::io::Error::from(error))),
        }
    }

    /// Reads what is in the buffers now; what programs add meanwhile is left for the next time.
    pub(crate) fn read(&mut self, max_events: Option<u64>) -> Result<usize, Error> {
        let Pump { source, writer, formats, counts } = self;
        let wall_ns = wall_ns();
        source.poll(Some(Duration::ZERO), &mut |record| {
            if max_events.is_some_and(|max| counts.events >= max) {
                return ControlFlow::Break(());
            }
            match record {
                Record::Lost { count, .. } => counts.lost += count,
                Record::Text { text, .. } if formats.as_ref().is_some_and(|formats| !formats.could_make(text)) => {}
                Record::Event { .. } | Record::Text { .. } => {
                    counts.events += 1;
                    writer.record(record, wall_ns);
                }
            }
            ControlFlow::Continue(())
        })
    }
}

/// Now, in nanoseconds since 1970.
pub(crate) fn wall_ns() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64)
}
