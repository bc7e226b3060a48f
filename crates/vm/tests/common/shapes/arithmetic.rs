//! Numbers in registers, and what looks like a rotation or a sum into a third register.

use skep_insn::build::load_imm64;
use skep_insn::{AluOp, Insn, Operand, Reg, SignExtend, SwapBits, SwapKind, Width};

use super::super::random::Isa;
use super::{Kind, Role, Writer};

impl Writer<'_> {
    pub(super) fn arithmetic(&mut self) {
        let most = if self.role == Role::Small { 1 } else { 3 };
        for _ in 0..1 + self.rng.below(most) {
            let v4 = self.isa >= Isa::V4;
            let dst = self.own_number();
            let insn = match self.rng.below(9) {
                0..=3 => {
                    let (width, op) = (self.rng.width(), self.rng.one_of(&AluOp::ALL));
                    if matches!(op, AluOp::SDiv | AluOp::SMod) && !v4 {
                        continue;
                    }
                    let src = match (self.operand(), op) {
                        // What the kernel refuses by immediate.
                        (Operand::Imm(imm), AluOp::Lsh | AluOp::Rsh | AluOp::Arsh) => {
                            Operand::Imm(imm.rem_euclid(if width == Width::W32 { 32 } else { 64 }))
                        }
                        (Operand::Imm(0), AluOp::Div | AluOp::SDiv | AluOp::Mod | AluOp::SMod) => Operand::Imm(-1),
                        (src, _) => src,
                    };
                    Insn::Alu { width, op, dst, src }
                }
                4 => {
                    let (width, src) = (self.rng.width(), self.operand());
                    let dst = self.dst();
                    self.set(dst, Kind::Number);
                    Insn::Mov { width, dst, src }
                }
                5 if v4 => Insn::MovSx { extend: self.rng.one_of(&SignExtend::ALL), dst, src: self.number() },
                6 => Insn::Neg { width: self.rng.width(), dst },
                7 => {
                    let kind = self.rng.one_of(&SwapKind::ALL);
                    if kind == SwapKind::Bswap && !v4 {
                        continue;
                    }
                    Insn::Swap { kind, bits: self.rng.one_of(&SwapBits::ALL), dst }
                }
                _ => load_imm64(dst, self.rng.number()),
            };
            self.push(insn);
        }
    }

    /// Arithmetic that leaves some registers alone.
    pub(super) fn arithmetic_but(&mut self, not: &[Reg]) {
        let found = self.regs_of(|kind| kind == Kind::Number);
        let found: Vec<Reg> = found.into_iter().filter(|reg| !not.contains(reg) && !self.is_locked(*reg)).collect();
        if !found.is_empty() {
            let (dst, src) = (self.rng.one_of(&found), self.rng.one_of(&found));
            self.push(Insn::Alu {
                width: self.rng.width(),
                op: self.rng.one_of(&[AluOp::Add, AluOp::Xor]),
                dst,
                src: src.into(),
            });
        }
    }

    /// Two shifts and an `or`, which may be a rotation.
    pub(super) fn rotation(&mut self) {
        let width = self.rng.width();
        let bits = if width == Width::W32 { 32 } else { 64 };
        let src = self.number();
        let (lost, dst) = (self.dst(), self.dst());
        if [lost, dst].contains(&src) && self.is_locked(src) || lost == src || lost == dst {
            return;
        }
        self.set(lost, Kind::Number);
        let left = 1 + self.rng.below(bits - 1) as i32;
        let right = if self.rng.below(4) == 0 { self.rng.below(bits) as i32 } else { bits as i32 - left };
        let shift = |op, dst, by: i32| Insn::Alu { width, op, dst, src: Operand::Imm(by) };
        let copy = |dst, src: Reg| Insn::Mov { width, dst, src: src.into() };
        let (mut one, mut two) = ((AluOp::Rsh, right), (AluOp::Lsh, left));
        if self.rng.below(2) == 0 {
            (one, two) = (two, one);
        }
        self.push(copy(lost, src));
        let dst = if self.rng.below(2) == 0 && !self.is_locked(src) { src } else { dst };
        if dst != src || self.rng.below(2) == 0 {
            self.push(shift(one.0, lost, one.1));
            self.push(copy(dst, src));
        } else {
            self.push(shift(one.0, lost, one.1));
        }
        self.set(dst, Kind::Number);
        self.push(shift(two.0, dst, two.1));
        let op = self.rng.one_of(&[AluOp::Or, AluOp::Or, AluOp::Add, AluOp::Xor]);
        let (to, from) = if self.rng.below(3) == 0 { (lost, dst) } else { (dst, lost) };
        self.push(Insn::Alu { width, op, dst: to, src: from.into() });
        // Often nobody reads the other one.
        if self.rng.below(2) == 0 {
            self.fill(from);
        }
    }

    /// A move and a sum.
    pub(super) fn sum(&mut self) {
        let (a, b) = (self.number(), self.operand());
        let dst = self.dst();
        self.set(dst, Kind::Number);
        let width = if self.rng.below(4) == 0 { Width::W32 } else { Width::W64 };
        self.push(Insn::Mov { width, dst, src: a.into() });
        let width = if self.rng.below(4) == 0 { self.rng.width() } else { width };
        self.push(Insn::Alu { width, op: AluOp::Add, dst, src: b });
    }
}
