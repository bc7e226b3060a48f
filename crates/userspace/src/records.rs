//! What programs tell: ring buffers, perf buffers and printed text, all in one stream.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use skep_engine::{Error, Record, RecordSource, Source};
use skep_spec::MapId;
use skep_sys::wake::Wake;
use skep_vm::{Listener, Map, MapKind};

use crate::map::failed;
use crate::session::Shared;

/// Texts that one pass takes at most, so that a program that prints without pause cannot keep the reader from its other work.
const TEXTS_IN_A_PASS: usize = 1 << 16;

/// A stream of records from several buffers.
pub(crate) struct Records {
    shared: Arc<Shared>,
    maps: Vec<(MapId, Arc<Map>)>,
    printk: bool,
    wake: Arc<Waking>,
    #[expect(dead_code, reason = "the bell calls it as long as it is held")]
    listener: Arc<Listener>,
}

/// What becomes readable when the bell rings.
struct Waking {
    wake: Wake,
    /// Whether it is readable already, so that not each stroke costs a system call.
    set: AtomicBool,
}

impl Waking {
    fn set(&self) {
        if !self.set.swap(true, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    /// Before the buffers are looked at: what comes then sets it again.
    fn clear(&self) {
        // Always: who sets it may write after it was cleared before.
        self.wake.clear();
        self.set.swap(false, Ordering::AcqRel);
    }
}

impl Records {
    pub(crate) fn new(
        shared: Arc<Shared>,
        maps: Vec<(MapId, Arc<Map>)>,
        printk: bool,
        perf_bytes: usize,
    ) -> Result<Records, Error> {
        for (_, map) in &maps {
            match map.spec().kind {
                MapKind::Ringbuf => {}
                MapKind::PerfEventArray => {
                    for slot in 0..shared.machine().cpus().min(map.spec().max_entries) {
                        let what = format!("cannot open a buffer of map `{}`", map.spec().name);
                        map.open_buffer(slot, perf_bytes).map_err(|error| failed(&what, error))?;
                    }
                }
                kind => {
                    return Err(Error::new(format!("map `{}` is a {}, no buffer", map.spec().name, kind.name())));
                }
            }
        }
        let wake = Wake::new().map_err(|errno| Error::new("cannot wait for events").with_source(errno))?;
        let wake = Arc::new(Waking { wake, set: AtomicBool::new(false) });
        let listener: Arc<Listener> = Arc::new({
            let wake = wake.clone();
            move || wake.set()
        });
        shared.machine().bell().listen(&listener);
        // What was told before is there as well.
        wake.set();
        Ok(Records { shared, maps, printk, wake, listener })
    }

    fn map(&self, id: MapId, map: &Map, sink: &mut Sink<'_>) -> Result<(), Error> {
        let what = || format!("cannot read map `{}`", map.spec().name);
        if map.spec().kind == MapKind::Ringbuf {
            let read = map.consume(&mut |data| sink.give(Record::Event { map: id, cpu: None, data }));
            return read.map(drop).map_err(|error| failed(&what(), error));
        }
        let read = map.consume_slots(&mut |cpu, data| sink.give(Record::Event { map: id, cpu: Some(cpu), data }));
        read.map_err(|error| failed(&what(), error))?;
        for cpu in 0..map.spec().max_entries.min(self.shared.machine().cpus()) {
            let count = map.take_lost(cpu);
            if count != 0 && sink.give(Record::Lost { source: Source::Map(id), cpu: Some(cpu), count }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn texts(&self, sink: &mut Sink<'_>) {
        let printed = self.shared.machine().printed();
        for _ in 0..TEXTS_IN_A_PASS {
            let Some(text) = printed.take() else { break };
            // Where no task is, the kernel names the idle one.
            let comm = if text.comm.is_empty() { "<idle>".into() } else { String::from_utf8_lossy(&text.comm) };
            let whole = String::from_utf8_lossy(&text.text);
            let record = Record::Text {
                comm: &comm,
                tid: text.pid_tgid as u32,
                cpu: text.cpu,
                time_ns: text.time_ns,
                text: whole.strip_suffix('\n').unwrap_or(&whole),
            };
            if sink.give(record).is_break() {
                return;
            }
        }
        let count = printed.take_lost();
        if count != 0 {
            let _ = sink.give(Record::Lost { source: Source::Printk, cpu: None, count });
        }
    }
}

/// Counts what is given, and remembers that it broke off.
struct Sink<'a> {
    sink: &'a mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    given: usize,
    full: bool,
}

impl Sink<'_> {
    fn give(&mut self, record: Record<'_>) -> ControlFlow<()> {
        let flow = (self.sink)(record);
        self.full |= flow.is_break();
        self.given += usize::from(flow.is_continue());
        flow
    }
}

impl RecordSource for Records {
    fn poll(
        &mut self,
        timeout: Option<Duration>,
        sink: &mut dyn FnMut(Record<'_>) -> ControlFlow<()>,
    ) -> Result<usize, Error> {
        if timeout != Some(Duration::ZERO) && !self.wake.set.load(Ordering::Acquire) {
            let timeout = timeout.and_then(|timeout| rustix::time::Timespec::try_from(timeout).ok());
            match poll(&mut [PollFd::new(&self.wake.wake, PollFlags::IN)], timeout.as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => return Ok(0),
                Err(errno) => {
                    return Err(Error::new("cannot wait for records").with_source(std::io::Error::from(errno)));
                }
            }
        }
        self.wake.clear();
        let mut sink = Sink { sink, given: 0, full: false };
        for (id, map) in &self.maps {
            if !sink.full {
                self.map(*id, map, &mut sink)?;
            }
        }
        if self.printk && !sink.full {
            self.texts(&mut sink);
        }
        let count = self.shared.lost.swap(0, Ordering::Relaxed);
        if count != 0 {
            let _ = sink.give(Record::Lost { source: Source::Samples, cpu: None, count });
        }
        if sink.full {
            // The rest is still there.
            self.wake.set();
        } else if let Some(fault) = self.shared.take_fault() {
            // After what the program told until then.
            return Err(fault);
        }
        Ok(sink.given)
    }

    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.wake.wake.as_fd())
    }
}
