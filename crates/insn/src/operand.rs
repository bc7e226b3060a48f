//! What instructions work on: registers, widths, sizes and immediates, each with its bits and its name.

use crate::consts::*;
use std::fmt;

/// One of the eleven registers a program can name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(u8);

impl Reg {
    /// The return value, and the value a program or helper hands back.
    pub const R0: Reg = Reg(0);
    /// First argument; the context at the start of a program.
    pub const R1: Reg = Reg(1);
    /// Second argument.
    pub const R2: Reg = Reg(2);
    /// Third argument.
    pub const R3: Reg = Reg(3);
    /// Fourth argument.
    pub const R4: Reg = Reg(4);
    /// Fifth argument.
    pub const R5: Reg = Reg(5);
    /// Kept across calls.
    pub const R6: Reg = Reg(6);
    /// Kept across calls.
    pub const R7: Reg = Reg(7);
    /// Kept across calls.
    pub const R8: Reg = Reg(8);
    /// Kept across calls.
    pub const R9: Reg = Reg(9);
    /// The frame pointer, read-only; the stack lies below it.
    pub const R10: Reg = Reg(10);
    /// The frame pointer under its other name.
    pub const FP: Reg = Reg::R10;
    /// All registers in order.
    pub const ALL: [Reg; 11] =
        [Reg(0), Reg(1), Reg(2), Reg(3), Reg(4), Reg(5), Reg(6), Reg(7), Reg(8), Reg(9), Reg(10)];

    /// The register with this number, or `None` above 10.
    pub const fn new(number: u8) -> Option<Reg> {
        if number < MAX_BPF_REG { Some(Reg(number)) } else { None }
    }

    /// The register's number, 0 to 10.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl fmt::Debug for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How many bits of its registers an operation looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// The low 32 bits; a result clears the high ones. Registers are written `w0` to `w10`.
    W32,
    /// All 64 bits. Registers are written `r0` to `r10`.
    W64,
}

impl Width {
    /// Both widths.
    pub const ALL: [Width; 2] = [Width::W32, Width::W64];

    /// The letter in front of a register of this width.
    pub const fn prefix(self) -> char {
        match self {
            Width::W32 => 'w',
            Width::W64 => 'r',
        }
    }
}

/// The size of a memory access, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Size {
    /// One byte.
    B,
    /// Two bytes.
    H,
    /// Four bytes.
    W,
    /// Eight bytes.
    Dw,
}

impl Size {
    /// All sizes, smallest first.
    pub const ALL: [Size; 4] = [Size::B, Size::H, Size::W, Size::Dw];

    /// The size's bits in an opcode.
    pub const fn code(self) -> u8 {
        match self {
            Size::B => BPF_B,
            Size::H => BPF_H,
            Size::W => BPF_W,
            Size::Dw => BPF_DW,
        }
    }

    /// The size in an opcode's bits.
    pub const fn from_code(code: u8) -> Size {
        match code & 0x18 {
            BPF_B => Size::B,
            BPF_H => Size::H,
            BPF_W => Size::W,
            _ => Size::Dw,
        }
    }

    /// How many bytes are accessed.
    pub const fn len_bytes(self) -> u32 {
        match self {
            Size::B => 1,
            Size::H => 2,
            Size::W => 4,
            Size::Dw => 8,
        }
    }

    /// The type in disassembly text: `u8`, `u16`, `u32` or `u64`.
    pub const fn type_name(self) -> &'static str {
        match self {
            Size::B => "u8",
            Size::H => "u16",
            Size::W => "u32",
            Size::Dw => "u64",
        }
    }
}

/// What a load reads: a size, and whether the value's sign fills the rest of the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoadType {
    /// One byte, zero-extended.
    U8,
    /// Two bytes, zero-extended.
    U16,
    /// Four bytes, zero-extended.
    U32,
    /// Eight bytes.
    U64,
    /// One byte, sign-extended to 64 bits (ISA v4, Linux 6.6).
    S8,
    /// Two bytes, sign-extended to 64 bits (ISA v4, Linux 6.6).
    S16,
    /// Four bytes, sign-extended to 64 bits (ISA v4, Linux 6.6).
    S32,
}

impl LoadType {
    /// All types of load.
    pub const ALL: [LoadType; 7] =
        [LoadType::U8, LoadType::U16, LoadType::U32, LoadType::U64, LoadType::S8, LoadType::S16, LoadType::S32];

    /// The size read from memory.
    pub const fn size(self) -> Size {
        match self {
            LoadType::U8 | LoadType::S8 => Size::B,
            LoadType::U16 | LoadType::S16 => Size::H,
            LoadType::U32 | LoadType::S32 => Size::W,
            LoadType::U64 => Size::Dw,
        }
    }

    /// Whether the sign fills the rest of the register.
    pub const fn is_signed(self) -> bool {
        matches!(self, LoadType::S8 | LoadType::S16 | LoadType::S32)
    }

    /// The type in disassembly text: `u8` to `u64`, `s8` to `s32`.
    pub const fn type_name(self) -> &'static str {
        match self {
            LoadType::S8 => "s8",
            LoadType::S16 => "s16",
            LoadType::S32 => "s32",
            _ => self.size().type_name(),
        }
    }
}

impl From<Size> for LoadType {
    fn from(size: Size) -> LoadType {
        match size {
            Size::B => LoadType::U8,
            Size::H => LoadType::U16,
            Size::W => LoadType::U32,
            Size::Dw => LoadType::U64,
        }
    }
}

/// The second operand of an operation: a register or an immediate, which is sign-extended where 64 bits are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A register (`BPF_X`).
    Reg(Reg),
    /// An immediate (`BPF_K`).
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Operand {
        Operand::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(imm: i32) -> Operand {
        Operand::Imm(imm)
    }
}
