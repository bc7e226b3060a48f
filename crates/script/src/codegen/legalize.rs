//! What the instruction set cannot do, in terms of what it can; and an edge of its own for every jump that needs moves.
//!
//! - Signed division and rest, which kernels before 6.6 lack, become unsigned ones of absolute values. With ISA v4 they stay
//!   when the divisor is a number other than 0 and -1: of the smallest number divided by -1, kernels before 6.12 made a trap
//!   (commit 7dd34d7b7dcf, "bpf: Fix a sdiv overflow issue").
//! - A shift by more bits than there are, and a division by the number 0, which the verifier refuses, become what the same
//!   operation does with a register.
//! - An edge from a block with two ways out to a block with two ways in gets a block, where the values for the parameters
//!   can be moved.

use skep_insn::{AluOp, Width};

use crate::ir::cfg::Cfg;
use crate::ir::{Block, BlockData, Function, Insn, Op, Operand, Target, Terminator, Value};

/// Rewrites a verified function for this version of the instruction set.
pub(super) fn legalize(function: &mut Function, isa: u8) {
    for index in 0..function.blocks.len() {
        let insns = std::mem::take(&mut function.blocks[index].insns);
        let mut out = Vec::with_capacity(insns.len());
        for insn in insns {
            spell_out(function, &mut out, insn, isa);
        }
        function.blocks[index].insns = out;
    }
    split_critical_edges(function);
}

fn spell_out(function: &mut Function, out: &mut Vec<Insn>, mut insn: Insn, isa: u8) {
    let Op::Alu { op, width, a, b } = insn.op else { return out.push(insn) };
    let bits = match width {
        Width::W32 => 32,
        Width::W64 => 64,
    };
    match (op, b) {
        (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(by)) => {
            insn.op = Op::Alu { op, width, a, b: Operand::Imm(by & (bits - 1)) };
        }
        (AluOp::Div | AluOp::SDiv, Operand::Imm(0)) => insn.op = Op::Const(0),
        (AluOp::Mod | AluOp::SMod, Operand::Imm(0)) => insn.op = copy(width, a),
        (AluOp::SDiv | AluOp::SMod, Operand::Imm(by)) if isa >= 4 && by != -1 => {}
        (AluOp::SDiv | AluOp::SMod, _) => {
            let mut spelling = Spelling { function, out, like: &insn, width, bits };
            return spelling.signed_division(op, a, b);
        }
        _ => {}
    }
    out.push(insn);
}

/// `a` itself, or its lower half.
fn copy(width: Width, a: Value) -> Op {
    match width {
        Width::W64 => Op::Alu { op: AluOp::Add, width, a, b: Operand::Imm(0) },
        Width::W32 => Op::ZeroExtend { bits: 32, a },
    }
}

struct Spelling<'a> {
    function: &'a mut Function,
    out: &'a mut Vec<Insn>,
    like: &'a Insn,
    width: Width,
    bits: i32,
}

impl Spelling<'_> {
    fn alu(&mut self, op: AluOp, a: Value, b: impl Into<Operand>) -> Value {
        let result = Value(self.function.values);
        self.function.values += 1;
        let op = Op::Alu { op, width: self.width, a, b: b.into() };
        self.out.push(Insn::at(self.like.span, Some(result), op));
        result
    }

    /// All ones when `a` is negative, else zero.
    fn sign(&mut self, a: Value) -> Value {
        self.alu(AluOp::Arsh, a, self.bits - 1)
    }

    /// `-a` where the sign is all ones, `a` where it is zero.
    fn negate_by(&mut self, a: Value, sign: Value) -> Value {
        let flipped = self.alu(AluOp::Xor, a, sign);
        self.alu(AluOp::Sub, flipped, sign)
    }

    /// The quotient has the sign of both, the rest that of the dividend. No branch: absolute values of the smallest number
    /// and of division by zero come out as the instruction set has them.
    fn signed_division(&mut self, op: AluOp, a: Value, b: Operand) {
        let sign = self.sign(a);
        let dividend = self.negate_by(a, sign);
        let (divisor, sign_b) = match b {
            // The absolute value of the smallest number fits the register, but not the immediate.
            Operand::Imm(i32::MIN) => {
                let b = self.constant(1 << 31);
                (Operand::Value(b), None)
            }
            Operand::Imm(by) => (Operand::Imm(by.abs()), None),
            Operand::Value(b) => {
                let sign = self.sign(b);
                (Operand::Value(self.negate_by(b, sign)), Some(sign))
            }
        };
        let result = match op {
            AluOp::SMod => {
                let rest = self.alu(AluOp::Mod, dividend, divisor);
                self.negate_by(rest, sign)
            }
            _ => {
                let quotient = self.alu(AluOp::Div, dividend, divisor);
                match (sign_b, b) {
                    (Some(sign_b), _) => {
                        let sign = self.alu(AluOp::Xor, sign, sign_b);
                        self.negate_by(quotient, sign)
                    }
                    (None, Operand::Imm(by)) if by < 0 => {
                        let sign = self.alu(AluOp::Xor, sign, -1);
                        self.negate_by(quotient, sign)
                    }
                    _ => self.negate_by(quotient, sign),
                }
            }
        };
        // The last instruction takes the place of the division.
        if let Some(last) = self.out.last_mut().filter(|last| last.result == Some(result)) {
            last.result = self.like.result;
        }
    }

    fn constant(&mut self, number: i64) -> Value {
        let result = Value(self.function.values);
        self.function.values += 1;
        self.out.push(Insn::at(self.like.span, Some(result), Op::Const(number)));
        result
    }
}

fn split_critical_edges(function: &mut Function) {
    let cfg = Cfg::new(function);
    for &block in &cfg.order {
        let mut end = std::mem::replace(&mut function.blocks[block.0 as usize].end, Terminator::Return(0.into()));
        let end_span = function.blocks[block.0 as usize].end_span;
        if matches!(end, Terminator::Branch { .. }) {
            for target in end.targets_mut() {
                if cfg.preds[target.block.0 as usize].len() < 2 {
                    continue;
                }
                let edge = Block(function.blocks.len() as u32);
                let to = std::mem::replace(target, Target { block: edge, args: Vec::new() });
                let end = Terminator::Jump(to);
                function.blocks.push(BlockData { params: Vec::new(), insns: Vec::new(), end, end_span });
            }
        }
        function.blocks[block.0 as usize].end = end;
    }
}
