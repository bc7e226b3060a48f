//! Breakpoints in the code of traced processes: uprobes, uretprobes and USDT probes without the kernel's help.
//!
//! # How
//!
//! A breakpoint is the byte of `int3` in place of an instruction's first, in the process's own copy of the page: no other process has it.
//! It stays there until we leave. A task that comes by is stopped with SIGTRAP, which it never sees; programs run with
//! its registers, and it goes on with the hidden instruction: one that does nothing is passed over, any other is
//! executed in a *slot* ([`super::displace`]). So a hit costs one stop, no matter how many threads there are, and none
//! of them can slip through.
//!
//! Slots lie in an *area* of the process, near the code, which a stopped task maps for us at the end of its own system call
//! ([`super::inject`]). It is never unmapped: a task may be in it when we leave, and the way back to the code stands in the slot.
//!
//! The return of a function is seen by a *trampoline* of the area, whose address takes the place of the return address. Behind its `int3` is a jump to the real
//! return address, which is kept in the process itself. So to leave, every `int3` of the trampolines becomes a `nop`, and functions that run return by
//! themselves. Each call has a trampoline of its own; which calls are over without having returned (longjmp(3), exceptions) is told by the stack
//! pointer, as the kernel does (`cleanup_return_instances` in kernel/events/uprobes.c, Linux 6.18).
//!
//! A breakpoint that is hit again and again gets a *gate*, by which its tasks go without a stop ([`super::gate`]).
//!
//! # When
//!
//! Files are looked for at the end of exec and of each mmap(2) of code, which is before any instruction of them can run. A process that is joined
//! is looked at when its first thread stops. Children of fork have the breakpoints with the copy of the memory; those of vfork share
//! them until they exec.
//!
//! # Code that moves
//!
//! Who moves its code (mremap(2)), or copies it (into large pages, or for code that it makes), takes our breakpoints along. Neither is waited for, since many
//! programs move memory and hardly any moves code: a breakpoint that nobody knows is looked into when it is hit. Where the place of a file is mapped now, it is one
//! of ours from then on. Elsewhere, what stands behind it tells which instruction it hides, and that comes back; a copy in the place of the code itself
//! is watched as the code was. Leaving, we look for such copies in all code that the process has.
//!
//! # What the target may notice
//!
//! - Its code has other bytes, an area has been mapped, and SIGTRAP has a handler there if it had none ([`super::refuge`]). Area and handler stay when we
//!   leave, since a task may be in them; the handler does what SIGTRAP does without one.
//! - A breakpoint is hit where SIGTRAP is held back or ignored: the kernel lets the signal through then and forgets what it did ([`super::sigtrap`]). Both are
//!   put right before the task goes on, but if the tracer is killed, a task that is at a breakpoint while it holds the signal back, or comes by one before they are taken back, ends its process.
//! - What has rules of its own for system calls (seccomp(2)) maps no area for us: only instructions that need none are watched there.
//! - Code with a gate that is moved elsewhere leads nowhere: a jump is right at its own place only. What is copied away and back to it is right.
//! - Return addresses are those of trampolines while a function with a uretprobe runs: what walks the stack (exceptions of C++, profilers) stops
//!   there. The kernel's own uretprobes do the same.

mod action;
mod calls;
mod copies;
mod gates;
mod returns;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use skep_binary::decode::{self, Insn, Kind};
use skep_engine::Error;
use skep_sys::patches::{BREAKPOINT, Patch, Patches};
use skep_sys::ptrace::{self, Wait};
use skep_sys::seccomp::Filter;
use skep_sys::undo::{Guard, ThreadGuard, Undo};
use skep_sys::{Errno, page_size};

pub(super) use self::calls::CallTold;
use self::calls::{CallFiles, CallGates};
use self::copies::{Original, Scan, code_at, may_be_copy};
use self::gates::{Boards, Gates, Heat};
pub(super) use self::gates::{RIP, bytes_of};
use self::returns::{POOL_BYTES, Pool, Return};
use super::call_plan::CallPlan;
use super::displace::{Copy, SLOT_BYTES, displaced};
use super::gate;
use super::inject::{self, Failed, Source};
use super::mappings::{self, Mapping, memory_of};
use super::refuge::Refuge;
use super::registers::{Reg, Registers};
use super::shadow::ShadowStacks;
use super::sigtrap::{SI_KERNEL, Sigtraps};
use super::sites::{Moments, Site, Sites};
use super::span::Span;
use super::unwatched::{Misses, Why};
use super::way_back::{self, WayBack};
use super::{Event, TracedTask, What};

/// What the code of an area is less far from than an instruction reaches, in bytes.
const NEAR: u64 = 1 << 30;
/// `MAP_ANONYMOUS` (`include/uapi/asm-generic/mman-common.h`).
const MAP_ANONYMOUS: u64 = 0x20;

/// A breakpoint.
#[derive(Clone, Debug)]
struct Armed {
    site: Site,
    moments: Moments,
    original: u8,
    insn: Insn,
    /// Where the instruction is executed; `None`: it is imitated.
    slot: Option<u64>,
    /// Where the instructions begin that are executed there, and at their own place.
    starts: Arc<[(u8, u8)]>,
    /// The code that it is in the way of: its own address, but not in a gate.
    func: u64,
    /// What the slot has, if a jump can take its place.
    span: Option<Arc<Span>>,
    heat: Heat,
}

/// A memory with breakpoints: a process's, or that of several.
#[derive(Clone, Debug, Default)]
struct Space {
    /// Processes that have it; the changes are listed under the first.
    users: Vec<u32>,
    armed: HashMap<u64, Armed>,
    /// Addresses where none could be set: somebody else's breakpoint is there, or nothing could be mapped.
    refused: HashSet<u64>,
    /// Addresses of counters that were raised.
    semaphores: HashSet<u64>,
    pool: Option<Pool>,
    /// What saves those who come by when we are gone.
    refuge: Option<Refuge>,
    looked_for_refuge: bool,
    /// An instruction that makes a system call.
    calls_from: Option<u64>,
    /// Where areas for slots begin, and their bytes.
    areas: Vec<(u64, u64)>,
    gates: Gates,
    calls: CallGates,
    /// What was mapped for us, with the bytes.
    own: Vec<(u64, u64)>,
}

impl Space {
    /// Whether some memory is ours: areas may have become one with each other.
    fn is_own(&self, mapping: &Mapping) -> bool {
        let inside = |area: u64| (mapping.start..mapping.end).contains(&area);
        let ours: u64 = self.own.iter().filter(|(area, _)| inside(*area)).map(|(_, len)| len).sum();
        ours == mapping.end - mapping.start
    }

    /// Whether an address needs no look.
    fn has(&self, addr: u64) -> bool {
        self.armed.contains_key(&addr) || self.refused.contains(&addr)
    }

    /// An area of so many bytes near some code that was made for other code, which is gone: no slot lies in it now.
    fn old_area(&self, near: &Mapping, len: u64) -> Option<u64> {
        let free = |area: u64, had: u64| {
            let in_use = |armed: &Armed| armed.slot.is_some_and(|slot| (area..area + had).contains(&slot));
            !self.armed.values().any(in_use)
        };
        let reaches = |area: u64| near.start.abs_diff(area).max(near.end.abs_diff(area)) < NEAR;
        let found = self.areas.iter().find(|(area, had)| len <= *had && reaches(*area) && free(*area, *had));
        found.map(|(area, _)| *area)
    }
}

/// All breakpoints of the tracees.
#[derive(Debug)]
pub(super) struct Breakpoints {
    sites: Arc<Sites>,
    /// What was found at them.
    originals: HashMap<Site, Original>,
    spaces: HashMap<u32, Space>,
    /// Which space a process has.
    of: HashMap<u32, u32>,
    next: u32,
    /// Functions that run, of each task; the last called is last.
    returns: HashMap<u32, Vec<Return>>,
    /// What has to be taken back by whom if we are killed.
    patches: Patches,
    guard: Option<Guard>,
    /// What was heard of tasks when something else was expected.
    heard: VecDeque<Wait>,
    /// What a jump can hide, of each place.
    spans: HashMap<Site, Option<Arc<Span>>>,
    boards: Boards,
    calls: CallFiles,
    sigtraps: Sigtraps,
    /// Places and returns that are not seen.
    missed: Misses,
    shadows: ShadowStacks,
    lifted: bool,
    /// Tasks have our filter.
    filtered: bool,
}

impl Breakpoints {
    /// None yet. Without a filter `calls` says what is to be seen of system calls, and what filter a process gets that needs one. `has_gates`:
    /// where they are worth it.
    ///
    /// # Errors
    ///
    /// When nobody can be made who would take them out after our death.
    pub(super) fn new(
        sites: Arc<Sites>,
        filtered: bool,
        calls: Option<(CallPlan, Filter)>,
        has_gates: bool,
    ) -> Result<Breakpoints, Error> {
        let setup = |what: &str, errno: Errno| super::tracer::setup(what, errno);
        let patches = Patches::new().map_err(|errno| setup("keep a list of breakpoints", errno))?;
        let guard = Guard::spawn(&[Undo::Restore(&patches)]);
        let guard = guard.map_err(|errno| setup("start the process that takes breakpoints out after us", errno))?;
        Ok(Breakpoints {
            sites,
            originals: HashMap::new(),
            spaces: HashMap::new(),
            of: HashMap::new(),
            next: 0,
            returns: HashMap::new(),
            patches,
            guard: Some(guard),
            heard: VecDeque::new(),
            spans: HashMap::new(),
            boards: Boards::of_machine(has_gates),
            sigtraps: Sigtraps::default(),
            calls: CallFiles::new(calls),
            missed: Misses::default(),
            shadows: ShadowStacks::of_machine(),
            lifted: false,
            filtered,
        })
    }

    /// From now on they are taken out when the thread dies, not only when its process does.
    pub(super) fn entrust(&mut self, to: &ThreadGuard) {
        // Without memory for one more child, the first one stays.
        if to.also(&[Undo::Restore(&self.patches)]).is_ok()
            && let Some(guard) = self.guard.take()
        {
            guard.dismiss();
        }
    }

    /// Whether a process has been looked at.
    pub(super) fn knows(&self, pid: u32) -> bool {
        self.of.contains_key(&pid)
    }

    /// What was heard of tasks that were waited for in vain, in its order.
    pub(super) fn heard(&mut self) -> Option<Wait> {
        self.heard.pop_front()
    }

    /// Which places and returns were not seen since the last question.
    pub(super) fn take_missed(&mut self) -> Option<Misses> {
        (self.missed.total() > 0).then(|| std::mem::take(&mut self.missed))
    }

    fn miss(&mut self, site: Site, returns: bool, why: Why) {
        self.missed.add(&self.sites.names(site, returns), why);
    }

    /// Shadow stacks of tasks.
    pub(super) fn shadows(&mut self) -> &mut ShadowStacks {
        &mut self.shadows
    }

    /// A task of a process is at the end of mmap(2), which gave this address.
    pub(super) fn mapped(&mut self, pid: u32, tid: u32, start: u64) {
        // What was there before is gone.
        let space = self.of.get(&pid).and_then(|id| self.spaces.get_mut(id));
        let mut is_made = false;
        if let (Some(space), Ok(registers)) = (space, Registers::of(tid)) {
            is_made = registers.get(Reg::R10) & MAP_ANONYMOUS != 0;
            let range = start..start.saturating_add(registers.get(Reg::Rsi));
            forget(&mut self.patches, space, |armed| range.contains(&armed.func));
            space.refused.retain(|addr| !range.contains(addr));
            let gone = space.semaphores.extract_if(|addr| range.contains(addr)).chain(space.calls.unmapped(&range));
            for addr in gone {
                space.users.first().into_iter().for_each(|owner| self.patches.remove(*owner, addr));
            }
        }
        if is_made {
            // Code that is made at run time.
            self.fall_back(pid, tid);
        }
        self.place(pid, tid);
    }

    /// Sets what is missing in a process, one of whose tasks is stopped.
    pub(super) fn place(&mut self, pid: u32, tid: u32) {
        if self.lifted {
            return;
        }
        let id = *self.of.entry(pid).or_insert_with(|| {
            let id = self.next;
            self.next += 1;
            self.spaces.insert(id, Space { users: vec![pid], ..Space::default() });
            id
        });
        let Some(mut space) = self.spaces.remove(&id) else { return };
        // A file that is gone from memory took its breakpoints along.
        let all = mappings::read(tid);
        if all.is_empty() {
            // It is about to end.
            self.spaces.insert(id, space);
            return;
        }
        self.look_at_sigtrap(&mut space, Whose { pid, tid, all: &all });
        let mut mapped = HashSet::new();
        for mapping in &all {
            let Some((file, wanted)) = self.sites.of(pid, mapping) else { continue };
            // What is written to a shared mapping of a file is everybody's, and the file's.
            if mapping.executes && mapping.shared {
                for off_bytes in wanted.places.keys() {
                    let Some(addr) = mapping.address(*off_bytes) else { continue };
                    mapped.insert(addr);
                    if space.refused.insert(addr) {
                        let names = self.sites.names(Site { file, off_bytes: *off_bytes }, false);
                        self.missed.add(&names, Why::Shared);
                    }
                }
            } else if mapping.executes {
                let places = wanted.places.iter().filter_map(|(off_bytes, moments)| {
                    let site = Site { file, off_bytes: *off_bytes };
                    Some((mapping.address(*off_bytes)?, site, moments.clone()))
                });
                let places: Vec<(u64, Site, Moments)> = places.collect();
                mapped.extend(places.iter().map(|(addr, ..)| *addr));
                let new: Vec<_> = places.into_iter().filter(|(addr, ..)| !space.has(*addr)).collect();
                if !new.is_empty() {
                    let whose = Whose { pid, tid, all: &all };
                    self.arm(&mut space, whose, mapping, new);
                }
            }
        }
        // What is mapped elsewhere, or was copied over itself, has its breakpoints.
        let originals = &self.originals;
        forget(&mut self.patches, &mut space, |armed| {
            let is_copy = || {
                let (bytes, len) = code_at(tid, armed.func);
                originals.get(&armed.site).is_some_and(|original| original.is_hidden_in(&bytes[..len]))
            };
            !mapped.contains(&armed.func) && !is_copy()
        });
        space.refused.retain(|addr| mapped.contains(addr));
        self.raise(&mut space, pid, &all);
        self.place_calls(&mut space, Whose { pid, tid, all: &all });
        self.spaces.insert(id, space);
    }

    /// Sets breakpoints in a mapping.
    fn arm(&mut self, space: &mut Space, whose: Whose<'_>, mapping: &Mapping, new: Vec<(u64, Site, Moments)>) {
        let Whose { pid, tid, .. } = whose;
        let wanted: Vec<(u64, Site)> = new.iter().map(|(addr, site, _)| (*addr, *site)).collect();
        let mut why: HashMap<u64, Why> = HashMap::new();
        let mut found = Vec::with_capacity(new.len());
        for (addr, site, moments) in new {
            let (mut bytes, len) = code_at(tid, addr);
            // Code that moved, or whose process we did not see being made, has a breakpoint already.
            if let Some(original) = self.originals.get(&site).filter(|it| it.is_hidden_in(&bytes[..len])) {
                bytes = original.bytes;
            }
            // What the file had there was looked at before; this is what runs.
            let Ok(insn) = decode::decode(&bytes[..len]) else {
                why.insert(addr, Why::Bytes);
                continue;
            };
            self.originals.insert(site, Original { bytes, len, insn });
            let span = if moments.ret { None } else { self.span(pid, mapping, site, &bytes[..len]) };
            found.push((addr, site, moments, bytes, insn, span));
        }
        let slots = found.iter().filter(|(.., insn, span)| insn.kind != Kind::Nothing || span.is_some()).count() as u64;
        let returns = space.pool.is_none() && found.iter().any(|(_, _, moments, ..)| moments.ret);
        let slot_bytes = (slots * SLOT_BYTES).next_multiple_of(page_size() as u64);
        let pool_bytes = if returns { POOL_BYTES } else { 0 };
        let wants_refuge = !std::mem::replace(&mut space.looked_for_refuge, true);
        let refuge_bytes = match wants_refuge {
            true => self.refuge_bytes(),
            false => 0,
        };
        let len = slot_bytes + pool_bytes + refuge_bytes;
        let area = if len > 0 && len == slot_bytes { space.old_area(mapping, len) } else { None };
        let mut no_area = None;
        let area = match area {
            None if len > 0 => {
                let made = self.map(space, whose, mapping, len);
                no_area = made.err();
                let made = made.ok();
                space.areas.extend(made.filter(|_| slot_bytes > 0).map(|area| (area, slot_bytes)));
                made
            }
            old => old,
        };
        if let (Some(area), true) = (area, returns) {
            space.pool = Some(Pool::new(area + slot_bytes));
        }
        let memory = memory_of(pid);
        if let (Some(area), Ok(memory)) = (area, &memory) {
            let pool = returns.then_some(area + slot_bytes);
            if wants_refuge {
                let refuge = Refuge::new(area + slot_bytes + pool_bytes, refuge_bytes);
                self.open_refuge(space, whose, memory, refuge, pool);
            } else if let (Some(pool), Some(refuge)) = (pool, &space.refuge) {
                // Without it, returns are lost with us.
                let _ = memory.write_all_at(&pool.to_le_bytes(), refuge.pool_at());
            }
        }
        let mut code = Vec::new();
        let mut ready = Vec::with_capacity(found.len());
        for (addr, site, mut moments, bytes, insn, mut span) in found {
            let slot = area.filter(|_| insn.kind != Kind::Nothing || span.is_some());
            let slot = slot.map(|area| area + code.len() as u64);
            let copy = slot.and_then(|slot| {
                let whole = span.as_ref().and_then(|span| displaced(&span.bytes, &span.insns, addr, slot));
                if whole.is_none() {
                    span = None;
                }
                whole.or_else(|| displaced(&bytes, &[insn], addr, slot))
            });
            let slot = slot.filter(|_| copy.is_some());
            let Copy { code: copied, starts } = copy.unwrap_or_default();
            if !copied.is_empty() {
                code.extend(copied);
                code.resize(code.len().next_multiple_of(SLOT_BYTES as usize), 0);
            }
            if slot.is_none() && !is_imitated(insn.kind) {
                why.insert(addr, no_area.unwrap_or(Why::NoRoom));
                continue;
            }
            if moments.ret && space.pool.is_none() {
                let reason = no_area.unwrap_or(Why::NoMemory);
                moments.ret = false;
                if !moments.entry {
                    why.insert(addr, reason);
                    continue;
                }
                self.miss(site, true, reason);
            }
            let span = span.filter(|_| slot.is_some());
            let (original, starts, heat) = (bytes[0], starts.into(), Heat::default());
            ready.push((addr, Armed { site, moments, original, insn, slot, starts, func: addr, span, heat }));
        }
        let Ok(memory) = memory.and_then(|memory| {
            area.map_or(Ok(()), |area| memory.write_all_at(&code, area))?;
            Ok(memory)
        }) else {
            for (addr, site) in wanted {
                self.miss(site, false, Why::NotWritten);
                space.refused.insert(addr);
            }
            return;
        };
        for (addr, armed) in ready {
            let go_on = armed
                .slot
                .or_else(|| (armed.insn.kind == Kind::Nothing).then(|| addr.wrapping_add(armed.insn.len.into())));
            let entry = go_on.and_then(|go_on| space.refuge.as_mut()?.entry(addr, go_on));
            if let Some((at, entry)) = entry {
                let _ = memory.write_all_at(&entry, at);
            }
            let listed =
                space.users.first().is_some_and(|owner| self.patches.add(*owner, addr, Patch::Code(armed.original)));
            // A task may come by at once.
            space.armed.insert(addr, armed);
            if !listed || memory.write_all_at(&[BREAKPOINT], addr).is_err() {
                why.insert(addr, if listed { Why::NotWritten } else { Why::TooMany });
                forget(&mut self.patches, space, |armed| armed.func == addr);
            }
        }
        for (addr, site) in wanted {
            if !space.armed.contains_key(&addr) && space.refused.insert(addr) {
                self.miss(site, false, why.get(&addr).copied().unwrap_or(Why::NotWritten));
            }
        }
    }

    /// Lets a task map an area near a mapping.
    fn map(&mut self, space: &mut Space, whose: Whose<'_>, near: &Mapping, len: u64) -> Result<u64, Why> {
        const PROT_READ_EXEC: u64 = 1 | 4;
        const MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE: u64 = 2 | 0x20 | 0x10_0000;
        let place = mappings::room(whose.all, near, len).ok_or(Why::NoRoom)?;
        let args = [place, len, PROT_READ_EXEC, MAP_PRIVATE_ANONYMOUS_FIXED_NOREPLACE, u64::MAX, 0];
        if !inject::is_safe(whose.tid, self.has_filter(whose.pid)) {
            return Err(Why::Rules);
        }
        let area = self.inject(space, whose, inject::number("mmap"), args).ok_or(Why::NoMemory)?;
        space.own.push((area, len.next_multiple_of(page_size() as u64)));
        Ok(area)
    }

    /// Bytes of a refuge.
    fn refuge_bytes(&self) -> u64 {
        // A file may be mapped more than once, and a breakpoint may get a gate.
        let calls = if self.calls.is_planned() { calls::MAX_SAVED } else { 0 };
        Refuge::len(4 * self.sites.count() + calls).next_multiple_of(page_size() as u64)
    }

    /// Writes a refuge, and lets SIGTRAP lead there.
    fn open_refuge(&mut self, space: &mut Space, whose: Whose<'_>, memory: &File, refuge: Refuge, pool: Option<u64>) {
        let bytes = refuge.bytes(pool, (POOL_BYTES / 2) as u32);
        space.refuge = memory.write_all_at(&bytes, refuge.handler()).is_ok().then_some(refuge);
        self.take_refuge(space, whose);
    }

    /// Whether a process has our filter.
    fn has_filter(&self, pid: u32) -> bool {
        self.filtered && (!self.calls.is_planned() || self.calls.has_filter(pid))
    }

    /// Lets a task make a system call.
    fn inject(&mut self, space: &mut Space, whose: Whose<'_>, nr: u32, args: [u64; 6]) -> Option<u64> {
        let Whose { pid, tid, all } = whose;
        if !inject::is_safe(tid, self.has_filter(pid)) {
            return None;
        }
        let own = space.refuge.as_ref().map(Refuge::way_back);
        let own = own.filter(|way| inject::is_at(tid, way.code, way_back::CODE));
        // Nobody comes back from a handler, or as if from one, where he was not called.
        let can_come_back = !self.shadows.has(tid);
        let lent = || WayBack::without_area(tid, all);
        let made = match own.or_else(lent).filter(|_| can_come_back) {
            Some(way) if own.is_some() => inject::call(pid, tid, Source::Ours(way), nr, args),
            Some(way) => way.lent(pid, || inject::call(pid, tid, Source::Ours(way), nr, args)),
            None => inject::call(pid, tid, Source::Somewhere(syscall_of(space, whose)?), nr, args),
        };
        match made {
            Ok(value) => Some(value),
            Err(Failed::Refused) => None,
            Err(Failed::Gone(wait)) => {
                self.heard.push_back(wait);
                None
            }
        }
    }

    /// Raises the counters that tell the program that somebody looks.
    fn raise(&mut self, space: &mut Space, pid: u32, all: &[Mapping]) {
        let mut memory = None;
        for mapping in all.iter().filter(|mapping| mapping.writes && !mapping.shared) {
            let Some((_, wanted)) = self.sites.of(pid, mapping) else { continue };
            for addr in wanted.semaphores.iter().filter_map(|off_bytes| mapping.address(*off_bytes)) {
                if space.semaphores.contains(&addr) {
                    continue;
                }
                let Some(memory) = memory.get_or_insert_with(|| memory_of(pid)).as_ref().ok() else { return };
                let listed = space.users.first().is_some_and(|owner| self.patches.add(*owner, addr, Patch::Counter));
                if listed && count(memory, addr, 1).is_ok() {
                    space.semaphores.insert(addr);
                }
            }
        }
    }

    /// A process was made by another: with a copy of its memory, or with the same.
    pub(super) fn born(&mut self, maker: &TracedTask, pid: u32, tid: u32) {
        self.sigtraps.born((maker.pid(), maker.tid()), pid, tid);
        self.calls.born(maker.pid(), pid);
        if pid == maker.pid() {
            return;
        }
        let Some(id) = self.of.get(&maker.pid()).copied() else { return };
        // A kernel that does not tell has none that share, but for vfork, whose maker waits.
        let shares = ptrace::have_same_memory(maker.pid(), pid).unwrap_or(false);
        if shares {
            if let Some(space) = self.spaces.get_mut(&id) {
                space.users.push(pid);
            }
            self.of.insert(pid, id);
        } else if let Some(space) = self.spaces.get(&id) {
            let copy = Space { users: vec![pid], ..space.clone() };
            if !self.lifted {
                list(&mut self.patches, &copy);
            } else if let Ok(memory) = memory_of(pid) {
                // It was made before its maker's were taken out, and nobody could know of it.
                self.lift_from(&copy, pid, &memory);
            }
            self.spaces.insert(self.next, copy);
            self.of.insert(pid, self.next);
            self.next += 1;
        }
        // The task comes out of the functions that its maker was in.
        if let Some(running) = self.returns.get(&maker.tid()) {
            let running = running.iter().map(|it| it.of_child(shares)).collect();
            self.returns.insert(tid, running);
        }
    }

    /// A task has ended, or has left its functions for another program.
    pub(super) fn forget_task(&mut self, pid: u32, tid: u32) {
        self.sigtraps.forget_task(tid);
        self.shadows.forget(tid);
        self.calls.forget_task(tid);
        let running = self.returns.remove(&tid).unwrap_or_default();
        let Some(space) = self.of.get(&pid).and_then(|id| self.spaces.get_mut(id)) else { return };
        space.gates.forget_task(tid);
        if let Some(pool) = &mut space.pool {
            pool.give_back(running, &[]);
        }
    }

    /// A process has ended, or has another memory from now on.
    pub(super) fn forget_process(&mut self, pid: u32) {
        self.sigtraps.forget_process(pid);
        let Some(id) = self.of.remove(&pid) else { return };
        let Some(space) = self.spaces.get_mut(&id) else { return };
        let was_first = space.users.first() == Some(&pid);
        space.users.retain(|user| *user != pid);
        if was_first {
            self.patches.forget(pid);
        }
        if space.users.is_empty() {
            self.spaces.remove(&id);
        } else {
            if was_first && !self.lifted {
                list(&mut self.patches, space);
            }
            if let Some(mut space) = self.spaces.remove(&id) {
                self.close_calls(&mut space);
                self.spaces.insert(id, space);
            }
        }
    }

    /// A task got SIGTRAP. Whether a breakpoint was the reason: then it is set to go on, and must not get the signal.
    pub(super) fn hit(&mut self, task: &Arc<TracedTask>, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let is_ours = self.handle(task, sink).unwrap_or(false);
        if is_ours {
            self.restore_sigtrap(task.pid(), task.tid());
        }
        is_ours
    }

    fn handle(&mut self, task: &Arc<TracedTask>, sink: &mut dyn FnMut(Event<'_>)) -> Option<bool> {
        let (pid, tid) = (task.pid(), task.tid());
        let mut registers = Registers::of(tid).ok()?;
        let at = registers.get(Reg::Rip).wrapping_sub(1);
        if !self.has(pid, at) {
            // Only the kernel brings one for an instruction.
            (ptrace::signal_info(tid).ok()?.2 == SI_KERNEL).then_some(())?;
            self.place(pid, tid);
            if !self.has(pid, at) {
                self.uncover(pid, tid, at)?;
                registers.put(Reg::Rip, at);
                let _ = registers.set(tid);
                return Some(true);
            }
        }
        let space = self.spaces.get_mut(self.of.get(&pid)?)?;
        let trampoline = space.pool.as_ref().and_then(|pool| pool.index(at));
        let armed = space.armed.get(&at);
        // A signal that somebody sent may find the task behind an instruction of one byte. Elsewhere only a breakpoint leads here.
        let is_sure = !self.lifted && armed.is_none_or(|armed| armed.insn.len > 1 && armed.func == at);
        if !is_sure && ptrace::signal_info(tid).ok()?.2 != SI_KERNEL {
            return Some(false);
        }
        if self.lifted {
            if armed.is_some() {
                registers.put(Reg::Rip, at);
                let _ = registers.set(tid);
            }
            // Behind the breakpoint of a trampoline is the jump that the function returns by.
            return Some(true);
        }
        if let Some(index) = trampoline {
            self.returned(task, registers, index, sink);
            return Some(true);
        }
        let armed = armed?.clone();
        let func = armed.func;
        registers.put(Reg::Rip, func);
        if armed.moments.entry {
            let what = What::Probe { site: armed.site, ret: false, func, registers: registers.pt_regs() };
            // It is behind the breakpoint, and that may be one of a gate.
            task.waits_with(Some(registers.pt_regs()));
            sink(Event { task, what });
            task.waits_with(None);
        }
        if armed.moments.ret
            && let Err(why) = self.watch_return(tid, pid, &registers, armed.site, func)
        {
            self.miss(armed.site, true, why);
        }
        let next = func.wrapping_add(armed.insn.len.into());
        match (armed.slot, armed.insn.kind) {
            (Some(slot), _) => registers.put(Reg::Rip, slot),
            (None, Kind::Push(number)) => {
                let (value, stack) = (registers.numbered(number), registers.get(Reg::Rsp).wrapping_sub(8));
                if ptrace::write_memory(tid, stack, &value.to_ne_bytes()) == Ok(8) {
                    registers.put(Reg::Rsp, stack);
                    registers.put(Reg::Rip, next);
                }
                // Else it meets the breakpoint again, once there is memory.
            }
            (None, _) => registers.put(Reg::Rip, next),
        }
        // A task that was killed meanwhile needs no registers.
        let _ = registers.set(tid);
        self.warm(pid, tid, at);
        Some(true)
    }

    /// Whether a breakpoint or a trampoline is known there.
    fn has(&self, pid: u32, addr: u64) -> bool {
        let space = self.of.get(&pid).and_then(|id| self.spaces.get(id));
        space.is_some_and(|space| {
            space.armed.contains_key(&addr) || space.pool.as_ref().is_some_and(|pool| pool.index(addr).is_some())
        })
    }

    /// A task gets a signal for what it did (SIGSEGV and its like). In a slot it did that at the breakpoint, as far as it can know.
    pub(super) fn faulted(&mut self, pid: u32, tid: u32) {
        let Ok(mut registers) = Registers::of(tid) else { return };
        let at = registers.get(Reg::Rip);
        let of_call = self.whole_call(pid, at).map(|original| (None, original));
        let Some(space) = self.of.get(&pid).and_then(|id| self.spaces.get(id)) else { return };
        let original = of_call.or_else(|| {
            space.armed.values().find_map(|armed| {
                let off = at.checked_sub(armed.slot?)?;
                let (_, own) = armed.starts.iter().find(|(here, _)| u64::from(*here) == off)?;
                Some((Some(armed.func), armed.func + u64::from(*own)))
            })
        });
        if let Some((func, original)) = original
            && func.is_none_or(|func| self.is_whole(pid, func).is_some())
        {
            registers.put(Reg::Rip, original);
            let _ = registers.set(tid);
        }
    }

    /// Takes all breakpoints out. Tasks that have hit one and are not handled yet are moved on by [`Breakpoints::hit`].
    pub(super) fn lift(&mut self) {
        if self.lifted {
            return;
        }
        self.lifted = true;
        self.boards.close();
        for space in self.spaces.values() {
            let Some(pid) = space.users.first() else { continue };
            if let Ok(memory) = memory_of(*pid) {
                self.lift_from(space, *pid, &memory);
            }
        }
        for space in self.spaces.values() {
            space.users.first().into_iter().for_each(|pid| self.patches.forget(*pid));
        }
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }

    /// Takes what was changed in a memory back, and what it has copied of that.
    fn lift_from(&self, space: &Space, pid: u32, memory: &File) {
        let tid = mappings::with_memory(pid);
        // What has been mapped over a file since is not ours.
        let all = mappings::read(tid);
        let put_back = |addr: u64, original: &Original| {
            // A process that is gone has no breakpoint either.
            let _ = memory.write_all_at(&original.bytes[..1], addr);
        };
        let mut scan = Scan::default();
        for mapping in all.iter().filter(|mapping| mapping.executes) {
            if let Some((file, wanted)) = self.sites.of(pid, mapping).filter(|_| !mapping.shared) {
                for off_bytes in wanted.places.keys() {
                    let original = self.originals.get(&Site { file, off_bytes: *off_bytes });
                    let (Some(addr), Some(original)) = (mapping.address(*off_bytes), original) else { continue };
                    let mut byte = [0];
                    if memory.read_exact_at(&mut byte, addr).is_ok() && byte == [BREAKPOINT] {
                        put_back(addr, original);
                    }
                }
            } else if may_be_copy(mapping) {
                scan.look(tid, mapping, &self.originals, put_back);
            }
        }
        let is_there = |addr: u64| {
            let mapping = all.iter().find(|mapping| (mapping.start..mapping.end).contains(&addr));
            mapping.is_some_and(|mapping| self.sites.of(pid, mapping).is_some())
        };
        for addr in space.semaphores.iter().filter(|addr| is_there(**addr)) {
            let _ = count(memory, *addr, -1);
        }
        if let Some(pool) = &space.pool {
            let _ = memory.write_all_at(&pool.code_to_leave(), pool.base);
        }
        space.calls.leave(memory);
        for (stop, _) in space.armed.iter().filter(|(addr, armed)| armed.func != **addr) {
            for (at, bytes) in gate::to_leave(*stop) {
                let _ = memory.write_all_at(&bytes, at);
            }
        }
    }
}

/// Where a process has the instruction for a system call: in the vDSO, or else in some code.
fn syscall_of(space: &mut Space, Whose { tid, all, .. }: Whose<'_>) -> Option<u64> {
    let from = space.calls_from.filter(|from| inject::is_at(tid, *from, inject::SYSCALL)).or_else(|| {
        let vdso = all.iter().find(|mapping| mapping.name == "[vdso]");
        let from = vdso.into_iter().chain(all.iter().filter(|mapping| mapping.executes));
        from.filter_map(|mapping| inject::find(tid, mapping.start, mapping.end - mapping.start)).next()
    })?;
    space.calls_from = Some(from);
    Some(from)
}

/// A task and the memory that it has.
#[derive(Clone, Copy)]
struct Whose<'a> {
    pid: u32,
    tid: u32,
    all: &'a [Mapping],
}

/// Whether an instruction can do without a slot.
fn is_imitated(kind: Kind) -> bool {
    matches!(kind, Kind::Nothing | Kind::Push(_))
}

/// Lists what was changed in a memory under its first process.
fn list(patches: &mut Patches, space: &Space) {
    let Some(owner) = space.users.first() else { return };
    for (addr, armed) in space.armed.iter().filter(|(addr, armed)| !space.gates.lead_from(**addr, armed.func)) {
        patches.add(*owner, *addr, Patch::Code(armed.original));
    }
    for (stop, patch) in space.calls.stops() {
        patches.add(*owner, stop, patch);
    }
    if let Some((base, patch)) = space.pool.as_ref().and_then(Pool::patch) {
        patches.add(*owner, base, patch);
    }
    if let Some(look) = space.gates.look_at() {
        patches.add(*owner, look, Patch::Look);
    }
    for addr in &space.semaphores {
        patches.add(*owner, *addr, Patch::Counter);
    }
}

/// Takes breakpoints off a memory's list that are none any more.
fn forget(patches: &mut Patches, space: &mut Space, gone: impl Fn(&Armed) -> bool) {
    for (addr, armed) in space.armed.extract_if(|_, armed| gone(armed)) {
        space.gates.forget(addr, armed.func);
        space.users.first().into_iter().for_each(|owner| patches.remove(*owner, addr));
        if let Some(refuge) = &mut space.refuge {
            refuge.forget(addr);
        }
    }
}

/// Changes a counter of 16 bits.
fn count(memory: &File, addr: u64, by: i16) -> io::Result<()> {
    let mut value = [0; 2];
    memory.read_exact_at(&mut value, addr)?;
    let changed = u16::from_ne_bytes(value).saturating_add_signed(by);
    memory.write_all_at(&changed.to_ne_bytes(), addr)
}
