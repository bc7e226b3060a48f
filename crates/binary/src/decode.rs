//! Lengths and kinds of x86-64 instructions: as much as it takes to execute one somewhere else.
//!
//! An instruction is prefixes, an opcode of one to three bytes, perhaps a ModRM byte with what it asks for (SIB, displacement), and an immediate
//! operand. Which opcodes have ModRM and immediates is a table of the architecture (Intel SDM, volume 2, appendix A); VEX, EVEX
//! and XOP encodings have maps that agree with it. What the tables do not know is refused, never guessed.

use std::fmt;

/// The longest instruction, in bytes.
pub const MAX_LEN: usize = 15;

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Insn {
    /// In bytes.
    pub len: u8,
    /// What it takes to execute it elsewhere.
    pub kind: Kind,
}

impl Insn {
    fn parts(self) -> (u8, Result<Kind, Unknown>) {
        (self.len, Ok(self.kind))
    }
}

/// What it takes to execute an instruction at another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It does nothing (`nop`, `endbr64`).
    Nothing,
    /// Pushes a 64-bit register, by the number that the encoding has.
    Push(u8),
    /// It does not matter where it is.
    Anywhere,
    /// It names memory relative to the next instruction.
    Relative {
        /// Where its displacement is, of 32 bits.
        at: u8,
    },
    /// A jump.
    Jump {
        /// From the next instruction, in bytes.
        by: i32,
    },
    /// A jump with a condition.
    Branch {
        /// `70..=7f`, whatever its length.
        opcode: u8,
        /// From the next instruction, in bytes.
        by: i32,
    },
    /// A jump that looks at a register.
    Loop {
        /// `e0..=e3`
        opcode: u8,
        /// The register has 32 bits.
        narrow: bool,
        /// From the next instruction, in bytes.
        by: i32,
    },
    /// A call.
    Call {
        /// From the next instruction, in bytes.
        by: i32,
    },
    /// A call of what the operand says.
    CallOperand {
        /// Where its ModRM is.
        modrm_at: u8,
        /// Its displacement is relative to the next instruction.
        relative: bool,
    },
}

/// Why an instruction is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// The bytes end in it.
    Cut,
    /// There is no such instruction, or none that the tables have.
    Opcode,
    /// It cannot be executed elsewhere.
    Bound(&'static str),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Cut => f.write_str("the file ends in the instruction"),
            Unknown::Opcode => f.write_str("this instruction is not known"),
            Unknown::Bound(what) => write!(f, "{what} cannot be executed elsewhere"),
        }
    }
}

/// What follows an opcode.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Nothing.
    None,
    /// ModRM.
    M,
    /// ModRM and one byte.
    M8,
    /// ModRM and two or four bytes.
    Mz,
    /// So many bytes.
    Imm(u8),
    /// Two or four bytes.
    Z,
    /// Two, four or eight bytes.
    V,
    /// An address.
    Offset,
    /// No instruction.
    No,
}

use Form::{Imm, M, M8, Mz, No, None as Plain, Offset, V, Z};

/// Opcodes of one byte; prefixes and those with a meaning of their own come before.
fn one_byte(op: u8) -> Form {
    match op {
        0x00..=0x3f => match op & 7 {
            0..=3 => M,
            4 => Imm(1),
            5 => Z,
            _ => No,
        },
        0x50..=0x5f | 0x6c..=0x6f | 0x90..=0x99 | 0x9b..=0x9f | 0xa4..=0xa7 | 0xaa..=0xaf => Plain,
        0x63 | 0x84..=0x8f | 0xd0..=0xd3 | 0xd8..=0xdf | 0xfe | 0xff => M,
        0x68 | 0xa9 => Z,
        0x69 | 0x81 | 0xc7 => Mz,
        0x6a | 0xa8 | 0xb0..=0xb7 | 0xcd | 0xe4..=0xe7 | 0x70..=0x7f | 0xe0..=0xe3 | 0xeb => Imm(1),
        0x6b | 0x80 | 0x83 | 0xc0 | 0xc1 | 0xc6 => M8,
        0xa0..=0xa3 => Offset,
        0xb8..=0xbf => V,
        0xc2 | 0xca => Imm(2),
        0xc8 => Imm(3),
        0xc3 | 0xc9 | 0xcb | 0xcc | 0xcf | 0xd7 | 0xec..=0xef | 0xf1 | 0xf4 | 0xf5 | 0xf8..=0xfd => Plain,
        0xe8 | 0xe9 => Imm(4),
        // Immediates only with two of the eight; see the caller.
        0xf6 | 0xf7 => M,
        _ => No,
    }
}

/// Opcodes behind `0f`.
fn two_bytes(op: u8) -> Form {
    match op {
        0x00..=0x03 | 0x0d | 0x10..=0x23 | 0x28..=0x2f | 0x40..=0x6f | 0x74..=0x76 | 0x78..=0x7f | 0x90..=0x9f => M,
        0x05..=0x09 | 0x0b | 0x0e | 0x30..=0x35 | 0x37 | 0x77 | 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf => Plain,
        0x0f | 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => M8,
        0x80..=0x8f => Imm(4),
        0xa3 | 0xa5 | 0xab | 0xad..=0xb9 | 0xbb..=0xc1 | 0xc3 | 0xc7 | 0xd0..=0xff => M,
        _ => No,
    }
}

/// Opcodes of the maps that VEX and EVEX name.
fn mapped(map: u8, op: u8) -> Form {
    match map {
        1 => match op {
            0x77 => Plain,
            0x70..=0x73 | 0xc2 | 0xc4..=0xc6 => M8,
            _ => M,
        },
        2 | 5 | 6 => M,
        3 => M8,
        _ => No,
    }
}

/// The bytes as they are read.
struct Bytes<'a> {
    all: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn peek(&self) -> Result<u8, Unknown> {
        if self.at >= MAX_LEN {
            return Err(Unknown::Opcode);
        }
        self.all.get(self.at).copied().ok_or(Unknown::Cut)
    }

    fn next(&mut self) -> Result<u8, Unknown> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), Unknown> {
        let end = self.at + count;
        match self.all.len() {
            len if end <= len.min(MAX_LEN) => {
                self.at = end;
                Ok(())
            }
            len if len < MAX_LEN => Err(Unknown::Cut),
            _ => Err(Unknown::Opcode),
        }
    }
}

/// The operand that ModRM names.
#[derive(Clone, Copy, Default)]
struct Operand {
    modrm_at: usize,
    modrm: u8,
    /// Where the displacement is that counts from the next instruction.
    relative_at: Option<usize>,
    /// Relative to the stack pointer.
    of_stack: bool,
}

impl Operand {
    fn read(bytes: &mut Bytes<'_>, rex_b: bool) -> Result<Operand, Unknown> {
        let modrm_at = bytes.at;
        let modrm = bytes.next()?;
        let (mode, rm) = (modrm >> 6, modrm & 7);
        let mut operand = Operand { modrm_at, modrm, ..Operand::default() };
        if mode == 3 {
            operand.of_stack = rm == 4 && !rex_b;
            return Ok(operand);
        }
        let mut len = match mode {
            0 => 0,
            1 => 1,
            _ => 4,
        };
        if rm == 4 {
            let base = bytes.next()? & 7;
            operand.of_stack = base == 4 && !rex_b;
            if mode == 0 && base == 5 {
                len = 4;
            }
        } else if mode == 0 && rm == 5 {
            operand.relative_at = Some(bytes.at);
            len = 4;
        }
        bytes.skip(len)?;
        Ok(operand)
    }

    fn reg(&self) -> u8 {
        self.modrm >> 3 & 7
    }
}

/// Decodes the first instruction of some bytes, in 64-bit mode.
///
/// # Errors
///
/// When it is not known, or has to stay where it is.
pub fn decode(all: &[u8]) -> Result<Insn, Unknown> {
    let (len, kind) = parse(all)?;
    Ok(Insn { len, kind: kind? })
}

/// The length of the first instruction of some bytes, and its kind, if it may be executed elsewhere.
///
/// # Errors
///
/// When it is not known, or processors disagree on its length.
pub(crate) fn parse(all: &[u8]) -> Result<(u8, Result<Kind, Unknown>), Unknown> {
    let mut bytes = Bytes { all, at: 0 };
    let (mut short, mut narrow, mut repeat) = (false, false, 0);
    loop {
        match bytes.peek()? {
            0x66 => short = true,
            0x67 => narrow = true,
            prefix @ (0xf2 | 0xf3) => repeat = prefix,
            0xf0 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65 => {}
            _ => break,
        }
        bytes.at += 1;
    }
    let rex = match bytes.peek()? {
        rex @ 0x40..=0x4f => {
            bytes.at += 1;
            rex
        }
        _ => 0,
    };
    let (wide, rex_b) = (rex & 8 != 0, rex & 1 != 0);
    let op = bytes.next()?;
    match op {
        0xc4 | 0xc5 | 0x62 => return vex(&mut bytes, op).map(Insn::parts),
        // `pop` has zeros in these bits; XOP has the number of a map, 8 or more.
        0x8f if bytes.peek()? & 0x1f >= 8 => return xop(&mut bytes).map(Insn::parts),
        0x0f => return escaped(&mut bytes, Prefixes { short, repeat, rex_b }).map(Insn::parts),
        _ => {}
    }
    let z = if short && !wide { 2 } else { 4 };
    let mut operand = None;
    let form = one_byte(op);
    if matches!(form, M | M8 | Mz) {
        operand = Some(Operand::read(&mut bytes, rex_b)?);
    }
    let reg = operand.map_or(0, |operand: Operand| operand.reg());
    let immediate_at = bytes.at;
    bytes.skip(match form {
        Imm(len) => len.into(),
        M8 => 1,
        Mz | Z => z,
        V if wide => 8,
        V => z,
        Offset if narrow => 4,
        Offset => 8,
        M if op == 0xf6 && reg < 2 => 1,
        M if op == 0xf7 && reg < 2 => z,
        No => return Err(Unknown::Opcode),
        _ => 0,
    })?;
    let len = bytes.at as u8;
    let by = || {
        let immediate = &all[immediate_at..bytes.at];
        match immediate {
            [byte] => i32::from(*byte as i8),
            [a, b, c, d] => i32::from_le_bytes([*a, *b, *c, *d]),
            _ => 0,
        }
    };
    let bound = |what| Ok((len, Err(Unknown::Bound(what))));
    let kind = match op {
        // Processors disagree on what the prefix means for them.
        0xe8 | 0xe9 if short && !wide => return Err(Unknown::Bound("a jump with 16 bits")),
        0xe8 => Kind::Call { by: by() },
        0xe9 | 0xeb => Kind::Jump { by: by() },
        0x70..=0x7f => Kind::Branch { opcode: op, by: by() },
        0xe0..=0xe3 => Kind::Loop { opcode: op, narrow, by: by() },
        0x50..=0x57 if !short => Kind::Push(op & 7 | (rex & 1) << 3),
        0x90 if !rex_b && repeat == 0 => Kind::Nothing,
        0xcc | 0xf1 => return bound("a breakpoint"),
        0xc7 if operand.is_some_and(|operand| operand.modrm == 0xf8) => return bound("the start of a transaction"),
        0xfe if reg > 1 => return Err(Unknown::Opcode),
        0xff if reg == 7 => return Err(Unknown::Opcode),
        0xff if reg == 3 => return bound("a far call"),
        0xff if reg == 2 => match operand {
            Some(operand) if !operand.of_stack => {
                Kind::CallOperand { modrm_at: operand.modrm_at as u8, relative: operand.relative_at.is_some() }
            }
            _ => return bound("a call by way of the stack pointer"),
        },
        _ => anywhere(operand),
    };
    Ok((len, Ok(kind)))
}

fn anywhere(operand: Option<Operand>) -> Kind {
    match operand.and_then(|operand| operand.relative_at) {
        Some(at) => Kind::Relative { at: at as u8 },
        None => Kind::Anywhere,
    }
}

struct Prefixes {
    short: bool,
    repeat: u8,
    rex_b: bool,
}

/// Behind `0f`.
fn escaped(bytes: &mut Bytes<'_>, prefixes: Prefixes) -> Result<Insn, Unknown> {
    let op = bytes.next()?;
    let form = match op {
        0x38 => {
            bytes.next()?;
            M
        }
        0x3a => {
            bytes.next()?;
            M8
        }
        // An old extension of AMD's has two bytes more here.
        0x78 | 0x79 if prefixes.short || prefixes.repeat != 0 => return Err(Unknown::Opcode),
        op => two_bytes(op),
    };
    let operand = match form {
        M | M8 => Some(Operand::read(bytes, prefixes.rex_b)?),
        No => return Err(Unknown::Opcode),
        _ => None,
    };
    let immediate_at = bytes.at;
    bytes.skip(match form {
        M8 => 1,
        Imm(len) => len.into(),
        _ => 0,
    })?;
    let len = bytes.at as u8;
    let modrm = operand.map_or(0, |operand| operand.modrm);
    let kind = match op {
        0x80..=0x8f => {
            if prefixes.short {
                return Err(Unknown::Bound("a jump with 16 bits"));
            }
            let by = bytes.all[immediate_at..].first_chunk().copied().map_or(0, i32::from_le_bytes);
            Kind::Branch { opcode: op - 0x10, by }
        }
        // Names memory, but does not touch it.
        0x1f => Kind::Nothing,
        0x1e if prefixes.repeat == 0xf3 && matches!(modrm, 0xfa | 0xfb) => Kind::Nothing,
        _ => anywhere(operand),
    };
    Ok(Insn { len, kind })
}

/// Behind `c4`, `c5` (VEX) or `62` (EVEX).
fn vex(bytes: &mut Bytes<'_>, op: u8) -> Result<Insn, Unknown> {
    let first = bytes.next()?;
    let map = match op {
        0xc5 => 1,
        0xc4 => {
            bytes.skip(1)?;
            first & 0x1f
        }
        _ => {
            bytes.skip(2)?;
            first & 7
        }
    };
    let opcode = bytes.next()?;
    operands(bytes, mapped(map, opcode))
}

/// Behind `8f` with the number of a map.
fn xop(bytes: &mut Bytes<'_>) -> Result<Insn, Unknown> {
    let map = bytes.next()? & 0x1f;
    bytes.skip(2)?;
    let form = match map {
        8 => M8,
        9 => M,
        10 => Mz,
        _ => No,
    };
    operands(bytes, form)
}

fn operands(bytes: &mut Bytes<'_>, form: Form) -> Result<Insn, Unknown> {
    let operand = match form {
        M | M8 | Mz => Some(Operand::read(bytes, false)?),
        No => return Err(Unknown::Opcode),
        _ => None,
    };
    bytes.skip(match form {
        M8 => 1,
        Mz => 4,
        _ => 0,
    })?;
    Ok(Insn { len: bytes.at as u8, kind: anywhere(operand) })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let kind = |bytes: &[u8]| decode(bytes).map(|insn| (usize::from(insn.len), insn.kind));
        assert_eq!(kind(&[0xf3, 0x0f, 0x1e, 0xfa]), Ok((4, Kind::Nothing)));
        assert_eq!(kind(&[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]), Ok((10, Kind::Nothing)));
        assert_eq!(kind(&[0x90]), Ok((1, Kind::Nothing)));
        // `xchg %r8, %rax`, and `pause`.
        assert_eq!(kind(&[0x49, 0x90]), Ok((2, Kind::Anywhere)));
        assert_eq!(kind(&[0xf3, 0x90]), Ok((2, Kind::Anywhere)));
        assert_eq!(kind(&[0x55]), Ok((1, Kind::Push(5))));
        assert_eq!(kind(&[0x41, 0x57]), Ok((2, Kind::Push(15))));
        assert_eq!(kind(&[0x48, 0x83, 0xec, 0x18]), Ok((4, Kind::Anywhere)));
        assert_eq!(kind(&[0x48, 0x8d, 0x3d, 1, 2, 3, 0]), Ok((7, Kind::Relative { at: 3 })));
        assert_eq!(kind(&[0x83, 0x3d, 1, 2, 3, 0, 9]), Ok((7, Kind::Relative { at: 2 })));
        assert_eq!(kind(&[0xc5, 0xf8, 0x10, 0x05, 1, 0, 0, 0]), Ok((8, Kind::Relative { at: 4 })));
        assert_eq!(kind(&[0xeb, 0xfe]), Ok((2, Kind::Jump { by: -2 })));
        assert_eq!(kind(&[0x74, 5]), Ok((2, Kind::Branch { opcode: 0x74, by: 5 })));
        assert_eq!(kind(&[0x0f, 0x85, 0, 1, 0, 0]), Ok((6, Kind::Branch { opcode: 0x75, by: 256 })));
        assert_eq!(kind(&[0xe3, 0x10]), Ok((2, Kind::Loop { opcode: 0xe3, narrow: false, by: 16 })));
        assert_eq!(kind(&[0xe8, 4, 0, 0, 0]), Ok((5, Kind::Call { by: 4 })));
        assert_eq!(kind(&[0xff, 0x15, 1, 0, 0, 0]), Ok((6, Kind::CallOperand { modrm_at: 1, relative: true })));
        assert_eq!(kind(&[0xff, 0xd0]), Ok((2, Kind::CallOperand { modrm_at: 1, relative: false })));
        // Through the stack pointer, which the return address moves.
        assert!(matches!(kind(&[0xff, 0x54, 0x24, 8]), Err(Unknown::Bound(_))));
        assert!(matches!(kind(&[0xcc]), Err(Unknown::Bound(_))));
        // Their lengths are known all the same, but for a jump that has two on two processors.
        let len = |bytes: &[u8]| parse(bytes).map(|(len, _)| len);
        assert_eq!((len(&[0xff, 0x54, 0x24, 8]), len(&[0xcc])), (Ok(4), Ok(1)));
        assert_eq!((len(&[0xc7, 0xf8, 1, 0, 0, 0]), len(&[0x48, 0x89, 0xc3])), (Ok(6), Ok(3)));
        assert!(matches!(len(&[0x66, 0xe9, 0, 0, 0, 0]), Err(Unknown::Bound(_))));
        // Of another mode, of APX, and cut.
        assert_eq!(kind(&[0x06]), Err(Unknown::Opcode));
        assert_eq!(kind(&[0xd5, 0x08, 0x50]), Err(Unknown::Opcode));
        assert_eq!(kind(&[0x48, 0x8d]), Err(Unknown::Cut));
        assert_eq!(kind(&[0x66; 20]), Err(Unknown::Opcode));
    }

    #[test]
    fn any_bytes_have_an_answer_that_reads_no_more_than_it_says() {
        let mut seed = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..200_000 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let bytes = [seed.to_le_bytes(), seed.rotate_left(31).to_le_bytes()].concat();
            if let Ok(insn) = decode(&bytes) {
                assert!((1..=MAX_LEN).contains(&insn.len.into()));
                assert_eq!(decode(&bytes[..insn.len.into()]), Ok(insn));
                assert_eq!(decode(&bytes[..usize::from(insn.len) - 1]), Err(Unknown::Cut));
            }
        }
    }

    /// llvm-objdump is the oracle, over all code of the largest programs and libraries that every machine has.
    #[test]
    fn lengths_are_those_of_a_disassembler() {
        let mut seen = 0;
        for file in ["/bin/bash", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libm.so.6"] {
            let tools = ["llvm-objdump-19", "llvm-objdump", "objdump"];
            // Some say nothing about some files, and do not call that an error.
            let output = tools.iter().find_map(|tool| {
                let output = Command::new(tool).args(["-d", "-w", file]).output().ok()?;
                (output.status.success() && output.stdout.len() > 1 << 20).then_some(output)
            });
            let Some(output) = output else { continue };
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                let Some((_, rest)) = line.split_once(':') else { continue };
                let Some((hex, text)) = rest.trim_start().split_once('\t') else { continue };
                let bytes: Option<Vec<u8>> =
                    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
                let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { continue };
                // Some show a prefix by itself, and what it belongs to on the next line.
                let is_prefix = matches!(text.trim(), "lock" | "rep" | "repne" | "data16");
                if text.contains("(bad)") || text.contains("<unknown>") || is_prefix {
                    continue;
                }
                match decode(&bytes) {
                    Ok(insn) => assert_eq!(usize::from(insn.len), bytes.len(), "{line}"),
                    Err(Unknown::Bound(_)) => {
                        assert!(parse(&bytes).is_ok_and(|(len, _)| usize::from(len) == bytes.len()), "{line}");
                    }
                    Err(unknown) => panic!("{unknown}: {line}"),
                }
                seen += 1;
            }
        }
        if seen == 0 {
            println!("skipped: needs llvm-objdump");
        }
    }
}
