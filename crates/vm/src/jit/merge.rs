//! Numbers that are loaded byte by byte: compilers do so where a number need not stand at a multiple of its size.
//!
//! What a run of loads of bytes, shifts and `or` makes is followed through registers: each byte of a register is 0 or a byte of
//! memory. When a register has bytes that stand beside each other in memory, in one order or the other, and nobody reads the other
//! registers of the run any more, then one load of all of them does the same. The order of the operations does not matter.

use skep_insn::{AluOp, LoadType, Size, Width};

use super::facts::written;
use super::shape::Shape;
use crate::op::{Code, Op};

/// More operations than it takes to load 8 bytes.
const LONGEST: usize = 40;

/// One load in place of some operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) dst: u8,
    pub(super) base: u8,
    pub(super) off: i32,
    pub(super) size: Size,
    /// Whether the first byte in memory is the highest.
    pub(super) big_endian: bool,
    /// Operations.
    pub(super) len: usize,
}

/// The bytes of a register, the lowest first: 0, or one of memory at this distance from the base.
type Bytes = [Option<i32>; 8];

/// The longest load that begins at `at`, if one does.
pub(super) fn at(ops: &[Op], leaders: &[bool], live_behind: &[u16], at: usize) -> Option<Merged> {
    let base = ops[at].src;
    let mut regs: [Option<Bytes>; 11] = [None; 11];
    let mut touched = 0u16;
    let mut loads = 0;
    let mut best = None;
    for (len, op) in ops[at..].iter().enumerate().take(LONGEST) {
        if len > 0 && leaders[at + len] {
            break;
        }
        let of = |reg: u8| regs.get(usize::from(reg)).copied().flatten();
        let value = match (Shape::of(op.code), op.code) {
            (Shape::Load { ty: LoadType::U8 }, _) if op.src == base && touched >> base & 1 == 0 => {
                let mut bytes = Bytes::default();
                bytes[0] = Some(op.off);
                Some(bytes)
            }
            (Shape::Alu { op: AluOp::Lsh, width, imm: true }, _) => {
                of(op.dst).and_then(|it| shifted(it, width, op.imm))
            }
            (Shape::Alu { op: AluOp::Or, width, imm: false }, _) => {
                of(op.dst).zip(of(op.src)).and_then(|(a, b)| joined(a, b, width))
            }
            (_, Code::Mov64) => of(op.src),
            (_, Code::Mov32) => of(op.src).map(|it| cut(it, Width::W32)),
            _ => None,
        };
        let (Some(value), Some(dst)) = (value, written(op)) else { break };
        loads += u32::from(matches!(Shape::of(op.code), Shape::Load { .. }));
        let Some(place) = regs.get_mut(usize::from(dst)) else { break };
        *place = Some(value);
        touched |= 1 << dst;
        let unseen = live_behind.get(at + len).is_some_and(|live| live & touched & !(1 << dst) == 0);
        // A byte that is loaded for nothing may not be there, which stops the program.
        let all = |size: Size| size.len_bytes() == loads;
        if let Some((off, size, big_endian)) = beside(&value).filter(|(_, size, _)| unseen && all(*size)) {
            best = Some(Merged { dst, base, off, size, big_endian, len: len + 1 });
        }
    }
    best
}

fn cut(mut bytes: Bytes, width: Width) -> Bytes {
    if width == Width::W32 {
        bytes[4..].fill(None);
    }
    bytes
}

fn shifted(bytes: Bytes, width: Width, by: u64) -> Option<Bytes> {
    let places = usize::try_from(by / 8).ok().filter(|places| by.is_multiple_of(8) && *places < 8)?;
    let mut result = Bytes::default();
    result[places..].copy_from_slice(&bytes[..8 - places]);
    // Of more than the width only so much counts; compilers write no such shift.
    (by < 32 || width == Width::W64).then(|| cut(result, width))
}

fn joined(a: Bytes, b: Bytes, width: Width) -> Option<Bytes> {
    let mut result = a;
    for (byte, other) in result.iter_mut().zip(b) {
        match (&byte, other) {
            (_, None) => {}
            (None, other) => *byte = other,
            (Some(_), Some(_)) => return None,
        }
    }
    Some(cut(result, width))
}

/// Where the bytes of a number stand in memory, if they stand there beside each other: from where, how many, and whether the highest
/// is the first.
fn beside(bytes: &Bytes) -> Option<(i32, Size, bool)> {
    let count = bytes.iter().take_while(|byte| byte.is_some()).count();
    let size = match count {
        2 => Size::H,
        4 => Size::W,
        8 => Size::Dw,
        _ => return None,
    };
    if bytes[count..].iter().any(Option::is_some) {
        return None;
    }
    let (first, last) = (bytes[0]?, bytes[count - 1]?);
    let in_steps_of = |step: i32| {
        let mut wanted = Some(first);
        bytes[..count].iter().all(|byte| {
            let right = *byte == wanted;
            wanted = wanted.and_then(|off| off.checked_add(step));
            right
        })
    };
    if in_steps_of(1) {
        Some((first, size, false))
    } else if in_steps_of(-1) {
        Some((last, size, true))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use skep_insn::text;

    use super::*;
    use crate::jit::{facts, live};
    use crate::{Helpers, Image, Machine};

    fn merged(asm: &str) -> Option<Merged> {
        let insns = text::assemble(asm).unwrap().code;
        let machine = Machine::new(Helpers::none()).unwrap();
        let program = machine.load(&Image { insns: &insns, ..Image::default() }).unwrap();
        at(&program.ops, &facts::leaders(&program), &live::behind(&program), 0)
    }

    #[test]
    fn the_bytes_of_a_number_are_loaded_at_once() {
        let four = "r2 = *(u8 *)(r1 + 3)\nr3 = *(u8 *)(r1 + 4)\nr3 <<= 8\nr3 |= r2\nr2 = *(u8 *)(r1 + 5)\nr2 <<= 16\n\
                    r0 = *(u8 *)(r1 + 6)\nr0 <<= 24\nr0 |= r2\nr0 |= r3\nexit";
        let wanted = Merged { dst: 0, base: 1, off: 3, size: Size::W, big_endian: false, len: 10 };
        assert_eq!(merged(four), Some(wanted));
        let two = "r0 = *(u8 *)(r1 - 2)\nw0 <<= 8\nr2 = *(u8 *)(r1 - 1)\nw0 |= w2\nr0 += 1\nexit";
        let wanted = Merged { dst: 0, base: 1, off: -2, size: Size::H, big_endian: true, len: 4 };
        assert_eq!(merged(two), Some(wanted));
    }

    #[test]
    fn what_is_read_elsewhere_is_loaded_as_it_says() {
        let two = "r2 = *(u8 *)(r1 + 0)\nr0 = *(u8 *)(r1 + 1)\nr0 <<= 8\nr0 |= r2\n";
        assert!(merged(&format!("{two}exit")).is_some());
        assert_eq!(merged(&format!("{two}r0 += r2\nexit")), None);
        assert_eq!(merged("r0 = *(u8 *)(r1 + 0)\nexit"), None);
        assert_eq!(merged(&format!("r2 = *(u8 *)(r1 + 9)\n{two}exit")), None);
    }
}
