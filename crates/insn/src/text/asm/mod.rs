//! The assembler: text in either spelling, or a mixture, to slots.
//!
//! One instruction or label per line. In front of an instruction may stand what disassemblers print there: the
//! index (`12:`) and the opcode in brackets (`(b7)`), which must then be the instruction's. Behind it may stand `<...>`
//! as llvm-objdump writes behind jumps. `;` and `//` start a comment anywhere, `#` does at the start of a word.
//!
//! - A label is a word and a colon, or `0000000000000000 <name>:` as llvm-objdump writes it. `goto`, `gotol`,
//!   `may_goto`, `call` and `subprog[...]` take a label where they take a distance; `pc+5`, `+5` and `+0x5` are
//!   distances.
//! - `call` takes a helper's name with or without `#` and its id (`call bpf_ktime_get_ns`), a bare id, a label, `pc+5`
//!   for a subprogram, `kfunc#70` or `kernel-function#70` for a kernel function, `kfunc#70@1` for one of another BTF. A
//!   name before `#` that is no helper's is taken as a comment on the number, since the kernel prints addresses there;
//!   a bare negative number is a subprogram, since no helper has one and llvm-objdump prints calls of subprograms so.
//! - `r1 = 5` is a move. A 64-bit load is written `r1 = 5 ll`, or with the opcode in front, as the kernel does: `(18)
//!   r1 = 0x5`.
//! - Immediates of 32 bits may be written signed or unsigned: `-1` and `0xffffffff` are the same.

mod assignment;
mod cursor;
mod jump;
mod memory;
mod operand;
mod statement;

use crate::{Imm64, Insn, InsnIdx, RawInsn};
use cursor::{Failure, is_word, shorten};
use statement::statement;
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
