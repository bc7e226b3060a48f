//! The thread that traces: it seizes tasks, tells what their stops mean, and lets them go on.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use skep_engine::{Error, ErrorKind};
use skep_sys::board::{Board, Posted, SLOTS};
use skep_sys::ptrace::{self, Stop, SyscallInfo, Wait};
use skep_sys::signal::Nudge;
use skep_sys::tracees::Tracees;
use skep_sys::undo::{ThreadGuard, Undo};
use skep_sys::{Errno, seccomp};

use super::{AFFINITY, CHANGING, PATIENCE, SIGTRAP, Shared, lock, setup};
use crate::process::beside::Beside;
use crate::process::breakpoint::{Breakpoints, CallTold, RIP, bytes_of};
use crate::process::registers::{CALL_ARGS, Reg, Registers};
use crate::process::sigtrap::{Numbers, SI_KERNEL};
use crate::process::{Event, TracedTask, What, inject, procfs, shadow};

/// Signals that tell a task what it did: SIGILL, SIGBUS, SIGFPE, SIGSEGV.
const FAULTS: [i32; 4] = [4, 7, 8, 11];
/// What no address is above, and errors are.
const HIGHEST_ADDRESS: u64 = u64::MAX - 4096;
/// Longest path that exec takes (`PATH_MAX`).
const MAX_PATH: usize = 4096;
/// What a command stops with before it runs.
const SIGURG: i32 = 23;
/// `PR_SET_SECCOMP` and `PR_SET_SYSCALL_USER_DISPATCH` (`include/uapi/linux/prctl.h`).
const PR_RULES: [u64; 2] = [22, 59];
/// When so many children of a task executed programs, it gets the filter, and so will those that come: looking through the code of a program
/// takes longer than many live.
const MAX_CHILDREN: u32 = 4;
/// How often boards are looked at between two questions for stops.
const LOOKS: u32 = 16;
/// How long they are looked at though nobody comes: about what it takes to stop a task of another processor.
const UNMET: Duration = Duration::from_micros(50);
/// And in the beginning, when a task may still have to find its way to another processor than ours.
const UNMET_YET: Duration = Duration::from_micros(500);
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
    /// The call by which it ends was told of.
    told_end: bool,
    /// It stops at every call until it executes a program.
    is_ours: bool,
    /// It is in a call of which nothing is told: a handler's, before the call that it is said to be in.
    in_other: bool,
    /// Who made it, unless it executed a program since.
    maker: Option<u32>,
    /// How many of its children executed programs.
    children: u32,
}

/// A call as a task at a gate has it: its number or value, and its arguments.
struct At {
    nr: u64,
    args: [u64; 6],
    stack: u64,
}

/// All tracees; belongs to the thread that seized them.
pub(super) struct Seized {
    tracees: HashMap<u32, Tracee>,
    /// New tasks that stopped before their maker told of them, and how.
    early: HashMap<u32, Stop>,
    root: u32,
    /// Tasks have a filter; else they stop at every call.
    filtered: bool,
    /// Numbers of execve and execveat, and of the other calls that change what is known of a task.
    exec: [u32; 2],
    changing: Vec<u32>,
    pub(super) shared: Arc<Shared>,
    /// Those that need another tracer after us, and who it will be; nobody once they are let go.
    list: Option<(Tracees, ThreadGuard)>,
    beside: Beside,
    /// Numbers of the calls that show whether a task is confined.
    affinity: [u32; 2],
    mmap: u32,
    arch_prctl: u32,
    /// Numbers of the calls that say what may be done with memory, and of those after which a process has rules of its own for calls or for memory.
    protecting: [u32; 2],
    ruling: [u32; 3],
    /// The command has said that it is about to run.
    begun: bool,
    /// Those that tell what SIGTRAP does.
    sigtrap: Numbers,
    /// Once somebody wants breakpoints.
    breakpoints: Option<Breakpoints>,
}

impl Seized {
    /// Seizes a process with all its threads, for the calling thread, which the other value wakes.
    pub(super) fn new(pid: u32, filtered: bool, shared: Arc<Shared>) -> Result<(Nudge, Seized), Error> {
        let mut tracees = Tracees::new().map_err(|errno| setup("keep a list of processes", errno))?;
        if filtered {
            tracees.add(pid);
            tracees.filters_itself(Some(pid));
        }
        let guard = ThreadGuard::spawn(&[Undo::Trace(&tracees)]);
        let guard = guard.map_err(|errno| setup("start the process that takes over after us", errno))?;
        let nudge = Nudge::here().map_err(|cause| Error::new("cannot catch SIGURG").with_source(cause))?;
        let mut seized = Seized {
            tracees: HashMap::new(),
            early: HashMap::new(),
            root: pid,
            filtered,
            exec: ["execve", "execveat"].map(inject::number),
            changing: CHANGING.iter().map(|name| inject::number(name)).collect(),
            shared,
            list: Some((tracees, guard)),
            beside: Beside::new(nudge),
            affinity: AFFINITY.map(inject::number),
            mmap: inject::number("mmap"),
            arch_prctl: inject::number("arch_prctl"),
            protecting: ["mprotect", "pkey_mprotect"].map(inject::number),
            ruling: ["seccomp", "personality", "prctl"].map(inject::number),
            begun: false,
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
            let new: Vec<u32> =
                procfs::threads(pid).into_iter().filter(|tid| !self.tracees.contains_key(tid)).collect();
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
            told_end: false,
            is_ours: false,
            in_other: false,
            maker: None,
            children: 0,
        };
        self.tracees.entry(tid).or_insert(tracee)
    }

    /// Handles stops until all tracees have ended or somebody wants the tracing to stop.
    pub(super) fn run(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        while !self.shared.stop.load(Ordering::Acquire) {
            let wait = self.look_for_waiting(sink).unwrap_or_else(|| ptrace::wait(true));
            match wait {
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

    /// While tasks come by gates again and again: runs the programs for them, until something else is to be done; `None` when nobody came for a while, or is
    /// expected.
    fn look_for_waiting(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> Option<Result<Wait, Errno>> {
        if !self.breakpoints.as_ref().is_some_and(Breakpoints::are_looked_at) {
            return None;
        }
        if !self.breakpoints.as_ref().is_some_and(Breakpoints::have_met) {
            self.beside(Beside::apart);
        }
        let mut last = Instant::now();
        loop {
            let mut any = false;
            for _ in 0..LOOKS {
                any |= self.meet(sink);
                std::hint::spin_loop();
            }
            match ptrace::wait(false) {
                Ok(Wait::Nothing) => {}
                wait => return Some(wait),
            }
            let flags = [&self.shared.stop, &self.shared.pass];
            if flags.iter().any(|flag| flag.load(Ordering::Acquire)) {
                return Some(Ok(Wait::Nothing));
            }
            let now = Instant::now();
            let met = self.breakpoints.as_ref().is_some_and(Breakpoints::have_met);
            let patience = if met { UNMET } else { UNMET_YET };
            if any {
                last = now;
            } else if now.duration_since(last) > patience {
                self.with_breakpoints(Breakpoints::look_away);
                // Who came in the last moment.
                self.meet(sink);
                return None;
            }
        }
    }

    /// Runs the programs for those who wait at gates.
    fn meet(&mut self, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let mut any = false;
        // Not for ever: there are stops as well.
        for _ in 0..SLOTS {
            let Some((board, posted)) = self.breakpoints.as_mut().and_then(Breakpoints::take) else { break };
            any = true;
            let understood = self.met(&board, posted, sink).is_some();
            board.answer(posted.slot, understood);
        }
        any
    }

    /// Runs the programs for what a task told on a board, which may be anything; `None` if it has to be stopped.
    fn met(&mut self, board: &Arc<Board>, mut posted: Posted, sink: &mut dyn FnMut(Event<'_>)) -> Option<()> {
        let task = Arc::clone(&self.tracees.get(&posted.tid)?.task);
        let (pid, tid) = (task.pid(), task.tid());
        let breakpoints = self.breakpoints.as_ref().filter(|breakpoints| breakpoints.has_board(pid, board))?;
        let stop = posted.words[RIP];
        if let Some(told) = breakpoints.call_at(pid, stop) {
            let words = &posted.words;
            let nr = words[Reg::Rax as usize];
            let args = CALL_ARGS.map(|reg| words[reg as usize]);
            if told.is_late {
                return Some(());
            }
            let needs_stop = breakpoints.call_stops_at(nr as u32, &args) || self.wants_end_by_stop(nr as u32, told);
            if !told.is_end && needs_stop {
                return None;
            }
            let call = At { nr, args, stack: words[Reg::Rsp as usize] };
            self.with_breakpoints(|breakpoints| breakpoints.met_call(pid));
            posted.words[RIP] = told.behind;
            task.waits_with(Some(bytes_of(&posted, if told.is_end { u64::MAX } else { nr })));
            self.told(tid, told, &call, sink);
        } else {
            let what = breakpoints.probe_at(pid, stop, &mut posted)?;
            task.waits_with(Some(bytes_of(&posted, u64::MAX)));
            sink(Event { task: &task, what });
        }
        task.waits_with(None);
        Some(())
    }

    /// Whether the end of a call is wanted that no gate tells of.
    fn wants_end_by_stop(&self, nr: u32, told: CallTold) -> bool {
        !told.has_end && self.shared.wanted.get().is_some_and(|wanted| wanted.exit.has(nr))
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
        if self.shared.wanted.get().is_some() {
            self.breakpoints = lock(&self.shared.breakpoints).take();
            if let (Some(breakpoints), Some((_, guard))) = (&mut self.breakpoints, &self.list) {
                breakpoints.entrust(guard);
            }
        }
    }

    /// Whether a task's SIGTRAP came from a breakpoint; then it goes on without it.
    fn hit(&mut self, tid: u32, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        if self.hit_call(tid, sink).is_some() {
            return true;
        }
        let Some(task) = self.tracees.get(&tid).map(|tracee| Arc::clone(&tracee.task)) else { return false };
        self.with_breakpoints(|breakpoints| breakpoints.hit(&task, sink)).unwrap_or(false)
    }

    /// Whether calls are seen at gates.
    fn have_gates(&self) -> bool {
        self.breakpoints.as_ref().is_some_and(Breakpoints::have_calls)
    }

    /// A task's SIGTRAP: `None` if it is not that of a gate for calls.
    fn hit_call(&mut self, tid: u32, sink: &mut dyn FnMut(Event<'_>)) -> Option<()> {
        if !self.have_gates() {
            return None;
        }
        let task = Arc::clone(&self.tracees.get(&tid)?.task);
        let pid = task.pid();
        let registers = Registers::of(tid).ok()?;
        let told = self.breakpoints.as_ref()?.call_at(pid, registers.get(Reg::Rip).wrapping_sub(1))?;
        // A signal that somebody sent may find the task behind the instruction.
        (ptrace::signal_info(tid).ok()?.2 == SI_KERNEL).then_some(())?;
        if let Some(go_on) = told.go_on {
            let mut there = registers.clone();
            there.put(Reg::Rip, go_on);
            // A task that was killed meanwhile needs no registers.
            let _ = there.set(tid);
        }
        self.with_breakpoints(|breakpoints| breakpoints.restore_sigtrap(pid, tid));
        self.judge_children(tid);
        if !told.is_late && !told.is_silent {
            let call = At { nr: registers.get(Reg::Rax), args: registers.call_args(), stack: registers.get(Reg::Rsp) };
            let mut shown = registers.clone();
            shown.put(Reg::Rip, told.behind);
            shown.put(Reg::OrigRax, if told.is_end { u64::MAX } else { call.nr });
            task.waits_with(Some(shown.pt_regs()));
            self.told(tid, told, &call, sink);
            task.waits_with(None);
            self.with_breakpoints(|breakpoints| breakpoints.stopped_at_call(pid, tid));
            let is_filtered = self.breakpoints.as_ref().is_some_and(|breakpoints| breakpoints.fell_back(pid));
            if let (true, false, Some(tracee)) = (is_filtered, told.is_end, self.tracees.get_mut(&tid)) {
                // The filter shows this very call, and its end.
                let nr = call.nr as u32;
                tracee.call = Some(nr);
            }
        }
        Some(())
    }

    /// Gives a task the filter so many of whose children executed programs.
    fn judge_children(&mut self, tid: u32) {
        let Some(tracee) = self.tracees.get(&tid).filter(|tracee| tracee.children >= MAX_CHILDREN) else { return };
        let pid = tracee.task.pid();
        self.with_breakpoints(|breakpoints| breakpoints.fall_back(pid, tid));
    }

    /// A task told of a call at a gate.
    fn told(&mut self, tid: u32, told: CallTold, call: &At, sink: &mut dyn FnMut(Event<'_>)) {
        let at = (told.behind, call.stack);
        if told.is_end {
            let nr = self.breakpoints.as_mut().and_then(|breakpoints| breakpoints.awaited_end(tid, at));
            let (Some(nr), Some(tracee)) = (nr, self.tracees.get(&tid)) else { return };
            sink(Event { task: &tracee.task, what: What::Exit { nr, ret: call.nr as i64, at } });
            return;
        }
        // The kernel looks at the lower half only.
        let nr = u64::from(call.nr as u32);
        let info = SyscallInfo::Entry { nr, args: call.args, at, arch: ptrace::NATIVE_ARCH, mark: None };
        self.syscall(tid, info, Some(told), sink);
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

    /// Handles what was heard while tasks did something for us. Whether any of it was of this one: then it does not wait any more.
    fn hear(&mut self, of: u32, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let mut any = false;
        while let Some(Some(wait)) = self.with_breakpoints(Breakpoints::heard) {
            match wait {
                Wait::Stopped { tid, stop } => {
                    any |= tid == of;
                    self.stopped(tid, stop, sink);
                }
                Wait::Ended { tid, status } => {
                    any |= tid == of;
                    self.ended(tid, status);
                }
                Wait::Nothing => {}
            }
        }
        any
    }

    fn ended(&mut self, tid: u32, status: i32) {
        if let Some(tracee) = self.tracees.remove(&tid) {
            let pid = tracee.task.pid();
            self.with_breakpoints(|breakpoints| {
                breakpoints.forget_task(pid, tid);
                if tid == pid {
                    breakpoints.forget_process(pid);
                    breakpoints.bury(pid);
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
            let pid = procfs::status_number(tid, "Tgid:")?;
            let maker = if pid == tid { procfs::status_number(tid, "PPid:")? } else { pid };
            // The first thread of a process ends last, and is not heard of while others wait.
            let tells = |tracee: &Tracee| tracee.task.pid() == maker && !tracee.ending;
            (!self.tracees.values().any(tells)).then_some((tid, pid))
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
            ptrace::take_stop(tid);
            self.early.insert(tid, stop);
            self.adopt();
            return;
        }
        self.beside(|_, list| list.stops(tid, stop == Stop::Job));
        // Who comes by gates has to be beside us, not in our place.
        if !self.breakpoints.as_ref().is_some_and(Breakpoints::are_looked_at) {
            self.beside(|beside, list| beside.stopped(tid, list));
        }
        if self.shared.pass.load(Ordering::Acquire) {
            self.lift();
            self.pass(tid, stop);
            return;
        }
        self.prepare();
        if stop == Stop::Signal(SIGURG) && tid == self.root && !self.begun && self.have_gates() {
            self.begun = true;
            if let Some(tracee) = self.tracees.get_mut(&tid) {
                tracee.is_ours = true;
            }
            let _ = self.go_on(tid, Stop::Other);
            return;
        }
        let stop = if stop == Stop::Signal(SIGTRAP) && self.hit(tid, sink) { Stop::Other } else { stop };
        let _ = self.tell(tid, stop, sink);
        if !self.hear(tid, sink) {
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
            tracee.ending |= stop == Stop::Ending;
        }
        if stop == Stop::Ending {
            self.adopt();
        }
        let stop = if stop == Stop::Signal(SIGTRAP) && self.hit(tid, &mut |_| {}) { Stop::Other } else { stop };
        if !self.hear(tid, &mut |_| {}) {
            let _ = ptrace::pass(tid, stop);
        }
    }

    fn go_on(&self, tid: u32, stop: Stop) -> Result<(), Errno> {
        let waits = |tracee: &Tracee| tracee.call.is_some() || tracee.is_ours;
        let to_syscall = !self.filtered || self.tracees.get(&tid).is_some_and(waits);
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
            Stop::Seccomp | Stop::Syscall => self.syscall(tid, ptrace::syscall_info(tid)?, None, sink),
            Stop::Born => {
                let child = ptrace::event_message(tid)? as u32;
                self.born(tid, child, sink);
            }
            Stop::Executed => {
                let old_tid = ptrace::event_message(tid)? as u32;
                self.executed(tid, old_tid, sink);
            }
            Stop::Ending => {
                self.ends_by_call(tid, sink);
                let status = ptrace::event_message(tid)? as i32;
                let Some(tracee) = self.tracees.get(&tid) else { return Ok(()) };
                let pid = tracee.task.pid();
                // The first thread stays until the others are gone, as a zombie.
                let others = self.tracees.iter().any(|(other, it)| *other != tid && it.task.pid() == pid && !it.ending);
                sink(Event { task: &tracee.task, what: What::Ending { status, last: !others } });
                if let Some(tracee) = self.tracees.get_mut(&tid) {
                    tracee.ending = true;
                }
                self.adopt();
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
                    && !procfs::is_ignored(tid, signal)
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

    /// A call begins or ends: at a stop, or told of at a gate.
    fn syscall(&mut self, tid: u32, info: SyscallInfo, told: Option<CallTold>, sink: &mut dyn FnMut(Event<'_>)) {
        let have_gates = self.have_gates();
        let Some(wanted) = self.shared.wanted.get() else { return };
        let Some(tracee) = self.tracees.get_mut(&tid) else { return };
        if let (SyscallInfo::Entry { nr, .. }, Some(call), None) = (&info, tracee.call, told) {
            // It was told of at a gate. Another one is that of a handler which came between.
            tracee.in_other = *nr != u64::from(call);
            return;
        }
        if matches!(info, SyscallInfo::Exit { .. }) && std::mem::take(&mut tracee.in_other) {
            return;
        }
        match info {
            SyscallInfo::Entry { arch, .. } if arch != ptrace::NATIVE_ARCH => tracee.call = None,
            // A filter of the target's own.
            SyscallInfo::Entry { mark: Some(mark), .. } if mark != seccomp::MARK => {}
            SyscallInfo::Entry { nr, args, at, .. } => {
                let Ok(nr) = u32::try_from(nr) else { return };
                if tracee.is_ours && !self.exec.contains(&nr) {
                    return;
                }
                if self.ruling.contains(&nr) && (nr != self.ruling[2] || PR_RULES.contains(&args[0])) {
                    let pid = tracee.task.pid();
                    self.with_breakpoints(|breakpoints| {
                        breakpoints.fall_back(pid, tid);
                        breakpoints.close_gates(pid);
                    });
                }
                let (Some(wanted), Some(tracee)) = (self.shared.wanted.get(), self.tracees.get_mut(&tid)) else {
                    return;
                };
                if self.affinity.contains(&nr)
                    && let Some((list, _)) = &mut self.list
                {
                    self.beside.part(list);
                }
                if self.exec.contains(&nr) {
                    tracee.path = path_of_exec(&tracee.task, nr == self.exec[1], &args);
                }
                if wanted.enter.has(nr) {
                    tracee.told_end =
                        self.breakpoints.as_ref().is_some_and(|breakpoints| breakpoints.is_told_by_end(nr));
                    sink(Event { task: &tracee.task, what: What::Enter { nr, args, at } });
                }
                if self.changing.contains(&nr) {
                    // It changes during the call, so what is read before the end may be old: see the end too.
                    tracee.task.changes();
                    tracee.call = Some(nr);
                }
                let probes = !wanted.sites.is_empty() || have_gates;
                let acts = nr == self.sigtrap.action && args[0] == SIGTRAP as u64;
                let maps = nr == self.mmap || self.protecting.contains(&nr);
                let ends_at_gate = told.is_some_and(|told| told.has_end);
                let by_stop = if have_gates {
                    self.breakpoints.as_ref().is_some_and(|breakpoints| breakpoints.call_stops_at(nr, &args))
                } else {
                    !self.filtered || probes && (maps || acts)
                };
                if by_stop || tracee.is_ours || wanted.exit.has(nr) && !ends_at_gate {
                    tracee.call = Some(nr);
                } else if wanted.exit.has(nr) {
                    self.breakpoints.iter_mut().for_each(|breakpoints| breakpoints.await_end(tid, nr, at));
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
                if self.breakpoints.is_none() {
                    return;
                }
                let pid = tracee.task.pid();
                if nr == self.sigtrap.action {
                    self.with_breakpoints(|breakpoints| breakpoints.action_answered(pid, tid, ret == 0));
                } else if nr == self.mmap && ret as u64 <= HIGHEST_ADDRESS {
                    self.with_breakpoints(|breakpoints| breakpoints.mapped(pid, tid, ret as u64));
                } else if self.exec.contains(&nr) && ret == 0 {
                    self.with_breakpoints(|breakpoints| breakpoints.place(pid, tid));
                } else if self.protecting.contains(&nr) && ret == 0 && have_gates {
                    self.with_breakpoints(|breakpoints| breakpoints.protected(pid, tid));
                }
            }
            SyscallInfo::None { .. } => {}
        }
    }

    /// Tells of the call that a task ends by, if somebody wants to know it and nothing else tells.
    fn ends_by_call(&self, tid: u32, sink: &mut dyn FnMut(Event<'_>)) {
        let (Some(tracee), Some(breakpoints)) = (self.tracees.get(&tid), &self.breakpoints) else { return };
        if tracee.is_ours || tracee.told_end || !breakpoints.ends_tell() {
            return;
        }
        let Ok(registers) = Registers::of(tid) else { return };
        let nr = registers.get(Reg::OrigRax) as u32;
        if breakpoints.is_told_by_end(nr) {
            let at = (registers.get(Reg::Rip), registers.get(Reg::Rsp));
            sink(Event { task: &tracee.task, what: What::Enter { nr, args: registers.call_args(), at } });
        }
    }

    fn born(&mut self, maker: u32, child: u32, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(tracee) = self.tracees.get(&maker) else { return };
        let (task, call) = (Arc::clone(&tracee.task), tracee.call);
        self.beside(|beside, list| beside.born(child, list));
        let is_thread = fs::exists(format!("/proc/{}/task/{child}", task.pid())).unwrap_or(false);
        let pid = if is_thread { task.pid() } else { child };
        let tracee = self.add(pid, child);
        tracee.born_in = call;
        tracee.maker = (pid == child).then_some(maker);
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
        self.beside(|beside, list| {
            beside.renamed(old_tid, tid, list);
            // Whoever gets a filter from now on gets it from us.
            list.filters_itself(None);
        });
        let caller = self.tracees.remove(&old_tid);
        let maker = caller.as_ref().and_then(|caller| caller.maker);
        let pid = caller.as_ref().map_or(tid, |caller| caller.task.pid());
        let gone: Vec<u32> =
            self.tracees.iter().filter(|(_, other)| other.task.pid() == pid).map(|(tid, _)| *tid).collect();
        for gone in gone.into_iter().chain([old_tid]) {
            self.with_breakpoints(|breakpoints| breakpoints.forget_task(pid, gone));
            self.tracees.remove(&gone);
            // The one that is left is never off the list, where it may be needed at any time.
            if let Some((list, _)) = self.list.as_mut().filter(|_| gone != tid) {
                list.remove(gone);
            }
        }
        self.with_breakpoints(|breakpoints| breakpoints.forget_process(pid));
        if procfs::is_foreign(tid) {
            self.shared.outcome().tally.foreign += 1;
        }
        self.adopt();
        let (has_gates, exec) = (self.have_gates(), self.exec[0]);
        let tracee = self.add(pid, tid);
        if let Some(caller) = caller {
            tracee.call = caller.call;
            tracee.path = caller.path;
        }
        if has_gates && tracee.call.is_none() {
            // Its code is looked at when the call ends.
            tracee.call = Some(exec);
        }
        let path = std::mem::take(&mut tracee.path);
        let task = Arc::clone(&tracee.task);
        if has_gates && let Some(maker) = maker.and_then(|maker| self.tracees.get_mut(&maker)) {
            maker.children += 1;
        }
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
                        ptrace::take_stop(tid);
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
    match procfs::status_number(pid, "TracerPid:") {
        Some(tracer) if tracer != 0 => error.with_hint(format!("process {tracer} traces it already, and there can be one only")),
        _ => error.with_hint(
            "only processes of your own can be traced, and only your commands (`-c`) where /proc/sys/kernel/yama/ptrace_scope is not 0",
        ),
    }
}
