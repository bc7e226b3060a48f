//! The thread that traces, and the handle on it.

use std::collections::{HashMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{fs, io};

use skep_engine::{Error, ErrorKind};
use skep_sys::child::HeldChild;
use skep_sys::ptrace::{self, Stop, SyscallInfo, Tracees, Wait};
use skep_sys::seccomp::{self, Filter};
use skep_sys::signal::Nudge;
use skep_sys::undo::{Guard, Undo};
use skep_sys::{Errno, io_text, syscalls};

use super::beside::Beside;
use super::breakpoint::Breakpoints;
use super::sigtrap::Numbers;
use super::unwatched::Misses;
use super::{Calls, Event, Tally, TracedTask, Unwatched, Wanted, What, inject, shadow};

/// How often a thread that does not listen is nudged again.
const NUDGE_PAUSE: Duration = Duration::from_millis(1);
/// How long tasks are waited for that do not stop, or whose end others have seen already.
const PATIENCE: Duration = Duration::from_secs(1);
/// Signal of a breakpoint.
const SIGTRAP: i32 = 5;
/// Signals that tell a task what it did: SIGILL, SIGBUS, SIGFPE, SIGSEGV.
const FAULTS: [i32; 4] = [4, 7, 8, 11];
/// What no address is above, and errors are.
const HIGHEST_ADDRESS: u64 = u64::MAX - 4096;
/// Longest path that exec takes (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// Calls that tell a task which processors it may use: see [`Beside`].
const AFFINITY: [&str; 2] = ["sched_getaffinity", "sched_setaffinity"];
/// What is wanted from tasks that have a filter, beside what the user wants: calls that change what [`TracedTask`] knows.
const CHANGING: &[&str] = &[
    "execve",
    "execveat",
    "prctl",
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
    fn want(&self, wanted: Wanted, filtered: bool) -> Result<(), Error> {
        if !wanted.sites.is_empty() {
            *lock(&self.breakpoints) = Some(Breakpoints::new(Arc::clone(&wanted.sites), filtered)?);
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
            shared.want(wanted, filtered)?;
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
                self.shared.want(wanted, self.filtered).map_err(io::Error::other)?;
                held.release_filtered(&filter).map(drop)
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
            state.is_none_or(|state| b"ZX".contains(&state)) && threads(self.pid).len() <= 1
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

/// Which mappings of files matter: code, and data if counters are to be raised in it.
fn protection(wanted: &Wanted) -> u32 {
    const PROT_WRITE: u32 = 2;
    const PROT_EXEC: u32 = 4;
    PROT_EXEC | if wanted.sites.have_semaphores() { PROT_WRITE } else { 0 }
}

/// What is known of a tracee.
#[derive(Debug)]
struct Tracee {
    task: Arc<TracedTask>,
    /// The call that it is in, if the end of it is waited for.
    call: Option<u32>,
    /// The path that it gave to exec.
    path: Vec<u8>,
    /// The call by which it was made, whose end it has not reached.
    born_in: Option<u32>,
    /// It is about to end, or has.
    ending: bool,
}

/// All tracees; belongs to the thread that seized them.
struct Seized {
    tracees: HashMap<u32, Tracee>,
    /// New tasks that stopped before their maker told of them, and how.
    early: HashMap<u32, Stop>,
    root: u32,
    /// Tasks have a filter; else they stop at every call.
    filtered: bool,
    /// Numbers of execve and execveat, and of the other calls that change what is known of a task.
    exec: [u32; 2],
    changing: Vec<u32>,
    shared: Arc<Shared>,
    /// Those that need another tracer after us, and who it will be; nobody once they are let go.
    list: Option<(Tracees, Guard)>,
    beside: Beside,
    /// Numbers of the calls that show whether a task is confined.
    affinity: [u32; 2],
    mmap: u32,
    arch_prctl: u32,
    /// Those that tell what SIGTRAP does.
    sigtrap: Numbers,
    /// Once somebody wants breakpoints.
    breakpoints: Option<Breakpoints>,
}

impl Seized {
    fn new(pid: u32, filtered: bool, shared: Arc<Shared>) -> Result<(Nudge, Seized), Error> {
        let number = |wanted: &str| syscalls::all().find(|(_, name)| *name == wanted).map_or(u32::MAX, |(nr, _)| nr);
        let mut tracees = Tracees::new().map_err(|errno| setup("keep a list of processes", errno))?;
        if filtered {
            tracees.add(pid);
        }
        let guard = Guard::spawn(&[Undo::Trace(&tracees)]);
        let guard = guard.map_err(|errno| setup("start the process that takes over after us", errno))?;
        let nudge = Nudge::here().map_err(|cause| Error::new("cannot catch SIGURG").with_source(cause))?;
        let mut seized = Seized {
            tracees: HashMap::new(),
            early: HashMap::new(),
            root: pid,
            filtered,
            exec: [number("execve"), number("execveat")],
            changing: CHANGING.iter().map(|name| number(name)).collect(),
            shared,
            list: Some((tracees, guard)),
            beside: Beside::new(nudge),
            affinity: AFFINITY.map(number),
            mmap: inject::number("mmap"),
            arch_prctl: inject::number("arch_prctl"),
            sigtrap: Numbers::new(),
            breakpoints: None,
        };
        seized.seize_all(pid)?;
        Ok((nudge, seized))
    }

    /// Seizes every thread of a process.
    fn seize_all(&mut self, pid: u32) -> Result<(), Error> {
        // Threads that start meanwhile are found by looking again, until there is nothing new.
        loop {
            let threads = threads(pid);
            let new: Vec<u32> = threads.into_iter().filter(|tid| !self.tracees.contains_key(tid)).collect();
            let mut any = false;
            for tid in new {
                match ptrace::seize(tid, self.filtered) {
                    Ok(()) => {
                        self.add(pid, tid);
                        any = true;
                    }
                    // One that ended in the meantime, was made by a thread that we have already, or has another tracer.
                    Err(_) if tid != pid => {}
                    Err(errno) => return Err(refusal(pid, errno)),
                }
            }
            if !any {
                break;
            }
        }
        if !self.tracees.contains_key(&pid) {
            return Err(refusal(pid, Errno::ESRCH));
        }
        if !self.filtered {
            for tid in self.tracees.keys() {
                // One that has ended is heard of later.
                let _ = ptrace::interrupt(*tid);
            }
        }
        Ok(())
    }

    fn add(&mut self, pid: u32, tid: u32) -> &mut Tracee {
        if self.filtered
            && let Some((list, _)) = &mut self.list
            && !list.add(tid)
        {
            self.shared.outcome().tally.unlisted += 1;
        }
        let tracee = Tracee {
            task: Arc::new(TracedTask::new(pid, tid)),
            call: None,
            path: Vec::new(),
            born_in: None,
            ending: false,
        };
        self.tracees.entry(tid).or_insert(tracee)
    }

    /// Handles stops until all tracees have ended or somebody wants the tracing to stop.
    fn run(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        while !self.shared.stop.load(Ordering::Acquire) {
            match ptrace::wait(true) {
                Ok(Wait::Stopped { tid, stop }) => self.stopped(tid, stop, sink),
                Ok(Wait::Ended { tid, status }) => self.ended(tid, status),
                Ok(Wait::Nothing) | Err(Errno::EINTR) => self.beside(Beside::nudged),
                Err(_) => return,
            }
            if self.shared.pass.load(Ordering::Acquire) {
                self.lift();
            }
        }
        self.let_go();
    }

    fn beside(&mut self, tell: impl FnOnce(&mut Beside, &mut Tracees)) {
        if let Some((list, _)) = &mut self.list {
            tell(&mut self.beside, list);
        }
    }

    /// Does something with the breakpoints, if there are any.
    fn with_breakpoints<T>(&mut self, look: impl FnOnce(&mut Breakpoints) -> T) -> Option<T> {
        let found = self.breakpoints.as_mut()?;
        let value = look(found);
        if let Some(missed) = found.take_missed() {
            lock(&self.shared.misses).take_in(missed);
        }
        Some(value)
    }

    fn lift(&mut self) {
        self.with_breakpoints(Breakpoints::lift);
    }

    /// Makes what breakpoints need, once somebody wants them.
    fn prepare(&mut self) {
        if self.breakpoints.is_some() {
            return;
        }
        if self.shared.wanted.get().is_some_and(|wanted| !wanted.sites.is_empty()) {
            self.breakpoints = lock(&self.shared.breakpoints).take();
        }
    }

    /// Whether a task's SIGTRAP came from a breakpoint; then it goes on without it.
    fn hit(&mut self, tid: u32, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let Some(task) = self.tracees.get(&tid).map(|tracee| Arc::clone(&tracee.task)) else { return false };
        self.with_breakpoints(|breakpoints| breakpoints.hit(&task, sink)).unwrap_or(false)
    }

    /// Sets breakpoints in what a task's process has mapped, if it was not looked at yet.
    fn place(&mut self, tid: u32) {
        let Some(pid) = self.tracees.get(&tid).map(|tracee| tracee.task.pid()) else { return };
        self.with_breakpoints(|breakpoints| {
            if !breakpoints.knows(pid) {
                breakpoints.place(pid, tid);
            }
            breakpoints.sigtraps().meet(tid);
        });
    }

    /// Handles what was heard while a task did something for us. Whether there was anything: then the task does not wait any more.
    fn hear(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let Some(Some(wait)) = self.with_breakpoints(Breakpoints::heard) else { return false };
        match wait {
            Wait::Stopped { tid, stop } => self.stopped(tid, stop, sink),
            Wait::Ended { tid, status } => self.ended(tid, status),
            Wait::Nothing => {}
        }
        true
    }

    fn ended(&mut self, tid: u32, status: i32) {
        if let Some(tracee) = self.tracees.remove(&tid) {
            let pid = tracee.task.pid();
            self.with_breakpoints(|breakpoints| {
                breakpoints.forget_task(pid, tid);
                if tid == pid {
                    breakpoints.forget_process(pid);
                }
            });
        }
        self.early.remove(&tid);
        if let Some((list, _)) = &mut self.list {
            list.remove(tid);
        }
        if tid == self.root {
            self.shared.outcome().status = Some(status);
        }
        self.adopt();
    }

    /// Lets new tasks go on whose maker was killed before it could tell of them.
    fn adopt(&mut self) {
        if self.early.is_empty() {
            return;
        }
        let is_orphan = |tid: u32| {
            let pid = status_number(tid, "Tgid:")?;
            let maker = if pid == tid { status_number(tid, "PPid:")? } else { pid };
            (!self.tracees.values().any(|tracee| tracee.task.pid() == maker)).then_some((tid, pid))
        };
        let orphans: Vec<(u32, u32)> = self.early.keys().filter_map(|tid| is_orphan(*tid)).collect();
        for (tid, pid) in orphans {
            let Some(stop) = self.early.remove(&tid) else { continue };
            self.beside(|beside, list| beside.born(tid, list));
            self.add(pid, tid);
            // It has the breakpoints of whoever made it.
            if !self.shared.pass.load(Ordering::Acquire) {
                self.place(tid);
            }
            self.stopped(tid, stop, &mut |_| {});
        }
    }

    /// Tells what a stop means and lets the task go on. A task that was killed while it was stopped answers `ESRCH` to everything;
    /// its end comes next.
    fn stopped(&mut self, tid: u32, stop: Stop, sink: &mut dyn FnMut(Event<'_>)) {
        if !self.tracees.contains_key(&tid) {
            // It was made by a tracee, which tells of it in its next stop.
            self.early.insert(tid, stop);
            self.adopt();
            return;
        }
        self.beside(|beside, list| beside.stopped(tid, list));
        if self.shared.pass.load(Ordering::Acquire) {
            self.lift();
            self.pass(tid, stop);
            return;
        }
        self.prepare();
        let stop = if stop == Stop::Signal(SIGTRAP) && self.hit(tid, sink) { Stop::Other } else { stop };
        let _ = self.tell(tid, stop, sink);
        if !self.hear(sink) {
            let _ = self.go_on(tid, stop);
        }
    }

    /// Lets a task go on without a look; only who is there matters still.
    fn pass(&mut self, tid: u32, stop: Stop) {
        self.beside(Beside::part);
        if stop == Stop::Born
            && let Ok(child) = ptrace::event_message(tid)
        {
            self.born(tid, child as u32, &mut |_| {});
        }
        if stop == Stop::Executed
            && let Ok(old_tid) = ptrace::event_message(tid)
        {
            self.executed(tid, old_tid as u32, &mut |_| {});
        }
        if let Some(tracee) = self.tracees.get_mut(&tid) {
            tracee.call = None;
        }
        let stop = if stop == Stop::Signal(SIGTRAP) && self.hit(tid, &mut |_| {}) { Stop::Other } else { stop };
        if !self.hear(&mut |_| {}) {
            let _ = ptrace::pass(tid, stop);
        }
    }

    fn go_on(&self, tid: u32, stop: Stop) -> Result<(), Errno> {
        let to_syscall = !self.filtered || self.tracees.get(&tid).is_some_and(|tracee| tracee.call.is_some());
        match stop {
            Stop::Job => ptrace::listen(tid),
            Stop::Signal(signal) if to_syscall => ptrace::resume_to_syscall(tid, signal),
            Stop::Signal(signal) => ptrace::resume(tid, signal),
            _ if to_syscall => ptrace::resume_to_syscall(tid, 0),
            _ => ptrace::resume(tid, 0),
        }
    }

    fn tell(&mut self, tid: u32, stop: Stop, sink: &mut dyn FnMut(Event<'_>)) -> Result<(), Errno> {
        match stop {
            Stop::Seccomp | Stop::Syscall => self.syscall(tid, ptrace::syscall_info(tid)?, sink),
            Stop::Born => {
                let child = ptrace::event_message(tid)? as u32;
                self.born(tid, child, sink);
            }
            Stop::Executed => {
                let old_tid = ptrace::event_message(tid)? as u32;
                self.executed(tid, old_tid, sink);
            }
            Stop::Ending => {
                let status = ptrace::event_message(tid)? as i32;
                let Some(tracee) = self.tracees.get(&tid) else { return Ok(()) };
                let pid = tracee.task.pid();
                // The first thread stays until the others are gone, as a zombie.
                let others = self.tracees.iter().any(|(other, it)| *other != tid && it.task.pid() == pid && !it.ending);
                sink(Event { task: &tracee.task, what: What::Ending { status, last: !others } });
                if let Some(tracee) = self.tracees.get_mut(&tid) {
                    tracee.ending = true;
                }
            }
            Stop::Signal(signal) => {
                let (_, errno, code) = ptrace::signal_info(tid)?;
                self.with_breakpoints(|breakpoints| breakpoints.sigtraps().signal(tid));
                // Of the kernel, for what the task did.
                if FAULTS.contains(&signal) && code > 0 {
                    let pid = self.tracees.get(&tid).map_or(tid, |tracee| tracee.task.pid());
                    self.with_breakpoints(|breakpoints| breakpoints.faulted(pid, tid));
                }
                if let Some(tracee) = self.tracees.get(&tid)
                    && self.shared.wanted.get().is_some_and(|wanted| wanted.signals)
                    && !is_ignored(tid, signal)
                {
                    sink(Event { task: &tracee.task, what: What::Signal { signal, errno, code } });
                }
            }
            // The first stop of a new task: it comes out of the call that made it.
            Stop::Trap => {
                self.comes_out(tid, sink);
                if !self.filtered {
                    self.place(tid);
                }
            }
            Stop::Job | Stop::Other => {}
        }
        Ok(())
    }

    fn syscall(&mut self, tid: u32, info: SyscallInfo, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(wanted) = self.shared.wanted.get() else { return };
        let Some(tracee) = self.tracees.get_mut(&tid) else { return };
        match info {
            SyscallInfo::Entry { arch, .. } if arch != ptrace::NATIVE_ARCH => tracee.call = None,
            // A filter of the target's own.
            SyscallInfo::Entry { mark: Some(mark), .. } if mark != seccomp::MARK => {}
            SyscallInfo::Entry { nr, args, at, .. } => {
                let Ok(nr) = u32::try_from(nr) else { return };
                if self.affinity.contains(&nr)
                    && let Some((list, _)) = &mut self.list
                {
                    self.beside.part(list);
                }
                if self.exec.contains(&nr) {
                    tracee.path = path_of_exec(&tracee.task, nr == self.exec[1], &args);
                }
                if wanted.enter.has(nr) {
                    sink(Event { task: &tracee.task, what: What::Enter { nr, args, at } });
                }
                if self.changing.contains(&nr) {
                    // It changes during the call, so what is read before the end may be old: see the end too.
                    tracee.task.changes();
                    tracee.call = Some(nr);
                }
                let probes = !wanted.sites.is_empty();
                let acts = nr == self.sigtrap.action && args[0] == SIGTRAP as u64;
                if !self.filtered || probes && (nr == self.mmap || acts) || wanted.exit.has(nr) {
                    tracee.call = Some(nr);
                }
                if let Some(breakpoints) = &mut self.breakpoints {
                    if acts {
                        breakpoints.action_asked(tracee.task.pid(), tid, &args, at.0);
                    } else if nr == self.sigtrap.mask {
                        breakpoints.sigtraps().masks(tid, &args);
                    } else if nr == self.arch_prctl && args[0] == u64::from(shadow::ENABLE) {
                        breakpoints.shadows().forget(tid);
                    } else if nr == self.sigtrap.back {
                        breakpoints.sigtraps().returns(tid, at.1);
                    }
                }
            }
            SyscallInfo::Exit { ret, at } => {
                let Some(nr) = tracee.call.take() else { return };
                if self.changing.contains(&nr) {
                    tracee.task.changes();
                }
                if wanted.exit.has(nr) {
                    sink(Event { task: &tracee.task, what: What::Exit { nr, ret, at } });
                }
                if wanted.sites.is_empty() {
                    return;
                }
                let pid = tracee.task.pid();
                if nr == self.sigtrap.action {
                    self.with_breakpoints(|breakpoints| breakpoints.action_answered(pid, tid, ret == 0));
                } else if nr == self.mmap && ret as u64 <= HIGHEST_ADDRESS {
                    self.with_breakpoints(|breakpoints| breakpoints.mapped(pid, tid, ret as u64));
                } else if self.exec.contains(&nr) && ret == 0 {
                    self.with_breakpoints(|breakpoints| breakpoints.place(pid, tid));
                }
            }
            SyscallInfo::None { .. } => {}
        }
    }

    fn born(&mut self, maker: u32, child: u32, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(tracee) = self.tracees.get(&maker) else { return };
        let (task, call) = (Arc::clone(&tracee.task), tracee.call);
        self.beside(|beside, list| beside.born(child, list));
        let is_thread = fs::exists(format!("/proc/{}/task/{child}", task.pid())).unwrap_or(false);
        let pid = if is_thread { task.pid() } else { child };
        self.add(pid, child).born_in = call;
        self.with_breakpoints(|breakpoints| breakpoints.born(&task, pid, child));
        sink(Event { task: &task, what: What::Born { tid: child, pid } });
        if let Some(stop) = self.early.remove(&child) {
            self.stopped(child, stop, sink);
        }
    }

    /// A new task sees the end of the call that made it, with the value 0.
    fn comes_out(&mut self, tid: u32, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(tracee) = self.tracees.get_mut(&tid) else { return };
        let Some(nr) = tracee.born_in.take() else { return };
        if self.shared.wanted.get().is_some_and(|wanted| wanted.exit.has(nr)) {
            let at = match ptrace::syscall_info(tid) {
                Ok(SyscallInfo::None { at } | SyscallInfo::Exit { at, .. }) => at,
                _ => (0, 0),
            };
            sink(Event { task: &tracee.task, what: What::Exit { nr, ret: 0, at } });
        }
    }

    /// The task has the process's id now, whatever it had before; all other threads are gone.
    fn executed(&mut self, tid: u32, old_tid: u32, sink: &mut dyn FnMut(Event<'_>)) {
        self.beside(|beside, list| beside.renamed(old_tid, tid, list));
        let caller = self.tracees.remove(&old_tid);
        let pid = caller.as_ref().map_or(tid, |caller| caller.task.pid());
        let gone: Vec<u32> =
            self.tracees.iter().filter(|(_, other)| other.task.pid() == pid).map(|(tid, _)| *tid).collect();
        for tid in gone.into_iter().chain([old_tid]) {
            self.with_breakpoints(|breakpoints| breakpoints.forget_task(pid, tid));
            self.tracees.remove(&tid);
            if let Some((list, _)) = &mut self.list {
                list.remove(tid);
            }
        }
        self.with_breakpoints(|breakpoints| breakpoints.forget_process(pid));
        if is_foreign(tid) {
            self.shared.outcome().tally.foreign += 1;
        }
        self.adopt();
        let tracee = self.add(pid, tid);
        if let Some(caller) = caller {
            tracee.call = caller.call;
            tracee.path = caller.path;
        }
        let path = std::mem::take(&mut tracee.path);
        let task = Arc::clone(&tracee.task);
        sink(Event { task: &task, what: What::Executed { old_tid, path } });
    }

    /// Sets every tracee free.
    fn let_go(&mut self) {
        self.beside(Beside::part);
        self.lift();
        // Those with a filter get another tracer, who asks for them from now on.
        drop(self.list.take());
        let mut running: HashSet<u32> = self.tracees.keys().copied().collect();
        running.retain(|tid| ptrace::interrupt(*tid).is_ok());
        // One that sleeps where signals do not reach it is set free by the end of this thread.
        let end = Instant::now() + PATIENCE;
        while !running.is_empty() && Instant::now() < end {
            match ptrace::wait(true) {
                Ok(Wait::Stopped { tid, stop }) => {
                    if stop == Stop::Born
                        && let Ok(child) = ptrace::event_message(tid)
                    {
                        running.extend(self.leave_child(tid, child as u32));
                    }
                    if !self.tracees.contains_key(&tid) {
                        // Its maker tells of it, and so whose breakpoints it has.
                        self.early.insert(tid, stop);
                        continue;
                    }
                    let signal = match stop {
                        Stop::Signal(SIGTRAP) if self.hit(tid, &mut |_| {}) => 0,
                        Stop::Signal(signal) => signal,
                        _ => 0,
                    };
                    if let Some(Some(Wait::Ended { tid, status })) = self.with_breakpoints(Breakpoints::heard) {
                        running.remove(&tid);
                        self.ended(tid, status);
                        continue;
                    }
                    let _ = ptrace::detach(tid, signal);
                    running.remove(&tid);
                }
                Ok(Wait::Ended { tid, status }) => {
                    running.remove(&tid);
                    self.ended(tid, status);
                }
                Ok(Wait::Nothing) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
        for tid in self.early.keys() {
            let _ = ptrace::detach(*tid, 0);
        }
    }

    /// A task that was made while we leave; its id, if its first stop is still to come.
    fn leave_child(&mut self, maker: u32, child: u32) -> Option<u32> {
        let early = self.early.remove(&child).is_some();
        self.born(maker, child, &mut |_| {});
        if early {
            let _ = ptrace::detach(child, 0);
        }
        (!early).then_some(child)
    }
}

/// Whether a task ignores a signal: the kernel would not even have brought it, did we not trace.
fn is_ignored(tid: u32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let is_in = |key: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
    };
    // Those that do nothing to who has no handler: SIGCHLD, SIGCONT, SIGURG, SIGWINCH.
    const HARMLESS: &[i32] = &[17, 18, 23, 28];
    is_in("SigIgn:") || HARMLESS.contains(&signal) && !is_in("SigCgt:")
}

/// A number that `/proc` tells about a task.
fn status_number(tid: u32, key: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
}

/// Ids of the threads of a process; empty when it is gone.
pub(super) fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether the program that a task has just started is one of another architecture.
fn is_foreign(tid: u32) -> bool {
    use std::io::Read as _;

    // e_ident's class, and e_machine.
    let mut head = [0; 20];
    let read = fs::File::open(format!("/proc/{tid}/exe")).and_then(|mut file| file.read_exact(&mut head));
    let machine = u16::from_le_bytes([head[18], head[19]]);
    let native = if cfg!(target_arch = "x86_64") {
        62
    } else if cfg!(target_arch = "aarch64") {
        183
    } else {
        return false;
    };
    read.is_ok() && head.starts_with(b"\x7fELF") && (head[4] != 2 || machine != native)
}

/// The path of a call of execve or execveat, as the kernel names it.
fn path_of_exec(task: &TracedTask, is_at: bool, args: &[u64; 6]) -> Vec<u8> {
    let path = string(task.tid(), if is_at { args[1] } else { args[0] });
    let dir = args[0] as i32;
    if !is_at || path.starts_with(b"/") || dir == AT_FDCWD {
        return path;
    }
    let mut whole = format!("/dev/fd/{dir}").into_bytes();
    if !path.is_empty() {
        whole.push(b'/');
        whole.extend(path);
    }
    whole
}

/// `AT_FDCWD` of fcntl.h.
const AT_FDCWD: i32 = -100;

/// Reads the text at an address of another task, up to its zero.
fn string(tid: u32, addr: u64) -> Vec<u8> {
    let mut text = Vec::new();
    let mut piece = [0; 256];
    while text.len() < MAX_PATH {
        let at = addr.wrapping_add(text.len() as u64);
        // Not over the end of a page: the next one may not be there.
        let len = piece.len().min(4096 - (at % 4096) as usize);
        let Ok(read) = ptrace::read_memory(tid, at, &mut piece[..len]) else { break };
        match piece[..read].iter().position(|&byte| byte == 0) {
            Some(end) => {
                text.extend_from_slice(&piece[..end]);
                break;
            }
            None if read == 0 => break,
            None => text.extend_from_slice(&piece[..read]),
        }
    }
    text
}

/// Why a process cannot be traced.
fn refusal(pid: u32, errno: Errno) -> Error {
    if errno == Errno::ESRCH {
        return Error::new(format!("there is no process {pid}")).with_kind(ErrorKind::Absent);
    }
    let error = Error::new(format!("cannot trace process {pid}")).with_source(errno).with_kind(ErrorKind::Denied);
    match status_number(pid, "TracerPid:") {
        Some(tracer) if tracer != 0 => error.with_hint(format!("process {tracer} traces it already, and there can be one only")),
        _ => error.with_hint(
            "only processes of your own can be traced, and only your commands (`-c`) where /proc/sys/kernel/yama/ptrace_scope is not 0",
        ),
    }
}
