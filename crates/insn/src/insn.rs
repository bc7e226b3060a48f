//! One instruction with its meaning: every valid encoding is exactly one [`Insn`], and every [`Insn`] exactly one
//! encoding.

use crate::consts::*;
use crate::operand::*;
use crate::operation::*;
use crate::text::{Printer, Spelling};
use crate::{InsnIdx, RawInsn};

/// An instruction of ISA v1 to v4, as Linux 6.18 accepts it before it checks what a program does with it.
///
/// Jump and call distances count slots from the end of the instruction; a distance of 0 is the next instruction.
/// Memory offsets are bytes. `encode` and [`Insn::decode`] are inverse to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Insn {
    /// `dst op= src`.
    Alu {
        /// Bits computed with.
        width: Width,
        /// What is computed.
        op: AluOp,
        /// First operand and result.
        dst: Reg,
        /// Second operand.
        src: Operand,
    },
    /// `dst = src`.
    Mov {
        /// Bits moved; 32 clear the upper half.
        width: Width,
        /// Result.
        dst: Reg,
        /// What is moved.
        src: Operand,
    },
    /// `dst = (s8)src` and its like (ISA v4).
    MovSx {
        /// From and to how many bits.
        extend: SignExtend,
        /// Result.
        dst: Reg,
        /// What is extended.
        src: Reg,
    },
    /// `dst = -dst`.
    Neg {
        /// Bits computed with.
        width: Width,
        /// Operand and result.
        dst: Reg,
    },
    /// `dst = be16 dst` and its like.
    Swap {
        /// Which conversion.
        kind: SwapKind,
        /// How many bits.
        bits: SwapBits,
        /// Operand and result.
        dst: Reg,
    },
    /// `dst = addr_space_cast(src, to, from)`, for arena pointers (Linux 6.9, which knows the spaces 0 and 1).
    AddrSpaceCast {
        /// Result.
        dst: Reg,
        /// The pointer.
        src: Reg,
        /// Address space of the result, the high half of `imm`.
        to: u16,
        /// Address space of the source, the low half of `imm`.
        from: u16,
    },
    /// `r0 = *(size *)skb[off]`, legacy packet access in network byte order.
    LoadAbs {
        /// One, two or four bytes.
        size: PacketSize,
        /// Bytes from the start of the packet.
        off: i32,
    },
    /// `r0 = *(size *)skb[src + off]`, legacy packet access in network byte order.
    LoadInd {
        /// One, two or four bytes.
        size: PacketSize,
        /// Bytes from the start of the packet, first part.
        src: Reg,
        /// Bytes from the start of the packet, second part.
        off: i32,
    },
    /// `dst = value ll`, in two slots.
    LoadImm64 {
        /// Result.
        dst: Reg,
        /// The value, or what the kernel puts in its place.
        value: Imm64,
    },
    /// `dst = *(type *)(base + off)`.
    Load {
        /// Size and sign.
        ty: LoadType,
        /// Result.
        dst: Reg,
        /// Address.
        base: Reg,
        /// Bytes added to the address.
        off: i16,
    },
    /// `*(size *)(base + off) = src`; an immediate is sign-extended to eight bytes.
    Store {
        /// How much is stored.
        size: Size,
        /// Address.
        base: Reg,
        /// Bytes added to the address.
        off: i16,
        /// What is stored.
        src: Operand,
    },
    /// `lock *(size *)(base + off) op= src` and the forms that fetch.
    Atomic {
        /// What is done.
        op: AtomicOp,
        /// Four or eight bytes.
        width: Width,
        /// Address.
        base: Reg,
        /// Bytes added to the address.
        off: i16,
        /// Operand, and result of the forms that fetch.
        src: Reg,
    },
    /// `dst = load_acquire((size *)(base + off))` (Linux 6.15).
    LoadAcquire {
        /// How much is loaded, zero-extended.
        size: Size,
        /// Result.
        dst: Reg,
        /// Address.
        base: Reg,
        /// Bytes added to the address.
        off: i16,
    },
    /// `store_release((size *)(base + off), src)` (Linux 6.15).
    StoreRelease {
        /// How much is stored.
        size: Size,
        /// Address.
        base: Reg,
        /// Bytes added to the address.
        off: i16,
        /// What is stored.
        src: Reg,
    },
    /// `goto +off`.
    Jump {
        /// Distance in slots.
        off: i16,
    },
    /// `gotol +off`, the jump that reaches further (ISA v4, Linux 6.6).
    JumpLong {
        /// Distance in slots.
        off: i32,
    },
    /// `gotox reg`, the jump through a table of targets (Linux 6.19; older kernels call it an unknown opcode).
    JumpReg {
        /// Holds a target read from an instruction array map.
        target: Reg,
    },
    /// `may_goto +off`: falls through a bounded number of times, then jumps (Linux 6.9).
    MayGoto {
        /// Distance in slots.
        off: i16,
    },
    /// `if dst cond src goto +off`.
    Branch {
        /// Bits compared.
        width: Width,
        /// The comparison.
        cond: Cond,
        /// Left side.
        dst: Reg,
        /// Right side.
        src: Operand,
        /// Distance in slots.
        off: i16,
    },
    /// `call id`: a helper. In the kernel's own view the number is an address relative to the first helper.
    CallHelper {
        /// The helper's id, see [`crate::helpers`].
        id: i32,
    },
    /// `call +off`: a subprogram of the same program (Linux 4.16).
    CallLocal {
        /// Distance in slots.
        off: i32,
    },
    /// A call of a kernel function (Linux 5.13).
    CallKfunc {
        /// BTF id of the function.
        btf_id: i32,
        /// Index into `fd_array` of the BTF that holds the id; 0 is the kernel's own (Linux 5.16).
        fd_idx: i16,
    },
    /// `callx reg`: no kernel accepts it, compilers emit it for function pointers.
    CallReg {
        /// The address.
        target: Reg,
    },
    /// `callx reg` as compilers before LLVM 19 wrote it: the register's number stands in `imm` and is not 0.
    CallRegInImm {
        /// The address; never r0, which [`Insn::CallReg`] writes in the same bits.
        target: Reg,
    },
    /// `exit`.
    Exit,
}

/// The sizes of legacy packet access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketSize {
    /// One byte.
    B,
    /// Two bytes.
    H,
    /// Four bytes.
    W,
}

impl PacketSize {
    /// All sizes.
    pub const ALL: [PacketSize; 3] = [PacketSize::B, PacketSize::H, PacketSize::W];
}

impl From<PacketSize> for Size {
    fn from(size: PacketSize) -> Size {
        match size {
            PacketSize::B => Size::B,
            PacketSize::H => Size::H,
            PacketSize::W => Size::W,
        }
    }
}

/// What a 64-bit immediate load loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Imm64 {
    /// A number.
    Value(u64),
    /// The address of a map, by descriptor (`BPF_PSEUDO_MAP_FD`).
    MapFd(i32),
    /// An address inside the first value of a map (`BPF_PSEUDO_MAP_VALUE`, Linux 5.2).
    MapValue {
        /// Descriptor of the map.
        fd: i32,
        /// Bytes into the value.
        off: u32,
    },
    /// A kernel variable (`BPF_PSEUDO_BTF_ID`, Linux 5.10).
    BtfId {
        /// BTF id of the variable.
        id: u32,
        /// Descriptor of the module's BTF, 0 for the kernel's own.
        btf_fd: i32,
    },
    /// The address of a subprogram, for callbacks (`BPF_PSEUDO_FUNC`, Linux 5.13).
    Func {
        /// Distance in slots, counted as a call at the first slot of the load would.
        off: i32,
    },
    /// The address of a map, by index into `fd_array` (`BPF_PSEUDO_MAP_IDX`, Linux 5.14).
    MapIdx(i32),
    /// An address inside the first value of a map by index (`BPF_PSEUDO_MAP_IDX_VALUE`, Linux 5.14).
    MapIdxValue {
        /// Index into `fd_array`.
        idx: i32,
        /// Bytes into the value.
        off: u32,
    },
}

/// The one or two slots of an encoded instruction; a slice in all but name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    slots: [RawInsn; 2],
    len: u8,
}

impl std::ops::Deref for Slots {
    type Target = [RawInsn];

    fn deref(&self) -> &[RawInsn] {
        &self.slots[..usize::from(self.len)]
    }
}

impl IntoIterator for Slots {
    type Item = RawInsn;
    type IntoIter = std::iter::Take<std::array::IntoIter<RawInsn, 2>>;

    fn into_iter(self) -> Self::IntoIter {
        self.slots.into_iter().take(usize::from(self.len))
    }
}

impl Insn {
    /// How many slots the instruction takes: 2 for a 64-bit immediate load, else 1.
    pub const fn len_slots(&self) -> u32 {
        match self {
            Insn::LoadImm64 { .. } => 2,
            _ => 1,
        }
    }

    /// The slots of the instruction; [`Insn::decode`] gives the instruction back.
    pub fn encode(&self) -> Slots {
        let one = |code, dst, src, off, imm| Slots {
            slots: [RawInsn::new(code, dst, src, off, imm), RawInsn::default()],
            len: 1,
        };
        match *self {
            Insn::Alu { width, op, dst, src } => {
                let (code, off) = op.code();
                let (source, reg, imm) = operand_bits(src);
                one(alu_class(width) | code | source, dst.number(), reg, off, imm)
            }
            Insn::Mov { width, dst, src } => {
                let (source, reg, imm) = operand_bits(src);
                one(alu_class(width) | BPF_MOV | source, dst.number(), reg, 0, imm)
            }
            Insn::MovSx { extend, dst, src } => {
                one(alu_class(extend.width()) | BPF_MOV | BPF_X, dst.number(), src.number(), extend.from_bits(), 0)
            }
            Insn::Neg { width, dst } => one(alu_class(width) | BPF_NEG, dst.number(), 0, 0, 0),
            Insn::Swap { kind, bits, dst } => one(kind.code(), dst.number(), 0, 0, bits.bits()),
            Insn::AddrSpaceCast { dst, src, to, from } => one(
                BPF_ALU64 | BPF_MOV | BPF_X,
                dst.number(),
                src.number(),
                BPF_ADDR_SPACE_CAST,
                (u32::from(to) << 16 | u32::from(from)) as i32,
            ),
            Insn::LoadAbs { size, off } => one(BPF_LD | BPF_ABS | Size::from(size).code(), 0, 0, 0, off),
            Insn::LoadInd { size, src, off } => {
                one(BPF_LD | BPF_IND | Size::from(size).code(), 0, src.number(), 0, off)
            }
            Insn::LoadImm64 { dst, value } => {
                let (src, low, high) = value.bits();
                Slots {
                    slots: [RawInsn::new(BPF_LD_IMM64, dst.number(), src, 0, low), RawInsn::new(0, 0, 0, 0, high)],
                    len: 2,
                }
            }
            Insn::Load { ty, dst, base, off } => {
                let mode = if ty.is_signed() { BPF_MEMSX } else { BPF_MEM };
                one(BPF_LDX | mode | ty.size().code(), dst.number(), base.number(), off, 0)
            }
            Insn::Store { size, base, off, src } => match src {
                Operand::Reg(src) => one(BPF_STX | BPF_MEM | size.code(), base.number(), src.number(), off, 0),
                Operand::Imm(imm) => one(BPF_ST | BPF_MEM | size.code(), base.number(), 0, off, imm),
            },
            Insn::Atomic { op, width, base, off, src } => {
                let size = match width {
                    Width::W32 => BPF_W,
                    Width::W64 => BPF_DW,
                };
                one(BPF_STX | BPF_ATOMIC | size, base.number(), src.number(), off, op.imm())
            }
            Insn::LoadAcquire { size, dst, base, off } => {
                one(BPF_STX | BPF_ATOMIC | size.code(), dst.number(), base.number(), off, BPF_LOAD_ACQ)
            }
            Insn::StoreRelease { size, base, off, src } => {
                one(BPF_STX | BPF_ATOMIC | size.code(), base.number(), src.number(), off, BPF_STORE_REL)
            }
            Insn::Jump { off } => one(BPF_JMP | BPF_JA, 0, 0, off, 0),
            Insn::JumpLong { off } => one(BPF_JMP32 | BPF_JA, 0, 0, 0, off),
            Insn::JumpReg { target } => one(BPF_JMP | BPF_JA | BPF_X, target.number(), 0, 0, 0),
            Insn::MayGoto { off } => one(BPF_JMP | BPF_JCOND, 0, BPF_MAY_GOTO, off, 0),
            Insn::Branch { width, cond, dst, src, off } => {
                let class = match width {
                    Width::W32 => BPF_JMP32,
                    Width::W64 => BPF_JMP,
                };
                let (source, reg, imm) = operand_bits(src);
                one(class | cond.code() | source, dst.number(), reg, off, imm)
            }
            Insn::CallHelper { id } => one(BPF_JMP | BPF_CALL, 0, 0, 0, id),
            Insn::CallLocal { off } => one(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, off),
            Insn::CallKfunc { btf_id, fd_idx } => one(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, fd_idx, btf_id),
            Insn::CallReg { target } => one(BPF_JMP | BPF_CALL | BPF_X, target.number(), 0, 0, 0),
            Insn::CallRegInImm { target } => one(BPF_JMP | BPF_CALL | BPF_X, 0, 0, 0, i32::from(target.number())),
            Insn::Exit => one(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
        }
    }

    /// Where the instruction may jump to other than the next one, in slots from its end.
    ///
    /// Calls are not jumps, and the target of [`Insn::JumpReg`] is not in the instruction.
    pub fn jump_distance(&self) -> Option<i32> {
        match *self {
            Insn::Jump { off } | Insn::MayGoto { off } | Insn::Branch { off, .. } => Some(i32::from(off)),
            Insn::JumpLong { off } => Some(off),
            _ => None,
        }
    }
}

/// The exact text in LLVM's spelling, see [`crate::text::Printer::exact`].
impl std::fmt::Display for Insn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let printer = Printer::new(Spelling::LLVM).exact();
        f.write_str(&printer.insn(&self.encode(), InsnIdx(0)))
    }
}

impl Imm64 {
    /// The `BPF_PSEUDO_*` number and the immediates of the two slots.
    pub const fn bits(self) -> (u8, i32, i32) {
        match self {
            Imm64::Value(value) => (0, value as i32, (value >> 32) as i32),
            Imm64::MapFd(fd) => (BPF_PSEUDO_MAP_FD, fd, 0),
            Imm64::MapValue { fd, off } => (BPF_PSEUDO_MAP_VALUE, fd, off as i32),
            Imm64::BtfId { id, btf_fd } => (BPF_PSEUDO_BTF_ID, id as i32, btf_fd),
            Imm64::Func { off } => (BPF_PSEUDO_FUNC, off, 0),
            Imm64::MapIdx(idx) => (BPF_PSEUDO_MAP_IDX, idx, 0),
            Imm64::MapIdxValue { idx, off } => (BPF_PSEUDO_MAP_IDX_VALUE, idx, off as i32),
        }
    }
}

fn alu_class(width: Width) -> u8 {
    match width {
        Width::W32 => BPF_ALU,
        Width::W64 => BPF_ALU64,
    }
}

fn operand_bits(operand: Operand) -> (u8, u8, i32) {
    match operand {
        Operand::Reg(reg) => (BPF_X, reg.number(), 0),
        Operand::Imm(imm) => (BPF_K, 0, imm),
    }
}
