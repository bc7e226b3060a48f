//! What helpers know of a traced task: who it is, and its memory.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use skep_sys::ptrace;
use skep_vm::{Memory, Task};

use super::procfs;
use super::stack::{self, Code};

/// A task that is traced.
#[derive(Debug)]
pub struct TracedTask {
    pid: u32,
    tid: u32,
    facts: Mutex<Facts>,
    /// The facts may have changed since they were read.
    stale: AtomicBool,
    /// What code its process has, for walks over its stack.
    code: Mutex<Code>,
    /// Its registers while it is at a probe, as programs see them.
    waits_with: Mutex<Option<Vec<u8>>>,
}

/// What `/proc` says about a task.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) comm: Vec<u8>,
    /// The group in the upper half.
    pub(super) uid_gid: u64,
}

impl TracedTask {
    pub(crate) fn new(pid: u32, tid: u32) -> TracedTask {
        TracedTask {
            pid,
            tid,
            facts: Mutex::default(),
            stale: AtomicBool::new(true),
            code: Mutex::default(),
            waits_with: Mutex::default(),
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Thread id.
    pub fn tid(&self) -> u32 {
        self.tid
    }

    /// Says that it is at a probe with these registers, as `struct pt_regs`, or that it is no more.
    pub(super) fn waits_with(&self, registers: Option<Vec<u8>>) {
        *self.waits_with.lock().unwrap_or_else(PoisonError::into_inner) = registers;
    }

    /// Its general registers, in the form of [`ptrace::registers`], while it is stopped or at a probe.
    pub(super) fn registers(&self) -> Vec<u8> {
        let waits_with = self.waits_with.lock().unwrap_or_else(PoisonError::into_inner).clone();
        waits_with.unwrap_or_else(|| ptrace::registers(self.tid))
    }

    /// Says that its name or its user may be another one from now on: they are read again when somebody asks.
    pub(super) fn changes(&self) {
        self.stale.store(true, Ordering::Relaxed);
        *self.code.lock().unwrap_or_else(PoisonError::into_inner) = Code::default();
    }

    fn facts(&self) -> Facts {
        let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stale.swap(false, Ordering::Relaxed)
            && let Some(read) = Facts::read(self.tid)
        {
            *facts = read;
        }
        facts.clone()
    }
}

impl Facts {
    /// `None` when there is no such task.
    pub(super) fn read(tid: u32) -> Option<Facts> {
        let status = fs::read(format!("/proc/{tid}/status")).ok()?;
        let real_id = |key: &[u8]| -> u64 {
            let line = status.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(key));
            let ids = line.and_then(|line| str::from_utf8(line).ok()).unwrap_or_default();
            // Real, effective, saved and file system id, in this order.
            ids.split_whitespace().next().and_then(|id| id.parse().ok()).unwrap_or(0)
        };
        Some(Facts { comm: procfs::comm(tid)?, uid_gid: real_id(b"Gid:") << 32 | real_id(b"Uid:") })
    }
}

impl Task for TracedTask {
    fn pid_tgid(&self) -> u64 {
        u64::from(self.pid) << 32 | u64::from(self.tid)
    }

    fn uid_gid(&self) -> u64 {
        self.facts().uid_gid
    }

    fn comm(&self) -> Vec<u8> {
        self.facts().comm
    }

    fn signal(&self, signal: u32) -> Option<()> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let signal = rustix::process::Signal::from_named_raw(i32::try_from(signal).ok()?)?;
        rustix::process::kill_process(pid, signal).ok()
    }

    /// Needs the thread that traces the task, while the task is stopped.
    fn user_stack(&self, max: usize) -> Option<Vec<u64>> {
        stack::walk(
            self.pid,
            self.tid,
            &self.registers(),
            &mut self.code.lock().unwrap_or_else(PoisonError::into_inner),
            max,
        )
    }
}

impl Memory for TracedTask {
    fn read(&self, addr: u64, to: &mut [u8]) -> Option<()> {
        read(self.tid, addr, to)
    }

    fn write(&self, addr: u64, from: &[u8]) -> Option<()> {
        write(self.tid, addr, from)
    }
}

/// Reads all of some memory of a task, or nothing that counts.
pub(super) fn read(tid: u32, addr: u64, to: &mut [u8]) -> Option<()> {
    let read = ptrace::read_memory(tid, addr, to).ok()?;
    (read == to.len()).then_some(())
}

/// Writes all of some memory of a task; `None` when a part of it is not to be had.
pub(super) fn write(tid: u32, addr: u64, from: &[u8]) -> Option<()> {
    let wrote = ptrace::write_memory(tid, addr, from).ok()?;
    (wrote == from.len()).then_some(())
}
