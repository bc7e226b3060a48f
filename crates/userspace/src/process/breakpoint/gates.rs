//! Breakpoints that become gates, and the boards that their tasks post on.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::sched_getaffinity;
use skep_sys::board::{ALLOW_SEALING, BOARD_BYTES, Board, LOOK_OFF, Posted};
use skep_sys::patches::{BREAKPOINT, NOP, Patch};

use super::{Armed, Breakpoints, Space, Whose, memory_of};
use crate::probe::FileId;
use crate::process::gate::{self, GATE_BYTES, JUMP_BYTES, MEET_BYTES};
use crate::process::mappings::{self, Mapping};
use crate::process::sites::Site;
use crate::process::span::{self, Span};
use crate::process::{What, inject, procfs};

/// Stops that are judged at once.
const ROW: u32 = 64;
/// The longest that they may take to be worth a gate, and to be looked for: about what as many stops take.
const ROW_TIME: Duration = Duration::from_millis(3);
/// So many stops while somebody looks, and nothing on a board, mean that the tasks do not run beside us.
const MAX_IN_VAIN: u32 = 32;
/// And when so few came while somebody looked, that was in vain, too.
const MIN_MET: u32 = 4 * ROW;
/// How long nobody looks then: twice as long each time.
const PAUSES: std::ops::RangeInclusive<Duration> = Duration::from_millis(4)..=Duration::from_secs(1);
/// Bytes of an area for gates, which begins where a page does.
const AREA_BYTES: u64 = 4096;
/// What a jump may not cross where other threads may be about to execute it.
const LINE_BYTES: u64 = 64;
/// Segments of user space on x86-64 (`arch/x86/include/asm/segment.h`).
const USER_CS: u64 = 0x33;
const USER_DS: u64 = 0x2b;
/// Places in `struct pt_regs`, in words.
const ORIG_RAX: usize = 15;
pub(in crate::process) const RIP: usize = 16;
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
    pub(super) fn is_hot(&mut self) -> bool {
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
    /// Those of code that is gone, whose places can be used again.
    free: Vec<u64>,
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

    /// A breakpoint is gone, and the code that it was in the way of.
    pub(super) fn forget(&mut self, addr: u64, func: u64) {
        self.jumps.remove(&func);
        if addr != func {
            self.free.push(gate::start(addr));
        }
    }

    /// Where the board is.
    pub(super) fn board_at(&self) -> Option<u64> {
        self.board.as_ref().map(|(_, addr)| *addr)
    }

    /// Where the word is that says whether somebody looks.
    pub(super) fn look_at(&self) -> Option<u64> {
        self.board_at().map(|addr| addr + LOOK_OFF as u64)
    }

    pub(super) fn is_impossible(&self) -> bool {
        self.impossible
    }

    pub(super) fn set_impossible(&mut self, impossible: bool) {
        self.impossible = impossible;
    }

    /// Nobody uses the board any more: all tasks at gates are stopped.
    pub(super) fn close(&mut self, memory: &File) {
        self.impossible = true;
        for (area, _) in &self.areas {
            let _ = memory.write_all_at(&gate::ALONE, *area);
        }
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
    /// How many came while somebody looked.
    met: u32,
    not_before: Option<Instant>,
    pause: Duration,
    /// Places of files that a jump of several instructions can be at, once somebody asked.
    closed: HashMap<FileId, HashSet<u64>>,
}

impl Boards {
    /// None, if there shall be no gates.
    pub(super) fn of_machine(wanted: bool) -> Boards {
        let possible = wanted && sched_getaffinity(None).is_ok_and(|cpus| cpus.count() > 1);
        Boards {
            possible,
            all: Vec::new(),
            looked_at: false,
            heat: Heat::default(),
            in_vain: 0,
            met: 0,
            not_before: None,
            pause: *PAUSES.start(),
            closed: HashMap::new(),
        }
    }

    fn look(&mut self, look: bool) {
        self.looked_at = look;
        for board in &self.all {
            board.look(look);
        }
    }

    pub(super) fn are_possible(&self) -> bool {
        self.possible
    }

    /// Nobody will ever look.
    pub(super) fn close(&mut self) {
        self.possible = false;
        self.look(false);
    }

    /// A task was stopped at a gate.
    pub(super) fn stopped(&mut self) {
        if self.looked_at {
            self.in_vain += 1;
            if self.in_vain == MAX_IN_VAIN {
                self.look_away();
            }
        } else if self.possible && self.heat.is_hot() && self.not_before.is_none_or(|then| then <= Instant::now()) {
            (self.in_vain, self.met) = (0, 0);
            self.look(true);
        }
    }

    /// Looks no more, and for a while not again if that was in vain.
    fn look_away(&mut self) {
        self.look(false);
        if self.in_vain < MAX_IN_VAIN && self.met >= MIN_MET {
            self.pause = *PAUSES.start();
            return;
        }
        self.not_before = Some(Instant::now() + self.pause);
        self.pause = (2 * self.pause).min(*PAUSES.end());
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
        (span.insns.len() == 1 || self.is_closed(armed.site, whose.pid, near)).then_some(())?;
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

    /// Whether nobody comes to the inside of a jump at a place of a file, which is looked through once, for all that is watched in it.
    fn is_closed(&mut self, site: Site, pid: u32, mapping: &Mapping) -> bool {
        let sites = &self.sites;
        let closed = self.boards.closed.entry(site.file).or_insert_with(|| {
            let places = sites.of(pid, mapping).map(|(_, wanted)| wanted.places.keys().copied().collect::<Vec<u64>>());
            span::closed(pid, mapping, &places.unwrap_or_default())
        });
        closed.contains(&site.off_bytes)
    }

    /// A task is about to see where it is in some code, and may go on at any of its instructions: from now on they stand there, but for the breakpoint.
    /// `None` when they cannot be put back.
    pub(super) fn is_whole(&mut self, pid: u32, func: u64) -> Option<()> {
        let space = self.spaces.get_mut(self.of.get(&pid)?)?;
        let armed = space.armed.get_mut(&func)?;
        // One instruction has none behind it.
        let Some(span) = armed.span.take_if(|span| span.insns.len() > 1) else { return Some(()) };
        if !space.gates.jumps.contains(&func) {
            return Some(());
        }
        let memory = memory_of(pid).ok()?;
        // The breakpoint is there before the rest of the jump is not, and it is taken back alone only when all of that is gone.
        memory.write_all_at(&[BREAKPOINT], func).ok()?;
        memory.write_all_at(&span.bytes[1..JUMP_BYTES as usize], func + 1).ok()?;
        if self.lifted {
            memory.write_all_at(&[armed.original], func).ok()?;
        }
        space.gates.jumps.remove(&func);
        if let Some(owner) = space.users.first().filter(|_| !self.lifted) {
            // With a full list the handler is left, which saves who comes by.
            self.patches.add(*owner, func, Patch::Code(armed.original));
        }
        Some(())
    }

    /// A free place for a gate near some code, and where what all gates call is.
    fn room_for_gate(&mut self, space: &mut Space, whose: Whose<'_>, near: &Mapping) -> Option<(u64, u64)> {
        let reaches = |area: u64| near.start.abs_diff(area).max(near.end.abs_diff(area)) < super::NEAR;
        if let Some(free) = space.gates.free.iter().position(|at| reaches(*at)) {
            let at = space.gates.free.swap_remove(free);
            return Some((at, at - at % AREA_BYTES));
        }
        let has_room = |area: u64, used: u64| used + GATE_BYTES <= AREA_BYTES && reaches(area);
        if let Some((area, used)) = space.gates.areas.iter_mut().find(|(area, used)| has_room(*area, *used)) {
            *used += GATE_BYTES;
            return Some((*area + *used - GATE_BYTES, *area));
        }
        let made = self.board(space, whose).and_then(|board| {
            // The board may have taken the place that was free.
            let all = mappings::read(whose.tid);
            let area = self.map(space, Whose { all: &all, ..whose }, near, AREA_BYTES).ok()?;
            memory_of(whose.pid).ok()?.write_all_at(&gate::meet(board), area).ok()?;
            space.gates.areas.push((area, MEET_BYTES + GATE_BYTES));
            Some((area + MEET_BYTES, area))
        });
        space.gates.impossible = made.is_none();
        made
    }

    /// Where the board is that a memory has in common with us.
    pub(super) fn board(&mut self, space: &mut Space, whose: Whose<'_>) -> Option<u64> {
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
        // When we are gone, nobody looks.
        let owner = *space.users.first()?;
        self.patches.add(owner, addr + LOOK_OFF as u64, Patch::Look).then_some(())?;
        let board = Arc::new(board);
        board.look(self.boards.looked_at);
        self.boards.all.retain(|board| Arc::strong_count(board) > 1);
        self.boards.all.push(Arc::clone(&board));
        space.gates.board = Some((board, addr));
        Some(addr)
    }

    /// A process is about to have rules of its own for calls, and a gate makes one: all who come by its gates for functions are stopped from now on.
    pub(in crate::process) fn close_gates(&mut self, pid: u32) {
        let space = self.of.get(&pid).and_then(|id| self.spaces.get_mut(id));
        if let (Some(space), Ok(memory)) = (space, memory_of(pid)) {
            space.gates.close(&memory);
        }
    }

    /// Whether tasks come by gates so often that somebody should look for them.
    pub(in crate::process) fn are_looked_at(&self) -> bool {
        self.boards.looked_at
    }

    /// Nobody came for a while: tasks at gates are stopped from now on, until they come often again.
    pub(in crate::process) fn look_away(&mut self) {
        self.boards.look_away();
    }

    /// Whether somebody came since that is so.
    pub(in crate::process) fn have_met(&self) -> bool {
        self.boards.met > 0
    }

    /// Takes what a task at a gate told, if there is anybody: it has to be answered.
    pub(in crate::process) fn take(&mut self) -> Option<(Arc<Board>, Posted)> {
        let found = self.boards.all.iter().find_map(|board| Some((Arc::clone(board), board.take()?)));
        if found.is_some() {
            self.boards.in_vain = 0;
            self.boards.met = self.boards.met.saturating_add(1);
        }
        found
    }

    /// Whether a process has a board: what is on one may be anything.
    pub(in crate::process) fn has_board(&self, pid: u32, board: &Arc<Board>) -> bool {
        let space = self.of.get(&pid).and_then(|id| self.spaces.get(id));
        space.and_then(|space| space.gates.board.as_ref()).is_some_and(|(its, _)| Arc::ptr_eq(its, board))
    }

    /// What a task did that waits at a gate for a function, with these registers; `None` if there is none.
    pub(in crate::process) fn probe_at(&self, pid: u32, stop: u64, registers: &mut Posted) -> Option<What> {
        let space = self.spaces.get(self.of.get(&pid)?)?;
        let armed = space.armed.get(&stop).filter(|armed| armed.func != stop)?;
        registers.words[RIP] = armed.func;
        let registers = bytes_of(registers, u64::MAX);
        Some(What::Probe { site: armed.site, ret: false, func: armed.func, registers })
    }
}

/// The registers that a task told, as `struct pt_regs`, with the number of the call that it makes.
pub(in crate::process) fn bytes_of(posted: &Posted, orig_rax: u64) -> Vec<u8> {
    let mut words = posted.words;
    (words[ORIG_RAX], words[CS], words[SS]) = (orig_rax, USER_CS, USER_DS);
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
