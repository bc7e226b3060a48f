//! Codes taken apart again: back ends make code for all of a kind.

use std::sync::LazyLock;

use skep_insn::{AluOp, AtomicOp, Cond, LoadType, Operand, Reg, Size, Width};

use crate::op::{self, Code};

/// What a code is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Arithmetic with the register or the immediate.
    Alu {
        op: AluOp,
        width: Width,
        imm: bool,
    },
    /// A conditional jump.
    Branch {
        cond: Cond,
        width: Width,
        imm: bool,
    },
    Load {
        ty: LoadType,
    },
    Store {
        size: Size,
        imm: bool,
    },
    LoadAcquire {
        size: Size,
    },
    StoreRelease {
        size: Size,
    },
    Atomic {
        op: AtomicOp,
        width: Width,
    },
    /// A move, or something that a register does with itself.
    Move,
    /// A jump by a constant.
    Jump,
    MayGoto,
    /// A helper that comes back.
    Helper,
    /// A function of the program.
    Call,
    Exit,
    /// What needs the processor's frames, or the packet.
    Control,
    /// Nothing to do.
    Nothing,
}

/// The shape of each code, made by asking the functions that make codes, so that they cannot differ.
static SHAPES: LazyLock<[Shape; 256]> = LazyLock::new(|| {
    let mut shapes = [Shape::Move; 256];
    let mut set = |code: Code, shape| shapes[code as usize] = shape;
    let operands = [(Operand::Imm(0), true), (Operand::Reg(Reg::R0), false)];
    for width in Width::ALL {
        for (operand, imm) in operands {
            for alu in AluOp::ALL {
                set(op::alu(alu, width, operand), Shape::Alu { op: alu, width, imm });
            }
            for cond in Cond::ALL {
                set(op::branch(cond, width, operand), Shape::Branch { cond, width, imm });
            }
        }
        for atomic in AtomicOp::ALL {
            set(op::atomic(atomic, width), Shape::Atomic { op: atomic, width });
        }
    }
    for ty in LoadType::ALL {
        set(op::load(ty), Shape::Load { ty });
    }
    for size in Size::ALL {
        set(op::sized(size, op::STORES), Shape::Store { size, imm: false });
        set(op::sized(size, op::STORES_IMM), Shape::Store { size, imm: true });
        set(op::sized(size, op::LOADS_ACQUIRE), Shape::LoadAcquire { size });
        set(op::sized(size, op::STORES_RELEASE), Shape::StoreRelease { size });
    }
    set(Code::Jump, Shape::Jump);
    set(Code::MayGoto, Shape::MayGoto);
    set(Code::Helper, Shape::Helper);
    for code in [Code::Nop, Code::Hole] {
        set(code, Shape::Nothing);
    }
    for code in
        [Code::PacketAbs8, Code::PacketAbs16, Code::PacketAbs32, Code::PacketInd8, Code::PacketInd16, Code::PacketInd32]
    {
        set(code, Shape::Control);
    }
    set(Code::Call, Shape::Call);
    set(Code::Exit, Shape::Exit);
    for code in [Code::JumpReg, Code::TailCall, Code::CallReg] {
        set(code, Shape::Control);
    }
    shapes
});

impl Shape {
    /// What a code is made of.
    pub(super) fn of(code: Code) -> Shape {
        SHAPES[code as usize]
    }
}
