//! Registers for values: linear scan over SSA form, with lives that are split.
//!
//! After Wimmer and Franz, "Linear Scan Register Allocation on SSA Form" (2010). Pieces of lives are taken by their start.
//! Each gets a register that is free for all of it, if there is one; else one that is free until some later point, where the
//! piece is split; else the one whose holder is needed last is taken away from it, and if that is the piece itself, it waits in
//! memory until its next use that wants a register.
//!
//! # What BPF adds
//!
//! - r0 to r5 are destroyed by calls, so they are blocked where a call writes; r6 to r9 stay.
//! - A value that has to wait in memory is stored once, right behind its definition: in SSA form it never changes, so memory
//!   is right ever after, and a piece that moves to memory costs nothing. The verifier follows 64-bit stores and loads.
//! - Constants and addresses have no memory: they are made anew ([`Op::is_rematerialized`](crate::ir::Op)).
//! - A piece begins in a register only between instructions (even positions), where a move can be put.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::live::{Line, Lives, Pos, Range, Use};
use crate::ir::{Function, Op, Terminator, Value};

/// r0 to r9.
pub(super) const REGS: usize = 10;

/// r0 to r5.
const CLOBBERED: usize = 6;

/// Where a piece of a life is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In r0 to r9.
    Reg(u8),
    /// On the stack, or to be made anew.
    Memory,
}

/// A stretch of a life in one place.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) value: Value,
    pub(super) ranges: Vec<Range>,
    uses: Vec<Use>,
    pub(super) place: Place,
    /// The piece that it was cut from.
    before: Option<usize>,
}

impl Piece {
    pub(super) fn start(&self) -> Pos {
        self.ranges.first().map_or(0, |range| range.start)
    }

    pub(super) fn end(&self) -> Pos {
        self.ranges.last().map_or(0, |range| range.end)
    }

    /// The first use at or behind `pos` that wants a register.
    fn next_register_use(&self, pos: Pos) -> Pos {
        self.uses.iter().find(|it| it.in_register && it.pos >= pos).map_or(Pos::MAX, |it| it.pos)
    }

    /// Cuts off what lies at and behind `pos`.
    fn split(&mut self, pos: Pos) -> Piece {
        let at = self.ranges.partition_point(|range| range.end <= pos);
        let mut ranges = self.ranges.split_off(at);
        if let Some(first) = ranges.first_mut().filter(|first| first.start < pos) {
            self.ranges.push(Range { start: first.start, end: pos });
            first.start = pos;
        }
        let at = self.uses.partition_point(|it| it.pos < pos);
        Piece { value: self.value, ranges, uses: self.uses.split_off(at), place: Place::Memory, before: None }
    }
}

/// Where everything is.
#[derive(Debug)]
pub(super) struct Allocation {
    pieces: Vec<Piece>,
    /// By value: its pieces, ascending.
    of_value: Vec<Vec<usize>>,
    registers: [Register; REGS],
}

/// Who has a register when: by start of a stretch, its end and its piece. The pieces of calls are [`BLOCKED`].
type Register = BTreeMap<Pos, (Pos, usize)>;

const BLOCKED: usize = usize::MAX;

impl Allocation {
    /// The pieces of a value, ascending.
    pub(super) fn pieces(&self, value: Value) -> impl DoubleEndedIterator<Item = &Piece> + Clone {
        self.of_value[value.0 as usize].iter().map(|index| &self.pieces[*index])
    }

    /// Where a value is at a position where it lives; in memory where it does not.
    pub(super) fn place(&self, value: Value, pos: Pos) -> Place {
        let covers = |piece: &&Piece| piece.ranges.iter().any(|range| range.start <= pos && pos < range.end);
        self.pieces(value).find(covers).map_or(Place::Memory, |piece| piece.place)
    }

    /// Whether nobody's value is in a register at a position.
    pub(super) fn is_free(&self, reg: u8, pos: Pos) -> bool {
        let before = self.registers[usize::from(reg)].range(..=pos).next_back();
        before.is_none_or(|(_, (end, piece))| *end <= pos || *piece == BLOCKED)
    }
}

/// The registers do not suffice for one instruction, which cannot happen: none reads more than two.
#[derive(Debug)]
pub(super) struct OutOfRegisters;

/// Gives every value its places.
pub(super) fn allocate(function: &Function, lives: &Lives) -> Result<Allocation, OutOfRegisters> {
    let n = function.values as usize;
    let mut allocator = Allocator {
        out: Allocation { pieces: Vec::new(), of_value: vec![Vec::new(); n], registers: Default::default() },
        waiting: BinaryHeap::new(),
        hints: hints(function, &lives.line),
    };
    allocator.block_calls(function, &lives.line);
    for (value, life) in lives.lives.iter().enumerate() {
        if life.ranges.is_empty() {
            continue;
        }
        let (ranges, uses) = (life.ranges.clone(), life.uses.clone());
        allocator.wait(Piece { value: Value(value as u32), ranges, uses, place: Place::Memory, before: None });
    }
    while let Some(Reverse((_, index))) = allocator.waiting.pop() {
        if !allocator.take_free(index) {
            allocator.take_away(index)?;
        }
    }
    let mut out = allocator.out;
    let pieces = &out.pieces;
    for list in &mut out.of_value {
        // A piece that was taken away from its start is empty.
        list.retain(|index| !pieces[*index].ranges.is_empty());
        list.sort_by_key(|index| pieces[*index].start());
    }
    Ok(out)
}

/// Where a value would save a move: a register, or that of another value.
#[derive(Clone, Copy, Debug)]
enum Hint {
    Reg(u8),
    With(Value),
}

fn hints(function: &Function, line: &Line) -> Vec<Vec<Hint>> {
    let mut hints = vec![Vec::new(); function.values as usize];
    for here in &line.blocks {
        let data = &function.blocks[here.block.0 as usize];
        for insn in &data.insns {
            if let Some(result) = insn.result {
                match &insn.op {
                    op if op.is_call() => hints[result.0 as usize].push(Hint::Reg(0)),
                    Op::Alu { a, .. }
                    | Op::Neg(_, a)
                    | Op::SignExtend { a, .. }
                    | Op::ZeroExtend { a, .. }
                    | Op::ByteSwap { a, .. }
                    | Op::AtomicAdd { value: a, .. } => {
                        hints[result.0 as usize].push(Hint::With(*a));
                        hints[a.0 as usize].push(Hint::With(result));
                    }
                    _ => {}
                }
            }
            if let Op::Call { args, .. } | Op::CallFunc { args, .. } | Op::CallKfunc { args, .. } = &insn.op {
                for (index, arg) in args.iter().enumerate() {
                    hints[arg.0 as usize].push(Hint::Reg(1 + index as u8));
                }
            }
        }
        for target in data.end.targets() {
            let params = &function.blocks[target.block.0 as usize].params;
            for (arg, param) in target.args.iter().zip(params) {
                hints[param.0 as usize].push(Hint::With(*arg));
                hints[arg.0 as usize].push(Hint::With(*param));
            }
        }
        if let Terminator::Return(value) = &data.end
            && let Some(value) = value.value()
        {
            hints[value.0 as usize].push(Hint::Reg(0));
        }
    }
    for (index, param) in function.blocks.first().iter().flat_map(|entry| &entry.params).enumerate() {
        hints[param.0 as usize].push(Hint::Reg(1 + index as u8));
    }
    hints
}

struct Allocator {
    out: Allocation,
    /// Pieces without a place, by start.
    waiting: BinaryHeap<Reverse<(Pos, usize)>>,
    hints: Vec<Vec<Hint>>,
}

impl Allocator {
    fn block_calls(&mut self, function: &Function, line: &Line) {
        for here in &line.blocks {
            for (number, insn) in (here.first..).zip(&function.blocks[here.block.0 as usize].insns) {
                if insn.op.is_call() {
                    for reg in &mut self.out.registers[..CLOBBERED] {
                        reg.insert(2 * number + 1, (2 * number + 2, BLOCKED));
                    }
                }
            }
        }
    }

    fn add(&mut self, piece: Piece) -> usize {
        let index = self.out.pieces.len();
        self.out.of_value[piece.value.0 as usize].push(index);
        self.out.pieces.push(piece);
        index
    }

    fn wait(&mut self, piece: Piece) {
        let start = piece.start();
        let index = self.add(piece);
        self.waiting.push(Reverse((start, index)));
    }

    /// Adds a piece that stays in memory until its next use that wants a register, and waits from there on.
    fn stay_in_memory(&mut self, mut piece: Piece) {
        let next = piece.next_register_use(piece.start());
        if next != Pos::MAX {
            let rest = piece.split(next & !1);
            self.wait(rest);
        }
        if !piece.ranges.is_empty() {
            self.add(piece);
        }
    }

    /// Where an instruction reads, a value may still be in the register that it has to leave when the instruction writes: so a
    /// call finds its arguments there.
    fn stay_for_inputs(&mut self, piece: &mut Piece) {
        let start = piece.start();
        let Some(before) = piece.before.map(|it| &self.out.pieces[it]) else { return };
        let (Place::Reg(reg), true) = (before.place, before.end() == start) else { return };
        let inputs = [Range { start, end: start + 1 }];
        if self.free_until(usize::from(reg), &inputs) == Pos::MAX {
            let rest = piece.split(start + 1);
            let index = self.add(std::mem::replace(piece, rest));
            self.give(index, usize::from(reg));
        }
    }

    fn give(&mut self, index: usize, reg: usize) {
        self.out.pieces[index].place = Place::Reg(reg as u8);
        for range in &self.out.pieces[index].ranges {
            self.out.registers[reg].insert(range.start, (range.end, index));
        }
    }

    /// Calls `f` with place and piece of everything in the register that meets the ranges, ascending, until it says stop.
    fn conflicts(&self, reg: usize, ranges: &[Range], mut f: impl FnMut(Pos, usize) -> bool) {
        for range in ranges {
            let before = self.out.registers[reg].range(..range.start).next_back();
            let inside = self.out.registers[reg].range(range.start..range.end);
            for (&start, &(end, piece)) in before.into_iter().chain(inside) {
                if end > range.start && !f(start.max(range.start), piece) {
                    return;
                }
            }
        }
    }

    fn free_until(&self, reg: usize, ranges: &[Range]) -> Pos {
        let mut until = Pos::MAX;
        self.conflicts(reg, ranges, |pos, _| {
            until = pos;
            false
        });
        until
    }

    /// Gives a piece a register that is free for all of it, or for the first part of it.
    fn take_free(&mut self, index: usize) -> bool {
        let piece = &self.out.pieces[index];
        let (start, end) = (piece.start(), piece.end());
        let until: [Pos; REGS] = std::array::from_fn(|reg| self.free_until(reg, &piece.ranges));
        let hinted = |enough: &dyn Fn(usize) -> bool| {
            let reg_of = |hint: &Hint| match *hint {
                Hint::Reg(reg) => Some(usize::from(reg)),
                Hint::With(value) => self.placed(value, start, end),
            };
            self.hints[piece.value.0 as usize].iter().filter_map(reg_of).find(|reg| enough(*reg))
        };
        // The register that is free for the shortest time that suffices, so that r6 to r9 are left for those who live across
        // calls.
        let whole = hinted(&|reg| until[reg] >= end)
            .or_else(|| (0..REGS).filter(|reg| until[*reg] >= end).min_by_key(|reg| (until[*reg], *reg >= CLOBBERED)));
        if let Some(reg) = whole {
            self.give(index, reg);
            return true;
        }
        let Some(longest) = until.iter().copied().max() else { return false };
        let at = longest & !1;
        // A part without use for a register is better left in memory.
        if at <= start || piece.next_register_use(start) >= at {
            return false;
        }
        let reg = hinted(&|reg| until[reg] == longest).or_else(|| until.iter().position(|it| *it == longest));
        let mut rest = self.out.pieces[index].split(at);
        rest.before = Some(index);
        self.wait(rest);
        self.give(index, reg.unwrap_or(0));
        true
    }

    /// The register of a value near a piece.
    fn placed(&self, value: Value, start: Pos, end: Pos) -> Option<usize> {
        // Of several pieces, that which the piece follows or which follows it.
        let mut found = None;
        for piece in self.out.pieces(value) {
            if let (Place::Reg(reg), true) = (piece.place, !piece.ranges.is_empty()) {
                found = Some(usize::from(reg));
                if piece.start() <= start && start <= piece.end() || piece.start() <= end && end <= piece.end() {
                    return found;
                }
            }
        }
        found
    }

    /// Takes a register from those who need it later than the piece, or leaves the piece in memory.
    fn take_away(&mut self, index: usize) -> Result<(), OutOfRegisters> {
        let piece = &self.out.pieces[index];
        let start = piece.start();
        let first_use = piece.next_register_use(start);
        // By register: when its holders want it again, and where a call destroys it.
        let mut best: Option<(Pos, usize, Pos)> = None;
        for reg in 0..REGS {
            let (mut needed, mut blocked) = (Pos::MAX, Pos::MAX);
            self.conflicts(reg, &piece.ranges, |pos, holder| {
                if holder == BLOCKED {
                    blocked = blocked.min(pos);
                } else {
                    // A reload stands in front of the instruction.
                    let next = self.out.pieces[holder].next_register_use(start);
                    needed = needed.min(if next == Pos::MAX { next } else { next & !1 });
                }
                true
            });
            needed = needed.min(blocked);
            if best.is_none_or(|(other, ..)| needed > other) {
                best = Some((needed, reg, blocked));
            }
        }
        let (needed, reg, blocked) = best.ok_or(OutOfRegisters)?;
        if needed <= first_use {
            if first_use & !1 <= start && first_use != Pos::MAX {
                return Err(OutOfRegisters);
            }
            let mut whole = self.out.pieces[index].split(start);
            whole.before = self.out.pieces[index].before;
            self.stay_for_inputs(&mut whole);
            if !whole.ranges.is_empty() {
                self.stay_in_memory(whole);
            }
            return Ok(());
        }
        if blocked < piece.end() {
            if blocked & !1 <= start {
                return Err(OutOfRegisters);
            }
            let mut rest = self.out.pieces[index].split(blocked & !1);
            rest.before = Some(index);
            self.wait(rest);
        }
        let mut holders = Vec::new();
        self.conflicts(reg, &self.out.pieces[index].ranges, |_, holder| {
            holders.push(holder);
            true
        });
        holders.dedup();
        for holder in holders.into_iter().filter(|it| *it != BLOCKED) {
            self.evict(holder, reg, start);
        }
        self.give(index, reg);
        Ok(())
    }

    /// Takes the register away from a piece, from a position on.
    fn evict(&mut self, holder: usize, reg: usize, pos: Pos) {
        for range in &self.out.pieces[holder].ranges {
            self.out.registers[reg].remove(&range.start);
        }
        let rest = self.out.pieces[holder].split(pos);
        self.give(holder, reg);
        self.stay_in_memory(rest);
    }
}
