//! Reading what programs tell: ring buffers, perf buffers and printed text, all in one stream.
//!
//! Every buffer is a member of one epoll instance, so a caller waits once for all of them. After a wait every buffer is
//! looked at, not only those that woke us: programs may commit without waking (`BPF_RB_NO_WAKEUP`), and looking costs one
//! load of a counter. What a pass takes is what was there when it began, so a program that writes without pause cannot keep
//! the caller from its other work.
//!
//! Beside the stream stands what callers need who schedule their reading themselves: a limit for one pass
//! ([`Records::drain_at_most`]), how full a ring is ([`Records::positions`]), and perf buffers one CPU at a time
//! ([`Records::perf_buffers`], [`Records::drain_cpu`]) or record by record as the kernel wrote them ([`Records::drain_raw`]).

mod perf;
mod printk;

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use skep_engine::{Error, Record, RecordSource};
use skep_spec::{MapId, MapType};
use skep_sys::epoll::Epoll;
use skep_sys::ringbuf::RingConsumer;
use skep_sys::{Errno, perf_event};

use crate::map::{KernelMap, failed};
use perf::PerfBuffer;
use printk::Printk;

pub use perf::{PerCpuBuffer, RawRecord};
pub use skep_sys::ringbuf::Positions;

/// Bytes per CPU of a perf buffer when nobody asks for another size.
pub const PERF_BYTES: usize = 256 << 10;

/// A stream of records from several buffers.
#[derive(Debug)]
pub struct Records {
    epoll: Epoll,
    rings: Vec<(MapId, RingConsumer)>,
    perf: Vec<PerfBuffer>,
    printk: Option<Printk>,
    ready: Vec<u64>,
    perf_bytes: usize,
}

impl Records {
    /// Without any buffer.
    pub fn new() -> Result<Records, Error> {
        let epoll = Epoll::new().map_err(|errno| failed("cannot wait for events", errno))?;
        Ok(Records {
            epoll,
            rings: Vec::new(),
            perf: Vec::new(),
            printk: None,
            ready: Vec::new(),
            perf_bytes: PERF_BYTES,
        })
    }

    /// Bytes per CPU of the perf buffers that are added from now on, rounded up to a power of two of pages.
    pub fn set_perf_bytes(&mut self, bytes: usize) {
        self.perf_bytes = bytes;
    }

    /// Reads a ring buffer or a perf event array. Records name it by `id`.
    ///
    /// # Errors
    ///
    /// When the map is neither, or its memory cannot be had.
    pub fn add_map(&mut self, id: MapId, map: &KernelMap) -> Result<(), Error> {
        let facts = skep_engine::MapHandle::facts(map);
        let what = |errno| failed(&format!("cannot read the buffer of map `{}`", facts.name), errno);
        match facts.map_type {
            MapType::RINGBUF => {
                let ring = RingConsumer::new(map.as_fd(), facts.max_entries).map_err(what)?;
                self.epoll.add_readable(map.as_fd(), 0).map_err(what)?;
                self.rings.push((id, ring));
            }
            MapType::PERF_EVENT_ARRAY => {
                let buffers = PerfBuffer::open_all(id, map, self.perf_bytes, None)?;
                self.add_perf(buffers).map_err(what)?;
            }
            other => {
                return Err(Error::new(format!(
                    "map `{}` is of type {other}, which holds no stream of events",
                    facts.name
                ))
                .with_hint("events come from ring buffers (ringbuf) and perf event arrays"));
            }
        }
        Ok(())
    }

    /// Reads a perf event array through events of the caller's own making: other clocks, other parts in a sample, records of
    /// forks and mappings. What the kernel writes then is known to the caller alone, so [`Records::drain_raw`] gives it, and
    /// nothing else does.
    ///
    /// # Errors
    ///
    /// When the map is no perf event array, or the kernel does not open such events.
    #[doc(alias = "perf_buffer__new_raw")]
    pub fn add_perf_with(&mut self, id: MapId, map: &KernelMap, attr: perf_event::Attr) -> Result<(), Error> {
        let facts = skep_engine::MapHandle::facts(map);
        if facts.map_type != MapType::PERF_EVENT_ARRAY {
            let message = format!("map `{}` is of type {}, not perf_event_array", facts.name, facts.map_type);
            return Err(Error::new(message));
        }
        let buffers = PerfBuffer::open_all(id, map, self.perf_bytes, Some(attr))?;
        self.add_perf(buffers)
            .map_err(|errno| failed(&format!("cannot read the buffer of map `{}`", facts.name), errno))
    }

    fn add_perf(&mut self, buffers: Vec<PerfBuffer>) -> Result<(), Errno> {
        for buffer in buffers {
            self.epoll.add_readable(buffer.as_fd(), 0)?;
            self.perf.push(buffer);
        }
        Ok(())
    }

    /// Reads what programs print with `bpf_printk`, in a trace instance of our own: nobody else's lines are taken away.
    pub fn add_printk(&mut self) -> Result<(), Error> {
        let printk = Printk::open()?;
        self.epoll.add_readable(printk.as_fd(), 0).map_err(|errno| failed("cannot wait for printed text", errno))?;
        self.printk = Some(printk);
        Ok(())
    }

    /// Gives what is there now, without waiting.
    pub fn drain(&mut self, sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>) -> Result<usize, Error> {
        let mut count = 0;
        for (id, ring) in &mut self.rings {
            let end = ring.positions().producer;
            while ring.positions().consumer < end {
                let Some(record) = ring.next() else { break };
                count += 1;
                if sink(Record::Event { map: *id, cpu: None, data: &record }).is_break() {
                    return Ok(count);
                }
            }
        }
        for buffer in &mut self.perf {
            let (seen, flow) = buffer.consume(sink);
            count += seen;
            if flow.is_break() {
                return Ok(count);
            }
        }
        if let Some(printk) = &mut self.printk {
            count += printk.consume(sink)?;
        }
        Ok(count)
    }

    /// As [`Records::drain`], but gives at most `limit` records; what it leaves is there the next time.
    #[doc(alias = "ring_buffer__consume_n")]
    pub fn drain_at_most(
        &mut self,
        limit: usize,
        sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Error> {
        if limit == 0 {
            return Ok(0);
        }
        let mut given = 0;
        self.drain(&mut |record| {
            given += 1;
            match sink(record) {
                ControlFlow::Continue(()) if given < limit => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        })
    }

    /// Where both ends of a ring buffer stand, in bytes since it was made, headers included; their distance is what waits
    /// to be read or is being filled. `None` for a map that is no ring buffer of this stream.
    #[doc(alias = "ring__producer_pos")]
    #[doc(alias = "ring__consumer_pos")]
    #[doc(alias = "ring__avail_data_size")]
    pub fn positions(&self, map: MapId) -> Option<Positions> {
        self.rings.iter().find(|(id, _)| *id == map).map(|(_, ring)| ring.positions())
    }

    /// Bytes of records that a ring buffer of this stream holds.
    #[doc(alias = "ring__size")]
    pub fn ring_size(&self, map: MapId) -> Option<usize> {
        self.rings.iter().find(|(id, _)| *id == map).map(|(_, ring)| ring.size())
    }

    /// The buffers of a perf event array, one per CPU that was online when the map was added.
    #[doc(alias = "perf_buffer__buffer_cnt")]
    #[doc(alias = "perf_buffer__buffer_fd")]
    pub fn perf_buffers(&self, map: MapId) -> impl Iterator<Item = PerCpuBuffer<'_>> {
        self.perf.iter().filter(move |buffer| buffer.map() == map).map(PerfBuffer::facts)
    }

    /// As [`Records::drain`], for the perf buffer of one map on one CPU alone. 0 when there is none.
    #[doc(alias = "perf_buffer__consume_buffer")]
    pub fn drain_cpu(&mut self, map: MapId, cpu: u32, sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>) -> usize {
        let mut buffers = self.perf.iter_mut();
        buffers.find(|buffer| (buffer.map(), buffer.cpu()) == (map, cpu)).map_or(0, |buffer| buffer.consume(sink).0)
    }

    /// Gives the records of perf buffers as the kernel wrote them, whatever their kind: samples with their length and
    /// padding, losses, and what this crate knows nothing of. Returns how many. Losses that are given here are not told a
    /// second time by [`Records::drain`].
    #[doc(alias = "perf_buffer_event_fn")]
    pub fn drain_raw(&mut self, sink: &mut dyn FnMut(RawRecord<'_>) -> ControlFlow<()>) -> usize {
        let mut count = 0;
        for buffer in &mut self.perf {
            let (seen, flow) = buffer.consume_raw(sink);
            count += seen;
            if flow.is_break() {
                break;
            }
        }
        count
    }
}

impl RecordSource for Records {
    fn poll(
        &mut self,
        timeout: Option<Duration>,
        sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Error> {
        // Text that a sink did not take is ours and not the kernel's, which would not wake us for it.
        let timeout = if self.printk.as_ref().is_some_and(Printk::has_more) { Some(Duration::ZERO) } else { timeout };
        self.epoll.wait(&mut self.ready, timeout).map_err(|errno| failed("cannot wait for events", errno))?;
        self.drain(sink)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }
}
