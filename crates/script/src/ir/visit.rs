//! What instructions and terminators read, write and lead to.

use super::{Base, Block, Insn, Op, Operand, Target, Terminator, Value};

impl Operand {
    /// The value, unless it is a number.
    pub fn value(self) -> Option<Value> {
        match self {
            Operand::Value(value) => Some(value),
            Operand::Imm(_) => None,
        }
    }
}

impl Base {
    /// The pointer, unless it is a slot.
    pub fn value(self) -> Option<Value> {
        match self {
            Base::Value(value) => Some(value),
            Base::Slot(_) => None,
        }
    }
}

fn in_operand<'o>(operand: &'o Operand, f: &mut impl FnMut(&'o Value)) {
    if let Operand::Value(value) = operand {
        f(value);
    }
}

fn in_operand_mut<'o>(operand: &'o mut Operand, f: &mut impl FnMut(&'o mut Value)) {
    if let Operand::Value(value) = operand {
        f(value);
    }
}

fn in_base<'o>(base: &'o Base, f: &mut impl FnMut(&'o Value)) {
    if let Base::Value(value) = base {
        f(value);
    }
}

fn in_base_mut<'o>(base: &'o mut Base, f: &mut impl FnMut(&'o mut Value)) {
    if let Base::Value(value) = base {
        f(value);
    }
}

/// The walk over operands, written once for shared and for exclusive references.
macro_rules! walk_op {
    ($op:expr, $f:expr, $in_operand:ident, $in_base:ident) => {
        match $op {
            Op::Const(_) | Op::SlotAddr(..) | Op::Map(_) | Op::MapValue(..) | Op::FuncAddr(_) | Op::Extern(_) => {}
            Op::Neg(_, a) | Op::SignExtend { a, .. } | Op::ZeroExtend { a, .. } | Op::ByteSwap { a, .. } => $f(a),
            Op::Alu { a, b, .. } | Op::Compare { a, b, .. } => {
                $f(a);
                $in_operand(b, $f);
            }
            Op::Load { base, .. } => $in_base(base, $f),
            Op::Store { base, value, .. } => {
                $in_base(base, $f);
                $in_operand(value, $f);
            }
            Op::AtomicAdd { base, value, .. } => {
                $in_base(base, $f);
                $f(value);
            }
            Op::Call { args, .. } | Op::CallFunc { args, .. } | Op::CallKfunc { args, .. } => {
                for arg in args {
                    $f(arg);
                }
            }
        }
    };
}

impl Op {
    /// Calls `f` with each value that is read, in order; a value that is read twice comes twice.
    pub fn each_use<'o>(&'o self, mut f: impl FnMut(&'o Value)) {
        let f = &mut f;
        walk_op!(self, f, in_operand, in_base);
    }

    /// As [`Op::each_use`], to change them.
    pub fn each_use_mut<'o>(&'o mut self, mut f: impl FnMut(&'o mut Value)) {
        let f = &mut f;
        walk_op!(self, f, in_operand_mut, in_base_mut);
    }

    /// Whether the result depends on the operands alone, and nothing else happens: two equal ones have equal results, and one
    /// without use may go.
    pub fn is_pure(&self) -> bool {
        match self {
            Op::Const(_)
            | Op::Alu { .. }
            | Op::Neg(..)
            | Op::SignExtend { .. }
            | Op::ZeroExtend { .. }
            | Op::ByteSwap { .. }
            | Op::Compare { .. }
            | Op::SlotAddr(..)
            | Op::Map(_)
            | Op::MapValue(..)
            | Op::FuncAddr(_)
            | Op::Extern(_) => true,
            Op::Load { pure, .. } => *pure,
            Op::Store { .. } | Op::AtomicAdd { .. } => false,
            Op::Call { .. } | Op::CallFunc { .. } | Op::CallKfunc { .. } => false,
        }
    }

    /// Whether it may go when its result has no use. A load reads memory that the verifier has checked; it never traps.
    pub fn is_removable(&self) -> bool {
        self.is_pure() || matches!(self, Op::Load { .. })
    }

    /// Whether it is made anew as cheaply as it is kept: constants and addresses.
    pub fn is_rematerialized(&self) -> bool {
        matches!(
            self,
            Op::Const(_) | Op::SlotAddr(..) | Op::Map(_) | Op::MapValue(..) | Op::FuncAddr(_) | Op::Extern(_)
        )
    }

    /// Whether it calls something, which destroys r0 to r5.
    pub fn is_call(&self) -> bool {
        matches!(self, Op::Call { .. } | Op::CallFunc { .. } | Op::CallKfunc { .. })
    }
}

impl Insn {
    /// An instruction with the place of another one.
    pub fn at(span: crate::Span, result: Option<Value>, op: Op) -> Insn {
        Insn { result, op, span }
    }
}

impl Terminator {
    /// The targets, in order.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let (first, second) = match self {
            Terminator::Jump(target) => (Some(target), None),
            Terminator::Branch { then, otherwise, .. } => (Some(then), Some(otherwise)),
            Terminator::Return(_) => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// The targets, to change them.
    pub fn targets_mut(&mut self) -> impl Iterator<Item = &mut Target> {
        let (first, second) = match self {
            Terminator::Jump(target) => (Some(target), None),
            Terminator::Branch { then, otherwise, .. } => (Some(then), Some(otherwise)),
            Terminator::Return(_) => (None, None),
        };
        first.into_iter().chain(second)
    }

    /// The blocks that follow, in order; one may come twice.
    pub fn successors(&self) -> impl Iterator<Item = Block> + '_ {
        self.targets().map(|target| target.block)
    }

    /// Calls `f` with each value that the decision or the return reads, but not with what goes to other blocks.
    pub fn each_own_use<'o>(&'o self, mut f: impl FnMut(&'o Value)) {
        match self {
            Terminator::Jump(_) => {}
            Terminator::Branch { a, b, .. } => {
                f(a);
                in_operand(b, &mut f);
            }
            Terminator::Return(operand) => in_operand(operand, &mut f),
        }
    }

    /// Calls `f` with each value that is read, those for other blocks among them.
    pub fn each_use<'o>(&'o self, mut f: impl FnMut(&'o Value)) {
        self.each_own_use(&mut f);
        self.targets().flat_map(|target| &target.args).for_each(f);
    }

    /// As [`Terminator::each_use`], to change them.
    pub fn each_use_mut<'o>(&'o mut self, mut f: impl FnMut(&'o mut Value)) {
        match self {
            Terminator::Jump(target) => target.args.iter_mut().for_each(f),
            Terminator::Branch { a, b, then, otherwise, .. } => {
                f(a);
                in_operand_mut(b, &mut f);
                then.args.iter_mut().chain(&mut otherwise.args).for_each(f);
            }
            Terminator::Return(operand) => in_operand_mut(operand, &mut f),
        }
    }
}
