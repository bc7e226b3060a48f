//! Tasks that need another tracer when theirs dies, and how they get it.
//!
//! A task with a filter that wants a tracer ([`crate::seccomp`]) fails its calls without one. So its tracer keeps a list in memory that a forked process sees
//! too, and that process waits for the moment in which the tracer begins to die ([`crate::undo::ThreadGuard`]). If the tracer stands still then (`last_stop`), the tasks are stopped before it
//! goes on and sets them free. The process asks for the tasks while they still belong to the other, for then they are without one for an instant only; whoever they make in that instant is looked for behind them.
//!
//! # Safety
//! kill(2) and its like take numbers, and waitid(2) is given nothing to write to.
#![expect(unsafe_code, reason = "kill(2), tkill(2), tgkill(2), waitid(2)")]

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::thread::CpuSet;

use crate::Errno;
use crate::front::Tie;
use crate::last_stop::LastStop;
use crate::mmap::SharedMap;
use crate::proc::{Look, each_child, each_thread, look, number, value_of, with_status};
use crate::ptrace::{Wait, pass, seize, wait};

/// Most tasks that a list has room for.
const MAX_TRACEES: usize = 1 << 16;
/// It is stopped as a job is; no id of a task is as high.
const STOPPED: u32 = 1 << 31;
/// Behind them: the task that is confined, and its processors, as sched_setaffinity(2) takes them.
const CONFINED: usize = MAX_TRACEES * 4;
const CPUS_BYTES: usize = CpuSet::MAX_CPU / 8;
/// Behind them: how many places were ever used.
const USED: usize = CONFINED + 8 + CPUS_BYTES;
/// Behind them: the task that is about to put a filter on itself.
const FILTERS_ITSELF: usize = USED + 4;
const TRACEES_BYTES: usize = FILTERS_ITSELF + 4;

/// A list of tasks in memory that a forked process sees too: whom somebody else has to trace when the tracer dies, see
/// [`Undo::Trace`](crate::undo::Undo::Trace).
#[derive(Debug)]
pub struct Tracees {
    map: SharedMap,
    /// Where each task stands, and the places that are free again.
    places: HashMap<u32, usize>,
    free: Vec<usize>,
}

impl Tracees {
    /// An empty list.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn new() -> Result<Tracees, Errno> {
        let memory = rustix::fs::memfd_create("skep-tracees", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, TRACEES_BYTES as u64)?;
        let map = SharedMap::new(memory.as_fd(), 0, TRACEES_BYTES, true)?;
        Ok(Tracees { map, places: HashMap::new(), free: Vec::new() })
    }

    /// Adds a task. False when the list is full.
    pub fn add(&mut self, tid: u32) -> bool {
        if self.places.contains_key(&tid) {
            return true;
        }
        let place = self.free.pop().unwrap_or(self.places.len());
        if place >= MAX_TRACEES {
            return false;
        }
        // All of it is inside.
        let _ = self.map.write(place * 4, &tid.to_ne_bytes());
        self.places.insert(tid, place);
        if place >= self.used() {
            let _ = self.map.write(USED, &(place as u32 + 1).to_ne_bytes());
        }
        true
    }

    /// Takes a task off the list.
    pub fn remove(&mut self, tid: u32) {
        if let Some(place) = self.places.remove(&tid) {
            // It was written before, so it is inside.
            let _ = self.map.write(place * 4, &[0; 4]);
            self.free.push(place);
        }
    }

    /// Notes whether a task of the list is stopped as a job is, and so has to be still when it has another tracer.
    pub fn stops(&mut self, tid: u32, is_job: bool) {
        if let Some(place) = self.places.get(&tid) {
            let word = tid | if is_job { STOPPED } else { 0 };
            // It was written before, so it is inside.
            let _ = self.map.write(place * 4, &word.to_ne_bytes());
        }
    }

    /// Notes which task may put a filter on itself at any time; `None` when it has, or will not any more.
    pub fn filters_itself(&mut self, tid: Option<u32>) {
        // It is inside.
        let _ = self.map.write(FILTERS_ITSELF, &tid.unwrap_or(0).to_ne_bytes());
    }

    /// Notes which task is confined to fewer processors than it shall have, before it is; `None` when it has them again.
    pub fn confine(&mut self, confined: Option<(u32, &CpuSet)>) {
        let mut bytes = [0; CPUS_BYTES];
        let tid = confined.map_or(0, |(tid, cpus)| {
            for cpu in (0..CpuSet::MAX_CPU).filter(|&cpu| cpus.is_set(cpu)) {
                bytes[cpu / 8] |= 1 << (cpu % 8);
            }
            tid
        });
        // All of it is inside. The id is last: it makes the others count.
        if tid != 0 {
            let _ = self.map.write(CONFINED + 8, &bytes);
        }
        let _ = self.map.write(CONFINED, &tid.to_ne_bytes());
    }

    /// Gives a confined task its processors back. Allocates nothing.
    fn set_free(&self) {
        let (mut tid, mut bytes) = ([0; 4], [0; CPUS_BYTES]);
        if self.map.read(CONFINED, &mut tid).is_err() || self.map.read(CONFINED + 8, &mut bytes).is_err() {
            return;
        }
        let Some(tid) = rustix::thread::Pid::from_raw(i32::from_ne_bytes(tid)) else { return };
        let mut cpus = CpuSet::new();
        for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| bytes[cpu / 8] >> (cpu % 8) & 1 == 1) {
            cpus.set(cpu);
        }
        let _ = rustix::thread::sched_setaffinity(Some(tid), &cpus);
    }

    /// Traces every task of the list from now on without looking at anything, and all that they make, until the last one has ended.
    ///
    /// For a process that was forked while the list was filled: it allocates nothing and only makes system calls. Tasks that still
    /// have their old tracer are asked for again, for two seconds at most. While that stands still before its end, those with a filter are stopped as a job is, so that they do nothing when it
    /// sets them free, and go on when they have us.
    pub(crate) fn inherit(&self, last_stop: Option<LastStop>) {
        self.set_free();
        let mut stopped = Stopped { tids: [0; MAX_STOPPED], len: 0 };
        let tie = last_stop.as_ref().and_then(|_| Tie::new());
        if last_stop.is_some() {
            self.stop_all(&mut stopped);
        }
        drop(last_stop);
        let end = Instant::now() + TO_INHERIT;
        self.each(|tid, _| inherit(tid, MAX_GENERATIONS, end));
        for tid in &stopped.tids[..stopped.len] {
            let pid = process_of(*tid);
            // One of each process is enough.
            let speaks = *tid == pid || look(pid) == Look::Ended;
            if speaks && !self.is_stopped_job(pid) {
                go_on(pid);
            }
        }
        drop(tie);
        loop {
            match wait(true) {
                Ok(Wait::Stopped { tid, stop }) => drop(pass(tid, stop)),
                Err(Errno::EINTR) | Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Stops the tasks that have more filters than we have, and what they have made that the list does not know of yet: one that was never let go, so it has made nothing itself.
    fn stop_all(&self, stopped: &mut Stopped) {
        let ours = filters(std::process::id());
        let needs_tracer = |tid| tid == self.word_at(FILTERS_ITSELF) || filters(tid) > ours;
        self.each(|tid, _| {
            if needs_tracer(tid) {
                stopped.stop(tid);
            }
        });
        // Who is about to make a task makes it all the same, and stands still behind that.
        let end = Instant::now() + TO_STAND;
        self.each(|tid, _| {
            while needs_tracer(tid) && runs(tid) && Instant::now() < end {
                std::thread::yield_now();
            }
        });
        self.each(|tid, _| {
            each_new(tid, &mut |new| {
                if !self.has(new) && needs_tracer(new) {
                    stopped.stop(new);
                }
            });
        });
    }

    /// Whether a process was stopped as a job is.
    fn is_stopped_job(&self, pid: u32) -> bool {
        let mut is_stopped = false;
        let mut ask = |tid| self.each(|it, stopped| is_stopped |= it == tid && stopped);
        ask(pid);
        each_thread(pid, &mut ask);
        is_stopped
    }

    /// Each task of the list, and whether it was stopped as a job is.
    fn each(&self, mut visit: impl FnMut(u32, bool)) {
        for place in 0..self.used() {
            let word = self.word_at(place * 4);
            if word != 0 {
                visit(word & !STOPPED, word & STOPPED != 0);
            }
        }
    }

    fn used(&self) -> usize {
        (self.word_at(USED) as usize).min(MAX_TRACEES)
    }

    fn word_at(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        // All of it is inside.
        let _ = self.map.read(offset, &mut word);
        u32::from_ne_bytes(word)
    }

    fn has(&self, tid: u32) -> bool {
        let mut has = false;
        self.each(|it, _| has |= it == tid);
        has
    }
}

/// Tasks that were stopped, and have to go on.
struct Stopped {
    tids: [u32; MAX_STOPPED],
    len: usize,
}

impl Stopped {
    /// Stops a task, and with it all of its process, when its tracer is gone. Does nothing when there is no room to note it.
    fn stop(&mut self, tid: u32) {
        let Some(place) = self.tids.get_mut(self.len) else { return };
        *place = tid;
        self.len += 1;
        // SAFETY: tkill(2) with numbers only.
        unsafe { libc::syscall(libc::SYS_tkill, tid, libc::SIGSTOP) };
    }
}

/// Most tasks that are stopped.
const MAX_STOPPED: usize = 16 << 10;
/// How long is waited until all that were stopped stand still.
const TO_STAND: Duration = Duration::from_millis(20);
/// How long tasks are asked for that still have their old tracer.
const TO_INHERIT: Duration = Duration::from_secs(2);
/// Generations that are born in the moment in which tasks have no tracer.
const MAX_GENERATIONS: u32 = 8;

/// How often a task is asked for without a pause, some 20 milliseconds: who pauses is not there when it is free.
const PRESSING: u32 = 20_000;
/// How often it is asked for between two looks at whether it ever will be free.
const BETWEEN_LOOKS: u32 = 128;

/// Traces a task that has another tracer, which is about to be none, and what it makes before that: those have no tracer at all, and whoever is
/// traced already tells of the next. Allocates nothing.
fn inherit(tid: u32, generations: u32, end: Instant) {
    let mut tries = 0;
    while seize(tid, true) == Err(Errno::EPERM) {
        if tries % BETWEEN_LOOKS == 0 {
            let is_in_vain = match look(tid) {
                // Its threads may be there still.
                Look::Ended => break,
                Look::Traced => is_tracee(tid) || Instant::now() > end,
                // Nobody is in the way, so it may not be traced, unless that was over between the two questions.
                Look::Free => seize(tid, true) == Err(Errno::EPERM),
            };
            if is_in_vain {
                return;
            }
        }
        tries += 1;
        if tries > PRESSING {
            std::thread::yield_now();
        }
    }
    let Some(rest) = generations.checked_sub(1) else { return };
    each_new(tid, &mut |tid| inherit(tid, rest, end));
}

/// Lets a process go on.
fn go_on(pid: u32) {
    // SAFETY: kill(2) with numbers only.
    unsafe { libc::kill(pid as libc::pid_t, libc::SIGCONT) };
}

/// Whether a task is the first of its process.
fn is_first(tid: u32) -> bool {
    // SAFETY: tgkill(2) with numbers only, and without a signal.
    unsafe { libc::syscall(libc::SYS_tgkill, tid, tid, 0) == 0 }
}

/// The threads of a process, if a task is its first, and the children of the task.
fn each_new(tid: u32, visit: &mut dyn FnMut(u32)) {
    if is_first(tid) {
        each_thread(tid, visit);
    }
    each_child(tid, visit);
}

/// Whether a task does not sleep, nor stand still.
fn runs(tid: u32) -> bool {
    with_status(tid, |status| value_of(status, b"\nState:\t").is_some_and(|state| state.starts_with(b"R")))
}

/// The process of a task, if it is there.
fn process_of(tid: u32) -> u32 {
    with_status(tid, |status| value_of(status, b"\nTgid:\t").and_then(number)).unwrap_or(tid)
}

/// How many rules there are for the calls of a task. Kernels before 5.9 tell only whether there are any.
fn filters(tid: u32) -> u32 {
    with_status(tid, |status| match value_of(status, b"\nSeccomp:\t") {
        Some(b"2") => value_of(status, b"\nSeccomp_filters:\t").and_then(number).unwrap_or(u32::MAX),
        _ => 0,
    })
}

/// Whether the calling thread traces a task, or waits for it as for its child.
fn is_tracee(tid: u32) -> bool {
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: a null pointer asks for no information.
    unsafe { libc::waitid(libc::P_PID, tid, std::ptr::null_mut(), flags) == 0 }
}
