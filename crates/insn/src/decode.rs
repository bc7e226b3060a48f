//! From slots to instructions, with a name for everything that can be wrong.
//!
//! The rules are those of `kernel/bpf/verifier.c` (Linux 6.18: `bpf_opcode_in_insntable`, `check_alu_op`,
//! `resolve_pseudo_ldimm64`, `check_atomic` and the reserved field checks of `do_check`): every field that an
//! instruction does not use must be zero. What depends on the program rather than on one instruction, such as a
//! division by a zero immediate, a shift by too many bits or a write to r10, is not judged here.

use crate::consts::*;
use crate::{AluOp, AtomicOp, Cond, Imm64, Insn, InsnIdx, LoadType, Operand, PacketSize, RawInsn, Reg};
use crate::{SignExtend, Size, SwapBits, SwapKind, Width};
use std::fmt;

/// Why some slots are not an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The slot, counted from the start of what was decoded.
    pub idx: InsnIdx,
    /// Its contents; all zero if there was no slot.
    pub insn: RawInsn,
    /// What is wrong.
    pub kind: DecodeErrorKind,
}

/// What can be wrong with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// There is no slot to decode.
    NoSlot,
    /// No instruction has this opcode.
    UnknownOpcode,
    /// A register above r10, in this field.
    BadRegister(Field),
    /// This field must be zero here.
    ReservedField(Field),
    /// `off` selects a variant that the operation does not have.
    BadVariant,
    /// A byte order conversion of other than 16, 32 or 64 bits.
    BadSwapBits,
    /// No atomic operation has this `imm`.
    UnknownAtomic,
    /// The atomic operation exists, but not for one or two bytes.
    BadAtomicSize,
    /// A 64-bit immediate load without its second slot.
    TruncatedWideLoad,
    /// The second slot of a 64-bit immediate load has something other than 0 in this field.
    BadSecondSlot(Field),
    /// No 64-bit immediate load has this `src_reg`.
    UnknownPseudoLoad,
    /// No call has this `src_reg`.
    UnknownPseudoCall,
}

/// A field of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The opcode.
    Code,
    /// The destination register.
    DstReg,
    /// The source register.
    SrcReg,
    /// The offset.
    Off,
    /// The immediate.
    Imm,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Code => "code",
            Field::DstReg => "dst_reg",
            Field::SrcReg => "src_reg",
            Field::Off => "off",
            Field::Imm => "imm",
        })
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let insn = self.insn;
        let value = |field| match field {
            Field::Code => i32::from(insn.code),
            Field::DstReg => i32::from(insn.dst_reg),
            Field::SrcReg => i32::from(insn.src_reg),
            Field::Off => i32::from(insn.off),
            Field::Imm => insn.imm,
        };
        write!(f, "instruction {}: ", self.idx)?;
        match self.kind {
            DecodeErrorKind::NoSlot => f.write_str("the code ends here"),
            DecodeErrorKind::UnknownOpcode => write!(f, "unknown opcode {:#04x}", insn.code),
            DecodeErrorKind::BadRegister(field) => {
                write!(f, "{field} of opcode {:#04x} names register {}, the last one is r10", insn.code, value(field))
            }
            DecodeErrorKind::ReservedField(field) => write!(
                f,
                "{field} is {}, but opcode {:#04x} does not use it and needs 0 there",
                value(field),
                insn.code
            ),
            DecodeErrorKind::BadVariant => {
                write!(f, "opcode {:#04x} has no variant with off {}", insn.code, insn.off)
            }
            DecodeErrorKind::BadSwapBits => {
                write!(f, "byte order conversion of {} bits, expected 16, 32 or 64", insn.imm)
            }
            DecodeErrorKind::UnknownAtomic => {
                write!(f, "unknown atomic operation, imm {:#x}", insn.imm)
            }
            DecodeErrorKind::BadAtomicSize => write!(
                f,
                "atomic operation {:#x} on {} byte(s), expected 4 or 8",
                insn.imm,
                Size::from_code(insn.code).len_bytes()
            ),
            DecodeErrorKind::TruncatedWideLoad => f.write_str("64-bit immediate load without its second slot"),
            DecodeErrorKind::BadSecondSlot(field) => {
                write!(f, "second slot of a 64-bit immediate load has {} in {field}, expected 0", value(field))
            }
            DecodeErrorKind::UnknownPseudoLoad => {
                write!(f, "64-bit immediate load with unknown src_reg {}", insn.src_reg)
            }
            DecodeErrorKind::UnknownPseudoCall => {
                write!(f, "call with unknown src_reg {}", insn.src_reg)
            }
        }
    }
}

impl std::error::Error for DecodeError {}

use DecodeErrorKind as Kind;

impl Insn {
    /// The instruction at the start of `slots`; [`Insn::len_slots`] says how many of them it took.
    ///
    /// # Errors
    /// Names what is wrong with the first slot (or, for a wide load, the second); [`DecodeError::idx`] counts from the
    /// start of `slots`.
    pub fn decode(slots: &[RawInsn]) -> Result<Insn, DecodeError> {
        let Some(&insn) = slots.first() else {
            return Err(DecodeError { idx: InsnIdx(0), insn: RawInsn::default(), kind: Kind::NoSlot });
        };
        if insn.is_wide() {
            return wide(insn, slots.get(1).copied());
        }
        narrow(insn).map_err(|kind| DecodeError { idx: InsnIdx(0), insn, kind })
    }

    /// All instructions of a function or program, each with the index of its first slot.
    ///
    /// Yields an error in place of each slot that is no instruction, and goes on behind it.
    pub fn decode_all(slots: &[RawInsn]) -> impl Iterator<Item = Result<(InsnIdx, Insn), DecodeError>> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = slots.get(at..).filter(|rest| !rest.is_empty())?;
            let start = InsnIdx(at as u32);
            Some(match Insn::decode(rest) {
                Ok(insn) => {
                    at += insn.len_slots() as usize;
                    Ok((start, insn))
                }
                Err(error) => {
                    at += 1 + error.idx.0 as usize;
                    Err(DecodeError { idx: InsnIdx(start.0 + error.idx.0), ..error })
                }
            })
        })
    }
}

fn wide(first: RawInsn, second: Option<RawInsn>) -> Result<Insn, DecodeError> {
    let fail = |kind| DecodeError { idx: InsnIdx(0), insn: first, kind };
    let dst = Reg::new(first.dst_reg).ok_or(fail(Kind::BadRegister(Field::DstReg)))?;
    if first.off != 0 {
        return Err(fail(Kind::ReservedField(Field::Off)));
    }
    let second = second.ok_or(fail(Kind::TruncatedWideLoad))?;
    let fail_second = |field| DecodeError { idx: InsnIdx(1), insn: second, kind: Kind::BadSecondSlot(field) };
    let used = [
        (Field::Code, second.code != 0),
        (Field::DstReg, second.dst_reg != 0),
        (Field::SrcReg, second.src_reg != 0),
        (Field::Off, second.off != 0),
    ];
    if let Some((field, _)) = used.into_iter().find(|(_, used)| *used) {
        return Err(fail_second(field));
    }
    let no_second = |value| {
        if second.imm == 0 { Ok(value) } else { Err(fail_second(Field::Imm)) }
    };
    let value = match first.src_reg {
        0 => Imm64::Value(u64::from(second.imm as u32) << 32 | u64::from(first.imm as u32)),
        BPF_PSEUDO_MAP_FD => no_second(Imm64::MapFd(first.imm))?,
        BPF_PSEUDO_MAP_VALUE => Imm64::MapValue { fd: first.imm, off: second.imm as u32 },
        BPF_PSEUDO_BTF_ID => Imm64::BtfId { id: first.imm as u32, btf_fd: second.imm },
        BPF_PSEUDO_FUNC => no_second(Imm64::Func { off: first.imm })?,
        BPF_PSEUDO_MAP_IDX => no_second(Imm64::MapIdx(first.imm))?,
        BPF_PSEUDO_MAP_IDX_VALUE => Imm64::MapIdxValue { idx: first.imm, off: second.imm as u32 },
        _ => return Err(fail(Kind::UnknownPseudoLoad)),
    };
    Ok(Insn::LoadImm64 { dst, value })
}

/// Checks of single fields, so that the decoding below reads as a table.
impl RawInsn {
    fn dst(self) -> Result<Reg, Kind> {
        Reg::new(self.dst_reg).ok_or(Kind::BadRegister(Field::DstReg))
    }

    fn src(self) -> Result<Reg, Kind> {
        Reg::new(self.src_reg).ok_or(Kind::BadRegister(Field::SrcReg))
    }

    fn zero<const N: usize>(self, fields: [Field; N]) -> Result<(), Kind> {
        for field in fields {
            let used = match field {
                Field::Code => self.code != 0,
                Field::DstReg => self.dst_reg != 0,
                Field::SrcReg => self.src_reg != 0,
                Field::Off => self.off != 0,
                Field::Imm => self.imm != 0,
            };
            if used {
                return Err(Kind::ReservedField(field));
            }
        }
        Ok(())
    }

    /// The second operand of arithmetic and branches; the field it leaves unused must be zero.
    fn operand(self) -> Result<Operand, Kind> {
        if self.code & BPF_X != 0 {
            let src = self.src()?;
            self.zero([Field::Imm])?;
            Ok(Operand::Reg(src))
        } else {
            self.zero([Field::SrcReg])?;
            Ok(Operand::Imm(self.imm))
        }
    }
}

fn narrow(insn: RawInsn) -> Result<Insn, Kind> {
    match insn.class() {
        BPF_LD => packet_load(insn),
        BPF_LDX => load(insn),
        BPF_ST | BPF_STX => store(insn),
        BPF_ALU => alu(insn, Width::W32),
        BPF_ALU64 => alu(insn, Width::W64),
        BPF_JMP => jump(insn, Width::W64),
        _ => jump(insn, Width::W32),
    }
}

fn packet_load(insn: RawInsn) -> Result<Insn, Kind> {
    let size = match Size::from_code(insn.code) {
        Size::B => PacketSize::B,
        Size::H => PacketSize::H,
        Size::W => PacketSize::W,
        Size::Dw => return Err(Kind::UnknownOpcode),
    };
    match insn.code & 0xe0 {
        BPF_ABS => {
            insn.zero([Field::DstReg, Field::SrcReg, Field::Off])?;
            Ok(Insn::LoadAbs { size, off: insn.imm })
        }
        BPF_IND => {
            insn.zero([Field::DstReg, Field::Off])?;
            Ok(Insn::LoadInd { size, src: insn.src()?, off: insn.imm })
        }
        _ => Err(Kind::UnknownOpcode),
    }
}

fn load(insn: RawInsn) -> Result<Insn, Kind> {
    let size = Size::from_code(insn.code);
    let ty = match (insn.code & 0xe0, size) {
        (BPF_MEM, size) => size.into(),
        (BPF_MEMSX, Size::B) => LoadType::S8,
        (BPF_MEMSX, Size::H) => LoadType::S16,
        (BPF_MEMSX, Size::W) => LoadType::S32,
        _ => return Err(Kind::UnknownOpcode),
    };
    let (dst, base) = (insn.dst()?, insn.src()?);
    insn.zero([Field::Imm])?;
    Ok(Insn::Load { ty, dst, base, off: insn.off })
}

fn store(insn: RawInsn) -> Result<Insn, Kind> {
    let (size, off) = (Size::from_code(insn.code), insn.off);
    match (insn.class(), insn.code & 0xe0) {
        (BPF_ST, BPF_MEM) => {
            let base = insn.dst()?;
            insn.zero([Field::SrcReg])?;
            let src = Operand::Imm(insn.imm);
            Ok(Insn::Store { size, base, off, src })
        }
        (BPF_STX, BPF_MEM) => {
            let (base, src) = (insn.dst()?, Operand::Reg(insn.src()?));
            insn.zero([Field::Imm])?;
            Ok(Insn::Store { size, base, off, src })
        }
        (BPF_STX, BPF_ATOMIC) => atomic(insn),
        _ => Err(Kind::UnknownOpcode),
    }
}

fn atomic(insn: RawInsn) -> Result<Insn, Kind> {
    let (dst, src, off) = (insn.dst()?, insn.src()?, insn.off);
    let size = Size::from_code(insn.code);
    match insn.imm {
        BPF_LOAD_ACQ => Ok(Insn::LoadAcquire { size, dst, base: src, off }),
        BPF_STORE_REL => Ok(Insn::StoreRelease { size, base: dst, off, src }),
        imm => {
            let op = AtomicOp::from_imm(imm).ok_or(Kind::UnknownAtomic)?;
            let width = match size {
                Size::W => Width::W32,
                Size::Dw => Width::W64,
                Size::B | Size::H => return Err(Kind::BadAtomicSize),
            };
            Ok(Insn::Atomic { op, width, base: dst, off, src })
        }
    }
}

fn alu(insn: RawInsn, width: Width) -> Result<Insn, Kind> {
    match insn.code & 0xf0 {
        BPF_NEG if insn.code & BPF_X == 0 => {
            let dst = insn.dst()?;
            insn.zero([Field::SrcReg, Field::Off, Field::Imm])?;
            Ok(Insn::Neg { width, dst })
        }
        BPF_END => {
            let kind = SwapKind::ALL.into_iter().find(|kind| kind.code() == insn.code).ok_or(Kind::UnknownOpcode)?;
            let dst = insn.dst()?;
            insn.zero([Field::SrcReg, Field::Off])?;
            let bits = SwapBits::new(insn.imm).ok_or(Kind::BadSwapBits)?;
            Ok(Insn::Swap { kind, bits, dst })
        }
        BPF_MOV => mov(insn, width),
        code => {
            let has_code = AluOp::ALL.into_iter().filter(|op| op.code().0 == code);
            let mut has_code = has_code.peekable();
            has_code.peek().ok_or(Kind::UnknownOpcode)?;
            let (dst, src) = (insn.dst()?, insn.operand()?);
            let op = has_code.find(|op| op.code().1 == insn.off).ok_or(match code {
                BPF_DIV | BPF_MOD => Kind::BadVariant,
                _ => Kind::ReservedField(Field::Off),
            })?;
            Ok(Insn::Alu { width, op, dst, src })
        }
    }
}

fn mov(insn: RawInsn, width: Width) -> Result<Insn, Kind> {
    let dst = insn.dst()?;
    if insn.code & BPF_X == 0 {
        insn.zero([Field::SrcReg, Field::Off])?;
        let src = Operand::Imm(insn.imm);
        return Ok(Insn::Mov { width, dst, src });
    }
    let src = insn.src()?;
    if width == Width::W64 && insn.off == BPF_ADDR_SPACE_CAST {
        let spaces = insn.imm as u32;
        return Ok(Insn::AddrSpaceCast { dst, src, to: (spaces >> 16) as u16, from: spaces as u16 });
    }
    insn.zero([Field::Imm])?;
    if insn.off == 0 {
        let src = Operand::Reg(src);
        return Ok(Insn::Mov { width, dst, src });
    }
    let extend = SignExtend::new(width, insn.off).ok_or(Kind::BadVariant)?;
    Ok(Insn::MovSx { extend, dst, src })
}

fn jump(insn: RawInsn, width: Width) -> Result<Insn, Kind> {
    use Field::{DstReg, Imm, Off, SrcReg};
    let register = insn.code & BPF_X != 0;
    match (insn.code & 0xf0, width, register) {
        (BPF_JA, Width::W64, false) => {
            insn.zero([DstReg, SrcReg, Imm])?;
            Ok(Insn::Jump { off: insn.off })
        }
        (BPF_JA, Width::W32, false) => {
            insn.zero([DstReg, SrcReg, Off])?;
            Ok(Insn::JumpLong { off: insn.imm })
        }
        (BPF_JA, Width::W64, true) => {
            let target = insn.dst()?;
            insn.zero([SrcReg, Off, Imm])?;
            Ok(Insn::JumpReg { target })
        }
        (BPF_JCOND, Width::W64, false) => {
            insn.zero([DstReg, SrcReg, Imm])?;
            Ok(Insn::MayGoto { off: insn.off })
        }
        (BPF_EXIT, Width::W64, false) => {
            insn.zero([DstReg, SrcReg, Off, Imm])?;
            Ok(Insn::Exit)
        }
        (BPF_CALL, Width::W64, false) => call(insn),
        (BPF_CALL, Width::W64, true) => {
            insn.zero([SrcReg, Off])?;
            if insn.imm == 0 {
                return Ok(Insn::CallReg { target: insn.dst()? });
            }
            // Before LLVM 19 the register stood in the immediate.
            insn.zero([DstReg])?;
            let target = u8::try_from(insn.imm).ok().and_then(Reg::new);
            Ok(Insn::CallRegInImm { target: target.ok_or(Kind::BadRegister(Imm))? })
        }
        (code, width, _) => {
            let cond = Cond::ALL.into_iter().find(|cond| cond.code() == code);
            let cond = cond.ok_or(Kind::UnknownOpcode)?;
            Ok(Insn::Branch { width, cond, dst: insn.dst()?, src: insn.operand()?, off: insn.off })
        }
    }
}

fn call(insn: RawInsn) -> Result<Insn, Kind> {
    insn.zero([Field::DstReg])?;
    match insn.src_reg {
        0 => {
            insn.zero([Field::Off])?;
            Ok(Insn::CallHelper { id: insn.imm })
        }
        BPF_PSEUDO_CALL => {
            insn.zero([Field::Off])?;
            Ok(Insn::CallLocal { off: insn.imm })
        }
        BPF_PSEUDO_KFUNC_CALL => Ok(Insn::CallKfunc { btf_id: insn.imm, fd_idx: insn.off }),
        _ => Err(Kind::UnknownPseudoCall),
    }
}
