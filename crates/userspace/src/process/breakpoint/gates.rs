//! Breakpoints that become gates, and the boards that their tasks post on.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::sched_getaffinity;
use skep_sys::board::{ALLOW_SEALING, BOARD_BYTES, Board, Posted};
use skep_sys::patches::Patch;

use super::{Armed, Breakpoints, Space, Whose, memory_of};
use crate::process::gate::{self, GATE_BYTES, JUMP_BYTES, MEET_BYTES, NOP};
use crate::process::mappings::{self, Mapping};
use crate::process::sites::Site;
use crate::process::span::Span;
use crate::process::{Event, TracedTask, What, inject, procfs};

/// Stops that are judged at once.
const ROW: u32 = 64;
/// The longest that they may take to be worth a gate, and to be looked for: about what as many stops take.
const ROW_TIME: Duration = Duration::from_millis(3);
/// So many stops while somebody looks, and nothing on a board, mean that the tasks do not run beside us.
const MAX_IN_VAIN: u32 = 32;
/// How long nobody looks then.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of an area for gates.
const AREA_BYTES: u64 = 4096;
/// What a jump may not cross where other threads may be about to execute it.
const LINE_BYTES: u64 = 64;
/// Segments of user space on x86-64 (`arch/x86/include/asm/segment.h`).
const USER_CS: u64 = 0x33;
const USER_DS: u64 = 0x2b;
/// Places in `struct pt_regs`, in words.
const ORIG_RAX: usize = 15;
const RIP: usize = 16;
const CS: usize = 17;
const SS: usize = 20;

/// How often something happens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heat {
    row: u32,
    since: Option<Instant>,
}

impl Heat {
    /// Once more: whether that was the last of a quick row.
    fn is_hot(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.row += 1;
        if self.row < ROW {
            return false;
        }
        *self = Heat::default();
        since.elapsed() <= ROW_TIME
    }
}

/// The gates of a memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates {
    /// With its address.
    board: Option<(Arc<Board>, u64)>,
    /// Where areas begin, and how many of their bytes are used.
    areas: Vec<(u64, u64)>,
    /// Code that a jump is in the place of.
    jumps: HashSet<u64>,
    /// None can be made.
    impossible: bool,
}

impl Gates {
    /// Whether there is a jump at an address, which is that of a piece of code.
    pub(super) fn lead_from(&self, addr: u64, func: u64) -> bool {
        addr == func && self.jumps.contains(&addr)
    }

    pub(super) fn forget(&mut self, func: u64) {
        self.jumps.remove(&func);
    }

    /// A task has ended.
    pub(super) fn forget_task(&self, tid: u32) {
        if let Some((board, _)) = &self.board {
            board.forget(tid);
        }
    }
}

/// All boards, and whether they are looked at.
#[derive(Debug)]
pub(super) struct Boards {
    /// With one processor, whoever waits keeps us from coming.
    possible: bool,
    all: Vec<Arc<Board>>,
    looked_at: bool,
    /// Stops at gates.
    heat: Heat,
    in_vain: u32,
    not_before: Option<Instant>,
}

impl Boards {
    pub(super) fn of_machine() -> Boards {
        let possible = sched_getaffinity(None).is_ok_and(|cpus| cpus.count() > 1);
        Boards { possible, all: Vec::new(), looked_at: false, heat: Heat::default(), in_vain: 0, not_before: None }
    }

    fn look(&mut self, look: bool) {
        self.looked_at = look;
        for board in &self.all {
            board.look(look);
        }
    }

    /// Nobody will ever look.
    pub(super) fn close(&mut self) {
        self.possible = false;
        self.look(false);
    }

    /// A task was stopped at a gate.
    fn stopped(&mut self) {
        if self.looked_at {
            self.in_vain += 1;
            if self.in_vain == MAX_IN_VAIN {
                self.look(false);
                self.not_before = Some(Instant::now() + PAUSE);
            }
        } else if self.possible && self.heat.is_hot() && self.not_before.is_none_or(|then| then <= Instant::now()) {
            self.in_vain = 0;
            self.look(true);
        }
    }
}

impl Breakpoints {
    /// The instructions that a jump could hide at a place where these bytes were found.
    pub(super) fn span(&mut self, pid: u32, mapping: &Mapping, site: Site, bytes: &[u8]) -> Option<Arc<Span>> {
        if !self.boards.possible {
            return None;
        }
        let sites = Arc::clone(&self.sites);
        let span = self.spans.entry(site).or_insert_with(|| {
            let is_probed = |off_bytes| sites.has(Site { off_bytes, ..site });
            Span::at(pid, mapping, site.off_bytes, is_probed).map(Arc::new)
        });
        // A process that runs already may be in the middle of it.
        let is_good = |span: &&Arc<Span>| {
            let same = span.bytes.iter().zip(bytes).all(|(own, here)| own == here);
            same && (self.filtered || span.insns.len() == 1)
        };
        span.as_ref().filter(is_good).cloned()
    }

    /// A task was stopped by a breakpoint.
    pub(super) fn warm(&mut self, pid: u32, tid: u32, at: u64) {
        let Some(id) = self.of.get(&pid).copied() else { return };
        let Some(space) = self.spaces.get_mut(&id) else { return };
        let (can, is_jump) = (self.boards.possible && !space.gates.impossible, space.gates.jumps.contains(&at));
        let Some(armed) = space.armed.get_mut(&at) else { return };
        if armed.func != at {
            self.boards.stopped();
        } else if can && !is_jump && armed.span.is_some() && armed.heat.is_hot() {
            let armed = armed.clone();
            let Some(mut space) = self.spaces.remove(&id) else { return };
            let all = mappings::read(tid);
            if self.make_gate(&mut space, Whose { pid, tid, all: &all }, &armed).is_none()
                && let Some(armed) = space.armed.get_mut(&at)
            {
                // Once is enough.
                armed.span = None;
            }
            self.spaces.insert(id, space);
        }
    }

    /// Puts a jump to a gate in the place of a breakpoint, one of whose tasks is stopped.
    fn make_gate(&mut self, space: &mut Space, whose: Whose<'_>, armed: &Armed) -> Option<()> {
        let (from, span) = (armed.func, armed.span.as_ref()?);
        let is_alone = space.users.len() == 1 && procfs::threads(whose.pid).len() == 1;
        let in_line = from % LINE_BYTES + JUMP_BYTES <= LINE_BYTES;
        (is_alone || in_line).then_some(())?;
        let near = whose.all.iter().find(|mapping| (mapping.start..mapping.end).contains(&from))?;
        let (at, meet) = self.room_for_gate(space, whose, near)?;
        let gate = gate::gate(at, from, span, meet)?;
        let jump = gate::jump(from, at)?;
        let owner = *space.users.first()?;
        let memory = memory_of(whose.pid).ok()?;
        memory.write_all_at(&gate.code, at).ok()?;
        // Who saves those who come by when we are gone has to know of both ways, and takes only the new one back.
        let slot = at + gate.code.len() as u64 - gate.copy.code.len() as u64;
        let (entry_at, entry) = space.refuge.as_mut()?.entry(gate.stop, slot)?;
        memory.write_all_at(&entry, entry_at).ok()?;
        self.patches.add(owner, gate.stop, Patch::Code(NOP)).then_some(())?;
        let stop =
            Armed { original: NOP, slot: Some(slot), starts: gate.copy.starts.into(), span: None, ..armed.clone() };
        space.armed.insert(gate.stop, stop);
        self.patches.remove(owner, from);
        // The breakpoint is there until the rest of the jump is.
        let wrote = memory.write_all_at(&jump[1..], from + 1).and_then(|()| memory.write_all_at(&jump[..1], from));
        if wrote.is_err() {
            let _ = memory.write_all_at(&span.bytes[1..jump.len()], from + 1);
            self.patches.add(owner, from, Patch::Code(armed.original));
            space.armed.remove(&gate.stop);
            self.patches.remove(owner, gate.stop);
            return None;
        }
        space.gates.jumps.insert(from);
        Some(())
    }

    /// A free place for a gate near some code, and where what all gates call is.
    fn room_for_gate(&mut self, space: &mut Space, whose: Whose<'_>, near: &Mapping) -> Option<(u64, u64)> {
        let has_room = |area: u64, used: u64| {
            used + GATE_BYTES <= AREA_BYTES && near.start.abs_diff(area).max(near.end.abs_diff(area)) < super::NEAR
        };
        if let Some((area, used)) = space.gates.areas.iter_mut().find(|(area, used)| has_room(*area, *used)) {
            *used += GATE_BYTES;
            return Some((*area + *used - GATE_BYTES, *area));
        }
        let made = self.board(space, whose).and_then(|board| {
            let area = self.map(space, whose, near, AREA_BYTES).ok()?;
            memory_of(whose.pid).ok()?.write_all_at(&gate::meet(board), area).ok()?;
            space.gates.areas.push((area, MEET_BYTES + GATE_BYTES));
            Some((area + MEET_BYTES, area))
        });
        space.gates.impossible = made.is_none();
        made
    }

    /// Where the board is that a memory has in common with us.
    fn board(&mut self, space: &mut Space, whose: Whose<'_>) -> Option<u64> {
        const PROT_READ_WRITE: u64 = 1 | 2;
        const MAP_SHARED: u64 = 1;
        const NOEXEC_SEAL: u64 = 8;
        if let Some((_, addr)) = &space.gates.board {
            return Some(*addr);
        }
        // Its tasks say who they are in numbers of their own name space.
        let numbers = |task: &str| std::fs::read_link(format!("/proc/{task}/ns/pid")).ok();
        (numbers("self")? == numbers(&whose.tid.to_string())?).then_some(())?;
        let name = space.refuge.as_ref()?.zeros_at();
        let create = inject::number("memfd_create");
        // Older kernels than 6.3 have no seal for it.
        let memory = [NOEXEC_SEAL | ALLOW_SEALING, ALLOW_SEALING]
            .into_iter()
            .find_map(|flags| self.inject(space, whose, create, [name, flags, 0, 0, 0, 0]))?;
        let made = OpenOptions::new().read(true).write(true).open(format!("/proc/{}/fd/{memory}", whose.tid));
        let made = made.ok().and_then(|file| {
            let board = Board::new(file.as_fd()).ok()?;
            let args = [0, BOARD_BYTES as u64, PROT_READ_WRITE, MAP_SHARED, memory, 0];
            Some((board, self.inject(space, whose, inject::number("mmap"), args)?))
        });
        self.inject(space, whose, inject::number("close"), [memory, 0, 0, 0, 0, 0]);
        let (board, addr) = made?;
        let board = Arc::new(board);
        board.look(self.boards.looked_at);
        self.boards.all.retain(|board| Arc::strong_count(board) > 1);
        self.boards.all.push(Arc::clone(&board));
        space.gates.board = Some((board, addr));
        Some(addr)
    }

    /// Whether tasks come by gates so often that somebody should look for them.
    pub(in crate::process) fn are_looked_at(&self) -> bool {
        self.boards.looked_at
    }

    /// Nobody came for a while: tasks at gates are stopped from now on, until they come often again.
    pub(in crate::process) fn look_away(&mut self) {
        self.boards.look(false);
    }

    /// Runs the programs for everybody who waits at a gate; whether there was anybody. `task_of` tells whom an id belongs to.
    pub(in crate::process) fn meet(
        &mut self,
        task_of: impl Fn(u32) -> Option<Arc<TracedTask>>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        let mut any = false;
        for index in 0..self.boards.all.len() {
            while let Some(posted) = self.boards.all[index].take() {
                any = true;
                let board = &self.boards.all[index];
                let understood =
                    task_of(posted.tid).is_some_and(|task| self.met(board, &task, &posted, sink).is_some());
                board.answer(posted.slot, understood);
            }
        }
        if any {
            self.boards.in_vain = 0;
        }
        any
    }

    fn met(
        &self,
        board: &Arc<Board>,
        task: &Arc<TracedTask>,
        posted: &Posted,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Option<()> {
        let space = self.spaces.get(self.of.get(&task.pid())?)?;
        // What is on the board may be anything.
        space.gates.board.as_ref().filter(|(its, _)| Arc::ptr_eq(its, board))?;
        let func = posted.words[RIP];
        let armed = space.armed.get(&func).filter(|_| space.gates.jumps.contains(&func))?;
        if self.lifted {
            return Some(());
        }
        let mut words = posted.words;
        (words[ORIG_RAX], words[CS], words[SS]) = (u64::MAX, USER_CS, USER_DS);
        let registers: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let what = What::Probe { site: armed.site, ret: false, func, registers: registers.clone() };
        task.waits_with(Some(registers));
        sink(Event { task, what });
        task.waits_with(None);
        Some(())
    }
}
