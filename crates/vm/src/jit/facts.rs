//! What is known about registers at an operation, from those before it.
//!
//! Facts hold along straight code: they are forgotten at every *leader*, an operation that something else than the one before it
//! leads to. A branch that is not taken forgets nothing. A [`Fact`] says where a register points, so that accesses by it need no check:
//! into the own frame, into the value that a lookup of a map gave, or at a number that the code itself has. Beside that it is known which
//! registers have an upper half of zeros, and which one was stored last into the frame: who reads it back from there has it already.

use skep_insn::{AtomicOp, Size, Width, helpers};

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

/// What the frame has of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stored {
    /// Where, from the frame pointer.
    off: i64,
    size: Size,
    reg: u8,
}

/// The facts about r0 to r10.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    regs: [Fact; 11],
    /// A bit for each register whose upper half is 0.
    short: u16,
    /// The last register that was stored into the frame, while both are as they were.
    stored: Option<Stored>,
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
        let mut facts = Facts { regs: [Fact::Unknown; 11], short: 0, stored: None };
        facts.forget();
        facts
    }

    /// At a leader.
    pub(super) fn forget(&mut self) {
        self.regs = [Fact::Unknown; 11];
        self.regs[10] = Fact::Frame(0);
        self.short = 0;
        self.stored = None;
    }

    pub(super) fn of(&self, reg: u8) -> Fact {
        self.regs.get(usize::from(reg)).copied().unwrap_or(Fact::Unknown)
    }

    /// Whether the upper half of a register is 0.
    pub(super) fn is_short(&self, reg: u8) -> bool {
        self.short >> reg & 1 != 0
    }

    /// The register that has what these bytes of the frame have: the whole of it, or of 4 bytes its lower half.
    pub(super) fn stored_at(&self, off: i64, size: Size) -> Option<u8> {
        self.stored.filter(|stored| stored.off == off && stored.size == size).map(|stored| stored.reg)
    }

    fn set(&mut self, reg: u8, fact: Fact) {
        if let Some(place) = self.regs.get_mut(usize::from(reg)) {
            *place = fact;
        }
    }

    /// A register is written: what was stored of it is no longer there, and its upper half is 0 or not.
    fn write(&mut self, reg: u8, short: bool) {
        self.stored = self.stored.filter(|stored| stored.reg != reg);
        let bit = 1u16.checked_shl(reg.into()).unwrap_or(0);
        self.short = if short { self.short | bit } else { self.short & !bit };
    }

    /// Before [`Facts::step`], for an operation that writes memory; `known` says whether what `base` is known to point into has all of it.
    pub(super) fn store(&mut self, base: u8, off: i64, size: Size, known: bool, src: Option<u8>) {
        let len = |size: Size| i64::from(size.len_bytes());
        match self.of(base) {
            Fact::Frame(from) if known => {
                let off = from.saturating_add(off);
                let over = |it: &Stored| off < it.off + len(it.size) && it.off < off + len(size);
                match src.filter(|_| matches!(size, Size::W | Size::Dw)) {
                    Some(reg) => self.stored = Some(Stored { off, size, reg }),
                    None => self.stored = self.stored.filter(|stored| !over(stored)),
                }
            }
            Fact::Value { .. } | Fact::Number(_) if known => {}
            _ => self.stored = None,
        }
    }

    /// Behind an operation that calls no helper, when the next one follows.
    pub(super) fn step(&mut self, op: &Op) {
        if let Some(reg) = written(op) {
            self.write(reg, self.makes_short(op));
        }
        if Shape::of(op.code) == Shape::Helper {
            self.stored = None;
        }
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

    /// What sets up r1 and r2 was left out: they are as they were `before`.
    pub(super) fn leave_out_arguments(&mut self, before: &Facts) {
        self.regs[1..3].copy_from_slice(&before.regs[1..3]);
        self.short = before.short;
        self.stored = before.stored;
    }

    /// A register that nobody reads any more has whatever it has.
    pub(super) fn lose(&mut self, reg: u8) {
        self.set(reg, Fact::Unknown);
        self.write(reg, false);
    }

    /// Whether an operation leaves a register with an upper half of zeros.
    fn makes_short(&self, op: &Op) -> bool {
        match Shape::of(op.code) {
            Shape::Alu { width, .. } => width == Width::W32,
            Shape::Load { ty } => !ty.is_signed() && ty.size() != Size::Dw,
            Shape::LoadAcquire { size } => size != Size::Dw,
            Shape::Move => match op.code {
                Code::Imm => op.imm >> 32 == 0,
                Code::Mov64 => self.is_short(op.src),
                Code::Mov32 | Code::Neg32 | Code::Zx16 | Code::Zx32 | Code::Swap16 | Code::Swap32 => true,
                Code::Sx8To32 | Code::Sx16To32 => true,
                _ => false,
            },
            _ => false,
        }
    }

    /// Behind a lookup in a map.
    pub(super) fn looked_up(&mut self, map: usize) {
        self.write(0, false);
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
