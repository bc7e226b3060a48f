//! The tables of a file as rows that a BPF program can search: from this place in the file on, the caller is found by that rule.
//!
//! A program has no room for the machine that the tables are written for (DWARF 5, section 6.4), and needs little of it: nearly all code
//! finds its caller's stack by the stack pointer or the frame pointer, and has saved at most the frame pointer and the return
//! address at fixed distances. So the machine runs here, once for each file; what it says for each piece of code is one of a few
//! hundred [`Rule`]s. Rows are by places in the *file*, which a mapping turns into addresses without the file's headers.
//!
//! Code whose rule cannot be said this way (a stack found by another register) has [`Rule::Unknown`], as code that has no table:
//! there the frame pointer has to do.

use gimli::{CfaRule, EhFrame, Operation, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindTableRow};

use crate::unwind::{FP, RA, Reader, SP, Tables};

/// How a caller is found. Its stack pointer is the CFA, the "canonical frame address".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The tables do not tell.
    Unknown,
    /// There is no caller: a process or thread starts here.
    End,
    /// A signal's handler returns here: all registers are in the frame that the kernel made.
    Signal,
    /// A function's frame.
    Frame {
        /// Where the CFA is found.
        cfa: Cfa,
        /// Where the caller's frame pointer was saved, from the CFA; `None`: it is still in its register.
        frame_pointer: Option<i32>,
        /// Where the return address is, from the CFA; `None`: in the link register.
        return_address: Option<i32>,
    },
}

/// What a CFA is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cfa {
    /// The stack pointer and so many bytes.
    StackPointer(i32),
    /// The frame pointer and so many bytes.
    FramePointer(i32),
    /// What is in memory at the frame pointer and so many bytes: functions that align their stack.
    AtFramePointer(i32),
    /// The stack pointer and so many bytes, and 8 more in the last five bytes of each 16 of code: what linkers say of the
    /// procedure linkage table on x86-64, whose entries push a number there.
    Linkage(i32),
}

/// How often the bytes of all tables may be looked at: a function's own, and what many share.
const WORK_PER_BYTE: usize = 4;

/// From the place in the file on, by that rule.
pub type Row = (u32, Rule);

impl Tables {
    /// All rows, by their places; code before the first and behind the last is unknown.
    pub fn rows(&self) -> Vec<Row> {
        let (frames, bases) = (self.frames(), self.bases());
        let mut context = UnwindContext::new();
        let mut rows: Vec<Row> = Vec::new();
        // Each function has its own table in a sound file: bytes that are read again and again are somebody's trap.
        let mut budget = WORK_PER_BYTE * self.len_bytes();
        for row in 0..self.functions() {
            let Some(function) = self.function(&frames, row) else { continue };
            let work = function.entry_len() + function.cie().entry_len();
            let Some(left) = budget.checked_sub(work) else { break };
            budget = left;
            let (start, len) = (function.initial_address(), function.len());
            let Some(place) = self.place(start) else { continue };
            let at = |address: u64| u32::try_from(place.checked_add(address.checked_sub(start)?)?).ok();
            let signal = function.is_signal_trampoline() && cfg!(target_arch = "x86_64");
            let before = rows.len();
            if let Ok(mut table) = function.rows(&frames, &bases, &mut context) {
                while let Ok(Some(piece)) = table.next_row() {
                    let Some(at) = at(piece.start_address()) else { break };
                    rows.push((at, if signal { Rule::Signal } else { rule(&frames, piece) }));
                }
            }
            if let Some(end) = at(start.saturating_add(len)).filter(|_| rows.len() > before) {
                rows.push((end, Rule::Unknown));
            }
        }
        // Behind a function another one may begin: of two rows for one place the end of the former is none.
        rows.sort_by_key(|(at, rule)| (*at, *rule != Rule::Unknown));
        let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
        for row in rows {
            if kept.last().is_some_and(|last| last.0 == row.0) {
                kept.pop();
            }
            if kept.last().is_none_or(|last| last.1 != row.1) {
                kept.push(row);
            }
        }
        kept
    }

    /// The place in the file of what is at an address in the file's own numbers.
    fn place(&self, address: u64) -> Option<u64> {
        let load = self.loads.iter().find(|it| (it.addr..it.addr.saturating_add(it.len)).contains(&address))?;
        load.offset.checked_add(address - load.addr)
    }
}

fn rule(frames: &EhFrame<Reader<'_>>, row: &UnwindTableRow<usize>) -> Rule {
    let is = |register: Register, number: usize| usize::from(register.0) == number;
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => match i32::try_from(*offset) {
            Ok(offset) if is(*register, SP) => Cfa::StackPointer(offset),
            Ok(offset) if is(*register, FP) => Cfa::FramePointer(offset),
            _ => return Rule::Unknown,
        },
        CfaRule::Expression(expression) => match expression_of(frames, expression) {
            Some(cfa) => cfa,
            None => return Rule::Unknown,
        },
    };
    // A register that nothing is said about is as it was; the return address on x86-64 is in no register.
    let saved = |number: usize| match row.register(Register(number as u16)) {
        None if number == 16 => Some(Saved::Nowhere),
        None | Some(RegisterRule::SameValue) => Some(Saved::InRegister),
        Some(RegisterRule::Undefined) => Some(Saved::Nowhere),
        Some(RegisterRule::Offset(offset)) => i32::try_from(offset).ok().map(Saved::At),
        // Functions that align their stack save the frame pointer where it points to then.
        Some(RegisterRule::Expression(expression)) if number == FP => {
            let mut operations = expression.get(frames).ok()?.operations(ENCODING);
            match (operations.next().ok()?, operations.next().ok()?) {
                (Some(Operation::RegisterOffset { register, offset: 0, .. }), None) if is(register, FP) => {
                    Some(Saved::At(AT_ITSELF))
                }
                _ => None,
            }
        }
        Some(_) => None,
    };
    let return_address = match saved(RA) {
        Some(Saved::At(offset)) => Some(offset),
        Some(Saved::InRegister) => None,
        Some(Saved::Nowhere) => return Rule::End,
        None => return Rule::Unknown,
    };
    let frame_pointer = match saved(FP) {
        Some(Saved::At(offset)) => Some(offset),
        Some(Saved::InRegister | Saved::Nowhere) => None,
        None => return Rule::Unknown,
    };
    Rule::Frame { cfa, frame_pointer, return_address }
}

/// As [`Rule::Frame::frame_pointer`]: where the frame pointer points to, not from the CFA.
pub const AT_ITSELF: i32 = i32::MAX;

enum Saved {
    Nowhere,
    InRegister,
    At(i32),
}

const ENCODING: gimli::Encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };

/// The two expressions that compilers and linkers write for a CFA.
fn expression_of(frames: &EhFrame<Reader<'_>>, expression: &UnwindExpression<usize>) -> Option<Cfa> {
    let mut operations = expression.get(frames).ok()?.operations(ENCODING);
    let mut all = Vec::new();
    while all.len() < 16
        && let Some(operation) = operations.next().ok()?
    {
        all.push(operation);
    }
    let register = |operation: &Operation<_>, number: usize| match operation {
        Operation::RegisterOffset { register, offset, .. } if usize::from(register.0) == number => {
            i32::try_from(*offset).ok()
        }
        _ => None,
    };
    match &all[..] {
        [at, Operation::Deref { size: 8, .. }] => Some(Cfa::AtFramePointer(register(at, FP)?)),
        // rsp + 8 + (((rip & 15) >= 11) << 3)
        [
            stack,
            instruction,
            Operation::UnsignedConstant { value: 15 },
            Operation::And,
            Operation::UnsignedConstant { value: 11 },
            Operation::Ge,
            Operation::UnsignedConstant { value: 3 },
            Operation::Shl,
            Operation::Plus,
        ] if RA == 16 && register(instruction, RA) == Some(0) => Some(Cfa::Linkage(register(stack, SP)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind;

    /// The walk by rows finds what the walk by the tables themselves finds, at every row of the C library.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn rows_say_what_the_tables_say() {
        let Ok(path) = crate::search::resolve("libc.so.6", None) else {
            eprintln!("skipped: needs libc.so.6");
            return;
        };
        let tables = unwind::tables(path.to_str().unwrap()).unwrap();
        let rows = tables.rows();
        assert!(rows.len() > 10_000 && rows.is_sorted_by_key(|row| row.0), "{}", rows.len());
        const STACK: u64 = 0x7ffe_0000_0000;
        let mut registers: unwind::Registers = [None; unwind::REGISTERS];
        (registers[SP], registers[FP]) = (Some(STACK), Some(STACK + 0x400));
        // What memory holds is told by its address.
        let load = |addr: u64| addr.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut told = 0;
        for (at, rule) in &rows {
            let Rule::Frame { cfa, frame_pointer, return_address } = rule else { continue };
            let address = tables.address(u64::from(*at)).unwrap();
            registers[RA] = Some(address);
            let caller = tables.step(address, &registers, &mut |addr| Some(load(addr)));
            let (caller, _) = caller.unwrap_or_else(|| panic!("{at:#x}: {rule:?}"));
            let plus = |base: u64, off: i32| base.wrapping_add_signed(off.into());
            let cfa = match *cfa {
                Cfa::StackPointer(off) => plus(STACK, off),
                Cfa::FramePointer(off) => plus(STACK + 0x400, off),
                Cfa::AtFramePointer(off) => load(plus(STACK + 0x400, off)),
                Cfa::Linkage(off) => plus(STACK, off) + if address & 15 >= 11 { 8 } else { 0 },
            };
            let frame_pointer = match *frame_pointer {
                None => STACK + 0x400,
                Some(AT_ITSELF) => load(STACK + 0x400),
                Some(off) => load(plus(cfa, off)),
            };
            let return_address = load(plus(cfa, return_address.unwrap()));
            let found = (caller[SP], caller[FP], caller[RA]);
            assert_eq!(found, (Some(cfa), Some(frame_pointer), Some(return_address)), "{at:#x}: {rule:?}");
            told += 1;
        }
        // The gaps between functions.
        let unknown = rows.iter().filter(|row| row.1 == Rule::Unknown).count();
        assert!(told > 10_000 && unknown * 4 < rows.len(), "{told} told, {unknown} unknown of {}", rows.len());
        assert!(rows.iter().any(|row| row.1 == Rule::Signal));
        assert!(rows.iter().any(|row| matches!(row.1, Rule::Frame { cfa: Cfa::Linkage(_), .. })));
    }
}
