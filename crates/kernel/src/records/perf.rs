//! Perf buffers: one per CPU that is online, filled by `bpf_perf_event_output`.
//!
//! A program writes to the event in the slot of the CPU that it runs on. The kernel tells what did not fit by a record of
//! its own, so losses are exact and per CPU.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};

use skep_engine::{Error, MapHandle as _, Record, Source};
use skep_spec::MapId;
use skep_sys::perf_event::{self, Attr, PerfEvent};
use skep_sys::perf_ring::{PerfRing, RECORD_LOST, RECORD_SAMPLE};
use skep_sys::{Errno, cpu, page_size};

use crate::map::{KernelMap, failed};

/// One CPU's buffer.
#[derive(Debug)]
pub(super) struct PerfBuffer {
    map: MapId,
    cpu: u32,
    event: PerfEvent,
    ring: PerfRing,
}

impl PerfBuffer {
    /// Opens a buffer on every CPU that is online and puts it into the map. The kernel empties the slots again when the
    /// map's descriptor is closed.
    pub(super) fn open_all(id: MapId, map: &KernelMap, bytes: usize) -> Result<Vec<PerfBuffer>, Error> {
        let facts = map.facts();
        let what = |cpu: u32, errno| failed(&format!("cannot read map `{}` on CPU {cpu}", facts.name), errno);
        let pages = bytes.div_ceil(page_size()).next_power_of_two();
        let mut buffers = Vec::new();
        let online = cpu::online().map_err(|errno| failed("cannot tell which CPUs are online", errno))?;
        for cpu::CpuId(cpu) in online {
            if cpu >= facts.max_entries {
                break;
            }
            let mut attr = Attr::new(perf_event::PERF_TYPE_SOFTWARE, perf_event::PERF_COUNT_SW_BPF_OUTPUT);
            attr.sample_type = perf_event::PERF_SAMPLE_RAW;
            attr.sample_period = 1;
            attr.wakeup = 1;
            let event = match PerfEvent::open(&attr, -1, cpu as i32) {
                Ok(event) => event,
                // Taken offline since.
                Err(Errno::ENODEV) => continue,
                Err(errno) => return Err(what(cpu, errno)),
            };
            let ring = PerfRing::new(event.as_fd(), pages).map_err(|errno| what(cpu, errno))?;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&event.as_fd()) as u32;
            map.fd().update(&cpu.to_ne_bytes(), &fd.to_ne_bytes(), 0).map_err(|errno| what(cpu, errno))?;
            event.enable().map_err(|errno| what(cpu, errno))?;
            buffers.push(PerfBuffer { map: id, cpu, event, ring });
        }
        Ok(buffers)
    }

    /// Gives what is there.
    pub(super) fn consume(&mut self, sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>) -> (usize, ControlFlow<()>) {
        let (map, cpu) = (self.map, self.cpu);
        let mut count = 0;
        let mut flow = ControlFlow::Continue(());
        self.ring.consume(|record| {
            let told = match record.record_type {
                RECORD_SAMPLE => sample(record.body).map(|data| Record::Event { map, cpu: Some(cpu), data }),
                RECORD_LOST => {
                    lost(record.body).map(|count| Record::Lost { source: Source::Map(map), cpu: Some(cpu), count })
                }
                _ => None,
            };
            if let Some(told) = told {
                count += 1;
                flow = sink(told);
            }
            flow.is_continue()
        });
        (count, flow)
    }
}

impl AsFd for PerfBuffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
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
