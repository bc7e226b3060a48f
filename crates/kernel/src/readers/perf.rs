//! Perf event arrays, record by record.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Instant;

use skep_engine::{Error, MapHandle as _};
use skep_spec::MapType;
use skep_sys::perf_event::{self, Attr, PerfEvent};
use skep_sys::perf_ring::{OverwriteRing, PerfRing, RECORD_LOST, RECORD_SAMPLE};
use skep_sys::{Errno, cpu, page_size};

use super::{End, Flusher, Next, Waiter};
use crate::map::{KernelMap, failed};
use crate::records::PERF_BYTES;

/// How to read a perf event array.
#[derive(Clone, Debug)]
pub struct PerfOptions {
    /// Size of the buffer of each CPU, in bytes, rounded up to a power of two of pages.
    pub bytes_per_cpu: usize,
    /// When the reader is woken.
    pub wakeup: Wakeup,
    /// What does not fit is written over the oldest records and not lost: a buffer of the last that happened, which is read while it
    /// is paused.
    pub overwritable: bool,
}

impl Default for PerfOptions {
    /// 256 KiB for each CPU, woken at each event, not overwritable.
    fn default() -> PerfOptions {
        PerfOptions { bytes_per_cpu: PERF_BYTES, wakeup: Wakeup::Events(1), overwritable: false }
    }
}

/// When a reader of a perf event array is woken. Fewer wakeups cost less; a deadline or a flush gives what is there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakeup {
    /// After so many events on one CPU (`wakeup_events`).
    Events(u32),
    /// When so many bytes wait on one CPU (`wakeup_watermark`).
    Bytes(u32),
}

/// A record of a perf event array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerfRecord<'r> {
    /// An event.
    Event {
        /// CPU that the program ran on.
        cpu: u32,
        /// Its bytes, with up to 7 of padding, as the kernel does not tell the one from the other.
        data: &'r [u8],
        /// Bytes that still wait in the same CPU's buffer.
        remaining_bytes: u64,
    },
    /// Events that did not fit.
    Lost {
        /// CPU that they were lost on.
        cpu: u32,
        /// How many.
        count: u64,
        /// Bytes that still wait in the same CPU's buffer.
        remaining_bytes: u64,
    },
}

/// Reads a perf event array: one buffer for each CPU that is online when it is opened. A map has one reader at a time; dropping it
/// empties the map's slots, so that programs are told that nobody reads.
#[derive(Debug)]
pub struct PerfReader {
    map: KernelMap,
    buffers: Vec<Buffer>,
    waiter: Waiter,
    paused: bool,
    overwritable: bool,
    /// The buffer to look at next, so that no CPU keeps the others waiting.
    at: usize,
    /// A reason to end that is given when every buffer was read up to its `until`.
    ending: Option<End>,
    /// What was read from overwritable buffers.
    taken: VecDeque<(u32, Vec<u8>)>,
    /// The record that is lent.
    data: Vec<u8>,
    /// A record that was found and not given yet.
    found: Option<(usize, Found)>,
}

/// One CPU's.
#[derive(Debug)]
struct Buffer {
    cpu: u32,
    event: PerfEvent,
    ring: Ring,
    /// The event can be asked for its losses (kernel 6.0).
    countable: bool,
    /// Losses that the buffer told of, and those that were given to the caller.
    announced: u64,
    told: u64,
    /// Position when it was last found empty.
    emptied: u64,
    /// Where it is read to before the reader ends.
    until: Option<u64>,
}

#[derive(Debug)]
enum Ring {
    Forward(PerfRing),
    Overwrite(OverwriteRing),
}

/// What was found in a buffer; the bytes of an event are in the reader.
#[derive(Clone, Copy, Debug)]
enum Found {
    Event,
    Lost(u64),
}

impl PerfReader {
    /// Opens a perf event array.
    ///
    /// # Errors
    ///
    /// When the map is none, or events cannot be opened (`CAP_PERFMON`).
    pub fn open(map: KernelMap, options: &PerfOptions) -> Result<PerfReader, Error> {
        let facts = map.facts();
        if facts.map_type != MapType::PERF_EVENT_ARRAY {
            let message = format!("map `{}` is of type {} and no perf event array", facts.name, facts.map_type);
            return Err(Error::new(message));
        }
        let pages = options.bytes_per_cpu.div_ceil(page_size()).max(1).next_power_of_two();
        if let Wakeup::Bytes(bytes) = options.wakeup
            && bytes as usize >= pages * page_size()
        {
            return Err(Error::new(format!(
                "a reader of map `{}` that is woken at {bytes} bytes would never wake: a buffer has {}",
                facts.name,
                pages * page_size()
            ))
            .with_hint("raise `bytes_per_cpu`, or lower `wakeup`"));
        }
        let what = |cpu: u32, errno| failed(&format!("cannot read map `{}` on CPU {cpu}", facts.name), errno);
        let waiter = Waiter::new()?;
        let mut buffers = Vec::new();
        let online = cpu::online().map_err(|errno| failed("cannot tell which CPUs are online", errno))?;
        for cpu::CpuId(cpu) in online.into_iter().filter(|cpu| cpu.0 < facts.max_entries) {
            match Buffer::open(cpu, options, pages) {
                Ok(buffer) => buffers.push(buffer),
                // Taken offline since.
                Err(Errno::ENODEV) => {}
                Err(errno) => return Err(what(cpu, errno)),
            }
        }
        for buffer in &buffers {
            waiter.add(buffer.event.as_fd())?;
        }
        let mut reader = PerfReader {
            map,
            buffers,
            waiter,
            paused: true,
            overwritable: options.overwritable,
            at: 0,
            ending: None,
            taken: VecDeque::new(),
            data: Vec::new(),
            found: None,
        };
        reader.resume()?;
        Ok(reader)
    }

    /// The next record, waited for until the deadline.
    ///
    /// An overwritable reader has to be paused; it gives what was written since it was paused the last time and is still there, the
    /// newest of each CPU first, and then [`Next::Flushed`], without waiting.
    ///
    /// # Errors
    ///
    /// When waiting fails, or an overwritable reader is not paused.
    pub fn read(&mut self) -> Result<Next<PerfRecord<'_>>, Error> {
        if self.overwritable {
            return self.read_taken();
        }
        loop {
            if self.ending.is_none() {
                let end = self.waiter.over();
                self.end_with(end);
            }
            if let Some((index, found)) = self.find() {
                return Ok(Next::Record(self.record(index, found)));
            }
            if let Some(end) = self.take_end() {
                return Ok(end.into());
            }
            self.waiter.wait()?;
        }
    }

    /// The next record if it is there, without waiting; [`Next::Deadline`] if not.
    ///
    /// # Errors
    ///
    /// As [`PerfReader::read`].
    pub fn try_read(&mut self) -> Result<Next<PerfRecord<'_>>, Error> {
        if self.overwritable {
            return self.read_taken();
        }
        self.hear_flush();
        match self.find() {
            Some((index, found)) => Ok(Next::Record(self.record(index, found))),
            None => Ok(self.take_end().map_or(Next::Deadline, Next::from)),
        }
    }

    /// Whether [`PerfReader::try_read`] will have a record, or a flush to tell of. An overwritable reader always has one of the two.
    pub fn is_ready(&mut self) -> bool {
        self.hear_flush();
        if self.found.is_none() {
            self.found = self.find();
        }
        self.overwritable || self.ending.is_some() || self.found.is_some()
    }

    fn hear_flush(&mut self) {
        if self.ending.is_none() && self.waiter.flushed() {
            self.end_with(Some(End::Flushed));
        }
    }

    /// Until when [`PerfReader::read`] waits; `None` for ever, as it does at first.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.waiter.deadline = deadline;
    }

    /// What ends the waiting from another thread.
    pub fn flusher(&self) -> Flusher {
        self.waiter.flusher()
    }

    /// Programs write nothing from now on: their call fails with `ENOENT`. What is in the buffers stays.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn pause(&mut self) -> Result<(), Error> {
        if self.paused {
            return Ok(());
        }
        for buffer in &self.buffers {
            match self.map.fd().delete(&buffer.cpu.to_ne_bytes()) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(failed("cannot pause the reader of a perf event array", errno)),
            }
        }
        self.paused = true;
        for buffer in &mut self.buffers {
            if let Ring::Overwrite(ring) = &mut buffer.ring {
                ring.consume(|record| {
                    if let Some(data) = sample(record.body).filter(|_| record.record_type == RECORD_SAMPLE) {
                        self.taken.push_back((buffer.cpu, data.to_vec()));
                    }
                });
            }
        }
        Ok(())
    }

    /// Programs write again. An overwritable reader forgets what it did not give.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn resume(&mut self) -> Result<(), Error> {
        if !self.paused {
            return Ok(());
        }
        for buffer in &self.buffers {
            let fd = buffer.event.as_fd().as_raw_fd() as u32;
            self.map.fd().update(&buffer.cpu.to_ne_bytes(), &fd.to_ne_bytes(), 0).map_err(|errno| {
                failed(&format!("cannot read map `{}` on CPU {}", self.map.facts().name, buffer.cpu), errno)
            })?;
        }
        self.taken.clear();
        self.paused = false;
        Ok(())
    }

    /// Size of one CPU's buffer, in bytes.
    pub fn bytes_per_cpu(&self) -> usize {
        self.buffers.first().map_or(0, |buffer| match &buffer.ring {
            Ring::Forward(ring) => ring.size(),
            Ring::Overwrite(ring) => ring.size(),
        })
    }

    /// Ends after everything that is there now, so that a program that never stops cannot put it off.
    fn end_with(&mut self, end: Option<End>) {
        self.ending = end;
        for buffer in &mut self.buffers {
            buffer.until = end.map(|_| buffer.position() + buffer.available());
        }
    }

    fn take_end(&mut self) -> Option<End> {
        let end = self.ending;
        self.end_with(None);
        end
    }

    /// Looks into the buffers, beginning with the one that is next, until one has something. Each gives one record at a time, so
    /// that no CPU keeps the others waiting.
    fn find(&mut self) -> Option<(usize, Found)> {
        if let Some(found) = self.found.take() {
            return Some(found);
        }
        for _ in 0..self.buffers.len() {
            let index = self.at % self.buffers.len();
            self.at = index + 1;
            if let Some(found) = self.buffers[index].next(&mut self.data) {
                return Some((index, found));
            }
        }
        None
    }

    fn record(&self, index: usize, found: Found) -> PerfRecord<'_> {
        let buffer = &self.buffers[index];
        let (cpu, remaining_bytes) = (buffer.cpu, buffer.available());
        match found {
            Found::Event => PerfRecord::Event { cpu, data: &self.data, remaining_bytes },
            Found::Lost(count) => PerfRecord::Lost { cpu, count, remaining_bytes },
        }
    }

    fn read_taken(&mut self) -> Result<Next<PerfRecord<'_>>, Error> {
        if !self.paused {
            return Err(Error::new("an overwritable reader has to be paused while it is read")
                .with_hint("call `pause`, read until `Next::Flushed`, then `resume`"));
        }
        let Some((cpu, data)) = self.taken.pop_front() else { return Ok(Next::Flushed) };
        self.data = data;
        let rest = self.taken.iter().filter(|(of, _)| *of == cpu).map(|(_, data)| data.len() as u64);
        Ok(Next::Record(PerfRecord::Event { cpu, remaining_bytes: rest.sum(), data: &self.data }))
    }
}

impl AsFd for PerfReader {
    /// Becomes readable when a CPU has what it wakes for, or a flush was asked for: wait for it, then call
    /// [`PerfReader::try_read`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waiter.epoll.as_fd()
    }
}

impl Drop for PerfReader {
    fn drop(&mut self) {
        // Nobody can be told here; what stays in a slot is an event that nobody reads.
        let _ = self.pause();
    }
}

impl Buffer {
    fn open(cpu: u32, options: &PerfOptions, pages: usize) -> Result<Buffer, Errno> {
        let mut attr = Attr::new(perf_event::PERF_TYPE_SOFTWARE, perf_event::PERF_COUNT_SW_BPF_OUTPUT);
        attr.sample_type = perf_event::PERF_SAMPLE_RAW;
        attr.sample_period = 1;
        match options.wakeup {
            Wakeup::Events(count) => attr.wakeup = count.max(1),
            Wakeup::Bytes(bytes) => {
                attr.wakeup = bytes.max(1);
                attr = attr.with_flags(perf_event::flags::WATERMARK);
            }
        }
        if options.overwritable {
            attr = attr.with_flags(perf_event::flags::WRITE_BACKWARD);
        }
        attr.read_format = perf_event::PERF_FORMAT_LOST;
        let (event, countable) = match PerfEvent::open(&attr, -1, cpu as i32) {
            Err(Errno::EINVAL) => {
                attr.read_format = 0;
                (PerfEvent::open(&attr, -1, cpu as i32)?, false)
            }
            opened => (opened?, true),
        };
        let ring = if options.overwritable {
            Ring::Overwrite(OverwriteRing::new(event.as_fd(), pages)?)
        } else {
            Ring::Forward(PerfRing::new(event.as_fd(), pages)?)
        };
        event.enable()?;
        Ok(Buffer { cpu, event, ring, countable, announced: 0, told: 0, emptied: 0, until: None })
    }

    fn available(&self) -> u64 {
        match &self.ring {
            Ring::Forward(ring) => ring.available(),
            Ring::Overwrite(ring) => ring.available() as u64,
        }
    }

    fn position(&self) -> u64 {
        match &self.ring {
            Ring::Forward(ring) => ring.position(),
            Ring::Overwrite(_) => 0,
        }
    }

    /// The next event, whose bytes go to `data`, or a loss.
    fn next(&mut self, data: &mut Vec<u8>) -> Option<Found> {
        let Ring::Forward(ring) = &mut self.ring else { return None };
        while self.until.is_none_or(|until| ring.position() < until) {
            let mut found = None;
            let (announced, told) = (&mut self.announced, &mut self.told);
            let seen = ring.consume(|record| {
                found = match record.record_type {
                    RECORD_SAMPLE => sample(record.body).map(|bytes| {
                        data.clear();
                        data.extend_from_slice(bytes);
                        Found::Event
                    }),
                    RECORD_LOST => {
                        *announced += lost(record.body).unwrap_or(0);
                        news(told, *announced)
                    }
                    _ => None,
                };
                false
            });
            if found.is_some() {
                return found;
            }
            if seen == 0 {
                break;
            }
        }
        // What was lost behind the last record only the event knows. With the position before the reading: the room that was given
        // back came too late for what was refused meanwhile.
        let full = !ring.had_room_since(self.emptied);
        self.emptied = ring.position();
        if self.countable && full {
            return news(&mut self.told, self.event.lost().ok()?);
        }
        None
    }
}

/// What the caller has not been told yet, when so many were lost from the start.
fn news(told: &mut u64, total: u64) -> Option<Found> {
    let news = total.checked_sub(*told).filter(|news| *news > 0)?;
    *told = total;
    Some(Found::Lost(news))
}

/// The bytes of a raw sample: their length, then they.
fn sample(body: &[u8]) -> Option<&[u8]> {
    let (len, data) = body.split_first_chunk::<4>()?;
    data.get(..u32::from_ne_bytes(*len) as usize)
}

/// `{ u64 id; u64 lost; }`.
fn lost(body: &[u8]) -> Option<u64> {
    body.get(8..)?.first_chunk::<8>().map(|count| u64::from_ne_bytes(*count))
}
