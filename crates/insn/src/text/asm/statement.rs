//! One line: what may stand around an instruction, and which instruction it is.

use super::assignment::assignment;
use super::cursor::{Cursor, Failure};
use super::jump::{branch, call, distance, far, jump};
use super::memory::{locked, store};
use super::operand::{imm32, pointer, reg_of_size, reg64};
use crate::consts;
use crate::{Insn, InsnIdx, RawInsn, Reg};

/// An instruction, and the label it refers to with its column, if any.
pub(super) type Statement<'a> = (Insn, Option<(&'a str, usize)>);

pub(super) fn statement(line: &str) -> Result<Option<Statement<'_>>, Failure> {
    let mut c = Cursor::new(line);
    let mut index = c.clone();
    if index.digits().is_ok() && index.eat(":") {
        c = index;
    }
    c.skip_blanks();
    let before_opcode = c.clone();
    let opcode = opcode(&mut c);
    if c.at_end() {
        return match opcode {
            None => Ok(None),
            Some(_) => Err(c.expected("an instruction")),
        };
    }
    let statement = instruction(&mut c, opcode == Some(consts::BPF_LD_IMM64))?;
    if c.eat("<") {
        match c.rest().find('>') {
            Some(_) => while !c.eat(">") && next_char(&mut c) {},
            None => return Err(c.expected("`>` before the end of the line")),
        }
    }
    if !c.at_end() {
        return Err(c.expected("the end of the line"));
    }
    match opcode {
        Some(opcode) if opcode != statement.0.encode()[0].code => {
            let message = format!(
                "opcode ({opcode:02x}) stands before an instruction with opcode ({:02x})",
                statement.0.encode()[0].code
            );
            Err((before_opcode.column(), message))
        }
        _ => Ok(Some(statement)),
    }
}

/// Goes one character on.
pub(super) fn next_char(c: &mut Cursor<'_>) -> bool {
    let mut buffer = [0; 4];
    match c.rest().chars().next() {
        Some(next) => c.eat(next.encode_utf8(&mut buffer)),
        None => false,
    }
}

/// `(b7)`: two hexadecimal digits in brackets.
pub(super) fn opcode(c: &mut Cursor<'_>) -> Option<u8> {
    let mut ahead = c.clone();
    if !ahead.eat("(") {
        return None;
    }
    let word = ahead.word();
    let opcode = (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok())??;
    ahead.eat(")").then(|| *c = ahead)?;
    Some(opcode)
}

pub(super) fn instruction<'a>(c: &mut Cursor<'a>, wide: bool) -> Result<Statement<'a>, Failure> {
    if c.eat_word("exit") {
        Ok((Insn::Exit, None))
    } else if c.eat_word("goto") {
        jump(c, |off| Insn::Jump { off })
    } else if c.eat_word("may_goto") {
        jump(c, |off| Insn::MayGoto { off })
    } else if c.eat_word("gotol") {
        let (distance, column) = distance(c)?;
        let (off, label) = far(distance, column)?;
        Ok((Insn::JumpLong { off }, label))
    } else if c.eat_word("gotox") {
        Ok((Insn::JumpReg { target: reg64(c)? }, None))
    } else if c.eat_word("if") {
        branch(c)
    } else if c.eat_word("callx") {
        if c.eat_word("imm") {
            let column = c.column();
            return match reg64(c)? {
                Reg::R0 => Err((column, "`callx imm` cannot name r0, write `callx r0`".to_owned())),
                target => Ok((Insn::CallRegInImm { target }, None)),
            };
        }
        Ok((Insn::CallReg { target: reg64(c)? }, None))
    } else if c.eat_word("call") {
        call(c)
    } else if c.eat_word("lock") {
        locked(c).map(|insn| (insn, None))
    } else if c.eat_word("store_release") {
        c.expect("(")?;
        let (size, base, off) = pointer(c)?;
        c.expect(",")?;
        let src = reg_of_size(c, size)?;
        c.expect(")")?;
        Ok((Insn::StoreRelease { size, base, off, src }, None))
    } else if c.eat_word("ld_pseudo") {
        ld_pseudo(c).map(|insn| (insn, None))
    } else if c.eat("*") {
        store(c).map(|insn| (insn, None))
    } else {
        assignment(c, wide)
    }
}

/// `ld_pseudo r1, 0x2, 0x5[, 0x8]`, behind its name: register, `BPF_PSEUDO_*`, the two immediates.
fn ld_pseudo(c: &mut Cursor<'_>) -> Result<Insn, Failure> {
    let dst = reg64(c)?;
    c.expect(",")?;
    let kind_at = c.clone();
    let kind = imm32(c)?;
    c.expect(",")?;
    let low = imm32(c)?;
    let second_at = c.clone();
    let high = if c.eat(",") { imm32(c)? } else { 0 };
    let kind = u8::try_from(kind).unwrap_or(u8::MAX);
    let slots = [RawInsn::new(consts::BPF_LD_IMM64, dst.number(), kind, 0, low), RawInsn::new(0, 0, 0, 0, high)];
    Insn::decode(&slots).map_err(|error| match error.idx {
        InsnIdx(0) => kind_at.expected("a kind of reference, 1 to 6"),
        _ => second_at.expected("the end of the line, this kind of reference has one number"),
    })
}
