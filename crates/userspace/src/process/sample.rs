//! Samples of processes that run: the clock of the CPU and other events of perf, without privileges over the kernel.
//!
//! # How
//!
//! The kernel lets everybody count events of his own processes (perf_event_open(2)), where `/proc/sys/kernel/perf_event_paranoid` is 2 or less, but
//! only while they are in user space; with rights it counts system calls as well, and so do we. An event is opened for each task and CPU and is
//! inherited by what the task makes. All events of one CPU write into one buffer, and buffers are emptied together and put
//! into the order of time, so that names ([`Task::comm`]) are those of the moment.
//!
//! Unlike a tracer's, these events do not stop the task: registers and callers are in the sample, as the kernel found them, by
//! frame pointers; memory that a program reads is what stands there later.
//!
//! Sources: perf_event_open(2), `include/uapi/linux/perf_event.h` and `perf_output_sample` of `kernel/events/core.c`, 6.18.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use skep_engine::{Error, ErrorKind, PerfEvent, SampleRate};
use skep_sys::caps::perf_event_paranoid;
use skep_sys::perf_event::{
    Attr, PERF_SAMPLE_ADDR, PERF_SAMPLE_CALLCHAIN, PERF_SAMPLE_CPU, PERF_SAMPLE_IDENTIFIER, PERF_SAMPLE_IP,
    PERF_SAMPLE_PERIOD, PERF_SAMPLE_REGS_USER, PERF_SAMPLE_TID, PERF_SAMPLE_TIME, PERF_TYPE_BREAKPOINT,
    PERF_TYPE_HARDWARE, PERF_TYPE_HW_CACHE, PERF_TYPE_RAW, flags,
};
use skep_sys::perf_ring::{PerfRing, RECORD_COMM, RECORD_FORK, RECORD_LOST, RECORD_SAMPLE};
use skep_sys::wake::Wake;
use skep_sys::{Errno, cpu, perf_event};
use skep_vm::{Memory, Task};

use super::task::{self, Facts};

/// Data pages of the buffer of a CPU: less than what everybody may lock (`/proc/sys/kernel/perf_event_mlock_kb`).
const PAGES: usize = 32;
/// How often buffers are looked at that nobody tells of.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// `PERF_RECORD_EXIT`.
const RECORD_EXIT: u32 = 4;
const SAMPLE: u64 = PERF_SAMPLE_IDENTIFIER
    | PERF_SAMPLE_IP
    | PERF_SAMPLE_TID
    | PERF_SAMPLE_TIME
    | PERF_SAMPLE_ADDR
    | PERF_SAMPLE_CPU
    | PERF_SAMPLE_PERIOD
    | PERF_SAMPLE_CALLCHAIN
    | PERF_SAMPLE_REGS_USER;
/// At the end of every other record: process and thread, time, the processor, the event's number.
const TRAILER_BYTES: usize = 32;
/// Callers from here on are marks (`PERF_CONTEXT_MAX`).
const FIRST_MARK: u64 = -4095i64 as u64;

/// Bytes of `struct pt_regs`, and for each register of a sample its place there, in the order of the sample.
#[cfg(target_arch = "x86_64")]
mod registers {
    pub(super) const BYTES: usize = 168;
    /// All but the data segments, which 64-bit tasks do not have.
    pub(super) const MASK: u64 = 0x00ff_0fff;
    /// ax bx cx dx si di bp sp ip flags cs ss, r8 to r15: `enum perf_event_x86_regs`.
    pub(super) const PLACES: [usize; 20] = [10, 5, 11, 12, 13, 14, 4, 19, 16, 18, 17, 20, 9, 8, 7, 6, 3, 2, 1, 0];
    /// The instruction pointer's place.
    pub(super) const IP: usize = 16;
}
#[cfg(target_arch = "aarch64")]
mod registers {
    pub(super) const BYTES: usize = 272;
    pub(super) const MASK: u64 = (1 << 33) - 1;
    pub(super) const PLACES: [usize; 33] = {
        let mut places = [0; 33];
        let mut index = 0;
        while index < places.len() {
            places[index] = index;
            index += 1;
        }
        places
    };
    pub(super) const IP: usize = 32;
}
/// Elsewhere samples have the instruction pointer alone.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod registers {
    pub(super) const BYTES: usize = 8;
    pub(super) const MASK: u64 = 0;
    pub(super) const PLACES: [usize; 0] = [];
    pub(super) const IP: usize = 0;
}

/// A task as it was when an event was counted.
#[derive(Debug)]
pub(crate) struct SampledTask {
    pid: u32,
    tid: u32,
    facts: Facts,
    callers: Vec<u64>,
}

impl Task for SampledTask {
    fn pid_tgid(&self) -> u64 {
        u64::from(self.pid) << 32 | u64::from(self.tid)
    }

    fn uid_gid(&self) -> u64 {
        self.facts.uid_gid
    }

    fn comm(&self) -> Vec<u8> {
        self.facts.comm.clone()
    }

    fn user_stack(&self, max: usize) -> Option<Vec<u64>> {
        Some(self.callers.iter().copied().take(max).collect())
    }
}

impl Memory for SampledTask {
    fn read(&self, addr: u64, to: &mut [u8]) -> Option<()> {
        task::read(self.tid, addr, to)
    }

    fn write(&self, addr: u64, from: &[u8]) -> Option<()> {
        task::write(self.tid, addr, from)
    }
}

/// An event that was counted.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) event: PerfEvent,
    /// Number of the processor.
    pub(crate) cpu: u32,
    pub(crate) task: Arc<SampledTask>,
    /// `struct bpf_perf_event_data`: registers, period, address.
    pub(crate) context: Vec<u8>,
}

/// Counts events of processes until it is dropped.
#[derive(Debug)]
pub(crate) struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What was counted.
#[derive(Debug)]
pub(crate) enum Counted {
    Sample(Sample),
    /// So many samples did not fit into the buffers.
    Lost(u64),
}

type Sink = Box<dyn FnMut(&Counted) + Send>;

struct Shared {
    work: Mutex<Work>,
    wake: Wake,
    stop: AtomicBool,
}

struct Work {
    /// Of each CPU.
    rings: Vec<PerfRing>,
    /// The event that each number stands for.
    events: HashMap<u64, PerfEvent>,
    tasks: HashMap<u32, Facts>,
    sink: Sink,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("stop", &self.stop).finish_non_exhaustive()
    }
}

/// The attribute of an event.
fn attr(event: &PerfEvent, on_exec: bool, with_kernel: bool) -> Attr {
    let mut attr = Attr::new(event.kind, event.config);
    if let Some(watch) = event.watch {
        attr.config = 0;
        attr.config1 = event.config;
        attr.config2 = watch.len_bytes;
        attr.bp_type = watch.access;
    }
    attr.sample_type = SAMPLE;
    attr.wakeup = 1;
    let mut bits = flags::DISABLED
        | flags::INHERIT
        | flags::COMM
        | flags::TASK
        | flags::SAMPLE_ID_ALL
        | flags::EXCLUDE_CALLCHAIN_KERNEL;
    match event.rate {
        SampleRate::Hz(hz) => {
            bits |= flags::FREQ;
            attr.sample_period = hz;
        }
        SampleRate::Every(period) => attr.sample_period = period,
    }
    if on_exec {
        bits |= flags::ENABLE_ON_EXEC;
    }
    if !with_kernel {
        bits |= flags::EXCLUDE_KERNEL;
    }
    attr.with_user_registers(registers::MASK).with_flags(bits)
}

fn open(event: &PerfEvent, tid: u32, cpu: i32, on_exec: bool) -> Result<perf_event::PerfEvent, Errno> {
    let open = |with_kernel| perf_event::PerfEvent::open(&attr(event, on_exec, with_kernel), tid as i32, cpu);
    match open(true) {
        Err(Errno::EACCES | Errno::EPERM) => open(false),
        other => other,
    }
}

/// Whether an event can be counted at all.
///
/// # Errors
///
/// Why not, and what to do about it.
pub(crate) fn check(event: &PerfEvent) -> Result<(), Error> {
    open(event, 0, -1, false).map(drop).map_err(|errno| refusal(event, errno))
}

fn refusal(event: &PerfEvent, errno: Errno) -> Error {
    let PerfEvent { kind, config, .. } = event;
    let error = Error::new(format!("cannot count perf event {kind}:{config}")).with_source(errno);
    match errno {
        Errno::EACCES | Errno::EPERM => {
            let level = perf_event_paranoid().map_or_else(|| "?".to_owned(), |level| level.to_string());
            error.with_kind(ErrorKind::Denied).with_hint(format!(
                "/proc/sys/kernel/perf_event_paranoid is {level}: with 2 or less everybody may count events of his own processes; where seccomp forbids perf_event_open, as in containers, nobody may"
            ))
        }
        Errno::ENOENT | Errno::EOPNOTSUPP | Errno::ENODEV
            if matches!(*kind, PERF_TYPE_HARDWARE | PERF_TYPE_HW_CACHE | PERF_TYPE_RAW) =>
        {
            error
                .with_kind(ErrorKind::Absent)
                .with_hint("this machine has no such hardware counter; sample the CPU's clock instead (`profile`)")
        }
        Errno::ENOSPC if *kind == PERF_TYPE_BREAKPOINT => {
            error.with_hint("every debug register of the processor is in use")
        }
        Errno::EINVAL => error.with_hint("the highest frequency is in `/proc/sys/kernel/perf_event_max_sample_rate`"),
        _ => error,
    }
}

impl Sampler {
    /// Counts events of these tasks, and of what they make; `on_exec`: from their next exec on.
    ///
    /// # Errors
    ///
    /// When an event cannot be counted.
    pub(crate) fn start(tids: &[u32], events: &[PerfEvent], on_exec: bool, sink: Sink) -> Result<Sampler, Error> {
        let failed = |errno: Errno| Error::new("cannot sample").with_source(errno);
        let mut work = Work { rings: Vec::new(), events: HashMap::new(), tasks: HashMap::new(), sink };
        let mut opened: Vec<perf_event::PerfEvent> = Vec::new();
        // Those whose buffers the others use.
        let mut first: Vec<usize> = Vec::new();
        for cpu in cpu::online().map_err(failed)? {
            let mut owner: Option<usize> = None;
            for event in events {
                for tid in tids {
                    let it = match open(event, *tid, cpu.0 as i32, on_exec) {
                        Ok(it) => it,
                        // The task has ended, or the CPU was taken offline.
                        Err(Errno::ESRCH | Errno::ENODEV) => continue,
                        Err(errno) => return Err(refusal(event, errno)),
                    };
                    work.events.insert(it.id().map_err(failed)?, *event);
                    match owner {
                        Some(owner) => it.send_to(&opened[owner]).map_err(failed)?,
                        None => {
                            let ring = PerfRing::new(it.as_fd(), PAGES).map_err(|errno| {
                                failed(errno).with_hint(
                                    "the buffers are limited by /proc/sys/kernel/perf_event_mlock_kb and `ulimit -l`",
                                )
                            })?;
                            work.rings.push(ring);
                            owner = Some(opened.len());
                            first.push(opened.len());
                        }
                    }
                    opened.push(it);
                }
            }
        }
        for tid in tids {
            work.tasks.insert(*tid, Facts::read(*tid).unwrap_or_default());
        }
        if !on_exec {
            for event in &opened {
                event.enable().map_err(failed)?;
            }
        }
        let wake = Wake::new().map_err(failed)?;
        let shared = Arc::new(Shared { work: Mutex::new(work), wake, stop: AtomicBool::new(false) });
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("skep-sampler".to_owned());
        let thread = thread.spawn(move || watched.watch(opened, first));
        let thread = thread.map_err(|cause| Error::new("cannot start a thread").with_source(cause))?;
        Ok(Sampler { shared, thread: Some(thread) })
    }

    /// Hands over everything that was counted so far.
    pub(crate) fn drain(&self) {
        self.shared.work().drain();
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, opened: Vec<perf_event::PerfEvent>, mut first: Vec<usize>) {
        let all = first.len();
        while !self.stop.load(Ordering::Acquire) {
            let mut fds = vec![PollFd::new(&self.wake, PollFlags::IN)];
            fds.extend(first.iter().map(|index| PollFd::from_borrowed_fd(opened[*index].as_fd(), PollFlags::IN)));
            // Others may use the buffer of a task that has ended.
            let timeout = (first.len() < all).then_some(PAUSE);
            if poll(&mut fds, timeout.as_ref()).is_err_and(|errno| errno != rustix::io::Errno::INTR) {
                return;
            }
            let ended: Vec<bool> =
                fds[1..].iter().map(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::ERR)).collect();
            self.work().drain();
            // The task has ended: its event would be ready for ever.
            let mut ended = ended.into_iter();
            first.retain(|_| !ended.next().unwrap_or(false));
        }
    }
}

/// A record, with what it needs to be put in order.
struct Waiting {
    time: u64,
    record_type: u32,
    body: Vec<u8>,
}

impl Work {
    fn drain(&mut self) {
        let mut all = Vec::new();
        for ring in &mut self.rings {
            ring.consume(|record| {
                let body = record.body;
                let at = match record.record_type {
                    // Behind number, instruction pointer and ids.
                    RECORD_SAMPLE => Some(24),
                    _ => body.len().checked_sub(TRAILER_BYTES - 8),
                };
                let time = at.and_then(|at| word(body, at)).unwrap_or(0);
                all.push(Waiting { time, record_type: record.record_type, body: body.to_vec() });
                true
            });
        }
        all.sort_by_key(|waiting| waiting.time);
        for waiting in &all {
            // A record that is shorter than it can be is passed over.
            let _ = self.take(waiting.record_type, &waiting.body);
        }
    }

    fn take(&mut self, record_type: u32, body: &[u8]) -> Option<()> {
        match record_type {
            RECORD_SAMPLE => {
                let sample = self.sample(body)?;
                (self.sink)(&Counted::Sample(sample));
            }
            RECORD_COMM => {
                let (_, tid) = halves(word(body, 0)?);
                let name = body.get(8..body.len().checked_sub(TRAILER_BYTES)?)?;
                let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                self.facts(tid).comm = name[..len].to_vec();
            }
            RECORD_FORK => {
                // Behind process and parent.
                let (tid, maker) = halves(word(body, 8)?);
                let facts = self.facts(maker).clone();
                self.tasks.insert(tid, facts);
            }
            RECORD_EXIT => {
                let (tid, _) = halves(word(body, 8)?);
                self.tasks.remove(&tid);
            }
            RECORD_LOST => (self.sink)(&Counted::Lost(word(body, 8)?)),
            _ => {}
        }
        Some(())
    }

    fn facts(&mut self, tid: u32) -> &mut Facts {
        self.tasks.entry(tid).or_insert_with(|| Facts::read(tid).unwrap_or_default())
    }

    /// `perf_output_sample`: the fields in the order of the bits of [`SAMPLE`], but for the first one.
    fn sample(&mut self, body: &[u8]) -> Option<Sample> {
        let event = *self.events.get(&word(body, 0)?)?;
        let ip = word(body, 8)?;
        let (pid, tid) = halves(word(body, 16)?);
        let (addr, (cpu, _), period) = (word(body, 32)?, halves(word(body, 40)?), word(body, 48)?);
        let count = usize::try_from(word(body, 56)?).ok()?;
        let end = count.checked_mul(8)?.checked_add(64)?;
        let callers = body.get(64..end)?.chunks_exact(8).filter_map(|bytes| word(bytes, 0));
        let callers = callers.filter(|caller| *caller < FIRST_MARK).collect();
        let mut context = vec![0; registers::BYTES + 16];
        let mut set = |index: usize, value: u64| {
            if let Some(to) = context.get_mut(8 * index..8 * index + 8) {
                to.copy_from_slice(&value.to_ne_bytes());
            }
        };
        set(registers::IP, ip);
        // Without an `abi` there are none.
        if word(body, end)? != 0 {
            for (index, place) in registers::PLACES.iter().enumerate() {
                set(*place, word(body, end + 8 + 8 * index)?);
            }
        }
        set(registers::BYTES / 8, period);
        set(registers::BYTES / 8 + 1, addr);
        let facts = self.facts(tid).clone();
        Some(Sample { event, cpu, task: Arc::new(SampledTask { pid, tid, facts, callers }), context })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Two ids that stand one behind the other.
fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}
