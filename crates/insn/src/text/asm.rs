//! The assembler: text in either spelling, or a mixture, to slots.
//!
//! One instruction or label per line. In front of an instruction may stand what disassemblers print there: the
//! index (`12:`) and the opcode in brackets (`(b7)`), which must then be the instruction's. Behind it may stand `<...>` as
//! llvm-objdump writes behind jumps. `;` and `//` start a comment anywhere, `#` does at the start of a word.
//!
//! - A label is a word and a colon, or `0000000000000000 <name>:` as llvm-objdump writes it. `goto`, `gotol`, `may_goto`, `call` and `subprog[...]` take
//!   a label where they take a distance; `pc+5`, `+5` and `+0x5` are distances.
//! - `call` takes a helper's name with or without `#` and its id (`call bpf_ktime_get_ns`), a bare id, a label, `pc+5` for a subprogram,
//!   `kfunc#70` or `kernel-function#70` for a kernel function, `kfunc#70@1` for one of another BTF. A name before `#` that is no helper's is
//!   taken as a comment on the number, since the kernel prints addresses there; a bare negative number is a
//!   subprogram, since no helper has one and llvm-objdump prints calls of subprograms so.
//! - `r1 = 5` is a move. A 64-bit load is written `r1 = 5 ll`, or with the opcode in front, as the kernel does: `(18) r1 = 0x5`.
//! - Immediates of 32 bits may be written signed or unsigned: `-1` and `0xffffffff` are the same.

use super::cursor::{Cursor, Failure, is_word, shorten};
use crate::{AluOp, AtomicOp, Cond, Imm64, Insn, InsnIdx, LoadType, Operand, PacketSize, RawInsn, Reg};
use crate::{SignExtend, Size, SwapBits, SwapKind, Width};
use crate::{consts, helpers};
use std::collections::HashMap;
use std::fmt;

/// What came out of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembly {
    /// The slots, jumps resolved.
    pub code: Vec<RawInsn>,
    /// The labels in the order of the text, with the slot behind each.
    pub labels: Vec<(String, InsnIdx)>,
}

/// Why a line cannot be assembled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsmError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for AsmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for AsmError {}

/// A distance in slots, or a label that stands for one.
enum Distance<'a> {
    Slots(i128),
    Label(&'a str),
}

/// A reference to a label, to be resolved when all labels are known.
struct Pending<'a> {
    insn: Insn,
    label: &'a str,
    slot: usize,
    line: usize,
    column: usize,
}

/// Assembles a text.
///
/// # Errors
/// One for each line that is wrong, in order; the rest of the text has been read nevertheless.
pub fn assemble(text: &str) -> Result<Assembly, Vec<AsmError>> {
    let mut assembly = Assembly::default();
    let mut labels: HashMap<&str, i64> = HashMap::new();
    let mut pending = Vec::new();
    let mut errors = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line_number = number + 1;
        let error = |(column, message): Failure| AsmError { line: line_number, column, message };
        let line = without_comment(line);
        let slot = assembly.code.len();
        match label(line) {
            Some(Ok(name)) => {
                if labels.insert(name, slot as i64).is_some() {
                    let message = format!("label `{}` is there twice", shorten(name));
                    errors.push(error((1, message)));
                }
                assembly.labels.push((name.to_owned(), InsnIdx(slot as u32)));
                continue;
            }
            Some(Err(failure)) => {
                errors.push(error(failure));
                continue;
            }
            None => {}
        }
        match statement(line) {
            Ok(None) => {}
            Ok(Some((insn, reference))) => {
                if let Some((label, column)) = reference {
                    pending.push(Pending { insn, label, slot, line: line_number, column });
                }
                assembly.code.extend(insn.encode());
            }
            Err(failure) => errors.push(error(failure)),
        }
    }
    for reference in pending {
        match resolve(&reference, &labels) {
            Ok(insn) => {
                for (i, slot) in insn.encode().into_iter().enumerate() {
                    assembly.code[reference.slot + i] = slot;
                }
            }
            Err(message) => errors.push(AsmError { line: reference.line, column: reference.column, message }),
        }
    }
    if errors.is_empty() {
        Ok(assembly)
    } else {
        errors.sort_by_key(|error| (error.line, error.column));
        Err(errors)
    }
}

fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        let rest = &line[at..];
        if c == ';' || rest.starts_with("//") || c == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

/// `name:` or `0000000000000000 <name>:`, with nothing else on the line.
fn label(line: &str) -> Option<Result<&str, Failure>> {
    let trimmed = line.trim().strip_suffix(':')?;
    let name = match trimmed.split_once(" <") {
        Some((address, name)) if address.bytes().all(|b| b.is_ascii_hexdigit()) => name.strip_suffix('>')?,
        _ => trimmed,
    };
    let number = name.starts_with(|c: char| c.is_ascii_digit());
    if !name.is_empty() && name.chars().all(is_word) && !number {
        return Some(Ok(name));
    }
    let column = line.chars().take_while(|c| c.is_whitespace()).count() + 1;
    let shown = shorten(name).escape_default().to_string();
    let message = format!("expected a label of letters, digits, `_`, `.` and `$` before `:`, found `{shown}`");
    Some(Err((column, message)))
}

fn resolve(reference: &Pending<'_>, labels: &HashMap<&str, i64>) -> Result<Insn, String> {
    let Some(target) = labels.get(reference.label) else {
        let label = shorten(reference.label);
        return Err(match reference.insn {
            Insn::CallLocal { .. } => format!("no label and no helper is named `{label}`"),
            _ => format!("no label is named `{label}`"),
        });
    };
    let mut insn = reference.insn;
    // A subprogram's address counts from its first slot's end, as a call does.
    let distance = target - reference.slot as i64 - 1;
    let near = i16::try_from(distance);
    let far = i32::try_from(distance).map_err(|_| format!("label `{}` is too far away", shorten(reference.label)));
    let too_far = || {
        format!(
            "label `{}` is {distance} slots away, this jump reaches {} to {}, write `gotol`",
            shorten(reference.label),
            i16::MIN,
            i16::MAX
        )
    };
    match &mut insn {
        Insn::Jump { off } | Insn::MayGoto { off } | Insn::Branch { off, .. } => *off = near.map_err(|_| too_far())?,
        Insn::JumpLong { off } | Insn::CallLocal { off } => *off = far?,
        Insn::LoadImm64 { value: Imm64::Func { off }, .. } => *off = far?,
        _ => {}
    }
    Ok(insn)
}

/// An instruction, and the label it refers to with its column, if any.
type Statement<'a> = (Insn, Option<(&'a str, usize)>);

fn statement(line: &str) -> Result<Option<Statement<'_>>, Failure> {
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
fn next_char(c: &mut Cursor<'_>) -> bool {
    let mut buffer = [0; 4];
    match c.rest().chars().next() {
        Some(next) => c.eat(next.encode_utf8(&mut buffer)),
        None => false,
    }
}

/// `(b7)`: two hexadecimal digits in brackets.
fn opcode(c: &mut Cursor<'_>) -> Option<u8> {
    let mut ahead = c.clone();
    if !ahead.eat("(") {
        return None;
    }
    let word = ahead.word();
    let opcode = (word.len() == 2).then(|| u8::from_str_radix(word, 16).ok())??;
    ahead.eat(")").then(|| *c = ahead)?;
    Some(opcode)
}

fn instruction<'a>(c: &mut Cursor<'a>, wide: bool) -> Result<Statement<'a>, Failure> {
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

// Jumps and calls.

fn jump<'a>(c: &mut Cursor<'a>, make: impl Fn(i16) -> Insn) -> Result<Statement<'a>, Failure> {
    let (distance, column) = distance(c)?;
    let (off, label) = near(distance, column)?;
    Ok((make(off), label))
}

fn distance<'a>(c: &mut Cursor<'a>) -> Result<(Distance<'a>, usize), Failure> {
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

type Resolved<'a, T> = Result<(T, Option<(&'a str, usize)>), Failure>;

fn near(distance: Distance<'_>, column: usize) -> Resolved<'_, i16> {
    match distance {
        Distance::Label(label) => Ok((0, Some((label, column)))),
        Distance::Slots(slots) => match i16::try_from(slots) {
            Ok(off) => Ok((off, None)),
            Err(_) => Err((column, out_of_range("distance", slots, i16::MIN.into(), i16::MAX.into()))),
        },
    }
}

fn far(distance: Distance<'_>, column: usize) -> Resolved<'_, i32> {
    match distance {
        Distance::Label(label) => Ok((0, Some((label, column)))),
        Distance::Slots(slots) => match i32::try_from(slots) {
            Ok(off) => Ok((off, None)),
            Err(_) => Err((column, out_of_range("distance", slots, i32::MIN.into(), i32::MAX.into()))),
        },
    }
}

fn out_of_range(what: &str, value: i128, min: i128, max: i128) -> String {
    format!("{what} {value} does not fit, expected {min} to {max}")
}

fn branch<'a>(c: &mut Cursor<'a>) -> Result<Statement<'a>, Failure> {
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

fn call<'a>(c: &mut Cursor<'a>) -> Result<Statement<'a>, Failure> {
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

// Stores and atomics.

fn store(c: &mut Cursor<'_>) -> Result<Insn, Failure> {
    let (size, base, off) = pointer(c)?;
    c.expect("=")?;
    let src = if at_register(c) { Operand::Reg(reg_of_size(c, size)?) } else { Operand::Imm(imm32(c)?) };
    Ok(Insn::Store { size, base, off, src })
}

fn locked(c: &mut Cursor<'_>) -> Result<Insn, Failure> {
    const OPS: [(&str, AtomicOp); 4] =
        [("+=", AtomicOp::Add), ("|=", AtomicOp::Or), ("&=", AtomicOp::And), ("^=", AtomicOp::Xor)];
    c.expect("*")?;
    let (width, base, off) = atomic_pointer(c)?;
    let op = c.eat_any(&OPS).ok_or_else(|| c.expected("`+=`, `|=`, `&=` or `^=`"))?;
    let src = reg_of_size(c, width_size(width))?;
    Ok(Insn::Atomic { op, width, base, off, src })
}

fn width_size(width: Width) -> Size {
    match width {
        Width::W32 => Size::W,
        Width::W64 => Size::Dw,
    }
}

/// `(u32 *)(r1 + 8)` with a size that atomics have.
fn atomic_pointer(c: &mut Cursor<'_>) -> Result<(Width, Reg, i16), Failure> {
    let before = c.clone();
    match pointer(c)? {
        (Size::W, base, off) => Ok((Width::W32, base, off)),
        (Size::Dw, base, off) => Ok((Width::W64, base, off)),
        _ => Err(before.expected("`(u32 *)` or `(u64 *)`")),
    }
}

/// `atomic_fetch_add(...)` to `cmpxchg32_32(...)`, of which `name` has been read.
fn fetching(c: &mut Cursor<'_>, name: &str, dst: (Width, Reg), dst_column: usize) -> Option<Result<Insn, Failure>> {
    // The kernel says the width in the name, LLVM in the name or in the type only.
    let (op, named, typed) = match name {
        "atomic_fetch_add" => (AtomicOp::FetchAdd, None, true),
        "atomic_fetch_or" => (AtomicOp::FetchOr, None, true),
        "atomic_fetch_and" => (AtomicOp::FetchAnd, None, true),
        "atomic_fetch_xor" => (AtomicOp::FetchXor, None, true),
        "atomic64_fetch_add" => (AtomicOp::FetchAdd, Some(Width::W64), true),
        "atomic64_fetch_or" => (AtomicOp::FetchOr, Some(Width::W64), true),
        "atomic64_fetch_and" => (AtomicOp::FetchAnd, Some(Width::W64), true),
        "atomic64_fetch_xor" => (AtomicOp::FetchXor, Some(Width::W64), true),
        "atomic_xchg" => (AtomicOp::Xchg, Some(Width::W32), true),
        "atomic64_xchg" => (AtomicOp::Xchg, Some(Width::W64), true),
        "atomic_cmpxchg" => (AtomicOp::CmpXchg, Some(Width::W32), true),
        "atomic64_cmpxchg" => (AtomicOp::CmpXchg, Some(Width::W64), true),
        "xchg_64" => (AtomicOp::Xchg, Some(Width::W64), false),
        "xchg32_32" => (AtomicOp::Xchg, Some(Width::W32), false),
        "cmpxchg_64" => (AtomicOp::CmpXchg, Some(Width::W64), false),
        "cmpxchg32_32" => (AtomicOp::CmpXchg, Some(Width::W32), false),
        _ => return None,
    };
    let rest = |c: &mut Cursor<'_>| {
        c.expect("(")?;
        let before = c.clone();
        let (width, base, off) = if typed {
            atomic_pointer(c)?
        } else {
            let (base, off) = address(c)?;
            (named.unwrap_or(Width::W64), base, off)
        };
        if let Some(named) = named.filter(|named| *named != width) {
            return Err(before.expected(match named {
                Width::W32 => "`(u32 *)`",
                Width::W64 => "`(u64 *)`",
            }));
        }
        c.expect(",")?;
        let size = width_size(width);
        let result = if op == AtomicOp::CmpXchg {
            let before = c.clone();
            if reg_of_size(c, size)? != Reg::R0 {
                return Err(before.expected("r0, with which memory is compared"));
            }
            c.expect(",")?;
            Some(Reg::R0)
        } else {
            None
        };
        let before = c.clone();
        let src = reg_of_size(c, size)?;
        c.expect(")")?;
        let result = result.unwrap_or(src);
        if dst.1 != result {
            return Err(match op {
                AtomicOp::CmpXchg => (dst_column, "expected r0, which gets the old value".to_owned()),
                _ => before.expected(&format!("{}, which gets the old value", dst.1)),
            });
        }
        if dst.0 == Width::W32 && width == Width::W64 {
            return Err((dst_column, "expected an `r` register for 64 bits".to_owned()));
        }
        Ok(Insn::Atomic { op, width, base, off, src })
    };
    Some(rest(c))
}

// What begins with a register.

fn assignment<'a>(c: &mut Cursor<'a>, wide: bool) -> Result<Statement<'a>, Failure> {
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

fn constant(c: &mut Cursor<'_>, width: Width, dst: Reg, wide: bool) -> Result<Insn, Failure> {
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
fn sign_extension(c: &mut Cursor<'_>, width: Width, dst: Reg) -> Result<Insn, Failure> {
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
fn load(c: &mut Cursor<'_>, width: Width, dst: Reg, dst_column: usize) -> Result<Insn, Failure> {
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
fn packet_load(c: &mut Cursor<'_>, size: PacketSize) -> Result<Insn, Failure> {
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
fn signed_offset(c: &mut Cursor<'_>) -> Result<i32, Failure> {
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
fn named_value<'a>(c: &mut Cursor<'a>, width: Width, dst: Reg, dst_column: usize) -> Result<Statement<'a>, Failure> {
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

fn space(c: &mut Cursor<'_>) -> Result<u16, Failure> {
    c.skip_blanks();
    let column = c.column();
    let value = c.digits()?;
    u16::try_from(value).map_err(|_| (column, out_of_range("address space", value.into(), 0, u16::MAX.into())))
}

/// `[id:5]`, `[id:5][0]+8`, `[idx:5]` or `[idx:5]+8`.
fn map_reference(c: &mut Cursor<'_>) -> Result<Imm64, Failure> {
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
fn btf_reference(c: &mut Cursor<'_>) -> Result<Imm64, Failure> {
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

// Operands.

/// Whether a register comes next.
fn at_register(c: &mut Cursor<'_>) -> bool {
    reg(&mut c.clone()).is_ok()
}

fn reg(c: &mut Cursor<'_>) -> Result<(Width, Reg), Failure> {
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

fn reg_of(c: &mut Cursor<'_>, width: Width) -> Result<Reg, Failure> {
    let before = c.clone();
    match reg(c) {
        Ok((found, reg)) if found == width => Ok(reg),
        _ => Err(before.expected(&format!("a register, `{0}0` to `{0}10`", width.prefix()))),
    }
}

fn reg64(c: &mut Cursor<'_>) -> Result<Reg, Failure> {
    reg_of(c, Width::W64)
}

/// The register of a memory access: below eight bytes the kernel writes `r`, LLVM `w`.
fn reg_of_size(c: &mut Cursor<'_>, size: Size) -> Result<Reg, Failure> {
    match size {
        Size::Dw => reg64(c),
        _ => reg(c).map(|(_, reg)| reg),
    }
}

fn operand(c: &mut Cursor<'_>, width: Width) -> Result<Operand, Failure> {
    c.skip_blanks();
    if c.rest().starts_with(|c: char| c == '-' || c == '+' || c.is_ascii_digit()) {
        return imm32(c).map(Operand::Imm);
    }
    reg_of(c, width).map(Operand::Reg)
}

/// `(u32 *)`.
fn load_type(c: &mut Cursor<'_>) -> Result<LoadType, Failure> {
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
fn pointer(c: &mut Cursor<'_>) -> Result<(Size, Reg, i16), Failure> {
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
fn address(c: &mut Cursor<'_>) -> Result<(Reg, i16), Failure> {
    let base = reg64(c)?;
    c.skip_blanks();
    let off = match c.rest().chars().next() {
        Some('+' | '-') => offset16(c)?,
        _ => 0,
    };
    Ok((base, off))
}

fn offset16(c: &mut Cursor<'_>) -> Result<i16, Failure> {
    c.skip_blanks();
    let column = c.column();
    let value = c.number()?;
    let range = || out_of_range("offset", value, i16::MIN.into(), i16::MAX.into());
    i16::try_from(value).map_err(|_| (column, range()))
}

fn fit32(value: i128) -> Option<i32> {
    let unsigned = u32::try_from(value).map(|value| value as i32);
    i32::try_from(value).or(unsigned).ok()
}

/// A number of 32 bits, signed or unsigned.
fn imm32(c: &mut Cursor<'_>) -> Result<i32, Failure> {
    c.skip_blanks();
    let column = c.column();
    let value = c.number()?;
    let range = || out_of_range("number", value, i32::MIN.into(), u32::MAX.into());
    fit32(value).ok_or_else(|| (column, range()))
}

fn signed32(c: &mut Cursor<'_>, what: &str) -> Result<i32, Failure> {
    c.skip_blanks();
    let column = c.column();
    let value = c.number()?;
    let range = || out_of_range(what, value, i32::MIN.into(), i32::MAX.into());
    i32::try_from(value).map_err(|_| (column, range()))
}
