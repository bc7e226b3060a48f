//! Tracer and tracee on one processor.
//!
//! # Theory
//!
//! A stop is two changes of hands: the tracee sleeps and the tracer wakes, then the other way round. On one processor each is a switch of
//! context, some microseconds. On two, each wakes a processor that sleeps, which costs some ten times as much where the machine is a
//! virtual one; and the scheduler chooses two, since it sees an idle processor whenever it wakes somebody. `ptrace` has no way to tell
//! it that hands are changed (seccomp's notifications have one, since 6.6).
//!
//! So while one tracee, and no other one, stops again and again, both are confined to one processor: then most of the tracee's time goes to the
//! stops, and it loses nothing by it. Before a second one runs, and when it stops seldom or not at all ([`QUIET`]), it is as free as before.
//!
//! A tracee does not see it: it is set free before its `sched_getaffinity` and `sched_setaffinity` start, and what it makes is free from the
//! start. `Cpus_allowed` in `/proc` shows it, to everybody. Whoever takes over when we are killed sets it free as well
//! ([`Tracees::confine`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_getcpu, sched_setaffinity};
use skep_sys::signal::Nudge;
use skep_sys::tracees::Tracees;

/// Stops in a row that are judged at once.
const ROW: u32 = 64;
/// The longest that such a row takes for a tracee that is confined: several times what the stops of a free one take.
const ROW_TIME: Duration = Duration::from_millis(50);
/// A confined tracee is free again after at most twice this time without a stop.
const QUIET: Duration = Duration::from_millis(10);

/// Who is confined, and to where they may go otherwise.
#[derive(Debug)]
struct Confined {
    tid: u32,
    theirs: CpuSet,
    ours: CpuSet,
    both: CpuSet,
}

/// Keeps the calling thread and its busiest tracee together.
#[derive(Debug)]
pub(super) struct Beside {
    nudge: Nudge,
    /// The tracee that stopped last, how often it did so in a row, and since when.
    last: u32,
    row: u32,
    since: Instant,
    confined: Option<Confined>,
    watch: Option<Watch>,
}

fn pid(tid: u32) -> Option<Pid> {
    Pid::from_raw(tid as i32)
}

impl Beside {
    /// For the calling thread, which `nudge` wakes.
    pub(super) fn new(nudge: Nudge) -> Beside {
        Beside { nudge, last: 0, row: 0, since: Instant::now(), confined: None, watch: None }
    }

    /// A tracee has stopped.
    pub(super) fn stopped(&mut self, tid: u32, list: &mut Tracees) {
        if let Some(watch) = &self.watch {
            watch.shared.stops.fetch_add(1, Ordering::Relaxed);
        }
        if tid != self.last {
            self.part(list);
            self.last = tid;
            return;
        }
        self.row += 1;
        if self.row < ROW {
            return;
        }
        let is_busy = self.since.elapsed() <= ROW_TIME;
        match (is_busy, &self.confined) {
            (true, None) => self.confine(tid, list),
            (false, Some(_)) => self.part(list),
            _ => {}
        }
        self.begin();
    }

    fn begin(&mut self) {
        self.row = 0;
        self.since = Instant::now();
    }

    fn confine(&mut self, tid: u32, list: &mut Tracees) {
        let (Ok(theirs), Ok(ours)) = (sched_getaffinity(pid(tid)), sched_getaffinity(None)) else { return };
        let here = sched_getcpu();
        let mut common = (0..CpuSet::MAX_CPU).filter(|&cpu| theirs.is_set(cpu) && ours.is_set(cpu));
        let Some(cpu) = (theirs.is_set(here) && ours.is_set(here)).then_some(here).or_else(|| common.next()) else {
            return;
        };
        let mut both = CpuSet::new();
        both.set(cpu);
        let watch = self.watch.get_or_insert_with(|| Watch::start(self.nudge));
        list.confine(Some((tid, &theirs)));
        if sched_setaffinity(pid(tid), &both).is_err() || sched_setaffinity(None, &both).is_err() {
            let _ = sched_setaffinity(pid(tid), &theirs);
            list.confine(None);
            return;
        }
        watch.look(true);
        self.confined = Some(Confined { tid, theirs, ours, both });
    }

    /// Sets the tracee free, if one is confined. Somebody may have given it other processors meanwhile: then it has those.
    pub(super) fn part(&mut self, list: &mut Tracees) {
        self.begin();
        let Some(Confined { tid, theirs, ours, both }) = self.confined.take() else { return };
        if sched_getaffinity(pid(tid)).is_ok_and(|now| now == both) {
            let _ = sched_setaffinity(pid(tid), &theirs);
        }
        list.confine(None);
        let _ = sched_setaffinity(None, &ours);
        if let Some(watch) = &self.watch {
            watch.look(false);
        }
    }

    /// Who stopped last, and was let go on a moment ago, runs on another processor than ours from now on, if there is one where it may be: nobody moves it by himself
    /// from the queue that it was put into behind us.
    pub(super) fn apart(&mut self, list: &mut Tracees) {
        self.part(list);
        let here = sched_getcpu();
        let Ok(theirs) = sched_getaffinity(pid(self.last)) else { return };
        let mut others = theirs;
        others.unset(here);
        if others.count() == 0 || !theirs.is_set(here) {
            return;
        }
        list.confine(Some((self.last, &theirs)));
        // It stays where it is once it may go everywhere again.
        if sched_setaffinity(pid(self.last), &others).is_ok() {
            let _ = sched_setaffinity(pid(self.last), &theirs);
        }
        list.confine(None);
    }

    /// There is a new task, which has not run yet. It has the processors of its maker.
    pub(super) fn born(&mut self, child: u32, list: &mut Tracees) {
        let Some(confined) = &self.confined else { return };
        if sched_getaffinity(pid(child)).is_ok_and(|now| now == confined.both) {
            let _ = sched_setaffinity(pid(child), &confined.theirs);
        }
        self.part(list);
    }

    /// A task has another id now.
    pub(super) fn renamed(&mut self, from: u32, to: u32, list: &mut Tracees) {
        if let Some(confined) = &mut self.confined
            && confined.tid == from
        {
            confined.tid = to;
            self.part(list);
        }
    }

    /// Our wait was interrupted: is it quiet?
    pub(super) fn nudged(&mut self, list: &mut Tracees) {
        if self.watch.as_ref().is_some_and(|watch| watch.shared.is_quiet.swap(false, Ordering::Relaxed)) {
            self.part(list);
        }
    }
}

/// A thread that sees when nothing stops any more, and wakes the tracer then.
#[derive(Debug)]
struct Watch {
    shared: Arc<Watched>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Watched {
    stops: AtomicU64,
    /// Somebody is confined.
    look: AtomicBool,
    is_quiet: AtomicBool,
    end: AtomicBool,
}

impl Watch {
    fn start(nudge: Nudge) -> Watch {
        let shared = Arc::new(Watched::default());
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("skep-beside".to_owned()).spawn(move || watched.watch(nudge));
        // Without the thread a tracee that becomes quiet stays confined until it stops again.
        Watch { shared, thread: thread.ok() }
    }

    fn look(&self, look: bool) {
        self.shared.look.store(look, Ordering::Release);
        if look && let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Watched {
    fn watch(&self, nudge: Nudge) {
        let mut seen = 0;
        while !self.end.load(Ordering::Acquire) {
            if self.look.load(Ordering::Acquire) {
                std::thread::park_timeout(QUIET);
                let stops = self.stops.load(Ordering::Relaxed);
                if stops == seen && self.look.load(Ordering::Acquire) {
                    self.is_quiet.store(true, Ordering::Relaxed);
                    nudge.send();
                }
                seen = stops;
            } else {
                std::thread::park();
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}
