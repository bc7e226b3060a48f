//! Trampolines, and the functions that return to them.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use skep_sys::Errno;
use skep_sys::patches::{BREAKPOINT, NOP, Patch};
use skep_sys::ptrace;

use super::{Breakpoints, memory_of};
use crate::process::registers::{Reg, Registers};
use crate::process::sites::Site;
use crate::process::unwatched::Why;
use crate::process::{Event, TracedTask, What};

/// Functions that may run at one time in a process, each with a trampoline.
const TRAMPOLINES: u32 = 4096;
/// Functions that may run at one time in a task: one that jumps to itself counts each time.
const MAX_RETURNS: usize = 2 * TRAMPOLINES as usize;
/// Bytes of a trampoline, and of the return address that it leads to.
const TRAMPOLINE_BYTES: u64 = 8;
/// Bytes of all trampolines, and of all return addresses behind them.
pub(super) const POOL_BYTES: u64 = 2 * TRAMPOLINES as u64 * TRAMPOLINE_BYTES;
/// The code of a trampoline: a breakpoint, then `jmp *` to what stands at the same place of the list behind the trampolines.
fn trampoline(first: u8) -> [u8; 8] {
    // From the end of the jump, 7 bytes in, to the list.
    let [a, b, c, d] = (TRAMPOLINES * TRAMPOLINE_BYTES as u32 - 7).to_le_bytes();
    [first, 0xff, 0x25, a, b, c, d, NOP]
}

/// The trampolines of a process.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    pub(super) base: u64,
    /// So many have been written.
    written: u32,
    free: VecDeque<u32>,
}

impl Pool {
    /// One whose trampolines begin at an address, where nothing is written yet.
    pub(super) fn new(base: u64) -> Pool {
        Pool { base, written: 0, free: (0..TRAMPOLINES).collect() }
    }

    /// The code of those that have been written, for when nobody looks any more.
    pub(super) fn code_to_leave(&self) -> Vec<u8> {
        trampoline(NOP).repeat(self.written as usize)
    }

    /// How its trampolines are taken back, and where, once there are some.
    pub(super) fn patch(&self) -> Option<(u64, Patch)> {
        let count = u16::try_from(self.written).ok().filter(|count| *count > 0)?;
        Some((self.base, Patch::Every { distance: TRAMPOLINE_BYTES as u8, count }))
    }

    fn at(&self, index: u32) -> u64 {
        self.base + u64::from(index) * TRAMPOLINE_BYTES
    }

    /// Where the return address of one is kept.
    fn kept_at(&self, index: u32) -> u64 {
        self.base + POOL_BYTES / 2 + u64::from(index) * TRAMPOLINE_BYTES
    }

    /// Takes back the trampolines of calls that are over, but for those that calls which are not over have as well: functions that jump to each other
    /// return together. Last to be used again, as somebody may come back by them all the same.
    pub(super) fn give_back(&mut self, over: impl IntoIterator<Item = Return>, running: &[Return]) {
        let over: BTreeSet<u32> = over.into_iter().filter(|it| !it.inherited).map(|it| it.trampoline).collect();
        for index in over {
            debug_assert!(!self.free.contains(&index), "a trampoline is given back once");
            if !running.iter().any(|it| it.trampoline == index) {
                self.free.push_back(index);
            }
        }
    }

    /// The trampoline at an address.
    pub(super) fn index(&self, addr: u64) -> Option<u32> {
        let inside = addr.checked_sub(self.base)?;
        let index = u32::try_from(inside / TRAMPOLINE_BYTES).ok()?;
        (inside % TRAMPOLINE_BYTES == 0 && index < TRAMPOLINES).then_some(index)
    }
}

/// A function that runs and whose return is seen.
#[derive(Clone, Debug)]
pub(super) struct Return {
    trampoline: u32,
    /// Where the return address was on the stack.
    stack: u64,
    func: u64,
    site: Site,
    /// It is another task's too, which gives the trampoline back.
    inherited: bool,
}

impl Return {
    /// As a new task has it, which comes out of the functions that its maker was in: with the same memory or with a copy.
    pub(super) fn of_child(&self, shares: bool) -> Return {
        Return { inherited: self.inherited || shares, ..self.clone() }
    }
}

/// Writes the code of trampolines up to one. False when they were there already.
fn write_trampolines(pid: u32, pool: &mut Pool, index: u32) -> Result<bool, Errno> {
    const AT_ONCE: u32 = 512;
    let before = pool.written;
    while pool.written <= index {
        let code = trampoline(BREAKPOINT).repeat(AT_ONCE as usize);
        memory_of(pid).and_then(|memory| memory.write_all_at(&code, pool.at(pool.written)))?;
        pool.written += AT_ONCE;
    }
    Ok(pool.written != before)
}

impl Breakpoints {
    /// Puts a trampoline in place of the return address; the task is at the first instruction of the function.
    pub(super) fn watch_return(
        &mut self,
        tid: u32,
        pid: u32,
        registers: &Registers,
        site: Site,
        func: u64,
    ) -> Result<(), Why> {
        if self.shadows.has(tid) {
            return Err(Why::ShadowStack);
        }
        let space = self.of.get(&pid).and_then(|id| self.spaces.get_mut(id)).ok_or(Why::NoMemory)?;
        let owner = space.users.first().copied().unwrap_or(pid);
        let pool = space.pool.as_mut().ok_or(Why::NoMemory)?;
        let stack = registers.get(Reg::Rsp);
        let mut word = [0; 8];
        (ptrace::read_memory(tid, stack, &mut word) == Ok(8)).then_some(()).ok_or(Why::OtherStack)?;
        let address = u64::from_ne_bytes(word);
        let running = self.returns.entry(tid).or_default();
        let own = pool.index(address);
        // A function that jumps to another one returns together with it.
        let runs = |it: &Return| it.stack > stack || it.stack == stack && own == Some(it.trampoline);
        let kept = running.iter().rposition(runs).map_or(0, |last| last + 1);
        let over = running.split_off(kept);
        pool.give_back(over, running);
        if running.len() >= MAX_RETURNS {
            return Err(Why::TooManyReturns);
        }
        if let Some(index) = own {
            let inherited = running.last().is_some_and(|last| last.inherited);
            running.push(Return { trampoline: index, stack, func, site, inherited });
            return Ok(());
        }
        let index = pool.free.pop_front().ok_or(Why::TooManyReturns)?;
        let done = write_trampolines(pid, pool, index).and_then(|is_new| {
            if let Some((base, patch)) = pool.patch().filter(|_| is_new) {
                // With a full list the handler is left, which saves who comes back by one.
                self.patches.add(owner, base, patch);
            }
            ptrace::poke(tid, pool.kept_at(index), address)?;
            match ptrace::write_memory(tid, stack, &pool.at(index).to_ne_bytes()) {
                Ok(8) => Ok(()),
                _ => Err(Errno::EFAULT),
            }
        });
        if done.is_err() {
            pool.free.push_back(index);
            return Err(Why::OtherStack);
        }
        running.push(Return { trampoline: index, stack, func, site, inherited: false });
        Ok(())
    }

    /// A function has returned to its trampoline.
    pub(super) fn returned(
        &mut self,
        task: &Arc<TracedTask>,
        mut registers: Registers,
        index: u32,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        let tid = task.tid();
        let pool = self.of.get(&task.pid()).and_then(|id| self.spaces.get_mut(id)?.pool.as_mut());
        let Some(pool) = pool else { return };
        let mut word = [0; 8];
        if ptrace::read_memory(tid, pool.kept_at(index), &mut word) != Ok(8) {
            // The jump behind the breakpoint finds no more than we do.
            return;
        }
        registers.put(Reg::Rip, u64::from_ne_bytes(word));
        let running = self.returns.entry(tid).or_default();
        let mut over = Vec::new();
        if let Some(last) = running.iter().rposition(|it| it.trampoline == index) {
            let stale = running.split_off(last + 1);
            pool.give_back(stale, running);
            while let Some(it) = running.pop_if(|it| it.trampoline == index) {
                over.push(it);
            }
        }
        // Of another task, which may be where the function was called.
        if over.is_empty() {
            self.missed.add(&[], Why::OtherTask);
        }
        if over.iter().any(|it| !it.inherited) && !running.iter().any(|it| it.trampoline == index) {
            pool.free.push_front(index);
        }
        for Return { site, func, .. } in over {
            let what = What::Probe { site, ret: true, func, registers: registers.pt_regs() };
            // It is in the trampoline, of which no table tells.
            task.waits_with(Some(registers.pt_regs()));
            sink(Event { task, what });
            task.waits_with(None);
        }
        let _ = registers.set(tid);
    }
}
