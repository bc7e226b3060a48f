//! What SIGTRAP does in the processes that we look at, and who holds it back.
//!
//! The kernel forces the signal of a breakpoint on whoever holds it back or ignores it: it is let through, and what it did before is forgotten
//! (`force_sig_info_to_task` in kernel/signal.c, Linux 6.18). The tracer takes the signal away, and has to give back what it cost. Nothing tells what that was, so
//! we have to know it before: what the signal does is asked for once and followed from then on; who holds it back is followed too, and looked into where that is not
//! sure, while a handler of another signal runs. Where calls are seen at gates, those that hold signals back are not: they are many. There a handler that is gone says that
//! the signal was held back, so each process has one ([`super::refuge`]); who ignores the signal has none, and gets the filter.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::unix::fs::FileExt;

use skep_sys::ptrace;

use super::registers::{Reg, Registers};

/// The signal.
pub(super) const SIGTRAP: u64 = 5;
/// `si_code` of a breakpoint.
pub(super) const SI_KERNEL: i32 = 0x80;
/// Its bit in a mask.
const BIT: u64 = 1 << (SIGTRAP - 1);
/// Bytes of `struct sigaction` (`include/uapi/asm-generic/signal.h`), and of its mask.
pub(super) const ACTION_BYTES: usize = 32;
pub(super) const MASK_BYTES: u64 = 8;
/// Where the mask is in the frame of a signal, from where the stack is when the handler has returned (`struct rt_sigframe`, x86-64).
const FRAME_MASK_OFF: u64 = 296;

/// What the signal does in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It ends the process, or nobody knows.
    Default,
    /// It runs our handler ([`super::refuge`]), where it would end the process.
    Refuge,
    /// Nothing.
    Ignored,
    /// It runs a handler of the process's own.
    Own([u8; ACTION_BYTES]),
}

/// Whether a task holds it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    No,
    Yes,
    /// With this mask, it did not.
    Unsure(Option<u64>),
}

/// What `/proc` says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) caught: bool,
    pub(super) ignored: bool,
    held: bool,
}

impl Status {
    /// `None` when there is no such task.
    pub(super) fn of(tid: u32) -> Option<Status> {
        Status::parse(&std::fs::read_to_string(format!("/proc/{tid}/status")).ok()?)
    }

    fn parse(status: &str) -> Option<Status> {
        let has = |key: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(u64::from_str_radix(mask.trim(), 16).ok()? & BIT != 0)
        };
        Some(Status { caught: has("SigCgt:")?, ignored: has("SigIgn:")?, held: has("SigBlk:")? })
    }
}

/// What a breakpoint cost a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// It held the signal back.
    pub(super) held: bool,
    /// What the signal did.
    pub(super) action: Action,
}

/// A call that has begun.
#[derive(Clone, Copy, Debug)]
struct Asked {
    action: Option<Action>,
    old_at: u64,
}

/// The calls that matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) action: u32,
    pub(super) mask: u32,
    pub(super) back: u32,
}

impl Numbers {
    pub(super) fn new() -> Numbers {
        let number = super::inject::number;
        Numbers { action: number("rt_sigaction"), mask: number("rt_sigprocmask"), back: number("rt_sigreturn") }
    }
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Sigtraps {
    actions: HashMap<u32, Action>,
    holds: HashMap<u32, Hold>,
    asked: HashMap<u32, Asked>,
    /// What says whether a process has a handler, where nobody tells who holds the signal back: only the handler that is gone does.
    stats: HashMap<u32, File>,
}

impl Sigtraps {
    /// What the signal does in a process, if that is known.
    pub(super) fn action(&self, pid: u32) -> Option<Action> {
        self.actions.get(&pid).copied()
    }

    pub(super) fn set(&mut self, pid: u32, action: Action) {
        self.actions.insert(pid, action);
    }

    /// A task is stopped that may be new to us.
    pub(super) fn meet(&mut self, tid: u32) {
        if !self.holds.contains_key(&tid)
            && let Some(status) = Status::of(tid)
        {
            // Who runs a handler now will hold it back no more when that returns.
            self.holds.insert(tid, if status.held { Hold::Unsure(None) } else { Hold::No });
        }
    }

    /// From now on it is told who of a process holds it back.
    pub(super) fn follow(&mut self, pid: u32) {
        for tid in super::procfs::threads(pid) {
            self.holds.remove(&tid);
            self.meet(tid);
        }
    }

    /// A task was made by another.
    pub(super) fn born(&mut self, maker: (u32, u32), pid: u32, tid: u32) {
        if let Some(hold) = self.holds.get(&maker.1) {
            self.holds.insert(tid, *hold);
        }
        if let (Some(action), true) = (self.action(maker.0), maker.0 != pid) {
            self.set(pid, action);
        }
    }

    pub(super) fn forget_task(&mut self, tid: u32) {
        self.holds.remove(&tid);
        self.asked.remove(&tid);
    }

    pub(super) fn forget_process(&mut self, pid: u32) {
        self.actions.remove(&pid);
        self.stats.remove(&pid);
    }

    /// Whether a process has no handler.
    fn has_none(&mut self, pid: u32, tid: u32) -> bool {
        let file = match self.stats.entry(pid) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(new) => File::open(format!("/proc/{pid}/stat")).ok().map(|file| new.insert(file)),
        };
        let known = file.and_then(|file| {
            let mut text = [0; 1024];
            let len = file.read_at(&mut text, 0).ok()?;
            is_caught(text.get(..len)?)
        });
        let caught = known.or_else(|| Some(Status::of(tid)?.caught));
        caught == Some(false)
    }

    /// A signal is about to be delivered to a task. While its handler runs, others may be held back.
    pub(super) fn signal(&mut self, tid: u32) {
        self.holds.insert(tid, Hold::Unsure(None));
    }

    /// A task begins rt_sigprocmask(2).
    pub(super) fn masks(&mut self, tid: u32, args: &[u64; 6]) {
        const SIG_BLOCK: u64 = 0;
        const SIG_UNBLOCK: u64 = 1;
        const SIG_SETMASK: u64 = 2;
        let Some(mask) = word_at(tid, args[1]).filter(|_| args[1] != 0) else { return };
        let hold = match (args[0], mask & BIT != 0) {
            (SIG_BLOCK | SIG_SETMASK, true) => Hold::Yes,
            (SIG_UNBLOCK, true) | (SIG_SETMASK, false) => Hold::No,
            _ => return,
        };
        self.holds.insert(tid, hold);
    }

    /// A handler of a task returns; told where all calls are seen.
    pub(super) fn returns(&mut self, tid: u32, stack: u64) {
        if let Some(mask) = word_at(tid, stack.wrapping_add(FRAME_MASK_OFF)) {
            self.holds.insert(tid, if mask & BIT != 0 { Hold::Yes } else { Hold::No });
        }
    }

    /// A task begins rt_sigaction(2) for the signal.
    pub(super) fn asks(&mut self, tid: u32, args: &[u64; 6]) {
        let mut bytes = [0; ACTION_BYTES];
        let read = args[1] != 0 && ptrace::read_memory(tid, args[1], &mut bytes) == Ok(ACTION_BYTES);
        let action = read.then(|| Action::of(bytes));
        self.asked.insert(tid, Asked { action, old_at: args[2] });
    }

    /// The call has ended: what the signal shall do from now on, if that is new; and where the task was told what it did before, or 0.
    pub(super) fn answered(&mut self, tid: u32, good: bool) -> Option<(Option<Action>, u64)> {
        let Asked { action, old_at } = self.asked.remove(&tid)?;
        good.then_some((action, old_at))
    }

    /// A task came by a breakpoint: what it has to get back, if anything was taken from it. `is_told`: its process's calls that matter are seen.
    pub(super) fn hit(&mut self, pid: u32, tid: u32, is_told: bool) -> Option<Taken> {
        let action = self.action(pid)?;
        // Without a handler there is nothing that would tell.
        let has_handler = matches!(action, Action::Refuge | Action::Own(_));
        if !is_told {
            let held = has_handler && self.has_none(pid, tid);
            return (held || action == Action::Ignored).then_some(Taken { held, action });
        }
        let is_gone = || Status::of(tid).is_some_and(|status| !status.caught);
        let held = match self.holds.get(&tid).copied().unwrap_or(Hold::Unsure(None)) {
            Hold::No => false,
            // Unless that was in a handler which has returned.
            Hold::Yes => !has_handler || is_gone(),
            Hold::Unsure(known) => {
                let mask = ptrace::signal_mask(tid).ok()?;
                let held = has_handler && known != Some(mask) && is_gone();
                self.holds.insert(tid, Hold::Unsure((!held).then_some(mask)));
                held
            }
        };
        (held || action == Action::Ignored).then_some(Taken { held, action })
    }
}

impl Action {
    pub(super) fn of(bytes: [u8; ACTION_BYTES]) -> Action {
        const SIG_DFL: u64 = 0;
        const SIG_IGN: u64 = 1;
        let handler = bytes.first_chunk().map_or(SIG_DFL, |word| u64::from_ne_bytes(*word));
        match handler {
            SIG_DFL => Action::Default,
            SIG_IGN => Action::Ignored,
            _ => Action::Own(bytes),
        }
    }

    /// Where the process's own handler is.
    pub(super) fn handler(self) -> Option<u64> {
        match self {
            Action::Own(bytes) => bytes.first_chunk().map(|word| u64::from_ne_bytes(*word)),
            _ => None,
        }
    }

    /// As rt_sigaction(2) takes it, but for our handler.
    pub(super) fn bytes(self) -> [u8; ACTION_BYTES] {
        match self {
            Action::Own(bytes) => bytes,
            Action::Ignored => {
                let mut bytes = [0; ACTION_BYTES];
                bytes[..8].copy_from_slice(&1u64.to_ne_bytes());
                bytes
            }
            Action::Default | Action::Refuge => [0; ACTION_BYTES],
        }
    }
}

/// Lets a task hold the signal back again.
pub(super) fn hold_back(tid: u32) {
    if let Ok(mask) = ptrace::signal_mask(tid) {
        let _ = ptrace::set_signal_mask(tid, mask | BIT);
    }
}

/// Some memory below a task's stack that it does not use, and that may be written for a while.
pub(super) fn scratch(registers: &Registers) -> u64 {
    const BELOW: u64 = 512;
    registers.get(Reg::Rsp).wrapping_sub(BELOW) & !15
}

/// What `/proc/PID/stat` says: the signals that have a handler are its 34th field, the 32nd behind the name.
fn is_caught(stat: &[u8]) -> Option<bool> {
    let behind = stat.iter().rposition(|byte| *byte == b')')?;
    let field = stat.get(behind + 1..)?.split(|byte| *byte == b' ').filter(|field| !field.is_empty()).nth(31)?;
    Some(str::from_utf8(field).ok()?.parse::<u64>().ok()? & BIT != 0)
}

fn word_at(tid: u32, addr: u64) -> Option<u64> {
    let mut word = [0; 8];
    (ptrace::read_memory(tid, addr, &mut word) == Ok(8)).then(|| u64::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_tells_what_the_signal_does() {
        let text = "Name:\tx\nSigBlk:\t0000000000000010\nSigIgn:\t0000000000000000\nSigCgt:\t00000001800004ff\n";
        let status = Status { caught: true, ignored: false, held: true };
        assert_eq!(Status::parse(text), Some(status));
        assert_eq!(Status::parse("SigBlk:\t0\nSigIgn:\t8\n"), None);
    }

    #[test]
    fn handlers_are_told_of_a_process() {
        let mut text = b"7 (a b) c) S".to_vec();
        text.extend(b" 0".repeat(30));
        assert_eq!(is_caught(&text), None);
        text.extend_from_slice(b" 16");
        assert_eq!(is_caught(&text), Some(true));
    }

    #[test]
    fn actions_are_told_by_their_handlers() {
        let mut bytes = [7; ACTION_BYTES];
        assert_eq!(Action::of(bytes), Action::Own(bytes));
        assert_eq!(Action::of(bytes).handler(), Some(0x0707_0707_0707_0707));
        assert_eq!(Action::of(bytes).bytes(), bytes);
        bytes[..8].fill(0);
        assert_eq!(Action::of(bytes), Action::Default);
        assert_eq!(Action::of(Action::Ignored.bytes()), Action::Ignored);
        assert_eq!(Action::of(Action::Default.bytes()), Action::Default);
    }

    #[test]
    fn children_have_what_their_makers_have() {
        let mut traps = Sigtraps::default();
        traps.set(1, Action::Ignored);
        traps.holds.insert(1, Hold::No);
        traps.born((1, 1), 1, 2);
        traps.born((1, 2), 3, 3);
        assert_eq!(traps.hit(3, 3, true), Some(Taken { held: false, action: Action::Ignored }));
        traps.set(3, Action::Default);
        assert_eq!(traps.hit(3, 3, true), None);
        traps.forget_process(3);
        assert_eq!((traps.action(3), traps.action(1)), (None, Some(Action::Ignored)));
    }
}
