//! Ring buffers, record by record.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use skep_engine::{Error, MapHandle as _};
use skep_spec::MapType;
use skep_sys::ringbuf::{RingConsumer, RingRecord};

use super::{End, Flusher, Next, Waiter};
use crate::map::{KernelMap, failed};

/// Reads a ring buffer. There can be one reader of a map at a time: what one has read is gone for all.
#[derive(Debug)]
pub struct RingReader {
    ring: RingConsumer,
    waiter: Waiter,
    /// Keeps the map, whose descriptor is waited for.
    _map: KernelMap,
    /// A reason to end that is given when everything before `until` was.
    ending: Option<(End, u64)>,
}

impl RingReader {
    /// Opens a ring buffer.
    ///
    /// # Errors
    ///
    /// When the map is none, or its memory cannot be had.
    pub fn open(map: KernelMap) -> Result<RingReader, Error> {
        let facts = map.facts();
        if facts.map_type != MapType::RINGBUF {
            return Err(Error::new(format!("map `{}` is of type {} and no ring buffer", facts.name, facts.map_type)));
        }
        let ring = RingConsumer::new(map.as_fd(), facts.max_entries)
            .map_err(|errno| failed(&format!("cannot read the buffer of map `{}`", facts.name), errno))?;
        let waiter = Waiter::new()?;
        waiter.add(map.as_fd())?;
        Ok(RingReader { ring, waiter, _map: map, ending: None })
    }

    /// The next record, waited for until the deadline. It lies in the buffer itself, and dropping it gives its room back to the
    /// programs: nothing is copied, but for records that go over the buffer's end.
    ///
    /// # Errors
    ///
    /// When waiting fails.
    pub fn read(&mut self) -> Result<Next<RingRecord<'_>>, Error> {
        loop {
            if self.ending.is_none() {
                let end = self.waiter.over();
                self.end_with(end);
            }
            if self.has_record() {
                break;
            }
            if let Some((end, _)) = self.ending.take() {
                return Ok(end.into());
            }
            self.waiter.wait()?;
            if self.ring.available() > 0 && !self.ring.has_next() {
                // A program fills the record just now, and until it is done the map says that it is readable.
                std::thread::yield_now();
            }
        }
        // Nobody else reads, so what was there still is.
        Ok(self.ring.next().map_or(Next::Flushed, Next::Record))
    }

    /// The next record if it is there, without waiting; [`Next::Deadline`] if not.
    ///
    /// # Errors
    ///
    /// When the kernel cannot be asked.
    pub fn try_read(&mut self) -> Result<Next<RingRecord<'_>>, Error> {
        self.hear_flush();
        if self.has_record() {
            return Ok(self.ring.next().map_or(Next::Deadline, Next::Record));
        }
        Ok(self.ending.take().map_or(Next::Deadline, |(end, _)| end.into()))
    }

    /// Whether [`RingReader::try_read`] will have a record, or a flush to tell of.
    pub fn is_ready(&mut self) -> bool {
        self.hear_flush();
        self.ending.is_some() || self.has_record()
    }

    fn hear_flush(&mut self) {
        if self.ending.is_none() && self.waiter.flushed() {
            self.end_with(Some(End::Flushed));
        }
    }

    /// Whether there is a record that may be given before the end.
    fn has_record(&mut self) -> bool {
        let may = self.ending.is_none_or(|(_, until)| self.ring.positions().consumer < until);
        may && self.ring.has_next()
    }

    fn end_with(&mut self, end: Option<End>) {
        self.ending = end.map(|end| (end, self.ring.positions().producer));
    }

    /// Until when [`RingReader::read`] waits; `None` for ever, as it does at first.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.waiter.deadline = deadline;
    }

    /// What ends the waiting from another thread.
    pub fn flusher(&self) -> Flusher {
        self.waiter.flusher()
    }

    /// Bytes that wait to be read, headers and records in the making included.
    pub fn available_bytes(&self) -> u64 {
        self.ring.available()
    }

    /// Bytes that fit, headers included.
    pub fn size_bytes(&self) -> usize {
        self.ring.size()
    }
}

impl AsFd for RingReader {
    /// Becomes readable when there are records, or a flush was asked for: wait for it, then call [`RingReader::try_read`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiter.epoll.as_fd()
    }
}

impl<R> From<End> for Next<R> {
    fn from(end: End) -> Next<R> {
        match end {
            End::Deadline => Next::Deadline,
            End::Flushed => Next::Flushed,
        }
    }
}
