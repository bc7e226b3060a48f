//! Registers, numbers, types and addresses.

use super::cursor::{Cursor, Failure};
use crate::{LoadType, Operand, Reg, Size, Width};

/// Whether a register comes next.
pub(super) fn at_register(c: &mut Cursor<'_>) -> bool {
    reg(&mut c.clone()).is_ok()
}

pub(super) fn reg(c: &mut Cursor<'_>) -> Result<(Width, Reg), Failure> {
    let before = c.clone();
    let word = c.word();
    let width = match word.as_bytes().first() {
        Some(b'r') => Some(Width::W64),
        Some(b'w') => Some(Width::W32),
        _ => None,
    };
    let number = word.get(1..).filter(|n| n.len() == 1 || *n == "10");
    let reg = number.and_then(|n| n.parse().ok()).and_then(Reg::new);
    width.zip(reg).ok_or_else(|| before.expected("a register, `r0` to `r10` or `w0` to `w10`"))
}

pub(super) fn reg_of(c: &mut Cursor<'_>, width: Width) -> Result<Reg, Failure> {
    let before = c.clone();
    match reg(c) {
        Ok((found, reg)) if found == width => Ok(reg),
        _ => Err(before.expected(&format!("a register, `{0}0` to `{0}10`", width.prefix()))),
    }
}

pub(super) fn reg64(c: &mut Cursor<'_>) -> Result<Reg, Failure> {
    reg_of(c, Width::W64)
}

/// The register of a memory access: below eight bytes the kernel writes `r`, LLVM `w`.
pub(super) fn reg_of_size(c: &mut Cursor<'_>, size: Size) -> Result<Reg, Failure> {
    match size {
        Size::Dw => reg64(c),
        _ => reg(c).map(|(_, reg)| reg),
    }
}

pub(super) fn operand(c: &mut Cursor<'_>, width: Width) -> Result<Operand, Failure> {
    c.skip_blanks();
    if c.rest().starts_with(|c: char| c == '-' || c == '+' || c.is_ascii_digit()) {
        return imm32(c).map(Operand::Imm);
    }
    reg_of(c, width).map(Operand::Reg)
}

/// `(u32 *)`.
pub(super) fn load_type(c: &mut Cursor<'_>) -> Result<LoadType, Failure> {
    c.expect("(")?;
    let before = c.clone();
    let word = c.word();
    let ty = LoadType::ALL.into_iter().find(|ty| ty.type_name() == word);
    let ty = ty.ok_or_else(|| before.expected("a type, `u8` to `u64` or `s8` to `s32`"))?;
    c.expect("*")?;
    c.expect(")")?;
    Ok(ty)
}

/// `(u32 *)(r1 + 8)`.
pub(super) fn pointer(c: &mut Cursor<'_>) -> Result<(Size, Reg, i16), Failure> {
    let before = c.clone();
    let ty = load_type(c)?;
    if ty.is_signed() {
        return Err(before.expected("a type without sign, `(u8 *)` to `(u64 *)`"));
    }
    c.expect("(")?;
    let (base, off) = address(c)?;
    c.expect(")")?;
    Ok((ty.size(), base, off))
}

/// `r1 + 8`, `r1 +8` or `r1`.
pub(super) fn address(c: &mut Cursor<'_>) -> Result<(Reg, i16), Failure> {
    let base = reg64(c)?;
    c.skip_blanks();
    let off = match c.rest().chars().next() {
        Some('+' | '-') => offset16(c)?,
        _ => 0,
    };
    Ok((base, off))
}

pub(super) fn offset16(c: &mut Cursor<'_>) -> Result<i16, Failure> {
    c.skip_blanks();
    let column = c.column();
    let value = c.number()?;
    let range = || out_of_range("offset", value, i16::MIN.into(), i16::MAX.into());
    i16::try_from(value).map_err(|_| (column, range()))
}

pub(super) fn fit32(value: i128) -> Option<i32> {
    let unsigned = u32::try_from(value).map(|value| value as i32);
    i32::try_from(value).or(unsigned).ok()
}

/// A number of 32 bits, signed or unsigned.
pub(super) fn imm32(c: &mut Cursor<'_>) -> Result<i32, Failure> {
    c.skip_blanks();
    let column = c.column();
    let value = c.number()?;
    let range = || out_of_range("number", value, i32::MIN.into(), u32::MAX.into());
    fit32(value).ok_or_else(|| (column, range()))
}

pub(super) fn signed32(c: &mut Cursor<'_>, what: &str) -> Result<i32, Failure> {
    c.skip_blanks();
    let column = c.column();
    let value = c.number()?;
    let range = || out_of_range(what, value, i32::MIN.into(), i32::MAX.into());
    i32::try_from(value).map_err(|_| (column, range()))
}

pub(super) fn out_of_range(what: &str, value: i128, min: i128, max: i128) -> String {
    format!("{what} {value} does not fit, expected {min} to {max}")
}
