//! What begins with a register: arithmetic, moves, loads, and the atomics that fetch.

use super::cursor::{Cursor, Failure};
use super::jump::{distance, far};
use super::memory::fetching;
use super::operand::{
    address, at_register, fit32, imm32, load_type, operand, out_of_range, pointer, reg, reg_of, reg64,
};
use super::statement::Statement;
use crate::{AluOp, Imm64, Insn, LoadType, Operand, PacketSize, Reg, SignExtend, Size, SwapBits, SwapKind, Width};

pub(super) fn assignment<'a>(c: &mut Cursor<'a>, wide: bool) -> Result<Statement<'a>, Failure> {
    // Longer operators first: `s>>=` begins with none of the others, but `=` ends all.
    const OPS: [(&str, AluOp); 13] = [
        ("s>>=", AluOp::Arsh),
        ("s/=", AluOp::SDiv),
        ("s%=", AluOp::SMod),
        ("<<=", AluOp::Lsh),
        (">>=", AluOp::Rsh),
        ("+=", AluOp::Add),
        ("-=", AluOp::Sub),
        ("*=", AluOp::Mul),
        ("/=", AluOp::Div),
        ("|=", AluOp::Or),
        ("&=", AluOp::And),
        ("%=", AluOp::Mod),
        ("^=", AluOp::Xor),
    ];
    c.skip_blanks();
    if !at_register(c) {
        return Err(c.expected("an instruction"));
    }
    let column = c.column();
    let (width, dst) = reg(c)?;
    if let Some(op) = c.eat_any(&OPS) {
        let src = operand(c, width)?;
        return Ok((Insn::Alu { width, op, dst, src }, None));
    }
    if !c.eat("=") {
        return Err(c.expected("`=` or an assignment such as `+=`"));
    }
    c.skip_blanks();
    let mut ahead = c.clone();
    if ahead.eat("-") && at_register(&mut ahead) {
        c.eat("-");
        let before = c.clone();
        if reg(c)? != (width, dst) {
            return Err(before.expected(&format!("{}{}", width.prefix(), dst.number())));
        }
        return Ok((Insn::Neg { width, dst }, None));
    }
    if at_register(c) {
        let src = Operand::Reg(reg_of(c, width)?);
        return Ok((Insn::Mov { width, dst, src }, None));
    }
    if c.rest().starts_with(|c: char| c == '-' || c == '+' || c.is_ascii_digit()) {
        return constant(c, width, dst, wide).map(|insn| (insn, None));
    }
    if c.eat("(") {
        return sign_extension(c, width, dst).map(|insn| (insn, None));
    }
    if c.eat("*") {
        return load(c, width, dst, column).map(|insn| (insn, None));
    }
    named_value(c, width, dst, column)
}

pub(super) fn constant(c: &mut Cursor<'_>, width: Width, dst: Reg, wide: bool) -> Result<Insn, Failure> {
    c.skip_blanks();
    let column = c.column();
    let value = c.number()?;
    let ll = c.eat_word("ll");
    if ll || wide {
        if width == Width::W32 {
            return Err((column, "a 64-bit load needs an `r` register".to_owned()));
        }
        let bits = u64::try_from(value).or_else(|_| i64::try_from(value).map(|value| value as u64));
        let Ok(value) = bits else {
            return Err((column, out_of_range("number", value, i64::MIN.into(), u64::MAX.into())));
        };
        let value = Imm64::Value(value);
        return Ok(Insn::LoadImm64 { dst, value });
    }
    match fit32(value) {
        Some(imm) => Ok(Insn::Mov { width, dst, src: Operand::Imm(imm) }),
        None => Err((column, format!("number {value} does not fit 32 bits, write `{value} ll` for a 64-bit load"))),
    }
}

/// `(s8)r2`, behind its first bracket.
pub(super) fn sign_extension(c: &mut Cursor<'_>, width: Width, dst: Reg) -> Result<Insn, Failure> {
    let before = c.clone();
    let bits = match c.word() {
        "s8" => 8,
        "s16" => 16,
        "s32" => 32,
        _ => return Err(before.expected("`s8`, `s16` or `s32`")),
    };
    let extend =
        SignExtend::new(width, bits).ok_or_else(|| before.expected("`s8` or `s16`, the extensions to 32 bits"))?;
    c.expect(")")?;
    let src = reg_of(c, width)?;
    Ok(Insn::MovSx { extend, dst, src })
}

/// `(u32 *)(r1 + 8)` or `(u32 *)skb[8]`, behind the star.
pub(super) fn load(c: &mut Cursor<'_>, width: Width, dst: Reg, dst_column: usize) -> Result<Insn, Failure> {
    let before = c.clone();
    let ty = load_type(c)?;
    if c.eat_word("skb") {
        let size = match ty {
            LoadType::U8 => PacketSize::B,
            LoadType::U16 => PacketSize::H,
            LoadType::U32 => PacketSize::W,
            _ => return Err(before.expected("`(u8 *)`, `(u16 *)` or `(u32 *)` before `skb`")),
        };
        if dst != Reg::R0 {
            return Err((dst_column, "packet loads go to r0".to_owned()));
        }
        return packet_load(c, size);
    }
    if width == Width::W32 && (ty.is_signed() || ty == LoadType::U64) {
        let message = format!("a load of `{}` needs an `r` register", ty.type_name());
        return Err((dst_column, message));
    }
    c.expect("(")?;
    let (base, off) = address(c)?;
    c.expect(")")?;
    Ok(Insn::Load { ty, dst, base, off })
}

/// `[8]`, `[r1]` or `[r1 + 8]`.
pub(super) fn packet_load(c: &mut Cursor<'_>, size: PacketSize) -> Result<Insn, Failure> {
    c.expect("[")?;
    c.skip_blanks();
    let insn = if at_register(c) {
        let src = reg64(c)?;
        c.skip_blanks();
        let off = match c.rest().starts_with(']') {
            true => 0,
            false => signed_offset(c)?,
        };
        Insn::LoadInd { size, src, off }
    } else {
        let off = imm32(c)?;
        Insn::LoadAbs { size, off }
    };
    c.expect("]")?;
    Ok(insn)
}

/// `+ 8`, `- 8`, or `+ -8` as the kernel writes negative ones.
pub(super) fn signed_offset(c: &mut Cursor<'_>) -> Result<i32, Failure> {
    c.skip_blanks();
    let column = c.column();
    let negative = c.eat("-");
    if !negative && !c.eat("+") {
        return Err(c.expected("`+`, `-` or `]`"));
    }
    let value = c.number()?;
    let value = if negative { -value } else { value };
    let range = || out_of_range("offset", value, i32::MIN.into(), u32::MAX.into());
    fit32(value).ok_or_else(|| (column, range()))
}

/// What begins with a word: byte swaps, casts, atomics and references.
pub(super) fn named_value<'a>(
    c: &mut Cursor<'a>,
    width: Width,
    dst: Reg,
    dst_column: usize,
) -> Result<Statement<'a>, Failure> {
    let before = c.clone();
    let name = c.word();
    if let Some(atomic) = fetching(c, name, (width, dst), dst_column) {
        return atomic.map(|insn| (insn, None));
    }
    if name == "load_acquire" {
        c.expect("(")?;
        let (size, base, off) = pointer(c)?;
        c.expect(")")?;
        if size == Size::Dw && width == Width::W32 {
            let message = "a load of `u64` needs an `r` register".to_owned();
            return Err((dst_column, message));
        }
        return Ok((Insn::LoadAcquire { size, dst, base, off }, None));
    }
    if width == Width::W32 {
        return Err(before.expected("a number, a `w` register or a load"));
    }
    for kind in SwapKind::ALL {
        let bits = name.strip_prefix(kind.name()).and_then(|bits| bits.parse().ok());
        if let Some(bits) = bits.and_then(SwapBits::new) {
            let before = c.clone();
            if reg64(c)? != dst {
                return Err(before.expected(&dst.to_string()));
            }
            return Ok((Insn::Swap { kind, bits, dst }, None));
        }
    }
    if name == "addr_space_cast" {
        c.expect("(")?;
        let src = reg64(c)?;
        c.expect(",")?;
        let to = space(c)?;
        c.expect(",")?;
        let from = space(c)?;
        c.expect(")")?;
        return Ok((Insn::AddrSpaceCast { dst, src, to, from }, None));
    }
    let (value, label) = match name {
        "map" => (map_reference(c)?, None),
        "btf" => (btf_reference(c)?, None),
        "subprog" => {
            c.expect("[")?;
            let (distance, column) = distance(c)?;
            let (off, label) = far(distance, column)?;
            c.expect("]")?;
            (Imm64::Func { off }, label)
        }
        _ => return Err(before.expected("a number, a register, a load or a reference")),
    };
    Ok((Insn::LoadImm64 { dst, value }, label))
}

pub(super) fn space(c: &mut Cursor<'_>) -> Result<u16, Failure> {
    c.skip_blanks();
    let column = c.column();
    let value = c.digits()?;
    u16::try_from(value).map_err(|_| (column, out_of_range("address space", value.into(), 0, u16::MAX.into())))
}

/// `[id:5]`, `[id:5][0]+8`, `[idx:5]` or `[idx:5]+8`.
pub(super) fn map_reference(c: &mut Cursor<'_>) -> Result<Imm64, Failure> {
    c.expect("[")?;
    let before = c.clone();
    let by_idx = match c.word() {
        "id" | "fd" => false,
        "idx" => true,
        _ => return Err(before.expected("`id:` or `idx:`")),
    };
    c.expect(":")?;
    let map = imm32(c)?;
    c.expect("]")?;
    let in_value = !by_idx && c.eat("[0]");
    if in_value || by_idx && c.eat("+") {
        if in_value {
            c.expect("+")?;
        }
        let off = imm32(c)? as u32;
        return Ok(match by_idx {
            true => Imm64::MapIdxValue { idx: map, off },
            false => Imm64::MapValue { fd: map, off },
        });
    }
    Ok(match by_idx {
        true => Imm64::MapIdx(map),
        false => Imm64::MapFd(map),
    })
}

/// `[id:5]` or `[id:5 fd:6]`.
pub(super) fn btf_reference(c: &mut Cursor<'_>) -> Result<Imm64, Failure> {
    c.expect("[")?;
    if !c.eat_word("id") {
        return Err(c.expected("`id:`"));
    }
    c.expect(":")?;
    let id = imm32(c)? as u32;
    let mut btf_fd = 0;
    if c.eat_word("fd") {
        c.expect(":")?;
        btf_fd = imm32(c)?;
    }
    c.expect("]")?;
    Ok(Imm64::BtfId { id, btf_fd })
}
