//! What SIGTRAP does in processes that have breakpoints, and what they know of that.

use std::os::unix::fs::FileExt;

use skep_sys::ptrace;

use super::returns::POOL_BYTES;
use super::{Breakpoints, Space, Whose, memory_of};
use crate::process::refuge::Refuge;
use crate::process::registers::Registers;
use crate::process::sigtrap::{self, Action, Sigtraps, Status};
use crate::process::{inject, mappings};

impl Breakpoints {
    /// Finds out what SIGTRAP does in a process, once.
    pub(super) fn look_at_sigtrap(&mut self, space: &mut Space, whose: Whose<'_>) {
        let Whose { pid, tid, .. } = whose;
        if self.sigtraps.action(pid).is_some() {
            return;
        }
        let Some(status) = Status::of(tid) else { return };
        self.sigtraps.meet(tid);
        let action = match status {
            Status { ignored: true, .. } => Action::Ignored,
            Status { caught: true, .. } => self.ask_action(space, whose).unwrap_or(Action::Default),
            _ => Action::Default,
        };
        self.sigtraps.set(pid, action);
    }

    /// Lets a task ask for its own handler.
    fn ask_action(&mut self, space: &mut Space, whose: Whose<'_>) -> Option<Action> {
        let tid = whose.tid;
        let at = sigtrap::scratch(&Registers::of(tid).ok()?);
        let mut kept = [0; sigtrap::ACTION_BYTES];
        (ptrace::read_memory(tid, at, &mut kept) == Ok(kept.len())).then_some(())?;
        let args = [sigtrap::SIGTRAP, 0, at, sigtrap::MASK_BYTES, 0, 0];
        let answer = self.inject(space, whose, inject::number("rt_sigaction"), args);
        let mut bytes = [0; sigtrap::ACTION_BYTES];
        let read = answer.and_then(|_| ptrace::read_memory(tid, at, &mut bytes).ok());
        let _ = ptrace::write_memory(tid, at, &kept);
        let action = read.filter(|read| *read == bytes.len()).map(|_| Action::of(bytes))?;
        // One that was left by somebody like us knows his breakpoints, not ours.
        let of_another = action.handler().is_some_and(|handler| {
            let mut code = Refuge::code((POOL_BYTES / 2) as u32);
            let own = code.clone();
            ptrace::read_memory(tid, handler, &mut code) == Ok(own.len()) && code == own
        });
        (!of_another).then_some(action)
    }

    /// Gives a process a handler for SIGTRAP if it would be ended by one.
    pub(super) fn take_refuge(&mut self, space: &mut Space, whose: Whose<'_>) {
        if self.sigtraps.action(whose.pid) == Some(Action::Default) && self.set_action(space, whose, Action::Refuge) {
            self.sigtraps.set(whose.pid, Action::Refuge);
        }
    }

    /// Lets a task say what SIGTRAP does in its process.
    fn set_action(&mut self, space: &mut Space, whose: Whose<'_>, action: Action) -> bool {
        let Some(refuge) = &space.refuge else { return false };
        let at = match action {
            Action::Refuge => refuge.action_at(),
            _ => {
                let at = refuge.own_at();
                if memory_of(whose.pid).and_then(|memory| memory.write_all_at(&action.bytes(), at)).is_err() {
                    return false;
                }
                at
            }
        };
        let args = [sigtrap::SIGTRAP, at, 0, sigtrap::MASK_BYTES, 0, 0];
        self.inject(space, whose, inject::number("rt_sigaction"), args).is_some()
    }

    /// Gives a task back what the kernel took from it for a breakpoint.
    pub(in crate::process) fn restore_sigtrap(&mut self, pid: u32, tid: u32) {
        // It is set to go on, so its signal shall not arrive any more, even if we die now.
        ptrace::take_stop(tid);
        let is_told = !self.calls.is_planned() || self.calls.has_filter(pid);
        let Some(taken) = self.sigtraps.hit(pid, tid, is_told) else { return };
        if taken.held {
            sigtrap::hold_back(tid);
        }
        let Some(id) = self.of.get(&pid).copied() else { return };
        if taken.action == Action::Default {
            return;
        }
        let Some(mut space) = self.spaces.remove(&id) else { return };
        // It makes the call from the refuge, if it can come back from there.
        let all = if self.shadows.has(tid) { mappings::read(tid) } else { Vec::new() };
        self.set_action(&mut space, Whose { pid, tid, all: &all }, taken.action);
        self.spaces.insert(id, space);
    }

    /// What SIGTRAP does in processes, and who holds it back.
    pub(in crate::process) fn sigtraps(&mut self) -> &mut Sigtraps {
        &mut self.sigtraps
    }

    /// A task is about to ask what SIGTRAP does in its process, or to say what it shall do. Our handler does that before it ends the process.
    pub(in crate::process) fn action_asked(&mut self, pid: u32, tid: u32, args: &[u64; 6], ip: u64) {
        let refuge = self.of.get(&pid).and_then(|id| self.spaces.get(id)?.refuge.as_ref());
        if !refuge.is_some_and(|refuge| refuge.has_code_at(ip)) {
            self.sigtraps.asks(tid, args);
        }
    }

    /// A task has asked what SIGTRAP does in its process, or said what it shall do.
    pub(in crate::process) fn action_answered(&mut self, pid: u32, tid: u32, good: bool) {
        let Some((action, old_at)) = self.sigtraps.answered(tid, good) else { return };
        let Some(id) = self.of.get(&pid).copied() else { return };
        let Some(mut space) = self.spaces.remove(&id) else { return };
        let handler = space.refuge.as_ref().map(Refuge::handler);
        let mut word = [0; 8];
        if old_at != 0
            && ptrace::read_memory(tid, old_at, &mut word) == Ok(8)
            && Some(u64::from_ne_bytes(word)) == handler
        {
            // As far as it knows, it has none.
            let _ = ptrace::write_memory(tid, old_at, &Action::Default.bytes());
        }
        if let Some(action) = action {
            // It may give back what it was told by somebody who saw ours.
            let is_ours = handler.is_some() && action.handler() == handler;
            self.sigtraps.set(pid, if is_ours { Action::Refuge } else { action });
            if !self.lifted {
                let all = mappings::read(tid);
                self.take_refuge(&mut space, Whose { pid, tid, all: &all });
            }
        }
        self.spaces.insert(id, space);
        if self.sigtraps.action(pid) == Some(Action::Ignored) {
            self.fall_back(pid, tid);
        }
    }
}
