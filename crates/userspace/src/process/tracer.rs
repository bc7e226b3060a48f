//! The handle on a tracer at work, whose thread is [`seized`]'s.

mod seized;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, io};

use rustix::thread::sched_getaffinity;
use skep_engine::Error;
use skep_sys::child::HeldChild;
use skep_sys::seccomp::Filter;
use skep_sys::signal::Nudge;
use skep_sys::{Errno, io_text, syscalls};

use self::seized::Seized;
use super::breakpoint::Breakpoints;
use super::call_plan::CallPlan;
use super::sigtrap::Numbers;
use super::unwatched::Misses;
use super::{Calls, Event, Tally, Unwatched, Wanted, inject, procfs, shadow};

/// How often a thread that does not listen is nudged again.
const NUDGE_PAUSE: Duration = Duration::from_millis(1);
/// How long tasks are waited for that do not stop, or whose end others have seen already.
const PATIENCE: Duration = Duration::from_secs(1);
/// Signal of a breakpoint.
const SIGTRAP: i32 = 5;
/// Calls that tell a task which processors it may use: see [`Beside`].
const AFFINITY: [&str; 2] = ["sched_getaffinity", "sched_setaffinity"];
/// What is wanted from tasks that have a filter, beside what the user wants: calls that change what [`TracedTask`] knows.
const CHANGING: &[&str] = &[
    "execve",
    "execveat",
    "prctl",
    "seccomp",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
];

/// A tracer at work. Dropping it ends the tracing and lets the target go on.
#[derive(Debug)]
pub struct Tracer {
    pid: u32,
    held: Mutex<Option<HeldChild>>,
    filtered: bool,
    shared: Arc<Shared>,
    nudge: Nudge,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread and its handle share.
#[derive(Debug, Default)]
struct Shared {
    /// What is to be seen; set before a command runs.
    wanted: OnceLock<Wanted>,
    stop: AtomicBool,
    /// Nobody wants to hear of anything any more.
    pass: AtomicBool,
    done: AtomicBool,
    outcome: Mutex<Outcome>,
    misses: Mutex<Misses>,
    /// What breakpoints need, made by whoever wants them.
    breakpoints: Mutex<Option<Breakpoints>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// What became of the first process.
    status: Option<i32>,
    tally: Tally,
}

/// What was half done by a thread that panicked is whole enough: each of these is set at once.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells that the tracing is over, however it ends.
struct Done(Arc<Shared>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
    }
}

impl Shared {
    /// Says what is to be seen.
    fn want(&self, wanted: Wanted, filtered: bool, calls: Option<(CallPlan, Filter)>) -> Result<(), Error> {
        if !wanted.sites.is_empty() || calls.is_some() {
            // Who comes by a gate makes a call, which nobody shall be stopped at or hear of.
            let gettid = inject::number("gettid");
            let has_gates = filtered && (calls.is_some() || !wanted.enter.and(&wanted.exit).has(gettid));
            *lock(&self.breakpoints) = Some(Breakpoints::new(Arc::clone(&wanted.sites), filtered, calls, has_gates)?);
        }
        let _ = self.wanted.set(wanted);
        Ok(())
    }

    fn outcome(&self) -> MutexGuard<'_, Outcome> {
        lock(&self.outcome)
    }
}

impl Tracer {
    /// Starts a command that waits for [`Tracer::release`], and traces it with all that it starts. `sink` gets the events in a thread of their own,
    /// while their task is stopped: it should be quick.
    ///
    /// # Errors
    ///
    /// When the command cannot be forked or traced.
    pub fn hold(command: Command, sink: impl FnMut(Event<'_>) + Send + 'static) -> Result<Tracer, Error> {
        let held = HeldChild::spawn_traced(command)
            .map_err(|cause| Error::new(io_text(&cause)).with_source(Errno::from(cause)))?;
        let pid = held.pid();
        Tracer::start(pid, Some(held), None, sink)
    }

    /// Traces a process with all its threads, and with all that it starts from now on. `sink` is as that of [`Tracer::hold`].
    ///
    /// # Errors
    ///
    /// When there is no such process, or it may not be traced.
    pub fn join(pid: u32, wanted: Wanted, sink: impl FnMut(Event<'_>) + Send + 'static) -> Result<Tracer, Error> {
        Tracer::start(pid, None, Some(wanted), sink)
    }

    fn start(
        pid: u32,
        held: Option<HeldChild>,
        wanted: Option<Wanted>,
        sink: impl FnMut(Event<'_>) + Send + 'static,
    ) -> Result<Tracer, Error> {
        let shared = Arc::new(Shared::default());
        let filtered = held.is_some();
        if let Some(wanted) = wanted {
            shared.want(wanted, filtered, None)?;
        }
        let (ready, readiness) = mpsc::channel();
        let in_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("skep-tracer".to_owned()).spawn(move || {
            let seized = Seized::new(pid, filtered, in_thread);
            let (answer, seized) = match seized {
                Ok((nudge, seized)) => (Ok(nudge), Some(seized)),
                Err(error) => (Err(error), None),
            };
            // Whoever started us has gone away only if it panicked.
            let _ = ready.send(answer);
            if let Some(mut seized) = seized {
                let mut sink = sink;
                let _done = Done(Arc::clone(&seized.shared));
                seized.run(&mut sink);
            }
        });
        let thread = thread.map_err(|cause| Error::new("cannot start a thread").with_source(cause))?;
        let nudge = readiness.recv().unwrap_or_else(|_| Err(Error::new("the tracer's thread panicked")))?;
        Ok(Tracer { pid, held: Mutex::new(held), filtered, shared, nudge, thread: Mutex::new(Some(thread)) })
    }

    /// Id of the first process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets a command run that waits, and says what is to be seen of it; does nothing for a process that runs already.
    ///
    /// # Errors
    ///
    /// When it cannot be executed: not found, no permission.
    pub fn release(&self, wanted: Wanted) -> io::Result<()> {
        let held = lock(&self.held).take();
        match held {
            // The tracer waits for it, so the handle is of no use.
            Some(held) => {
                let filter = filter(&wanted);
                let plan = plan(&wanted);
                let calls = plan.map(|plan| (plan, filter.clone()));
                let has_gates = calls.is_some();
                self.shared.want(wanted, self.filtered, calls).map_err(io::Error::other)?;
                let child = if has_gates { held.release_telling() } else { held.release_filtered(&filter) };
                child.map(drop)
            }
            None => Ok(()),
        }
    }

    /// How the first process ended; `None` while it runs.
    pub fn status(&self) -> Option<ExitStatus> {
        self.shared.outcome().status.map(ExitStatus::from_raw)
    }

    /// How a process ended that was joined; `None` while it runs, and of a command. Waits for a moment where the process is gone, but its end was
    /// not handled yet.
    pub fn end_of_joined(&self) -> Option<ExitStatus> {
        let is_gone = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
            // Behind the name, which may have parentheses too.
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.bytes().next());
            // A first thread that ended stays as a zombie while others run.
            state.is_none_or(|state| b"ZX".contains(&state)) && procfs::threads(self.pid).len() <= 1
        };
        if self.filtered {
            return None;
        }
        // Its end may have been seen by others a little earlier.
        let end = Instant::now() + PATIENCE;
        while self.status().is_none() && is_gone() && Instant::now() < end {
            std::thread::sleep(NUDGE_PAUSE);
        }
        self.status()
    }

    /// What was not seen so far, with each reason once.
    pub fn unwatched(&self) -> Vec<Unwatched> {
        lock(&self.shared.misses).told()
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        self.shared.outcome().tally
    }

    /// Tells of nothing any more, and returns when there is nothing left to trace: filtered tasks need a tracer as long as they live.
    pub fn stay(&self) {
        self.shared.pass.store(true, Ordering::Release);
        // It may wait for a task that does nothing, and has to take its breakpoints out.
        self.nudge.send();
        drop(lock(&self.held).take());
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }

    /// Whether tasks are left that need a tracer to the end of their lives.
    pub fn is_needed(&self) -> bool {
        self.filtered && !self.is_done()
    }

    /// Whether there is nothing left to trace.
    pub fn is_done(&self) -> bool {
        self.shared.done.load(Ordering::Acquire)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // A command that was never released ends when its pipe closes.
        drop(lock(&self.held).take());
        let Some(thread) = lock(&self.thread).take() else { return };
        while !thread.is_finished() {
            self.nudge.send();
            std::thread::sleep(NUDGE_PAUSE);
        }
        let _ = thread.join();
    }
}

/// What cannot be set up.
pub(super) fn setup(what: &str, errno: Errno) -> Error {
    Error::new(format!("cannot {what}: {errno}")).with_source(errno)
}

/// The calls that stop a task which has a filter.
fn filter(wanted: &Wanted) -> Filter {
    let ours =
        || syscalls::all().filter(|(_, name)| CHANGING.contains(name) || AFFINITY.contains(name)).map(|(nr, _)| nr);
    match wanted.enter.and(&wanted.exit) {
        Calls::All => Filter::tracing(&syscalls::all().map(|(nr, _)| nr).collect::<Vec<u32>>()),
        Calls::Some(calls) => {
            let mmap = inject::number("mmap");
            if wanted.sites.is_empty() {
                return Filter::tracing(&calls.into_iter().chain(ours()).collect::<Vec<u32>>());
            }
            // Not the return of handlers: without a tracer it would fail, and leave its task nowhere.
            let Numbers { action, mask, .. } = Numbers::new();
            let arch = inject::number("arch_prctl");
            let [maps, acts, is_arch] = [mmap, action, arch].map(|nr| calls.contains(&nr));
            let filter = Filter::tracing(&calls.into_iter().chain(ours()).chain([mask]).collect::<Vec<u32>>());
            let filter = if maps { filter } else { filter.and_mappings(mmap, protection(wanted)) };
            let filter = if acts { filter } else { filter.and_argument(action, 0, SIGTRAP as u32) };
            if is_arch { filter } else { filter.and_argument(arch, 0, shadow::ENABLE) }
        }
    }
}

/// How calls are seen without a filter; `None` where that cannot be, or is not worth it.
fn plan(wanted: &Wanted) -> Option<CallPlan> {
    // Gates are machine code, and somebody has to look on another processor.
    let possible = cfg!(target_arch = "x86_64") && sched_getaffinity(None).is_ok_and(|cpus| cpus.count() > 1);
    let changing: Vec<&str> = CHANGING.iter().chain(&AFFINITY).copied().collect();
    possible.then(|| CallPlan::new(wanted, &changing, protection(wanted))).flatten()
}

/// Which mappings of files matter: code, and data if counters are to be raised in it.
fn protection(wanted: &Wanted) -> u32 {
    const PROT_WRITE: u32 = 2;
    const PROT_EXEC: u32 = 4;
    PROT_EXEC | if wanted.sites.have_semaphores() { PROT_WRITE } else { 0 }
}
