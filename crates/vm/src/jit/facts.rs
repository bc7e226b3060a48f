//! What is known about registers at an operation, from those before it.
//!
//! Facts hold along straight code: they are forgotten at every *leader*, an operation that something else than the one before it
//! leads to. A branch that is not taken forgets nothing. A [`Fact`] says where a register points, so that accesses by it need no check:
//! into the own frame, into the value that a lookup of a map gave, or at a number that the code itself has.

use skep_insn::{AtomicOp, Size, helpers};

use super::shape::Shape;
use crate::op::{Code, Op};
use crate::program::Program;
use crate::{Access, STACK_BYTES};

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Unknown,
    Number(u64),
    /// The frame pointer, and so many bytes.
    Frame(i64),
    /// The value of a map, so many bytes from its start; or null.
    Value {
        map: usize,
        off: i64,
        or_null: bool,
    },
}

/// The facts about r0 to r10.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    regs: [Fact; 11],
}

/// The register that an operation writes.
pub(super) fn written(op: &Op) -> Option<u8> {
    match Shape::of(op.code) {
        Shape::Alu { .. } | Shape::Load { .. } | Shape::LoadAcquire { .. } | Shape::Move => Some(op.dst),
        Shape::Atomic { op: AtomicOp::CmpXchg, .. } => Some(0),
        Shape::Atomic { op: atomic, .. } if atomic.symbol().is_none() => Some(op.src),
        Shape::Helper => Some(0),
        _ => None,
    }
}

/// Which operations something else than the one before them leads to.
pub(super) fn leaders(program: &Program) -> Vec<bool> {
    let ops = &program.ops;
    if ops.iter().any(|op| op.code == Code::JumpReg) {
        return vec![true; ops.len()];
    }
    let mut leaders = vec![false; ops.len()];
    let mut set = |at: usize| {
        if let Some(leader) = leaders.get_mut(at) {
            *leader = true;
        }
    };
    for function in &program.functions {
        set(function.start as usize);
    }
    for (at, op) in ops.iter().enumerate() {
        match Shape::of(op.code) {
            Shape::Branch { .. } | Shape::Jump | Shape::MayGoto => set((at + 1).wrapping_add_signed(op.off as isize)),
            // They come back from elsewhere.
            Shape::Call | Shape::Control | Shape::Exit => set(at + 1),
            _ => {}
        }
    }
    leaders
}

/// Where loops begin: to which operations jumps lead back, and from which it may go on to such a jump. (A jump back out of a loop leads to
/// code that was put before it.)
pub(super) fn loops(ops: &[Op]) -> Vec<bool> {
    let mut loops = vec![false; ops.len()];
    for (at, op) in ops.iter().enumerate().filter(|(_, op)| op.off < 0) {
        let target = (at + 1).wrapping_add_signed(op.off as isize);
        if matches!(Shape::of(op.code), Shape::Branch { .. } | Shape::Jump | Shape::MayGoto)
            && target < at
            && may_reach(ops, target, at)
        {
            let piece = if Shape::of(op.code) == Shape::Jump { end_of_piece(ops, target, at) } else { None };
            let body = piece.map(|branch| (branch + 1).wrapping_add_signed(ops[branch].off as isize));
            match body.filter(|body| (target..at).contains(body)) {
                Some(body) => loops[body] = true,
                None => loops[target] = true,
            }
        }
    }
    loops
}

/// The branch that ends a short piece of code without memory, when the operation at `from` jumps back to it.
pub(super) fn end_of_piece(ops: &[Op], start: usize, from: usize) -> Option<usize> {
    /// Operations before the branch.
    const LONGEST: usize = 6;
    let piece = ops.get(start..from)?;
    let simple = |op: &Op| matches!(Shape::of(op.code), Shape::Alu { .. } | Shape::Move | Shape::Nothing);
    let len = piece.iter().take_while(|op| simple(op)).count();
    let ends = matches!(Shape::of(piece.get(len)?.code), Shape::Branch { .. });
    (ends && len <= LONGEST).then_some(start + len)
}

/// Whether the first branch or jump behind `from` may lead to `to`, as far as one look tells.
fn may_reach(ops: &[Op], from: usize, to: usize) -> bool {
    let first = ops[from..=to].iter().enumerate().find(|(_, op)| {
        matches!(Shape::of(op.code), Shape::Branch { .. } | Shape::Jump | Shape::MayGoto | Shape::Exit | Shape::Control)
    });
    match first {
        Some((behind, op)) if Shape::of(op.code) == Shape::Jump => {
            (from + behind + 1).wrapping_add_signed(op.off as isize) <= to
        }
        Some((_, op)) => !matches!(Shape::of(op.code), Shape::Exit | Shape::Control),
        None => true,
    }
}

impl Facts {
    pub(super) fn new() -> Facts {
        let mut facts = Facts { regs: [Fact::Unknown; 11] };
        facts.forget();
        facts
    }

    /// At a leader.
    pub(super) fn forget(&mut self) {
        self.regs = [Fact::Unknown; 11];
        self.regs[10] = Fact::Frame(0);
    }

    pub(super) fn of(&self, reg: u8) -> Fact {
        self.regs.get(usize::from(reg)).copied().unwrap_or(Fact::Unknown)
    }

    fn set(&mut self, reg: u8, fact: Fact) {
        if let Some(place) = self.regs.get_mut(usize::from(reg)) {
            *place = fact;
        }
    }

    /// Behind an operation that calls no helper, when the next one follows.
    pub(super) fn step(&mut self, op: &Op) {
        match (op.code, self.of(op.dst)) {
            (Code::Imm, _) => self.set(op.dst, Fact::Number(op.imm)),
            (Code::Mov64, _) => self.set(op.dst, self.of(op.src)),
            (Code::Add64K, Fact::Number(number)) => self.set(op.dst, Fact::Number(number.wrapping_add(op.imm))),
            (Code::Add64K, Fact::Frame(off)) => self.set(op.dst, Fact::Frame(off.saturating_add(op.imm as i64))),
            (Code::Add64K, Fact::Value { map, off, or_null: false }) => {
                self.set(op.dst, Fact::Value { map, off: off.saturating_add(op.imm as i64), or_null: false });
            }
            // What is not null goes on.
            (Code::JEq64K, Fact::Value { map, off, or_null: true }) if op.imm == 0 => {
                self.set(op.dst, Fact::Value { map, off, or_null: false });
            }
            _ => {
                if let Some(reg) = written(op) {
                    self.set(reg, Fact::Unknown);
                }
            }
        }
    }

    /// Behind a lookup in a map.
    pub(super) fn looked_up(&mut self, map: usize) {
        self.set(0, Fact::Value { map, off: 0, or_null: true });
    }
}

/// Whether bytes lie in a frame, which begins at a multiple of every size; those of atomics at a multiple of theirs.
pub(super) fn in_frame(off: i64, size: Size, access: Access) -> bool {
    let len = i64::from(size.len_bytes());
    let aligned = off % len == 0 || matches!(access, Access::Read | Access::Write);
    off >= -i64::from(STACK_BYTES) && off <= -len && aligned
}

/// Whether an operation is a lookup by the machine's own helper.
pub(super) fn is_lookup(program: &Program, op: &Op) -> bool {
    let helper = program.helpers.get(op.imm as usize);
    op.code == Code::Helper && helper.is_some_and(|it| it.own && it.id == helpers::MAP_LOOKUP_ELEM)
}
