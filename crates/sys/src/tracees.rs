//! Tasks that need another tracer when theirs dies, and how they get it.
//!
//! A task with a filter that wants a tracer ([`crate::seccomp`]) fails its calls without one. So its tracer keeps a list in memory that a forked process sees
//! too, and that process waits for the moment in which the tracer begins to die ([`crate::undo::ThreadGuard`]). It asks for the tasks of the list while they
//! still belong to the other, for then they are without one for an instant only; whoever they make in that instant is looked for behind them.
//!
//! # Safety
//! tgkill(2) sends no signal here, and waitid(2) is given nothing to write to.
#![expect(unsafe_code, reason = "tgkill(2), waitid(2)")]

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::thread::CpuSet;

use crate::Errno;
use crate::mmap::SharedMap;
use crate::ptrace::{Wait, pass, seize, wait};

/// Most tasks that a list has room for.
const MAX_TRACEES: usize = 1 << 16;
/// Behind them: the task that is confined, and its processors, as sched_setaffinity(2) takes them.
const CONFINED: usize = MAX_TRACEES * 4;
const CPUS_BYTES: usize = CpuSet::MAX_CPU / 8;
const TRACEES_BYTES: usize = CONFINED + 8 + CPUS_BYTES;

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
        if self.map.write(place * 4, &tid.to_ne_bytes()).is_err() {
            return false;
        }
        self.places.insert(tid, place);
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
    /// have their old tracer are asked for again, for two seconds at most.
    pub(crate) fn inherit(&self) {
        self.set_free();
        let mut tid = [0; 4];
        let end = Instant::now() + TO_INHERIT;
        for place in 0..MAX_TRACEES {
            if self.map.read(place * 4, &mut tid).is_err() {
                break;
            }
            let tid = u32::from_ne_bytes(tid);
            if tid != 0 {
                inherit(tid, MAX_GENERATIONS, end);
            }
        }
        loop {
            match wait(true) {
                Ok(Wait::Stopped { tid, stop }) => drop(pass(tid, stop)),
                Err(Errno::EINTR) | Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

/// How long tasks are asked for that still have their old tracer, or may not be traced.
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
        if tries % BETWEEN_LOOKS == 0 && (is_tracee(tid) || is_over(tid) || Instant::now() > end) {
            return;
        }
        tries += 1;
        if tries > PRESSING {
            std::thread::yield_now();
        }
    }
    let Some(rest) = generations.checked_sub(1) else { return };
    if is_first(tid) {
        inherit_threads(tid, rest, end);
    }
    inherit_children(tid, rest, end);
}

/// Whether a task is the first of its process.
fn is_first(tid: u32) -> bool {
    // SAFETY: tgkill(2) with numbers only, and without a signal.
    unsafe { libc::syscall(libc::SYS_tgkill, tid, tid, 0) == 0 }
}

fn inherit_threads(pid: u32, generations: u32, end: Instant) {
    let digits = rustix::path::DecInt::new(pid);
    let Some(dir) = crate::proc::open(&[b"/proc/", digits.as_bytes(), b"/task"], rustix::fs::OFlags::RDONLY) else {
        return;
    };
    let mut room = [std::mem::MaybeUninit::uninit(); 1024];
    let mut entries = rustix::fs::RawDir::new(dir, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name().to_bytes();
        let tid = name.iter().try_fold(0u32, |tid, byte| {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
            tid.checked_mul(10)?.checked_add(digit.into())
        });
        if let Some(tid) = tid.filter(|tid| *tid != pid) {
            inherit(tid, generations, end);
        }
    }
}

fn inherit_children(tid: u32, generations: u32, end: Instant) {
    // Without CONFIG_PROC_CHILDREN there is no such file.
    let digits = rustix::path::DecInt::new(tid);
    let parts = [b"/proc/", digits.as_bytes(), b"/task/", digits.as_bytes(), b"/children"];
    let Some(file) = crate::proc::open(&parts, rustix::fs::OFlags::RDONLY) else { return };
    let mut text = [0; 1024];
    let mut child = 0u32;
    while let Ok(len @ 1..) = rustix::io::read(&file, &mut text) {
        for byte in &text[..len] {
            match byte {
                b'0'..=b'9' => child = child.wrapping_mul(10).wrapping_add(u32::from(byte - b'0')),
                _ => inherit(std::mem::take(&mut child), generations, end),
            }
        }
    }
}

/// Whether a task has ended, and is still there because nobody has asked how. Allocates nothing.
fn is_over(tid: u32) -> bool {
    let digits = rustix::path::DecInt::new(tid);
    let Some(file) = crate::proc::open(&[b"/proc/", digits.as_bytes(), b"/stat"], rustix::fs::OFlags::RDONLY) else {
        return true;
    };
    // The name may have anything in it but is short.
    let mut text = [0; 128];
    let text = rustix::io::read(&file, &mut text).map_or(&[][..], |len| &text[..len]);
    let state = text.windows(3).rev().find(|three| three.starts_with(b") "));
    state.is_none_or(|three| b"ZX".contains(&three[2]))
}

/// Whether the calling thread traces a task, or waits for it as for its child.
fn is_tracee(tid: u32) -> bool {
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: a null pointer asks for no information.
    unsafe { libc::waitid(libc::P_PID, tid, std::ptr::null_mut(), flags) == 0 }
}
