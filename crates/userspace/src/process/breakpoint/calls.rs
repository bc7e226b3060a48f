//! System calls of processes that have no filter: gates around their instructions.
//!
//! A filter slows every call of a process down, for ever. So a command runs without one as long as all code that it maps is understood: then jumps at the calls that
//! somebody wants ([`call_gate`]) see all of them, and the others cost nothing. Code that is made at run time, is writable, or has a call where
//! no jump can be, ends that: the process gets the filter then, at that moment ([`Breakpoints::fall_back`]), and so have those that it makes. The same
//! happens before it makes rules of its own for system calls (seccomp(2)), which may forbid what a gate does.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use skep_binary::calls::{CallSite, Calls as CallSites, call_sites};
use skep_sys::page_size;
use skep_sys::patches::{BREAKPOINT, BREAKPOINT_OF_CALL, NOP, Patch};
use skep_sys::ptrace;
use skep_sys::seccomp::Filter;

use super::gates::Heat;
use super::{Breakpoints, Space, Whose, memory_of};
use crate::probe::FileId;
use crate::process::call_gate::{self, CallGate, TABLE_BYTES, Way};
use crate::process::call_plan::CallPlan;
use crate::process::gate::{self, ALONE, MEET_BYTES};
use crate::process::mappings::{self, Mapping};
use crate::process::refuge::Refuge;
use crate::process::registers::{Reg, Registers};
use crate::process::sigtrap::Action;
use crate::process::span::Span;
use crate::process::unwatched::Why;
use crate::process::{inject, procfs};

/// Bytes of gates in an area; the table is behind them.
const GATES_BYTES: u64 = 1 << 16;
/// Where the code is in an area that asks whether somebody looks; before it is another piece, which says that nobody does until there is a board.
const MEET_OFF: u64 = 16;
const FIRST_OFF: u64 = (MEET_OFF + MEET_BYTES).next_multiple_of(64);
const AREA_BYTES: u64 = GATES_BYTES + TABLE_BYTES;
/// The longest file whose code is looked through, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// So many stops at gates, and nobody met at one meanwhile, mean that the filter is better: its stops take two thirds of the time.
const MAX_STOPS: u32 = 4096;
/// Calls of a task whose ends are waited for at gates: more than one only while handlers run.
const MAX_AWAITED: usize = 64;
/// Bytes of a `syscall` instruction.
const CALL_BYTES: u64 = 2;
/// Gates of a process that are known to who saves it when we are gone.
pub(super) const MAX_SAVED: u64 = 512;

/// A gate of a call.
#[derive(Clone, Debug, Default)]
struct Told {
    /// Where the call is.
    call: u64,
    /// It is the one behind the call.
    is_end: bool,
    /// There is one behind the call as well.
    has_end: bool,
    /// Where a task that was stopped goes on, if not where it is: where the call is made instead, whose own place has the breakpoint.
    go_on: Option<u64>,
    /// Who comes here tells nothing: it goes on at once.
    is_silent: bool,
    /// Where the gate begins, where the code is that leads to it, and what that hides.
    start: u64,
    from: u64,
    hidden: Arc<[u8]>,
    /// What makes a detour of it, and where that is written.
    leave: Arc<[(u64, Vec<u8>)]>,
    /// Where instructions begin that it executes, and where they are otherwise.
    starts: Arc<[(u64, u64)]>,
}

impl Told {
    /// A breakpoint in the place of a call, which is made elsewhere.
    fn here(call: u64, elsewhere: u64) -> Told {
        Told { call, go_on: Some(elsewhere), leave: Arc::from([(call, inject::SYSCALL.to_vec())]), ..Told::default() }
    }

    /// How its breakpoint is taken back when we are gone.
    fn patch(&self) -> Patch {
        if self.go_on.is_none() { Patch::Code(NOP) } else { Patch::Call }
    }
}

/// A call that is made at an address in place of its own.
fn elsewhere(here: u64, call: u64) -> Option<Vec<u8>> {
    let mut code = inject::SYSCALL.to_vec();
    code.extend(gate::jump(here + CALL_BYTES, call + CALL_BYTES)?);
    Some(code)
}

/// How the calls of a memory are seen.
#[derive(Clone, Debug, Default)]
pub(super) struct CallGates {
    /// By where their breakpoints are.
    told: HashMap<u64, Told>,
    /// Areas: where they are, and how many of their bytes are used.
    areas: Vec<(u64, u64)>,
    /// Mappings that were looked through, by where they start.
    looked: HashMap<u64, (u64, FileId)>,
    heat: Heat,
    /// Stops since its tasks were last met at gates.
    stops: u32,
    /// Its gates are detours.
    closed: bool,
    /// Breakpoints that are left all the same: of calls whose ends are still to come.
    kept: Vec<u64>,
}

impl CallGates {
    /// What was mapped in a range is gone: the breakpoints that went with it.
    pub(super) fn unmapped(&mut self, range: &Range<u64>) -> Vec<u64> {
        self.looked.retain(|start, (end, _)| *start >= range.end || *end <= range.start);
        self.told.extract_if(|_, told| range.contains(&told.call)).map(|(stop, _)| stop).collect()
    }

    /// Whether code was looked through that is in a range.
    fn knows(&self, range: &Range<u64>) -> bool {
        self.looked.iter().any(|(start, (end, _))| *start < range.end && *end > range.start)
    }

    /// Breakpoints that are in use, with how they are taken back.
    pub(super) fn stops(&self) -> impl Iterator<Item = (u64, Patch)> {
        let in_use = |stop| !self.closed || self.kept.contains(stop);
        let in_use = self.told.iter().filter(move |(stop, told)| in_use(stop) && !told.is_silent);
        in_use.map(|(stop, told)| (*stop, told.patch()))
    }

    /// Makes detours of all gates.
    pub(super) fn leave(&self, memory: &File) {
        self.leave_but(memory, |_| false);
    }

    /// Makes detours of all gates but those behind some calls, whose ends are still to come.
    fn leave_but(&self, memory: &File, is_awaited: impl Fn(&u64) -> bool) {
        for told in self.told.values().filter(|told| !told.is_end || !is_awaited(&told.call)) {
            for (at, bytes) in &*told.leave {
                let _ = memory.write_all_at(bytes, *at);
            }
        }
    }

    /// Which gate a task executes an instruction in, and where that is otherwise.
    fn original(&self, at: u64) -> Option<(Told, u64)> {
        self.told.values().find_map(|told| {
            let (_, own) = told.starts.iter().find(|(here, _)| *here == at)?;
            Some((told.clone(), *own))
        })
    }
}

/// What a task tells at a gate of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::process) struct CallTold {
    /// Where the instruction behind the call is.
    pub(in crate::process) behind: u64,
    /// It ends; else it begins.
    pub(in crate::process) is_end: bool,
    /// Its end will be told of at a gate as well.
    pub(in crate::process) has_end: bool,
    /// Nobody wants to know any more.
    pub(in crate::process) is_late: bool,
    /// Where a task that was stopped goes on, if not where it is.
    pub(in crate::process) go_on: Option<u64>,
    /// There is nothing to tell.
    pub(in crate::process) is_silent: bool,
}

/// Why a process needs the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unprovable;

/// What is known of files, and of who has a filter.
#[derive(Debug, Default)]
pub(super) struct CallFiles {
    /// How calls are seen without the filter, and the filter.
    plan: Option<(Arc<CallPlan>, Filter)>,
    files: HashMap<FileId, Option<Arc<CallSites>>>,
    vdso: Option<Option<Arc<CallSites>>>,
    filtered: HashSet<u32>,
    /// Calls of each task whose ends are told of at gates.
    awaited: HashMap<u32, Vec<Awaited>>,
}

/// A call whose end is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Awaited {
    nr: u32,
    behind: u64,
    stack: u64,
}

impl CallFiles {
    /// Calls are seen at gates where that can be, and else by a filter.
    pub(super) fn new(plan: Option<(CallPlan, Filter)>) -> CallFiles {
        CallFiles { plan: plan.map(|(plan, filter)| (Arc::new(plan), filter)), ..CallFiles::default() }
    }

    pub(super) fn is_planned(&self) -> bool {
        self.plan.is_some()
    }

    /// Whether a process has our filter; `false` where all have it.
    pub(super) fn has_filter(&self, pid: u32) -> bool {
        self.filtered.contains(&pid)
    }

    pub(super) fn born(&mut self, maker: u32, pid: u32) {
        if self.filtered.contains(&maker) {
            self.filtered.insert(pid);
        }
    }

    pub(super) fn ended(&mut self, pid: u32) {
        self.filtered.remove(&pid);
    }

    pub(super) fn forget_task(&mut self, tid: u32) {
        self.awaited.remove(&tid);
    }

    fn sites_of(&mut self, tid: u32, mapping: &Mapping) -> Option<Arc<CallSites>> {
        if mapping.name == "[vdso]" {
            let read = || {
                let mut image = vec![0; (mapping.end - mapping.start) as usize];
                (ptrace::read_memory(tid, mapping.start, &mut image) == Ok(image.len())).then_some(())?;
                call_sites(&image).ok().map(Arc::new)
            };
            return self.vdso.get_or_insert_with(read).clone();
        }
        if !mapping.name.starts_with('/') {
            return None;
        }
        let read = || {
            let path = format!("/proc/{tid}/root{}", mapping.name);
            // The name may be another file's by now. Some file systems have other devices for mappings than for stat(2).
            let is_it = |meta: &fs::Metadata| meta.ino() == mapping.file.inode && meta.is_file();
            fs::metadata(&path).ok().filter(|meta| is_it(meta) && meta.len() <= MAX_FILE)?;
            call_sites(&fs::read(path).ok()?).ok().map(Arc::new)
        };
        self.files.entry(mapping.file).or_insert_with(read).clone()
    }
}

/// A gate in the making.
struct Made {
    stop: u64,
    told: Told,
    /// Where the code is that leads to it, what that is, and what it hides.
    from: u64,
    way_in: Vec<u8>,
    hidden: Vec<u8>,
}

/// Gates of a mapping in the making.
struct Making {
    tid: u32,
    start: u64,
    meet: u64,
    code: Vec<u8>,
    made: Vec<Made>,
}

impl Making {
    fn here(&self) -> u64 {
        self.start + self.code.len() as u64
    }

    fn put(&mut self, code: &[u8]) {
        self.code.extend_from_slice(code);
        self.code.resize(self.code.len().next_multiple_of(16), 0xcc);
    }

    fn add(&mut self, gate: CallGate, told: Told, from: u64, hidden: Span) -> Option<()> {
        let own = |(here, own): &(u8, u8)| (gate.copy_at + u64::from(*here), from + u64::from(*own));
        let starts = gate.copy.starts.iter().map(own).collect();
        let start = self.here();
        let told = Told { leave: gate.leave.into(), starts, start, from, hidden: hidden.bytes.clone().into(), ..told };
        let way_in = gate::jump(from, start)?.to_vec();
        self.made.push(Made { stop: gate.stop, told, from, way_in, hidden: hidden.bytes });
        self.put(&gate.code);
        Some(())
    }

    fn read(&self, from: u64, len: u8) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len.into()];
        (ptrace::read_memory(self.tid, from, &mut bytes) == Ok(bytes.len())).then_some(bytes)
    }

    /// Makes those of a call.
    fn call(&mut self, call: u64, site: &CallSite, (way, has_end): (Way, bool)) -> Option<()> {
        let told = Told { call, has_end, ..Told::default() };
        let place = |span: skep_binary::calls::Span| call.wrapping_add(span.off_bytes.wrapping_sub(site.off_bytes));
        self.read(call, CALL_BYTES as u8).filter(|bytes| *bytes == inject::SYSCALL)?;
        if way == Way::Here {
            return self.call_elsewhere(call);
        }
        let before = site.before?;
        let (from, span) = (place(before), Span::of(self.read(place(before), before.len)?)?);
        let gate = call_gate::before(self.here(), from, &span, call, way, self.meet)?;
        self.add(gate, told.clone(), from, span)?;
        if has_end {
            let behind = site.behind?;
            let (from, span) = (place(behind), Span::of(self.read(place(behind), behind.len)?)?);
            let gate = call_gate::behind(self.here(), from, &span, site.nr.is_none(), self.meet)?;
            self.add(gate, Told { is_end: true, ..told }, from, span)?;
        }
        Some(())
    }

    /// Puts a breakpoint in the place of the call itself, which is made here.
    fn call_elsewhere(&mut self, call: u64) -> Option<()> {
        let code = elsewhere(self.here(), call)?;
        let told = Told::here(call, self.here());
        self.made.push(Made {
            stop: call,
            told,
            from: call,
            way_in: BREAKPOINT_OF_CALL.to_vec(),
            hidden: inject::SYSCALL.to_vec(),
        });
        self.put(&code);
        Some(())
    }
}

impl Breakpoints {
    /// Sets what is missing around the calls of a process, one of whose tasks is stopped.
    pub(super) fn place_calls(&mut self, space: &mut Space, whose: Whose<'_>) {
        if !self.calls.is_planned() || self.calls.has_filter(whose.pid) || procfs::is_foreign(whose.tid) {
            return;
        }
        // Who ignores SIGTRAP has no handler that would tell what a breakpoint cost.
        let ignores = self.sigtraps.action(whose.pid) == Some(Action::Ignored);
        if ignores || self.gates_everywhere(space, whose).is_err() {
            self.fall_back_in(space, whose);
        }
    }

    fn gates_everywhere(&mut self, space: &mut Space, whose: Whose<'_>) -> Result<(), Unprovable> {
        for mapping in whose.all.iter().filter(|mapping| mapping.executes && mapping.name != "[vsyscall]") {
            if space.calls.looked.get(&mapping.start) == Some(&(mapping.end, mapping.file)) || space.is_own(mapping) {
                continue;
            }
            if mapping.writes || mapping.shared {
                return Err(Unprovable);
            }
            let sites = self.calls.sites_of(whose.tid, mapping).ok_or(Unprovable)?;
            self.gates_in(space, whose, mapping, &sites)?;
            space.calls.looked.insert(mapping.start, (mapping.end, mapping.file));
        }
        Ok(())
    }

    fn gates_in(
        &mut self,
        space: &mut Space,
        whose: Whose<'_>,
        mapping: &Mapping,
        sites: &CallSites,
    ) -> Result<(), Unprovable> {
        let (plan, _) = self.calls.plan.clone().ok_or(Unprovable)?;
        if sites.unknown.iter().any(|off_bytes| mapping.address(*off_bytes).is_some()) {
            return Err(Unprovable);
        }
        let here = |site: &CallSite| mapping.address(site.off_bytes);
        let mut any = false;
        for site in sites.sites.iter().filter(|site| here(site).is_some()) {
            any |= plan.at(site, 0).is_some();
        }
        if !any {
            return Ok(());
        }
        let index = self.call_area(space, whose, mapping, &plan).ok_or(Unprovable)?;
        let (area, used) = space.calls.areas[index];
        let mut making = Making { tid: whose.tid, start: area + used, meet: area, code: Vec::new(), made: Vec::new() };
        for site in &sites.sites {
            let Some(call) = here(site) else { continue };
            if let Some(what) = plan.at(site, area + GATES_BYTES) {
                making.call(call, site, what).ok_or(Unprovable)?;
            }
        }
        let used = used + making.code.len() as u64;
        if used > GATES_BYTES || self.is_probed(whose.pid, mapping, &making) {
            return Err(Unprovable);
        }
        space.calls.areas[index].1 = used;
        self.open_gates(space, whose, making).ok_or(Unprovable)
    }

    /// Whether somebody wants a breakpoint where a jump would be.
    fn is_probed(&self, pid: u32, mapping: &Mapping, making: &Making) -> bool {
        let Some((_, wanted)) = self.sites.of(pid, mapping) else { return false };
        let places = wanted.places.keys().filter_map(|off_bytes| mapping.address(*off_bytes));
        let jumps = |place: u64| {
            making.made.iter().any(|made| (made.from..made.from + made.hidden.len() as u64).contains(&place))
        };
        places.into_iter().any(jumps)
    }

    /// Writes gates, and then the jumps to them.
    fn open_gates(&mut self, space: &mut Space, whose: Whose<'_>, making: Making) -> Option<()> {
        let owner = *space.users.first()?;
        let memory = memory_of(whose.pid).ok()?;
        memory.write_all_at(&making.code, making.start).ok()?;
        for Made { stop, told, from, way_in, hidden } in making.made {
            let go_on = told.go_on.unwrap_or(stop + 1);
            if let Some((to, entry)) = space.refuge.as_mut().and_then(|refuge| refuge.entry(stop, go_on)) {
                memory.write_all_at(&entry, to).ok()?;
            }
            self.patches.add(owner, stop, told.patch()).then_some(())?;
            space.calls.told.insert(stop, told);
            // Nobody is there yet: the code was mapped a moment ago.
            if memory.write_all_at(&way_in, from).is_err() {
                let _ = memory.write_all_at(&hidden, from);
                return None;
            }
        }
        Some(())
    }

    /// An area near a mapping; its place in the list.
    fn call_area(&mut self, space: &mut Space, whose: Whose<'_>, mapping: &Mapping, plan: &CallPlan) -> Option<usize> {
        let reaches = |area: u64| mapping.start.abs_diff(area).max(mapping.end.abs_diff(area)) < super::NEAR;
        if let Some(index) = space.calls.areas.iter().position(|(area, _)| reaches(*area)) {
            return Some(index);
        }
        let wants_refuge = !std::mem::replace(&mut space.looked_for_refuge, true);
        let refuge_bytes = if wants_refuge { self.refuge_bytes() } else { 0 };
        let at = self.map(space, whose, mapping, AREA_BYTES + refuge_bytes).ok()?;
        let memory = memory_of(whose.pid).ok()?;
        if wants_refuge {
            let refuge = Refuge::new(at + AREA_BYTES, refuge_bytes);
            self.open_refuge(space, whose, &memory, refuge, None);
        }
        memory.write_all_at(&ALONE, at).ok()?;
        memory.write_all_at(&plan.table(), at + GATES_BYTES).ok()?;
        if let Some(board) = space.gates.board_at() {
            open_meet(&memory, at, board)?;
        }
        space.calls.areas.push((at, FIRST_OFF));
        Some(space.calls.areas.len() - 1)
    }

    /// A task gets a signal for what it did at an address: where that is in its own code, all of whose instructions stand there from now on, since it may go on at
    /// any of them; `None` if it was in no gate.
    pub(super) fn whole_call(&mut self, pid: u32, at: u64) -> Option<u64> {
        const SLOT_BYTES: u64 = 16;
        let space = self.spaces.get_mut(self.of.get(&pid)?)?;
        let (told, original) = space.calls.original(at)?;
        let memory = memory_of(pid).ok()?;
        // Who comes by in between goes into the gate, for the breakpoint is there before the rest of the jump is not.
        let between = Told { call: told.call, go_on: Some(told.start), is_silent: true, ..Told::default() };
        space.calls.told.insert(told.from, between);
        memory.write_all_at(&[BREAKPOINT], told.from).ok()?;
        memory.write_all_at(told.hidden.get(1..)?, told.from + 1).ok()?;
        memory.write_all_at(told.hidden.get(..1)?, told.from).ok()?;
        for other in space.calls.told.values_mut().filter(|other| other.call == told.call) {
            other.has_end = false;
        }
        if told.is_end || self.lifted || space.calls.closed {
            return Some(original);
        }
        let reaches = |area: u64| told.call.abs_diff(area) < super::NEAR;
        let area = space.calls.areas.iter_mut().find(|(area, used)| reaches(*area) && used + SLOT_BYTES <= GATES_BYTES);
        if let Some((area, used)) = area {
            let here = *area + *used;
            *used += SLOT_BYTES;
            memory.write_all_at(&elsewhere(here, told.call)?, here).ok()?;
            let told = Told::here(told.call, here);
            let (entry_at, entry) = space.refuge.as_mut()?.entry(told.call, here)?;
            memory.write_all_at(&entry, entry_at).ok()?;
            self.patches.add(*space.users.first()?, told.call, told.patch()).then_some(())?;
            memory.write_all_at(&BREAKPOINT_OF_CALL, told.call).ok()?;
            space.calls.told.insert(told.call, told);
        }
        Some(original)
    }

    /// What a task tells that is stopped by a breakpoint, or waits at it, if that is one of a gate for calls.
    pub(in crate::process) fn call_at(&self, pid: u32, stop: u64) -> Option<CallTold> {
        let space = self.spaces.get(self.of.get(&pid)?)?;
        let told = space.calls.told.get(&stop)?;
        // The call is in its own place again.
        let is_back = self.lifted || space.calls.closed;
        Some(CallTold {
            behind: told.call + CALL_BYTES,
            is_end: told.is_end,
            has_end: told.has_end,
            is_late: self.lifted || self.calls.has_filter(pid) && !told.is_end,
            go_on: told.go_on.map(|go_on| if is_back && !told.is_silent { told.call } else { go_on }),
            is_silent: told.is_silent,
        })
    }

    /// A task was stopped at a gate for calls, once more: too often, and its process gets the filter.
    pub(in crate::process) fn stopped_at_call(&mut self, pid: u32, tid: u32) {
        let space = self.of.get(&pid).and_then(|id| self.spaces.get_mut(id));
        let Some(space) = space.filter(|space| !space.calls.closed) else { return };
        space.calls.stops += 1;
        // With more threads, those that are between telling of a call and making it would be seen twice.
        if space.calls.stops > MAX_STOPS && procfs::threads(pid).len() == 1 {
            self.fall_back(pid, tid);
        } else {
            self.warm_calls(pid, tid);
        }
    }

    /// A call begins whose end is told of at a gate.
    pub(in crate::process) fn await_end(&mut self, tid: u32, nr: u32, (behind, stack): (u64, u64)) {
        let awaited = self.calls.awaited.entry(tid).or_default();
        let before = awaited.len();
        // One at the same place of the stack has ended, and was not told of.
        awaited.retain(|it| it.stack != stack);
        if awaited.len() == MAX_AWAITED {
            awaited.remove(0);
        }
        let lost = before - awaited.len();
        awaited.push(Awaited { nr, behind, stack });
        self.lose_ends(lost);
    }

    fn lose_ends(&mut self, count: usize) {
        for _ in 0..count {
            self.missed.add(&["the end of a system call".into()], Why::Handler);
        }
    }

    /// A call ends: its number, if it is one of those.
    pub(in crate::process) fn awaited_end(&mut self, tid: u32, (behind, stack): (u64, u64)) -> Option<u32> {
        let awaited = self.calls.awaited.get_mut(&tid)?;
        let index = awaited.iter().rposition(|it| (it.behind, it.stack) == (behind, stack))?;
        let nr = awaited[index].nr;
        // Those that came later belong to handlers that never returned.
        let lost = awaited.len() - index - 1;
        awaited.truncate(index);
        self.lose_ends(lost);
        Some(nr)
    }

    /// Whether a process has the filter in place of gates.
    pub(in crate::process) fn fell_back(&self, pid: u32) -> bool {
        self.calls.has_filter(pid)
    }

    fn warm_calls(&mut self, pid: u32, tid: u32) {
        let Some(id) = self.of.get(&pid).copied() else { return };
        let Some(space) = self.spaces.get_mut(&id) else { return };
        if space.gates.board_at().is_some() {
            self.boards.stopped();
            return;
        }
        if !self.boards.are_possible() || space.gates.is_impossible() || !space.calls.heat.is_hot() {
            return;
        }
        let Some(mut space) = self.spaces.remove(&id) else { return };
        let all = mappings::read(tid);
        let board = self.board(&mut space, Whose { pid, tid, all: &all });
        space.gates.set_impossible(board.is_none());
        if let (Some(board), Ok(memory)) = (board, memory_of(pid)) {
            for (area, _) in &space.calls.areas {
                let _ = open_meet(&memory, *area, board);
            }
        }
        self.spaces.insert(id, space);
    }

    /// A task was met at a gate for calls.
    pub(in crate::process) fn met_call(&mut self, pid: u32) {
        if let Some(space) = self.of.get(&pid).and_then(|id| self.spaces.get_mut(id)) {
            space.calls.stops = 0;
        }
    }

    /// Whether calls are seen at gates.
    pub(in crate::process) fn have_calls(&self) -> bool {
        self.calls.is_planned()
    }

    /// Whether the end of a task tells of this call, if nothing has told of it before.
    pub(in crate::process) fn is_told_by_end(&self, nr: u32) -> bool {
        self.calls.plan.as_ref().is_some_and(|(plan, _)| plan.is_told_by_end(nr))
    }

    /// Whether the ends of tasks tell of any call.
    pub(in crate::process) fn ends_tell(&self) -> bool {
        !self.lifted && self.calls.plan.as_ref().is_some_and(|(plan, _)| plan.ends_tell())
    }

    /// Whether a call with these arguments has to be a stop.
    pub(in crate::process) fn call_stops_at(&self, nr: u32, args: &[u64; 6]) -> bool {
        self.calls.plan.as_ref().is_some_and(|(plan, _)| plan.stops_at(nr, args))
    }

    /// A process is no more.
    pub(in crate::process) fn bury(&mut self, pid: u32) {
        self.calls.ended(pid);
    }

    /// What memory may be used for was changed by a task that is at the end of the call.
    pub(in crate::process) fn protected(&mut self, pid: u32, tid: u32) {
        let Ok(registers) = Registers::of(tid) else { return };
        let start = registers.get(Reg::Rdi);
        let range = start..start.saturating_add(registers.get(Reg::Rsi));
        let all = mappings::read(tid);
        let is_of_file =
            |mapping: &Mapping| mapping.file.inode != 0 || mapping.end <= range.start || mapping.start >= range.end;
        let space = self.of.get(&pid).and_then(|id| self.spaces.get(id));
        // What was code before may be other code now.
        if space.is_some_and(|space| space.calls.knows(&range)) || !all.iter().all(is_of_file) {
            self.fall_back(pid, tid);
        } else {
            self.place(pid, tid);
        }
    }

    /// Gives a process the filter in place of its gates, one of whose tasks is stopped.
    pub(in crate::process) fn fall_back(&mut self, pid: u32, tid: u32) {
        if !self.calls.is_planned() || self.calls.has_filter(pid) || self.lifted {
            return;
        }
        let Some(id) = self.of.get(&pid).copied() else { return };
        let Some(mut space) = self.spaces.remove(&id) else { return };
        let all = mappings::read(tid);
        self.fall_back_in(&mut space, Whose { pid, tid, all: &all });
        self.spaces.insert(id, space);
    }

    fn fall_back_in(&mut self, space: &mut Space, whose: Whose<'_>) {
        // The end of its own call is seen by the stop.
        self.calls.forget_task(whose.tid);
        // First the filter: other threads run meanwhile, and would not be seen. One that has told of a call, but not made it yet, is seen twice.
        if self.install_filter(space, whose).is_none() {
            let name = format!("the system calls of process {}", whose.pid);
            self.missed.add(&[name.into()], Why::NoFilter);
        }
        self.calls.filtered.insert(whose.pid);
        self.sigtraps.follow(whose.pid);
        self.close_calls(space);
    }

    /// Makes detours of all gates once everybody who comes by them has the filter. A child of vfork(2) has its maker's memory, but a filter of its own: gates that its
    /// maker needs stay, and to it they tell nothing.
    pub(super) fn close_calls(&mut self, space: &mut Space) {
        let Some(owner) = space.users.first().copied() else { return };
        if space.calls.closed || self.lifted || !space.users.iter().all(|pid| self.calls.has_filter(*pid)) {
            return;
        }
        // What stays is on the list, and what is taken back until it is taken back.
        let is_awaited =
            |call: &u64| self.calls.awaited.values().flatten().any(|awaited| awaited.behind == *call + CALL_BYTES);
        let (kept, over): (Vec<u64>, Vec<u64>) = space
            .calls
            .stops()
            .map(|(stop, _)| stop)
            .partition(|stop| space.calls.told.get(stop).is_some_and(|told| told.is_end && is_awaited(&told.call)));
        (space.calls.closed, space.calls.kept) = (true, kept);
        if let Ok(memory) = memory_of(owner) {
            space.calls.leave_but(&memory, is_awaited);
            // Nobody makes the call by which tasks say who they are any more.
            for (area, _) in &space.calls.areas {
                let _ = memory.write_all_at(&ALONE, *area);
            }
            space.gates.close(&memory);
        }
        over.into_iter().for_each(|stop| self.patches.remove(owner, stop));
    }

    /// Lets a task put the filter on all threads of its process.
    fn install_filter(&mut self, space: &mut Space, whose: Whose<'_>) -> Option<()> {
        const PROT_READ_WRITE: u64 = 1 | 2;
        const MAP_PRIVATE_ANONYMOUS: u64 = 2 | 0x20;
        // Of include/uapi/linux/seccomp.h and prctl.h.
        const SET_MODE_FILTER: u64 = 1;
        const FLAG_TSYNC: u64 = 1;
        const SET_NO_NEW_PRIVS: u64 = 38;
        let (_, filter) = self.calls.plan.clone()?;
        let len = (filter.program_at(0).len() as u64).next_multiple_of(page_size() as u64);
        let args = [0, len, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, u64::MAX, 0];
        let at = self.inject(space, whose, inject::number("mmap"), args)?;
        let wrote = memory_of(whose.pid).and_then(|memory| memory.write_all_at(&filter.program_at(at), at));
        let install = [SET_MODE_FILTER, FLAG_TSYNC, at, 0, 0, 0];
        let seccomp = inject::number("seccomp");
        let mut done = wrote.is_ok().then(|| self.inject(space, whose, seccomp, install)).flatten();
        if done.is_none() && wrote.is_ok() {
            // Without rights it has to give up gaining some by exec first.
            self.inject(space, whose, inject::number("prctl"), [SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0]);
            done = self.inject(space, whose, seccomp, install);
        }
        self.inject(space, whose, inject::number("munmap"), [at, len, 0, 0, 0, 0]);
        done.filter(|value| *value == 0).map(drop)
    }
}

/// Lets the gates of an area use a board: the code for that, and then a jump to it, which is written at once.
fn open_meet(memory: &File, area: u64, board: u64) -> Option<()> {
    memory.write_all_at(&gate::meet(board), area + MEET_OFF).ok()?;
    memory.write_all_at(&[0xeb, (MEET_OFF - 2) as u8], area).ok()
}
