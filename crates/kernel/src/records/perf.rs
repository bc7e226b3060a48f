//! Perf buffers: one per CPU that is online, filled by `bpf_perf_event_output`.
//!
//! A program writes to the event in the slot of the CPU that it runs on. What did not fit the kernel tells by a record of its
//! own, but only before the next one that fits, which may never come. So the event itself is asked too (kernel 6.0) whenever
//! its buffer was nearly full: losses are exact and per CPU. Before 6.0 those behind the last event of a CPU stay unknown.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

use skep_engine::{Error, MapHandle as _, Record, Source};
use skep_spec::MapId;
use skep_sys::perf_event::{self, Attr, PerfEvent};
use skep_sys::perf_ring::{PerfRecord, PerfRing, RECORD_LOST, RECORD_SAMPLE};
use skep_sys::{Errno, cpu, page_size};

use crate::map::{KernelMap, failed};

/// One CPU's buffer.
#[derive(Debug)]
pub(super) struct PerfBuffer {
    map: MapId,
    cpu: u32,
    event: PerfEvent,
    ring: PerfRing,
    losses: Losses,
    /// The event is the caller's, and what its records look like, too.
    foreign: bool,
}

/// One CPU's buffer of a perf event array.
#[derive(Clone, Copy, Debug)]
pub struct PerCpuBuffer<'a> {
    /// The CPU.
    pub cpu: u32,
    /// The event, readable when there is something to read.
    pub fd: BorrowedFd<'a>,
    /// Bytes of records that fit.
    pub size_bytes: usize,
    /// Bytes of records that wait to be read.
    pub available_bytes: u64,
}

/// A record of a perf buffer as the kernel wrote it (`struct perf_event_header` and what follows).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// The map that the buffer is for.
    pub map: MapId,
    /// The CPU that wrote it.
    pub cpu: u32,
    /// `PERF_RECORD_*`; 9 is a sample and 2 a loss.
    pub record_type: u32,
    /// `PERF_RECORD_MISC_*`.
    pub misc: u16,
    /// What follows the header of 8 bytes.
    pub body: &'a [u8],
}

/// What is known about the losses of one buffer.
#[derive(Debug, Default)]
struct Losses {
    /// The event can be asked (kernel 6.0).
    countable: bool,
    /// Something may have been lost since it was asked.
    doubtful: bool,
    /// By the records in the buffer.
    announced: u64,
    /// Given to the sink.
    told: u64,
}

impl Losses {
    /// What the sink has not been told yet, when so many were lost from the start.
    fn news(&mut self, total: u64) -> Option<u64> {
        let news = total.checked_sub(self.told).filter(|news| *news > 0)?;
        self.told = total;
        Some(news)
    }
}

impl PerfBuffer {
    /// Opens a buffer on every CPU that is online and puts it into the map. The kernel empties the slots again when the
    /// map's descriptor is closed.
    /// The events are the usual ones, or as `foreign` says.
    pub(super) fn open_all(
        id: MapId,
        map: &KernelMap,
        bytes: usize,
        foreign: Option<Attr>,
    ) -> Result<Vec<PerfBuffer>, Error> {
        let facts = map.facts();
        let what = |cpu: u32, errno| failed(&format!("cannot read map `{}` on CPU {cpu}", facts.name), errno);
        let pages = bytes.div_ceil(page_size()).next_power_of_two();
        let mut buffers = Vec::new();
        let online = cpu::online().map_err(|errno| failed("cannot tell which CPUs are online", errno))?;
        for cpu::CpuId(cpu) in online {
            if cpu >= facts.max_entries {
                break;
            }
            let opened = match foreign {
                Some(attr) => PerfEvent::open(&attr, -1, cpu as i32).map(|event| (event, false)),
                None => open(cpu),
            };
            let (event, countable) = match opened {
                Ok(opened) => opened,
                // Taken offline since.
                Err(Errno::ENODEV) => continue,
                Err(errno) => return Err(what(cpu, errno)),
            };
            let ring = PerfRing::new(event.as_fd(), pages).map_err(|errno| what(cpu, errno))?;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&event.as_fd()) as u32;
            map.fd().update(&cpu.to_ne_bytes(), &fd.to_ne_bytes(), 0).map_err(|errno| what(cpu, errno))?;
            event.enable().map_err(|errno| what(cpu, errno))?;
            let losses = Losses { countable, ..Losses::default() };
            buffers.push(PerfBuffer { map: id, cpu, event, ring, losses, foreign: foreign.is_some() });
        }
        Ok(buffers)
    }

    pub(super) fn map(&self) -> MapId {
        self.map
    }

    pub(super) fn cpu(&self) -> u32 {
        self.cpu
    }

    pub(super) fn facts(&self) -> PerCpuBuffer<'_> {
        PerCpuBuffer {
            cpu: self.cpu,
            fd: self.event.as_fd(),
            size_bytes: self.ring.size(),
            available_bytes: self.ring.available(),
        }
    }

    /// Gives what is there, as it is.
    pub(super) fn consume_raw(
        &mut self,
        sink: &mut dyn FnMut(RawRecord<'_>) -> ControlFlow<()>,
    ) -> (usize, ControlFlow<()>) {
        let (map, cpu) = (self.map, self.cpu);
        let mut flow = ControlFlow::Continue(());
        let losses = &mut self.losses;
        let start = self.ring.position();
        let count = self.ring.consume(|PerfRecord { record_type, misc, body }| {
            if record_type == RECORD_LOST {
                losses.announced += lost(body).unwrap_or(0);
                losses.told = losses.told.max(losses.announced);
            }
            flow = sink(RawRecord { map, cpu, record_type, misc, body });
            flow.is_continue()
        });
        losses.doubtful |= losses.countable && !self.ring.had_room_since(start);
        (count, flow)
    }

    /// Gives what is there.
    pub(super) fn consume(&mut self, sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>) -> (usize, ControlFlow<()>) {
        if self.foreign {
            return (0, ControlFlow::Continue(()));
        }
        let (map, cpu) = (self.map, self.cpu);
        let missing = |count| Record::Lost { source: Source::Map(map), cpu: Some(cpu), count };
        let mut count = 0;
        let mut flow = ControlFlow::Continue(());
        let losses = &mut self.losses;
        let start = self.ring.position();
        self.ring.consume(|record| {
            let told = match record.record_type {
                RECORD_SAMPLE => sample(record.body).map(|data| Record::Event { map, cpu: Some(cpu), data }),
                RECORD_LOST => {
                    losses.announced += lost(record.body).unwrap_or(0);
                    losses.news(losses.announced).map(missing)
                }
                _ => None,
            };
            if let Some(told) = told {
                count += 1;
                flow = sink(told);
            }
            flow.is_continue()
        });
        // With the position before the reading: the room that was given back came too late for what was refused meanwhile.
        losses.doubtful |= losses.countable && !self.ring.had_room_since(start);
        if losses.doubtful && flow.is_continue() {
            losses.doubtful = false;
            if let Some(told) = self.event.lost().ok().and_then(|total| losses.news(total)) {
                count += 1;
                flow = sink(missing(told));
            }
        }
        (count, flow)
    }
}

impl AsFd for PerfBuffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Opens the event of one CPU, and says whether it can be asked for its losses.
fn open(cpu: u32) -> Result<(PerfEvent, bool), Errno> {
    let mut attr = Attr::new(perf_event::PERF_TYPE_SOFTWARE, perf_event::PERF_COUNT_SW_BPF_OUTPUT);
    attr.sample_type = perf_event::PERF_SAMPLE_RAW;
    attr.sample_period = 1;
    attr.wakeup = 1;
    attr.read_format = perf_event::PERF_FORMAT_LOST;
    match PerfEvent::open(&attr, -1, cpu as i32) {
        Err(Errno::EINVAL) => {
            attr.read_format = 0;
            PerfEvent::open(&attr, -1, cpu as i32).map(|event| (event, false))
        }
        opened => opened.map(|event| (event, true)),
    }
}

/// The bytes of a raw sample: their length, then they, padded so that the whole record is a multiple of 8.
fn sample(body: &[u8]) -> Option<&[u8]> {
    let (len, data) = body.split_first_chunk::<4>()?;
    data.get(..u32::from_ne_bytes(*len) as usize)
}

/// `{ u64 id; u64 lost; }`.
fn lost(body: &[u8]) -> Option<u64> {
    body.get(8..)?.first_chunk::<8>().map(|count| u64::from_ne_bytes(*count))
}
