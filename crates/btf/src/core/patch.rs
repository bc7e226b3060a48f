//! Putting an answer into an instruction.
//!
//! Values stand in one of these places:
//!
//! 1. the immediate of 32- or 64-bit arithmetic: `rX = imm`, `rX += imm`;
//! 2. the two immediates of a wide load: `rX = imm64`;
//! 3. the offset of a load or store: `rX = *(T *)(rY + off)`, `*(T *)(rX + off) = rY`, `*(T *)(rX + off) = imm`.

use skep_insn::RawInsn;
use skep_insn::consts::*;

use super::{Answer, Fault};

/// The helper number that a poisoned instruction calls: 0xbad2310, which libbpf reads as "bad relo". The verifier reports
/// it as `invalid func unknown#195896080`.
pub const POISON: i32 = 195_896_080;

/// What became of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patched {
    /// It holds the answer.
    Value(u64),
    /// The question has no answer.
    PoisonedAbsent,
    /// The field changed its size in a way that a load or store cannot follow.
    PoisonedWidth,
}

/// Puts an answer into the instruction at `at`.
///
/// # Errors
///
/// A [`Fault`] when the instruction is of no such form, does not hold what it should, or cannot hold the answer. The
/// instructions are unchanged then.
pub fn patch(insns: &mut [RawInsn], at: usize, answer: &Answer) -> Result<Patched, Fault> {
    let insn = *insns.get(at).ok_or(Fault::NoInsn)?;
    let Some(value) = answer.value else {
        return poison(insns, at, Patched::PoisonedAbsent);
    };
    match insn.class() {
        BPF_ALU | BPF_ALU64 => {
            if insn.code & BPF_X != 0 {
                return Err(Fault::BadInsn { code: insn.code });
            }
            let found = i64::from(insn.imm) as u64;
            if answer.check && found != answer.local && u64::from(insn.imm as u32) != answer.local {
                return Err(Fault::Unexpected { found, expected: answer.local });
            }
            let low = value as u32;
            if u64::from(low) != value && i64::from(low as i32) as u64 != value {
                return Err(Fault::TooBig { value, bits: 32 });
            }
            insns[at].imm = low as i32;
        }
        BPF_LDX | BPF_ST | BPF_STX => {
            let found = i64::from(insn.off) as u64;
            if answer.check && found != answer.local {
                return Err(Fault::Unexpected { found, expected: answer.local });
            }
            let off = i16::try_from(value).map_err(|_| Fault::TooBig { value, bits: 16 })?;
            if answer.bad_resize {
                return poison(insns, at, Patched::PoisonedWidth);
            }
            let mut code = insn.code;
            if let Some((from, to)) = answer.resize {
                let width = width_bytes(code);
                if width != from {
                    return Err(Fault::BadWidth { found: width, expected: from });
                }
                code = code & !BPF_DW | size_bits(to).ok_or(Fault::NoSuchWidth { size: to })?;
            }
            insns[at].off = off;
            insns[at].code = code;
        }
        BPF_LD => {
            let second = *insns.get(at + 1).ok_or(Fault::NoInsn)?;
            let plain = insn.is_wide() && insn.src_reg == 0 && insn.off == 0;
            if !plain || (RawInsn { imm: 0, ..second }) != RawInsn::default() {
                return Err(Fault::BadInsn { code: insn.code });
            }
            let found = u64::from(insn.imm as u32) | u64::from(second.imm as u32) << 32;
            let (zero_extended, sign_extended) = extensions(answer.local);
            let narrow = answer.narrow && (found == zero_extended || found == sign_extended);
            if answer.check && found != answer.local && !narrow {
                return Err(Fault::Unexpected { found, expected: answer.local });
            }
            let mut value = value;
            // BTF of older compilers does not tell signed enums from unsigned ones; the compiler's own extension does.
            if narrow && zero_extended != sign_extended && u64::from(value as u32) == value {
                let (zero, sign) = extensions(value);
                value = if found == sign_extended { sign } else { zero };
            }
            insns[at].imm = value as i32;
            insns[at + 1].imm = (value >> 32) as i32;
            return Ok(Patched::Value(value));
        }
        _ => return Err(Fault::BadInsn { code: insn.code }),
    }
    Ok(Patched::Value(value))
}

/// The low 32 bits, extended without and with their sign.
fn extensions(value: u64) -> (u64, u64) {
    (u64::from(value as u32), i64::from(value as i32) as u64)
}

fn poison(insns: &mut [RawInsn], at: usize, why: Patched) -> Result<Patched, Fault> {
    let call = RawInsn::new(BPF_JMP | BPF_CALL, 0, 0, 0, POISON);
    // Both slots of a wide load: the second alone would be an unknown opcode to the verifier.
    if insns[at].is_wide() {
        *insns.get_mut(at + 1).ok_or(Fault::NoInsn)? = call;
    }
    insns[at] = call;
    Ok(why)
}

fn width_bytes(code: u8) -> u32 {
    match code & BPF_DW {
        BPF_W => 4,
        BPF_H => 2,
        BPF_B => 1,
        _ => 8,
    }
}

fn size_bits(bytes: u32) -> Option<u8> {
    Some(match bytes {
        8 => BPF_DW,
        4 => BPF_W,
        2 => BPF_H,
        1 => BPF_B,
        _ => return None,
    })
}
