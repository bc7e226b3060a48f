//! Jumps and calls: distances, labels, comparisons, callees.

use super::cursor::{Cursor, Failure};
use super::operand::{imm32, offset16, operand, out_of_range, reg, signed32};
use super::statement::Statement;
use crate::{Cond, Insn, helpers};

/// A distance in slots, or a label that stands for one.
pub(super) enum Distance<'a> {
    Slots(i128),
    Label(&'a str),
}

pub(super) fn jump<'a>(c: &mut Cursor<'a>, make: impl Fn(i16) -> Insn) -> Result<Statement<'a>, Failure> {
    let (distance, column) = distance(c)?;
    let (off, label) = near(distance, column)?;
    Ok((make(off), label))
}

pub(super) fn distance<'a>(c: &mut Cursor<'a>) -> Result<(Distance<'a>, usize), Failure> {
    c.skip_blanks();
    let column = c.column();
    let mut ahead = c.clone();
    if ahead.word() == "pc" && ahead.rest().starts_with(['+', '-']) {
        *c = ahead;
    }
    if c.rest().starts_with(|c: char| c == '+' || c == '-' || c.is_ascii_digit()) {
        return Ok((Distance::Slots(c.number()?), column));
    }
    match c.word() {
        "" => Err(c.expected("a distance as `+5` or a label")),
        label => Ok((Distance::Label(label), column)),
    }
}

pub(super) type Resolved<'a, T> = Result<(T, Option<(&'a str, usize)>), Failure>;

pub(super) fn near(distance: Distance<'_>, column: usize) -> Resolved<'_, i16> {
    match distance {
        Distance::Label(label) => Ok((0, Some((label, column)))),
        Distance::Slots(slots) => match i16::try_from(slots) {
            Ok(off) => Ok((off, None)),
            Err(_) => Err((column, out_of_range("distance", slots, i16::MIN.into(), i16::MAX.into()))),
        },
    }
}

pub(super) fn far(distance: Distance<'_>, column: usize) -> Resolved<'_, i32> {
    match distance {
        Distance::Label(label) => Ok((0, Some((label, column)))),
        Distance::Slots(slots) => match i32::try_from(slots) {
            Ok(off) => Ok((off, None)),
            Err(_) => Err((column, out_of_range("distance", slots, i32::MIN.into(), i32::MAX.into()))),
        },
    }
}

pub(super) fn branch<'a>(c: &mut Cursor<'a>) -> Result<Statement<'a>, Failure> {
    // Longer operators first: `s>=` begins as `s>` does.
    const CONDS: [(&str, Cond); 11] = [
        ("s>=", Cond::SGe),
        ("s<=", Cond::SLe),
        ("s>", Cond::SGt),
        ("s<", Cond::SLt),
        ("==", Cond::Eq),
        ("!=", Cond::Ne),
        (">=", Cond::Ge),
        ("<=", Cond::Le),
        (">", Cond::Gt),
        ("<", Cond::Lt),
        ("&", Cond::Set),
    ];
    let (width, dst) = reg(c)?;
    let cond = c.eat_any(&CONDS).ok_or_else(|| c.expected("a comparison"))?;
    let src = operand(c, width)?;
    if !c.eat_word("goto") {
        return Err(c.expected("`goto`"));
    }
    jump(c, |off| Insn::Branch { width, cond, dst, src, off })
}

pub(super) fn call<'a>(c: &mut Cursor<'a>) -> Result<Statement<'a>, Failure> {
    c.skip_blanks();
    let column = c.column();
    let mut ahead = c.clone();
    if ahead.word() == "pc" && ahead.rest().starts_with(['+', '-']) {
        *c = ahead;
        let off = signed32(c, "distance")?;
        // `pc+5#name`: the name of the subprogram, for the reader.
        if c.eat("#") {
            c.word();
        }
        return Ok((Insn::CallLocal { off }, None));
    }
    if c.rest().starts_with(|c: char| c == '-' || c == '+' || c.is_ascii_digit()) {
        let id = imm32(c)?;
        return Ok(match id {
            0.. => (Insn::CallHelper { id }, None),
            off => (Insn::CallLocal { off }, None),
        });
    }
    let mut name = c.word();
    if name == "kernel" && c.eat("-") {
        c.word();
        name = "kfunc";
    }
    if name.is_empty() {
        return Err(c.expected("a helper, a label or a number"));
    }
    if c.eat("#") {
        let id = imm32(c)?;
        if name != "kfunc" {
            return Ok((Insn::CallHelper { id }, None));
        }
        let fd_idx = if c.eat("@") { offset16(c)? } else { 0 };
        return Ok((Insn::CallKfunc { btf_id: id, fd_idx }, None));
    }
    match helpers::id(name) {
        Some(id) if name.starts_with("bpf_") => Ok((Insn::CallHelper { id: id as i32 }, None)),
        _ => Ok((Insn::CallLocal { off: 0 }, Some((name, column)))),
    }
}
