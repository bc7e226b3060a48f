//! What instructions do: arithmetic, comparisons, conversions and atomics, each with its bits and its symbol.

use crate::Width;
use crate::consts::*;

/// Arithmetic with two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AluOp {
    /// Addition.
    Add,
    /// Subtraction.
    Sub,
    /// Multiplication.
    Mul,
    /// Unsigned division; by zero gives 0.
    Div,
    /// Signed division; by zero gives 0 (ISA v4, Linux 6.6).
    SDiv,
    /// Bitwise or.
    Or,
    /// Bitwise and.
    And,
    /// Shift left.
    Lsh,
    /// Logical shift right.
    Rsh,
    /// Unsigned remainder; by zero leaves the destination as it was.
    Mod,
    /// Signed remainder; by zero leaves the destination as it was (ISA v4, Linux 6.6).
    SMod,
    /// Bitwise exclusive or.
    Xor,
    /// Arithmetic shift right.
    Arsh,
}

impl AluOp {
    /// All operations.
    pub const ALL: [AluOp; 13] = [
        AluOp::Add,
        AluOp::Sub,
        AluOp::Mul,
        AluOp::Div,
        AluOp::SDiv,
        AluOp::Or,
        AluOp::And,
        AluOp::Lsh,
        AluOp::Rsh,
        AluOp::Mod,
        AluOp::SMod,
        AluOp::Xor,
        AluOp::Arsh,
    ];

    /// The operation's bits in the opcode, and the `off` that goes with it.
    pub const fn code(self) -> (u8, i16) {
        match self {
            AluOp::Add => (BPF_ADD, 0),
            AluOp::Sub => (BPF_SUB, 0),
            AluOp::Mul => (BPF_MUL, 0),
            AluOp::Div => (BPF_DIV, 0),
            AluOp::SDiv => (BPF_DIV, 1),
            AluOp::Or => (BPF_OR, 0),
            AluOp::And => (BPF_AND, 0),
            AluOp::Lsh => (BPF_LSH, 0),
            AluOp::Rsh => (BPF_RSH, 0),
            AluOp::Mod => (BPF_MOD, 0),
            AluOp::SMod => (BPF_MOD, 1),
            AluOp::Xor => (BPF_XOR, 0),
            AluOp::Arsh => (BPF_ARSH, 0),
        }
    }

    /// The assignment operator in disassembly text, the same in both spellings.
    pub const fn symbol(self) -> &'static str {
        match self {
            AluOp::Add => "+=",
            AluOp::Sub => "-=",
            AluOp::Mul => "*=",
            AluOp::Div => "/=",
            AluOp::SDiv => "s/=",
            AluOp::Or => "|=",
            AluOp::And => "&=",
            AluOp::Lsh => "<<=",
            AluOp::Rsh => ">>=",
            AluOp::Mod => "%=",
            AluOp::SMod => "s%=",
            AluOp::Xor => "^=",
            AluOp::Arsh => "s>>=",
        }
    }
}

/// The move that extends a sign, by the bits it reads and writes (ISA v4, Linux 6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignExtend {
    /// 8 bits to 32.
    S8To32,
    /// 16 bits to 32.
    S16To32,
    /// 8 bits to 64.
    S8To64,
    /// 16 bits to 64.
    S16To64,
    /// 32 bits to 64.
    S32To64,
}

impl SignExtend {
    /// All of them.
    pub const ALL: [SignExtend; 5] =
        [SignExtend::S8To32, SignExtend::S16To32, SignExtend::S8To64, SignExtend::S16To64, SignExtend::S32To64];

    /// The width of the result.
    pub const fn width(self) -> Width {
        match self {
            SignExtend::S8To32 | SignExtend::S16To32 => Width::W32,
            _ => Width::W64,
        }
    }

    /// How many bits are read, which is also the `off` of the encoding.
    pub const fn from_bits(self) -> i16 {
        match self {
            SignExtend::S8To32 | SignExtend::S8To64 => 8,
            SignExtend::S16To32 | SignExtend::S16To64 => 16,
            SignExtend::S32To64 => 32,
        }
    }

    /// The extension to `width` from `bits`, or `None` if there is no such instruction.
    pub const fn new(width: Width, bits: i16) -> Option<SignExtend> {
        match (width, bits) {
            (Width::W32, 8) => Some(SignExtend::S8To32),
            (Width::W32, 16) => Some(SignExtend::S16To32),
            (Width::W64, 8) => Some(SignExtend::S8To64),
            (Width::W64, 16) => Some(SignExtend::S16To64),
            (Width::W64, 32) => Some(SignExtend::S32To64),
            _ => None,
        }
    }
}

/// Which byte order conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SwapKind {
    /// From the machine's order to little-endian, or back.
    Le,
    /// From the machine's order to big-endian, or back.
    Be,
    /// Always swaps (ISA v4, Linux 6.6).
    Bswap,
}

impl SwapKind {
    /// All of them.
    pub const ALL: [SwapKind; 3] = [SwapKind::Le, SwapKind::Be, SwapKind::Bswap];

    /// The opcode.
    pub const fn code(self) -> u8 {
        match self {
            SwapKind::Le => BPF_ALU | BPF_END | BPF_TO_LE,
            SwapKind::Be => BPF_ALU | BPF_END | BPF_TO_BE,
            SwapKind::Bswap => BPF_ALU64 | BPF_END | BPF_TO_LE,
        }
    }

    /// The operation's name in disassembly text.
    pub const fn name(self) -> &'static str {
        match self {
            SwapKind::Le => "le",
            SwapKind::Be => "be",
            SwapKind::Bswap => "bswap",
        }
    }
}

/// How many bits a byte order conversion swaps; the bits above are cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SwapBits {
    /// 16.
    B16,
    /// 32.
    B32,
    /// 64.
    B64,
}

impl SwapBits {
    /// All of them.
    pub const ALL: [SwapBits; 3] = [SwapBits::B16, SwapBits::B32, SwapBits::B64];

    /// The number of bits, which is also the `imm` of the encoding.
    pub const fn bits(self) -> i32 {
        match self {
            SwapBits::B16 => 16,
            SwapBits::B32 => 32,
            SwapBits::B64 => 64,
        }
    }

    /// The value for this number of bits, or `None`.
    pub const fn new(bits: i32) -> Option<SwapBits> {
        match bits {
            16 => Some(SwapBits::B16),
            32 => Some(SwapBits::B32),
            64 => Some(SwapBits::B64),
            _ => None,
        }
    }
}

/// The comparison of a conditional jump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cond {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Some bit in common.
    Set,
    /// Greater, unsigned.
    Gt,
    /// Greater or equal, unsigned.
    Ge,
    /// Less, unsigned.
    Lt,
    /// Less or equal, unsigned.
    Le,
    /// Greater, signed.
    SGt,
    /// Greater or equal, signed.
    SGe,
    /// Less, signed.
    SLt,
    /// Less or equal, signed.
    SLe,
}

impl Cond {
    /// All comparisons.
    pub const ALL: [Cond; 11] = [
        Cond::Eq,
        Cond::Ne,
        Cond::Set,
        Cond::Gt,
        Cond::Ge,
        Cond::Lt,
        Cond::Le,
        Cond::SGt,
        Cond::SGe,
        Cond::SLt,
        Cond::SLe,
    ];

    /// The comparison's bits in the opcode.
    pub const fn code(self) -> u8 {
        match self {
            Cond::Eq => BPF_JEQ,
            Cond::Ne => BPF_JNE,
            Cond::Set => BPF_JSET,
            Cond::Gt => BPF_JGT,
            Cond::Ge => BPF_JGE,
            Cond::Lt => BPF_JLT,
            Cond::Le => BPF_JLE,
            Cond::SGt => BPF_JSGT,
            Cond::SGe => BPF_JSGE,
            Cond::SLt => BPF_JSLT,
            Cond::SLe => BPF_JSLE,
        }
    }

    /// The operator in disassembly text, the same in both spellings.
    pub const fn symbol(self) -> &'static str {
        match self {
            Cond::Eq => "==",
            Cond::Ne => "!=",
            Cond::Set => "&",
            Cond::Gt => ">",
            Cond::Ge => ">=",
            Cond::Lt => "<",
            Cond::Le => "<=",
            Cond::SGt => "s>",
            Cond::SGe => "s>=",
            Cond::SLt => "s<",
            Cond::SLe => "s<=",
        }
    }
}

/// An atomic read-modify-write operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtomicOp {
    /// Add.
    Add,
    /// Bitwise or.
    Or,
    /// Bitwise and.
    And,
    /// Bitwise exclusive or.
    Xor,
    /// Add, the old value goes to the source register.
    FetchAdd,
    /// Bitwise or, the old value goes to the source register.
    FetchOr,
    /// Bitwise and, the old value goes to the source register.
    FetchAnd,
    /// Bitwise exclusive or, the old value goes to the source register.
    FetchXor,
    /// Exchange, the old value goes to the source register.
    Xchg,
    /// Store the source register if memory equals r0; the old value goes to r0.
    CmpXchg,
}

impl AtomicOp {
    /// All operations.
    pub const ALL: [AtomicOp; 10] = [
        AtomicOp::Add,
        AtomicOp::Or,
        AtomicOp::And,
        AtomicOp::Xor,
        AtomicOp::FetchAdd,
        AtomicOp::FetchOr,
        AtomicOp::FetchAnd,
        AtomicOp::FetchXor,
        AtomicOp::Xchg,
        AtomicOp::CmpXchg,
    ];

    /// The `imm` of the encoding.
    pub const fn imm(self) -> i32 {
        match self {
            AtomicOp::Add => BPF_ADD as i32,
            AtomicOp::Or => BPF_OR as i32,
            AtomicOp::And => BPF_AND as i32,
            AtomicOp::Xor => BPF_XOR as i32,
            AtomicOp::FetchAdd => BPF_ADD as i32 | BPF_FETCH,
            AtomicOp::FetchOr => BPF_OR as i32 | BPF_FETCH,
            AtomicOp::FetchAnd => BPF_AND as i32 | BPF_FETCH,
            AtomicOp::FetchXor => BPF_XOR as i32 | BPF_FETCH,
            AtomicOp::Xchg => BPF_XCHG,
            AtomicOp::CmpXchg => BPF_CMPXCHG,
        }
    }

    /// The operation with this `imm`, or `None`.
    pub fn from_imm(imm: i32) -> Option<AtomicOp> {
        AtomicOp::ALL.into_iter().find(|op| op.imm() == imm)
    }

    /// The bare operation in disassembly text, `add` to `xor`, `xchg` or `cmpxchg`.
    pub const fn name(self) -> &'static str {
        match self {
            AtomicOp::Add | AtomicOp::FetchAdd => "add",
            AtomicOp::Or | AtomicOp::FetchOr => "or",
            AtomicOp::And | AtomicOp::FetchAnd => "and",
            AtomicOp::Xor | AtomicOp::FetchXor => "xor",
            AtomicOp::Xchg => "xchg",
            AtomicOp::CmpXchg => "cmpxchg",
        }
    }

    /// The assignment operator of the forms that fetch nothing, or `None`.
    pub const fn symbol(self) -> Option<&'static str> {
        match self {
            AtomicOp::Add => Some("+="),
            AtomicOp::Or => Some("|="),
            AtomicOp::And => Some("&="),
            AtomicOp::Xor => Some("^="),
            _ => None,
        }
    }
}
