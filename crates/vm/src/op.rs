//! Operations: what instructions are turned into before they run.
//!
//! An [`Op`] is 16 bytes and has everything ready: the operand's kind and width are in its [`Code`], immediates are extended,
//! loads of 64 bits have their value, calls the index of their helper or function. There is one for each slot, so that a
//! position in the code is the same number everywhere (the kernel's [`InsnIdx`](skep_insn::InsnIdx)); the second slot of a wide
//! load holds a [`Code::Hole`], which nothing reaches.

use skep_insn::{AluOp, AtomicOp, Cond, LoadType, Operand, SignExtend, Size, SwapBits, SwapKind, Width};

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Op {
    pub(crate) code: Code,
    pub(crate) dst: u8,
    pub(crate) src: u8,
    /// Offset of a memory access in bytes, or distance of a jump in slots; of [`Code::Imm`] the slots to pass over.
    pub(crate) off: i32,
    /// Immediate, extended as the operation wants it.
    pub(crate) imm: u64,
}

const _: () = assert!(size_of::<Op>() == 16);

/// What an operation does. A number is the width in bits, `K` means that the second operand is the immediate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[rustfmt::skip]
pub(crate) enum Code {
    // Arithmetic.
    Add64, Add64K, Add32, Add32K,
    Sub64, Sub64K, Sub32, Sub32K,
    Mul64, Mul64K, Mul32, Mul32K,
    Div64, Div64K, Div32, Div32K,
    SDiv64, SDiv64K, SDiv32, SDiv32K,
    Or64, Or64K, Or32, Or32K,
    And64, And64K, And32, And32K,
    Lsh64, Lsh64K, Lsh32, Lsh32K,
    Rsh64, Rsh64K, Rsh32, Rsh32K,
    Mod64, Mod64K, Mod32, Mod32K,
    SMod64, SMod64K, SMod32, SMod32K,
    Xor64, Xor64K, Xor32, Xor32K,
    Arsh64, Arsh64K, Arsh32, Arsh32K,
    // Moves.
    Mov64, Mov32, Imm, Sx8To32, Sx16To32, Sx8To64, Sx16To64, Sx32To64,
    Neg64, Neg32,
    // Byte order: what `le` and `be` do on this machine is settled.
    Zx16, Zx32, Nop, Swap16, Swap32, Swap64,
    /// From the short form of an address to the full one.
    CastUser,
    // Memory.
    LoadU8, LoadU16, LoadU32, LoadU64, LoadS8, LoadS16, LoadS32,
    Store8, Store16, Store32, Store64, Store8K, Store16K, Store32K, Store64K,
    LoadAcquire8, LoadAcquire16, LoadAcquire32, LoadAcquire64,
    StoreRelease8, StoreRelease16, StoreRelease32, StoreRelease64,
    AtomicAdd64, AtomicAdd32,
    AtomicOr64, AtomicOr32,
    AtomicAnd64, AtomicAnd32,
    AtomicXor64, AtomicXor32,
    AtomicFetchAdd64, AtomicFetchAdd32,
    AtomicFetchOr64, AtomicFetchOr32,
    AtomicFetchAnd64, AtomicFetchAnd32,
    AtomicFetchXor64, AtomicFetchXor32,
    AtomicXchg64, AtomicXchg32,
    AtomicCmpXchg64, AtomicCmpXchg32,
    /// Legacy packet access at `imm`, or at `src + imm` with the registers' form.
    PacketAbs8, PacketAbs16, PacketAbs32, PacketInd8, PacketInd16, PacketInd32,
    // Jumps.
    Jump, JumpReg, MayGoto,
    JEq64, JEq64K, JEq32, JEq32K,
    JNe64, JNe64K, JNe32, JNe32K,
    JSet64, JSet64K, JSet32, JSet32K,
    JGt64, JGt64K, JGt32, JGt32K,
    JGe64, JGe64K, JGe32, JGe32K,
    JLt64, JLt64K, JLt32, JLt32K,
    JLe64, JLe64K, JLe32, JLe32K,
    JSGt64, JSGt64K, JSGt32, JSGt32K,
    JSGe64, JSGe64K, JSGe32, JSGe32K,
    JSLt64, JSLt64K, JSLt32, JSLt32K,
    JSLe64, JSLe64K, JSLe32, JSLe32K,
    // Calls: `imm` is the index of the helper or function.
    Helper, TailCall, Call, CallReg, Exit,
    /// The second slot of a wide load.
    Hole,
}

impl Code {
    /// How many there are.
    pub(crate) const COUNT: usize = Code::Hole as usize + 1;
}

use Code::*;

/// Arithmetic of a width, with a register or an immediate.
pub(crate) fn alu(op: AluOp, width: Width, src: Operand) -> Code {
    let codes = match op {
        AluOp::Add => [Add64, Add64K, Add32, Add32K],
        AluOp::Sub => [Sub64, Sub64K, Sub32, Sub32K],
        AluOp::Mul => [Mul64, Mul64K, Mul32, Mul32K],
        AluOp::Div => [Div64, Div64K, Div32, Div32K],
        AluOp::SDiv => [SDiv64, SDiv64K, SDiv32, SDiv32K],
        AluOp::Or => [Or64, Or64K, Or32, Or32K],
        AluOp::And => [And64, And64K, And32, And32K],
        AluOp::Lsh => [Lsh64, Lsh64K, Lsh32, Lsh32K],
        AluOp::Rsh => [Rsh64, Rsh64K, Rsh32, Rsh32K],
        AluOp::Mod => [Mod64, Mod64K, Mod32, Mod32K],
        AluOp::SMod => [SMod64, SMod64K, SMod32, SMod32K],
        AluOp::Xor => [Xor64, Xor64K, Xor32, Xor32K],
        AluOp::Arsh => [Arsh64, Arsh64K, Arsh32, Arsh32K],
    };
    codes[form(width, src)]
}

/// A conditional jump.
pub(crate) fn branch(cond: Cond, width: Width, src: Operand) -> Code {
    let codes = match cond {
        Cond::Eq => [JEq64, JEq64K, JEq32, JEq32K],
        Cond::Ne => [JNe64, JNe64K, JNe32, JNe32K],
        Cond::Set => [JSet64, JSet64K, JSet32, JSet32K],
        Cond::Gt => [JGt64, JGt64K, JGt32, JGt32K],
        Cond::Ge => [JGe64, JGe64K, JGe32, JGe32K],
        Cond::Lt => [JLt64, JLt64K, JLt32, JLt32K],
        Cond::Le => [JLe64, JLe64K, JLe32, JLe32K],
        Cond::SGt => [JSGt64, JSGt64K, JSGt32, JSGt32K],
        Cond::SGe => [JSGe64, JSGe64K, JSGe32, JSGe32K],
        Cond::SLt => [JSLt64, JSLt64K, JSLt32, JSLt32K],
        Cond::SLe => [JSLe64, JSLe64K, JSLe32, JSLe32K],
    };
    codes[form(width, src)]
}

fn form(width: Width, src: Operand) -> usize {
    2 * usize::from(width == Width::W32) + usize::from(matches!(src, Operand::Imm(_)))
}

/// An atomic operation.
pub(crate) fn atomic(op: AtomicOp, width: Width) -> Code {
    let codes = match op {
        AtomicOp::Add => [AtomicAdd64, AtomicAdd32],
        AtomicOp::Or => [AtomicOr64, AtomicOr32],
        AtomicOp::And => [AtomicAnd64, AtomicAnd32],
        AtomicOp::Xor => [AtomicXor64, AtomicXor32],
        AtomicOp::FetchAdd => [AtomicFetchAdd64, AtomicFetchAdd32],
        AtomicOp::FetchOr => [AtomicFetchOr64, AtomicFetchOr32],
        AtomicOp::FetchAnd => [AtomicFetchAnd64, AtomicFetchAnd32],
        AtomicOp::FetchXor => [AtomicFetchXor64, AtomicFetchXor32],
        AtomicOp::Xchg => [AtomicXchg64, AtomicXchg32],
        AtomicOp::CmpXchg => [AtomicCmpXchg64, AtomicCmpXchg32],
    };
    codes[usize::from(width == Width::W32)]
}

/// A move that extends a sign.
pub(crate) fn extend(extend: SignExtend) -> Code {
    match extend {
        SignExtend::S8To32 => Sx8To32,
        SignExtend::S16To32 => Sx16To32,
        SignExtend::S8To64 => Sx8To64,
        SignExtend::S16To64 => Sx16To64,
        SignExtend::S32To64 => Sx32To64,
    }
}

/// A conversion of byte order, on this machine.
pub(crate) fn swap(kind: SwapKind, bits: SwapBits) -> Code {
    let swaps = match kind {
        SwapKind::Le => cfg!(target_endian = "big"),
        SwapKind::Be => cfg!(target_endian = "little"),
        SwapKind::Bswap => true,
    };
    match (swaps, bits) {
        (false, SwapBits::B16) => Zx16,
        (false, SwapBits::B32) => Zx32,
        (false, SwapBits::B64) => Nop,
        (true, SwapBits::B16) => Swap16,
        (true, SwapBits::B32) => Swap32,
        (true, SwapBits::B64) => Swap64,
    }
}

/// A load.
pub(crate) fn load(ty: LoadType) -> Code {
    match ty {
        LoadType::U8 => LoadU8,
        LoadType::U16 => LoadU16,
        LoadType::U32 => LoadU32,
        LoadType::U64 => LoadU64,
        LoadType::S8 => LoadS8,
        LoadType::S16 => LoadS16,
        LoadType::S32 => LoadS32,
    }
}

/// Stores by size, of a register and of an immediate, and the ordered accesses.
pub(crate) const STORES: [Code; 4] = [Store8, Store16, Store32, Store64];
pub(crate) const STORES_IMM: [Code; 4] = [Store8K, Store16K, Store32K, Store64K];
pub(crate) const LOADS_ACQUIRE: [Code; 4] = [LoadAcquire8, LoadAcquire16, LoadAcquire32, LoadAcquire64];
pub(crate) const STORES_RELEASE: [Code; 4] = [StoreRelease8, StoreRelease16, StoreRelease32, StoreRelease64];

/// One of four codes, by size.
pub(crate) fn sized(size: Size, codes: [Code; 4]) -> Code {
    match size {
        Size::B => codes[0],
        Size::H => codes[1],
        Size::W => codes[2],
        Size::Dw => codes[3],
    }
}
