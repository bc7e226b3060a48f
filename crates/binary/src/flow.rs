//! Where an x86-64 instruction goes next, and what it does to registers that may have the number of a system call in them.
//!
//! Only as much as [`crate::calls`] must know to put a jump in the place of instructions: whether the next one is always the one that is
//! executed next, and if not, which others may be. What is not understood is [`Flow::Other`], or no step at all.

use crate::decode::{Kind, Unknown, parse};

/// Where an instruction goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next one; it may be executed elsewhere.
    Next,
    /// There, so many bytes from the next instruction.
    Jump(i32),
    /// There or to the next one.
    Branch(i32),
    /// There, and back to the next one.
    Call(i32),
    /// To what its operand says, and back to the next one.
    CallOperand,
    /// To what its operand says.
    JumpOperand {
        /// The operand is memory at a fixed place: a function of another file, never a label.
        fixed: bool,
    },
    /// To the caller.
    Return,
    /// To the kernel, and from there to the next one (`syscall`).
    Kernel,
    /// Nowhere: it is there to end the program (`hlt`, `ud2`).
    Nowhere,
    /// It never goes on, has to be where it is, or goes where this module does not look; there, if it says so.
    Other(Option<i32>),
}

/// An instruction and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// In bytes.
    pub len: u8,
    /// Where it goes.
    pub flow: Flow,
    /// It does nothing.
    pub is_nop: bool,
    /// An address of code or data that it names without touching it (`lea`), so many bytes from the next instruction.
    pub names: Option<i32>,
    /// Indirect jumps and calls may come here (`endbr64`).
    pub is_landing: bool,
}

/// The first of some instructions.
///
/// # Errors
///
/// When it is not known, or processors disagree on its length.
pub fn step(all: &[u8]) -> Result<Step, Unknown> {
    let (len, kind) = parse(all)?;
    let bytes = &all[..usize::from(len)];
    let mut step = Step { len, flow: Flow::Next, is_nop: false, names: None, is_landing: false };
    step.flow = match kind {
        Ok(Kind::Jump { by }) => Flow::Jump(by),
        Ok(Kind::Branch { by, .. }) => Flow::Branch(by),
        Ok(Kind::Loop { by, .. }) => Flow::Other(Some(by)),
        Ok(Kind::Call { by }) => Flow::Call(by),
        Ok(Kind::CallOperand { .. }) => Flow::CallOperand,
        Ok(Kind::Push(_)) => Flow::Next,
        Ok(Kind::Nothing) => {
            step.is_landing = bytes.ends_with(&[0x0f, 0x1e, 0xfa]);
            step.is_nop = !step.is_landing;
            Flow::Next
        }
        Ok(Kind::Relative { at }) => {
            if opcode(bytes).is_some_and(|rest| rest[0] == 0x8d) {
                step.names = bytes.get(at.into()..).and_then(<[u8]>::first_chunk).map(|by| i32::from_le_bytes(*by));
            }
            of_opcode(bytes, true)?
        }
        Ok(Kind::Anywhere) => of_opcode(bytes, false)?,
        Err(_) => match of_opcode(bytes, false)? {
            // A call by way of the stack pointer comes back.
            Flow::CallOperand => Flow::CallOperand,
            flow @ (Flow::Other(_) | Flow::Nowhere) => flow,
            _ => Flow::Other(None),
        },
    };
    Ok(step)
}

/// From the opcode on, past the prefixes.
fn opcode(bytes: &[u8]) -> Option<&[u8]> {
    let is_prefix =
        |byte: &u8| matches!(byte, 0x66 | 0x67 | 0xf2 | 0xf3 | 0xf0 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65);
    let rest = &bytes[bytes.iter().position(|byte| !is_prefix(byte))?..];
    let rest = if rest[0] & 0xf0 == 0x40 { &rest[1..] } else { rest };
    (!rest.is_empty()).then_some(rest)
}

/// Of an instruction that is no direct jump or call.
fn of_opcode(bytes: &[u8], relative: bool) -> Result<Flow, Unknown> {
    let rest = opcode(bytes).ok_or(Unknown::Opcode)?;
    let reg = rest.get(1).map_or(0, |modrm| modrm >> 3 & 7);
    Ok(match *rest {
        [0xc2 | 0xc3, ..] => Flow::Return,
        // Far returns, breakpoints, interrupts, and the direct far forms that 64-bit mode does not have.
        [0xca | 0xcb | 0xcc | 0xcd | 0xcf | 0xf1, ..] => Flow::Other(None),
        [0xf4, ..] | [0x0f, 0x0b | 0xb9 | 0xff, ..] => Flow::Nowhere,
        // The end of a transaction by hand, and its start, which names where it is when it failed.
        [0xc6, 0xf8, ..] => Flow::Other(None),
        [0xc7, 0xf8, a, b, c, d] => Flow::Other(Some(i32::from_le_bytes([a, b, c, d]))),
        [0xc7, 0xf8, ..] => return Err(Unknown::Opcode),
        [0xff, ..] => match reg {
            2 => Flow::CallOperand,
            3 | 5 => Flow::Other(None),
            4 => Flow::JumpOperand { fixed: relative },
            _ => Flow::Next,
        },
        [0x0f, 0x05, ..] => Flow::Kernel,
        // The kernel's own, and `sysenter`.
        [0x0f, 0x07..=0x09 | 0x30 | 0x32..=0x35 | 0xaa, ..] => Flow::Other(None),
        _ => Flow::Next,
    })
}

/// `rax`, as instructions count registers. System calls have their number in its lower half.
pub const RAX: u8 = 0;

/// What an instruction puts into the lower half of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// This number.
    Number(u32),
    /// What is in that of another one.
    Of(u8),
}

/// The prefix for registers above 7, or zero, and what is behind it.
fn rex(bytes: &[u8]) -> (u8, &[u8]) {
    match bytes {
        [rex, rest @ ..] if rex & 0xf0 == 0x40 => (*rex, rest),
        _ => (0, bytes),
    }
}

/// The two registers of an instruction without an operand in memory: that of the `reg` field and the other.
fn registers(rex: u8, modrm: u8) -> Option<(u8, u8)> {
    (modrm >> 6 == 3).then_some((modrm >> 3 & 7 | (rex & 4) << 1, modrm & 7 | (rex & 1) << 3))
}

/// What an instruction puts into a register: `mov` of a number or another register, and the two ways to say zero.
pub fn puts(bytes: &[u8], register: u8) -> Option<Put> {
    let (rex, rest) = rex(bytes);
    let (to, put) = match *rest {
        [op @ 0xb8..=0xbf, a, b, c, d, ..] if rest.len() == 5 || rest.len() == 9 => {
            (op & 7 | (rex & 1) << 3, Put::Number(u32::from_le_bytes([a, b, c, d])))
        }
        [0xc7, modrm, a, b, c, d] => match registers(rex, modrm)? {
            (_, to) if modrm >> 3 & 7 == 0 => (to, Put::Number(u32::from_le_bytes([a, b, c, d]))),
            _ => return None,
        },
        [0x31 | 0x33 | 0x29 | 0x2b, modrm] => match registers(rex, modrm)? {
            (to, other) if to == other => (to, Put::Number(0)),
            _ => return None,
        },
        [0x89, modrm] => registers(rex, modrm).map(|(from, to)| (to, Put::Of(from)))?,
        [0x8b, modrm] => registers(rex, modrm).map(|(to, from)| (to, Put::Of(from)))?,
        _ => return None,
    };
    (to == register).then_some(put)
}

/// Whether a register is after an instruction what it was before: `true` only for the forms that compilers put between a number and its
/// system call.
pub fn keeps(bytes: &[u8], register: u8) -> bool {
    let Some(rest) = opcode(bytes) else { return false };
    let rex = match bytes.len() - rest.len() {
        0 => 0,
        at => rex(&bytes[at - 1..]).0,
    };
    let named = |low: u8| low | (rex & 1) << 3;
    let Some(&modrm) = rest.get(1) else {
        // `push`, `pop` of another register, `nop`, `cld`.
        return match rest[0] {
            0x50..=0x57 | 0xfc => true,
            0x90 => rex & 1 == 0,
            0x58..=0x5f => named(rest[0] & 7) != register,
            _ => false,
        };
    };
    // Bytes have two names for parts of the first four: without a prefix, from 4 on they are their second bytes.
    let is_it = |low: u8, high: u8, byte: bool| {
        low | high << 3 == register || byte && high == 0 && low.checked_sub(4) == Some(register)
    };
    let reg = |byte| is_it(modrm >> 3 & 7, rex >> 2 & 1, byte);
    let operand = |byte| modrm >> 6 == 3 && is_it(modrm & 7, rex & 1, byte);
    match rest[0] {
        // Arithmetics of two operands: the first, or the second, or none is written.
        op @ 0x00..=0x37 if op & 7 < 4 => {
            if op & 2 == 0 {
                !operand(op & 1 == 0)
            } else {
                !reg(op & 1 == 0)
            }
        }
        0x38..=0x3d | 0x84 | 0x85 | 0xa8 | 0xa9 | 0x68 | 0x6a => true,
        0x63 | 0x69 | 0x6b | 0x8b | 0x8d => !reg(false),
        0x8a => !reg(true),
        0x80 | 0x88 | 0xc0 | 0xc6 | 0xd0 | 0xd2 => modrm != 0xf8 && !operand(true),
        0x81 | 0x83 | 0x89 | 0xc1 | 0xc7 | 0xd1 | 0xd3 => modrm != 0xf8 && !operand(false),
        op @ 0xb0..=0xb7 => !is_it(op & 7, rex & 1, true),
        op @ 0xb8..=0xbf => named(op & 7) != register,
        0x70..=0x7f => true,
        // `test`, `not`, `neg`; the others are multiplications and divisions.
        op @ (0xf6 | 0xf7) => match modrm >> 3 & 7 {
            0 => true,
            2 | 3 => !operand(op == 0xf6),
            _ => false,
        },
        0x0f => {
            // The second byte of the opcode is where ModRM is taken from above.
            let Some(&modrm) = rest.get(2) else { return false };
            let reg = is_it(modrm >> 3 & 7, rex >> 2 & 1, false);
            match rest[1] {
                0x10..=0x17 | 0x1f | 0x28 | 0x29 | 0x57 | 0x6f | 0x7f | 0x80..=0x8f | 0xef => true,
                0x1e => bytes == [0xf3, 0x0f, 0x1e, 0xfa],
                0x40..=0x4f | 0xb6 | 0xb7 | 0xbe | 0xbf => !reg,
                0x90..=0x9f => modrm >> 6 != 3 || !is_it(modrm & 7, rex & 1, true),
                _ => false,
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_instructions_go() {
        let flow = |bytes: &[u8]| step(bytes).map(|step| (usize::from(step.len), step.flow));
        let known: [(&[u8], Flow); 24] = [
            (&[0x48, 0x89, 0xdf], Flow::Next),
            (&[0x55], Flow::Next),
            (&[0x0f, 0x31], Flow::Next),
            (&[0xeb, 0xfe], Flow::Jump(-2)),
            (&[0x0f, 0x84, 1, 0, 0, 0], Flow::Branch(1)),
            (&[0xe3, 4], Flow::Other(Some(4))),
            (&[0xe8, 4, 0, 0, 0], Flow::Call(4)),
            (&[0xff, 0xd0], Flow::CallOperand),
            (&[0xff, 0x54, 0x24, 8], Flow::CallOperand),
            (&[0xff, 0xe0], Flow::JumpOperand { fixed: false }),
            (&[0x3e, 0xff, 0xe0], Flow::JumpOperand { fixed: false }),
            (&[0x41, 0xff, 0xe3], Flow::JumpOperand { fixed: false }),
            (&[0xff, 0x24, 0xc5, 0, 0, 0, 0], Flow::JumpOperand { fixed: false }),
            (&[0xff, 0x25, 0, 0, 0, 0], Flow::JumpOperand { fixed: true }),
            (&[0xf3, 0xc3], Flow::Return),
            (&[0xc2, 8, 0], Flow::Return),
            (&[0x0f, 0x05], Flow::Kernel),
            (&[0x48, 0x0f, 0x05], Flow::Kernel),
            (&[0xc7, 0xf8, 8, 0, 0, 0], Flow::Other(Some(8))),
            (&[0xcc], Flow::Other(None)),
            (&[0xff, 0x28], Flow::Other(None)),
            (&[0x0f, 0xb9, 0xc0], Flow::Nowhere),
            (&[0x0f, 0x0b], Flow::Nowhere),
            (&[0xf4], Flow::Nowhere),
        ];
        for (bytes, expected) in known {
            assert_eq!(flow(bytes), Ok((bytes.len(), expected)), "{bytes:02x?}");
        }
        assert!(flow(&[0x66, 0xe9, 0, 0, 0, 0]).is_err() && flow(&[0x66, 0xc7, 0xf8, 0, 0]).is_err());
        // `vmovd` has the bytes of `ret` and of `syscall` in it, but is neither.
        assert_eq!(flow(&[0xc5, 0xf9, 0x6e, 0xc3]), Ok((4, Flow::Next)));
        assert_eq!(step(&[0x48, 0x8d, 0x0d, 5, 0, 0, 0]).map(|step| step.names), Ok(Some(5)));
        assert_eq!(step(&[0x48, 0x8b, 0x0d, 5, 0, 0, 0]).map(|step| step.names), Ok(None));
        let is = |bytes: &[u8]| step(bytes).map(|step| (step.is_nop, step.is_landing));
        assert_eq!(is(&[0xf3, 0x0f, 0x1e, 0xfa]), Ok((false, true)));
        assert_eq!(is(&[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0]), Ok((true, false)));
    }

    #[test]
    fn what_is_done_to_the_number() {
        let keep: [&[u8]; 16] = [
            &[0x89, 0xc7],                   // mov %eax, %edi
            &[0x41, 0x89, 0xc0],             // mov %eax, %r8d
            &[0x49, 0x89, 0xc8],             // mov %rcx, %r8
            &[0x8b, 0x38],                   // mov (%rax), %edi
            &[0x41, 0xb8, 1, 0, 0, 0],       // mov $1, %r8d
            &[0x45, 0x31, 0xc0],             // xor %r8d, %r8d
            &[0x48, 0x83, 0xec, 8],          // sub $8, %rsp
            &[0x83, 0xf9, 1],                // cmp $1, %ecx
            &[0x41, 0x58],                   // pop %r8
            &[0x50],                         // push %rax
            &[0x4c, 0x63, 0xc0],             // movslq %eax, %r8
            &[0x0f, 0xb6, 0xf8],             // movzbl %al, %edi
            &[0x48, 0x89, 0x04, 0x24],       // mov %rax, (%rsp)
            &[0x0f, 0x29, 0x44, 0x24, 0x10], // movaps %xmm0, 0x10(%rsp)
            &[0xf7, 0xd9],                   // neg %ecx
            &[0xf6, 0xc1, 1],                // test $1, %cl
        ];
        let lose: [&[u8]; 21] = [
            &[0x89, 0xf8],             // mov %edi, %eax
            &[0x41, 0x8b, 0x00],       // mov (%r8), %eax
            &[0x4c, 0x89, 0xc0],       // mov %r8, %rax
            &[0x8b, 0x00],             // mov (%rax), %eax
            &[0x83, 0xc0, 1],          // add $1, %eax
            &[0x05, 1, 0, 0, 0],       // add $1, %eax
            &[0x04, 1],                // add $1, %al
            &[0x00, 0xc4],             // add %al, %ah
            &[0xb4, 1],                // mov $1, %ah
            &[0xb0, 1],                // mov $1, %al
            &[0x58],                   // pop %rax
            &[0x49, 0x90],             // xchg %r8, %rax
            &[0x91],                   // xchg %eax, %ecx
            &[0x87, 0xc8],             // xchg %ecx, %eax
            &[0x0f, 0xa2],             // cpuid
            &[0x0f, 0x94, 0xc0],       // sete %al
            &[0x48, 0x98],             // cltq
            &[0xf7, 0xe1],             // mul %ecx
            &[0xf7, 0xd8],             // neg %eax
            &[0xf6, 0xd4],             // not %ah
            &[0xf0, 0x0f, 0xb1, 0x0f], // lock cmpxchg %ecx, (%rdi)
        ];
        for bytes in keep {
            assert!(keeps(bytes, RAX), "{bytes:02x?}");
        }
        for bytes in lose {
            assert!(!keeps(bytes, RAX), "{bytes:02x?}");
        }
        assert_eq!(puts(&[0xb8, 231, 0, 0, 0], RAX), Some(Put::Number(231)));
        assert_eq!(puts(&[0x41, 0xb8, 231, 0, 0, 0], RAX), None);
        assert_eq!(puts(&[0x33, 0xc0], RAX), Some(Put::Number(0)));
        assert_eq!(puts(&[0x31, 0xc9], RAX), None);
    }

    #[test]
    fn every_register_may_have_a_number() {
        const EDX: u8 = 2;
        const R10: u8 = 10;
        let puts_all: [(&[u8], u8, Put); 8] = [
            (&[0xba, 60, 0, 0, 0], EDX, Put::Number(60)),       // mov $60, %edx
            (&[0x41, 0xba, 60, 0, 0, 0], R10, Put::Number(60)), // mov $60, %r10d
            (&[0x49, 0xba, 60, 0, 0, 0, 0, 0, 0, 0], R10, Put::Number(60)), // movabs $60, %r10
            (&[0x49, 0xc7, 0xc2, 60, 0, 0, 0], R10, Put::Number(60)), // mov $60, %r10
            (&[0x45, 0x31, 0xd2], R10, Put::Number(0)),         // xor %r10d, %r10d
            (&[0x89, 0xd0], RAX, Put::Of(EDX)),                 // mov %edx, %eax
            (&[0x44, 0x8b, 0xd2], R10, Put::Of(EDX)),           // mov %edx, %r10d
            (&[0x44, 0x89, 0xd0], RAX, Put::Of(R10)),           // mov %r10d, %eax
        ];
        for (bytes, register, put) in puts_all {
            assert_eq!(puts(bytes, register), Some(put), "{bytes:02x?}");
            assert!(!keeps(bytes, register), "{bytes:02x?}");
            for other in (0..16).filter(|other| *other != register) {
                assert_eq!(puts(bytes, other), None, "{bytes:02x?} {other}");
                assert!(keeps(bytes, other), "{bytes:02x?} {other}");
            }
        }
        // Half of it, `mov (%rdx), %eax`, `or $60, %edx`, `xor %r10d, %edx`: something else than a number.
        let none: [&[u8]; 5] =
            [&[0x66, 0xba, 60, 0], &[0x66, 0x89, 0xc2], &[0x8b, 0x10], &[0x83, 0xca, 60], &[0x44, 0x31, 0xd2]];
        for bytes in none {
            assert_eq!((puts(bytes, EDX), keeps(bytes, EDX)), (None, false), "{bytes:02x?}");
        }
        // `mov $1, %dh`, `mov $1, %sil`, `pop %r10`, `sete %dh`.
        assert!(!keeps(&[0xb6, 1], EDX) && keeps(&[0xb6, 1], R10) && keeps(&[0x40, 0xb6, 1], R10));
        assert!(!keeps(&[0x40, 0xb6, 1], 6) && !keeps(&[0x41, 0x5a], R10) && keeps(&[0x41, 0x5a], EDX));
        assert!(!keeps(&[0x0f, 0x94, 0xc6], EDX) && keeps(&[0x0f, 0x94, 0xc6], R10));
    }
}
