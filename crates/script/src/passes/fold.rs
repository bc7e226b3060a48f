//! Constant folding and strength reduction: what is known is computed here, what is dear is done in a cheaper way.
//!
//! - Operations on numbers become numbers, by the same function that the interpreter has; operands become immediates.
//! - Identities (`x + 0`, `x & x`, extensions of what has no more bits) become their operand, other cases a shift or a mask.
//! - A branch on the result of a comparison does the comparison; one on numbers becomes a jump.
//! - Additions of numbers gather, and go into the offsets of loads and stores. An access through the address of a slot names the
//!   slot.
//!
//! Nothing here makes a comparison narrower or compares another copy: what the verifier learns from a branch has to be about
//! the value that is used behind it.

use skep_insn::{AluOp, Cond, Width, helpers};

use crate::ir::cfg::Cfg;
use crate::ir::interpret::{arithmetic, evaluate, holds};
use crate::ir::{Base, Function, Op, Operand, Terminator, Value};

/// Folds a function. Whether anything changed.
pub fn fold(function: &mut Function) -> bool {
    let cfg = Cfg::new(function);
    let n = function.values as usize;
    let mut folder = Folder {
        alias: (0..function.values).map(Value).collect(),
        known: vec![None; n],
        bits: vec![64; n],
        makers: vec![None; n],
        slots: function.slots.iter().map(|slot| (slot.size, slot.align)).collect(),
        changed: false,
    };
    for &block in &cfg.order {
        let data = &mut function.blocks[block.0 as usize];
        for insn in &mut data.insns {
            folder.insn(insn.result, &mut insn.op);
        }
        folder.terminator(&mut data.end);
    }
    // Parameters come before some of their values in the order, so a second look at all uses.
    let Folder { alias, mut changed, .. } = folder;
    for data in &mut function.blocks {
        let mut replace = |value: &mut Value| {
            let other = alias[value.0 as usize];
            changed |= other != *value;
            *value = other;
        };
        data.insns.iter_mut().for_each(|insn| insn.op.each_use_mut(&mut replace));
        data.end.each_use_mut(&mut replace);
    }
    changed
}

struct Folder {
    /// By value: the value that it is, its own number if none is known.
    alias: Vec<Value>,
    /// By value: its number.
    known: Vec<Option<u64>>,
    /// By value: how many of its lower bits can be set.
    bits: Vec<u8>,
    /// By value: how it is made.
    makers: Vec<Option<Op>>,
    /// Size and alignment.
    slots: Vec<(u32, u32)>,
    changed: bool,
}

/// What an operation turns out to be.
enum Found {
    Same(Value),
    Op(Op),
}

impl Folder {
    fn number(&self, value: Value) -> Option<u64> {
        self.known[value.0 as usize]
    }

    fn maker(&self, value: Value) -> Option<&Op> {
        self.makers[value.0 as usize].as_ref()
    }

    /// A value as an immediate, if its number fits. Of 32-bit operations only the lower half matters.
    fn immediate(&self, operand: &mut Operand, lower_half: bool) {
        if let Operand::Value(value) = *operand
            && let Some(number) = self.number(value)
        {
            match i32::try_from(number as i64) {
                Ok(small) => *operand = Operand::Imm(small),
                Err(_) if lower_half => *operand = Operand::Imm(number as i32),
                Err(_) => {}
            }
        }
    }

    fn insn(&mut self, result: Option<Value>, op: &mut Op) {
        let before = op.clone();
        op.each_use_mut(|value| *value = self.alias[value.0 as usize]);
        self.operands(op);
        // One simplification may open the way for the next; each makes the operation simpler.
        for _ in 0..8 {
            match self.simplify(op) {
                Some(Found::Op(new)) => *op = new,
                Some(Found::Same(value)) if result.is_some() => {
                    if let Some(result) = result {
                        self.alias[result.0 as usize] = value;
                        self.changed = true;
                    }
                    break;
                }
                _ => break,
            }
        }
        self.changed |= *op != before;
        if let Some(result) = result {
            let index = result.0 as usize;
            self.known[index] = evaluate(op, |value| self.known[value.0 as usize]);
            self.bits[index] = self.bits_of(op);
            self.makers[index] = Some(op.clone());
        }
    }

    fn operands(&self, op: &mut Op) {
        match op {
            Op::Alu { op, width, a, b } => {
                if matches!(op, AluOp::Add | AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor)
                    && let Operand::Value(second) = b
                    && self.number(*a).is_some()
                    && self.number(*second).is_none()
                {
                    std::mem::swap(a, second);
                }
                self.immediate(b, *width == Width::W32);
            }
            Op::Compare { cond, width, a, b } => self.comparison(cond, *width, a, b),
            Op::Store { size, value, .. } => self.immediate(value, *size <= 4),
            _ => {}
        }
    }

    /// Numbers go to the right.
    fn comparison(&self, cond: &mut Cond, width: Width, a: &mut Value, b: &mut Operand) {
        if let Operand::Value(second) = b
            && self.number(*a).is_some()
            && self.number(*second).is_none()
        {
            std::mem::swap(a, second);
            *cond = mirrored(*cond);
        }
        self.immediate(b, width == Width::W32);
    }

    fn bits_of(&self, op: &Op) -> u8 {
        let of = |value: Value| self.bits[value.0 as usize];
        match *op {
            Op::Const(number) => (64 - number.leading_zeros()) as u8,
            Op::Load { size, .. } => 8 * size,
            Op::Compare { .. } => 1,
            Op::ZeroExtend { bits, a } => bits.min(of(a)),
            Op::ByteSwap { bits, .. } => bits,
            Op::Alu { op: AluOp::And, a, b: Operand::Imm(mask), width } if mask >= 0 => {
                (32 - mask.leading_zeros() as u8).min(if width == Width::W64 { of(a) } else { 32 })
            }
            Op::Alu { op: AluOp::Rsh, width: Width::W64, a, b: Operand::Imm(by) } if (0..64).contains(&by) => {
                of(a).saturating_sub(by as u8)
            }
            Op::Alu { op: AluOp::And, a, b: Operand::Value(b), .. } => of(a).min(of(b)),
            Op::Alu { op: AluOp::Or | AluOp::Xor, a, b: Operand::Value(b), .. } => of(a).max(of(b)),
            Op::Alu { width: Width::W32, .. } | Op::Neg(Width::W32, _) => 32,
            _ => 64,
        }
    }

    fn simplify(&self, op: &Op) -> Option<Found> {
        if let Op::Const(_) = op {
            return None;
        }
        if let Some(number) = evaluate(op, |value| self.number(value)) {
            return Some(Found::Op(Op::Const(number as i64)));
        }
        let of = |value: Value| self.bits[value.0 as usize];
        match *op {
            Op::Alu { op, width, a, b: Operand::Imm(imm) } => self.with_number(op, width, a, imm),
            Op::Alu { op, width, a, b: Operand::Value(b) } if a == b => match op {
                AluOp::Sub | AluOp::Xor => Some(Found::Op(Op::Const(0))),
                AluOp::And | AluOp::Or => Some(whole(width, a)),
                _ => None,
            },
            Op::ZeroExtend { bits, a } if of(a) <= bits => Some(Found::Same(a)),
            Op::SignExtend { bits, a } if of(a) < bits => Some(Found::Same(a)),
            Op::SignExtend { bits, a } => match self.maker(a) {
                Some(Op::ZeroExtend { bits: inner, a } | Op::SignExtend { bits: inner, a }) if *inner >= bits => {
                    Some(Found::Op(Op::SignExtend { bits, a: *a }))
                }
                _ => None,
            },
            Op::ZeroExtend { bits, a } => match self.maker(a) {
                Some(Op::ZeroExtend { bits: inner, a } | Op::SignExtend { bits: inner, a }) if *inner >= bits => {
                    Some(Found::Op(Op::ZeroExtend { bits, a: *a }))
                }
                _ => None,
            },
            Op::Compare { cond, a, b: Operand::Value(b), .. } if a == b => {
                equal(cond).map(|it| Found::Op(Op::Const(i64::from(it))))
            }
            Op::Compare { cond, a, b: Operand::Imm(0), .. } => match (cond, self.maker(a)) {
                (Cond::Ne, Some(Op::Compare { .. })) => Some(Found::Same(a)),
                (Cond::Eq, Some(&Op::Compare { cond, width, a, b })) => {
                    Some(Found::Op(Op::Compare { cond: inverse(cond)?, width, a, b }))
                }
                _ => None,
            },
            Op::Load { size, base, off, pure } => {
                self.nearer(size, base, off).map(|(base, off)| Found::Op(Op::Load { size, base, off, pure }))
            }
            Op::Store { size, base, off, value } => {
                self.nearer(size, base, off).map(|(base, off)| Found::Op(Op::Store { size, base, off, value }))
            }
            Op::AtomicAdd { size, base, off, value, fetch } => {
                let nearer = self.nearer(size, base, off);
                nearer.map(|(base, off)| Found::Op(Op::AtomicAdd { size, base, off, value, fetch }))
            }
            // The verifier would not look at the callback, take it for dead code, and then miss it ("No program to jit", 6.18).
            Op::Call { helper: helpers::LOOP, ref args }
                if args.first().is_some_and(|it| self.number(*it) == Some(0)) =>
            {
                Some(Found::Op(Op::Const(0)))
            }
            _ => None,
        }
    }

    fn with_number(&self, op: AluOp, width: Width, a: Value, imm: i32) -> Option<Found> {
        // What the number is in the operation's own width.
        let number = match width {
            Width::W64 => i64::from(imm) as u64,
            Width::W32 => u64::from(imm as u32),
        };
        let bits = if width == Width::W64 { 64 } else { 32 };
        let all = arithmetic(AluOp::Sub, width, 0, 1);
        let alu = |op, imm| Some(Found::Op(Op::Alu { op, width, a, b: Operand::Imm(imm) }));
        let shift = number.trailing_zeros() as i32;
        match op {
            AluOp::Add | AluOp::Sub | AluOp::Or | AluOp::Xor if number == 0 => Some(whole(width, a)),
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh if imm & (bits - 1) == 0 => Some(whole(width, a)),
            AluOp::Mul | AluOp::Div | AluOp::SDiv if number == 1 => Some(whole(width, a)),
            AluOp::Mul | AluOp::And | AluOp::Div | AluOp::SDiv if number == 0 => Some(Found::Op(Op::Const(0))),
            AluOp::Mod | AluOp::SMod if number == 0 => Some(whole(width, a)),
            AluOp::Mod | AluOp::SMod if number == 1 => Some(Found::Op(Op::Const(0))),
            AluOp::And if number == all => Some(whole(width, a)),
            AluOp::Or if number == all => Some(Found::Op(Op::Const(all as i64))),
            AluOp::Mul if number.is_power_of_two() => alu(AluOp::Lsh, shift),
            AluOp::Div if number.is_power_of_two() => alu(AluOp::Rsh, shift),
            // A mask has to be positive, since it is extended by its sign.
            AluOp::Mod if number.is_power_of_two() && shift < 31 => alu(AluOp::And, imm - 1),
            AluOp::Sub if imm != i32::MIN => alu(AluOp::Add, -imm),
            // A mask of all the bits that there can be.
            AluOp::And
                if imm >= 0
                    && self.bits[a.0 as usize] < 32
                    && number & ((1 << self.bits[a.0 as usize]) - 1) == (1 << self.bits[a.0 as usize]) - 1 =>
            {
                Some(Found::Same(a))
            }
            AluOp::Add | AluOp::And | AluOp::Or | AluOp::Xor | AluOp::Mul => match self.maker(a) {
                Some(&Op::Alu { op: inner, width: other, a, b: Operand::Imm(first) })
                    if inner == op && other == width =>
                {
                    let both = match width {
                        Width::W64 => arithmetic(op, width, i64::from(first) as u64, number) as i64,
                        Width::W32 => i64::from(arithmetic(op, width, i64::from(first) as u64, number) as i32),
                    };
                    let imm = i32::try_from(both).ok()?;
                    Some(Found::Op(Op::Alu { op, width, a, b: Operand::Imm(imm) }))
                }
                Some(&Op::SlotAddr(slot, off)) if op == AluOp::Add && width == Width::W64 => {
                    let (size, _) = self.slots[slot.0 as usize];
                    let off = off.checked_add(imm).filter(|off| (0..=i64::from(size)).contains(&i64::from(*off)))?;
                    Some(Found::Op(Op::SlotAddr(slot, off)))
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// An address with more of it in the offset.
    fn nearer(&self, size: u8, base: Base, off: i16) -> Option<(Base, i16)> {
        match self.maker(base.value()?)? {
            Op::SlotAddr(slot, more) => {
                let (bytes, align) = self.slots[slot.0 as usize];
                let off = more + i32::from(off);
                let inside = off >= 0 && off as u32 + u32::from(size) <= bytes;
                let aligned = off % i32::from(size) == 0 && u32::from(size) <= align;
                (inside && aligned).then_some((Base::Slot(*slot), off as i16))
            }
            Op::Alu { op: AluOp::Add, width: Width::W64, a, b: Operand::Imm(more) } => {
                let off = i16::try_from(i32::from(off).checked_add(*more)?).ok()?;
                Some((Base::Value(*a), off))
            }
            _ => None,
        }
    }

    fn terminator(&mut self, end: &mut Terminator) {
        let before = end.clone();
        end.each_use_mut(|value| *value = self.alias[value.0 as usize]);
        if let Terminator::Return(result) = end {
            self.immediate(result, false);
        }
        // A comparison of a comparison, and so on.
        for _ in 0..8 {
            let Terminator::Branch { cond, width, a, b, then, otherwise } = end else { break };
            self.comparison(cond, *width, a, b);
            let right = match *b {
                Operand::Imm(imm) => Some(i64::from(imm) as u64),
                Operand::Value(value) => self.number(value),
            };
            let holds = match (self.number(*a), right) {
                (Some(left), Some(right)) => Some(holds(*cond, *width, left, right)),
                _ if *b == Operand::Value(*a) => equal(*cond),
                _ => None,
            };
            if let Some(holds) = holds {
                *end = Terminator::Jump(if holds { then.clone() } else { otherwise.clone() });
                break;
            }
            let Some(&Op::Compare { cond: inner, width: inner_width, a: inner_a, b: inner_b }) = self.maker(*a) else {
                break;
            };
            let swap = match (*cond, *b) {
                (Cond::Ne | Cond::Gt | Cond::SGt, Operand::Imm(0)) | (Cond::Eq, Operand::Imm(1)) => false,
                (Cond::Eq | Cond::Le | Cond::SLe, Operand::Imm(0)) | (Cond::Ne, Operand::Imm(1)) => true,
                _ => break,
            };
            (*cond, *width, *a, *b) = (inner, inner_width, inner_a, inner_b);
            if swap {
                std::mem::swap(then, otherwise);
            }
        }
        self.changed |= *end != before;
    }
}

/// All of a value, or its lower half.
fn whole(width: Width, a: Value) -> Found {
    match width {
        Width::W64 => Found::Same(a),
        Width::W32 => Found::Op(Op::ZeroExtend { bits: 32, a }),
    }
}

/// Whether a value compares so with itself; not known of common bits, which zero does not have.
fn equal(cond: Cond) -> Option<bool> {
    match cond {
        Cond::Eq | Cond::Ge | Cond::Le | Cond::SGe | Cond::SLe => Some(true),
        Cond::Ne | Cond::Gt | Cond::Lt | Cond::SGt | Cond::SLt => Some(false),
        Cond::Set => None,
    }
}

/// The condition with its sides exchanged.
fn mirrored(cond: Cond) -> Cond {
    match cond {
        Cond::Gt => Cond::Lt,
        Cond::Lt => Cond::Gt,
        Cond::Ge => Cond::Le,
        Cond::Le => Cond::Ge,
        Cond::SGt => Cond::SLt,
        Cond::SLt => Cond::SGt,
        Cond::SGe => Cond::SLe,
        Cond::SLe => Cond::SGe,
        Cond::Eq | Cond::Ne | Cond::Set => cond,
    }
}

/// The condition that holds when this one does not; none for common bits.
pub(crate) fn inverse(cond: Cond) -> Option<Cond> {
    Some(match cond {
        Cond::Eq => Cond::Ne,
        Cond::Ne => Cond::Eq,
        Cond::Gt => Cond::Le,
        Cond::Ge => Cond::Lt,
        Cond::Lt => Cond::Ge,
        Cond::Le => Cond::Gt,
        Cond::SGt => Cond::SLe,
        Cond::SGe => Cond::SLt,
        Cond::SLt => Cond::SGe,
        Cond::SLe => Cond::SGt,
        Cond::Set => return None,
    })
}
