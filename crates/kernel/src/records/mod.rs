//! Reading what programs tell: ring buffers, perf buffers and printed text, all in one stream.
//!
//! Every buffer is a member of one epoll instance, so a caller waits once for all of them. After a wait every buffer is
//! looked at, not only those that woke us: programs may commit without waking (`BPF_RB_NO_WAKEUP`), and looking costs one
//! load of a counter. What a pass takes is what was there when it began, so a program that writes without pause cannot keep
//! the caller from its other work.

mod perf;
mod printk;

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use skep_engine::{Error, Record, RecordSource};
use skep_spec::{MapId, MapType};
use skep_sys::epoll::Epoll;
use skep_sys::ringbuf::RingConsumer;

use crate::map::{KernelMap, failed};
use perf::PerfBuffer;
use printk::Printk;

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
                for buffer in PerfBuffer::open_all(id, map, self.perf_bytes)? {
                    self.epoll.add_readable(buffer.as_fd(), 0).map_err(what)?;
                    self.perf.push(buffer);
                }
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
