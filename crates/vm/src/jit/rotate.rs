//! Rotations: BPF has none, so compilers write two shifts and an `or`.
//!
//! Two spellings are known, each of operations in a row that nothing jumps into:
//!
//! ```text
//! b = a;  b >>= N - n;  a <<= n;  a |= b           a is rotated in place
//! b = s;  b >>= N - n;  a = s;  a <<= n;  a |= b   a is s, rotated
//! ```
//!
//! and the same with the shifts the other way round. The other register must not be read any more; then the rotation is all that is
//! seen of them.

use skep_insn::{AluOp, Width};

use super::shape::Shape;
use crate::op::{Code, Op};

/// A rotation in place of some operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rotation {
    pub(super) width: Width,
    pub(super) dst: u8,
    pub(super) src: u8,
    /// Bits to the left.
    pub(super) left: u8,
    /// Operations.
    pub(super) len: usize,
}

/// Shifts by constants, to the left counted from 0 and to the right from the width.
fn shift(op: &Op, reg: u8, width: Width) -> Option<(bool, u8)> {
    let bits = bits(width);
    match Shape::of(op.code) {
        Shape::Alu { op: alu, width: of, imm: true } if of == width && op.dst == reg && op.imm < u64::from(bits) => {
            match alu {
                AluOp::Lsh => Some((true, op.imm as u8)),
                AluOp::Rsh => Some((false, bits - op.imm as u8)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn bits(width: Width) -> u8 {
    if width == Width::W32 { 32 } else { 64 }
}

fn is_move(op: &Op, width: Width) -> bool {
    match width {
        Width::W32 => matches!(op.code, Code::Mov32 | Code::Mov64),
        Width::W64 => op.code == Code::Mov64,
    }
}

/// The rotation that begins at `at`, if one does.
pub(super) fn at(ops: &[Op], leaders: &[bool], live_behind: &[u16], at: usize) -> Option<Rotation> {
    let first = ops.get(at)?;
    let found = [Width::W32, Width::W64].into_iter().find_map(|width| {
        is_move(first, width).then(|| in_place(&ops[at..], width).or_else(|| from_other(&ops[at..], width)))?
    })?;
    let (rotation, lost) = found;
    let alone = leaders.get(at + 1..at + rotation.len)?.iter().all(|leader| !leader);
    let dead = live_behind.get(at + rotation.len - 1)? >> (lost & 15) & 1 == 0;
    (alone && dead).then_some(rotation)
}

/// The last of them: `a |= b`, or with `+` or `^`, which is the same where no two bits meet.
fn joins(op: &Op, width: Width) -> bool {
    matches!(
        Shape::of(op.code),
        Shape::Alu { op: AluOp::Or | AluOp::Add | AluOp::Xor, width: of, imm: false } if of == width
    )
}

/// Left and right must make up the width.
fn left_of(one: (bool, u8), two: (bool, u8)) -> Option<u8> {
    (one.0 != two.0 && one.1 == two.1 && one.1 != 0).then_some(one.1)
}

fn in_place(ops: &[Op], width: Width) -> Option<(Rotation, u8)> {
    let [copy, one, two, join, ..] = ops else { return None };
    let (kept, lost) = (copy.src, copy.dst);
    if kept == lost || !joins(join, width) {
        return None;
    }
    let (of_lost, of_kept) = match (shift(one, lost, width), shift(one, kept, width)) {
        (Some(lost_shift), _) => (lost_shift, shift(two, kept, width)?),
        (_, Some(kept_shift)) => (shift(two, lost, width)?, kept_shift),
        _ => return None,
    };
    let left = left_of(of_lost, of_kept)?;
    // The result may be in either of them.
    let (dst, gone) = match (join.dst, join.src) {
        (dst, src) if (dst, src) == (kept, lost) => (kept, lost),
        (dst, src) if (dst, src) == (lost, kept) => (lost, kept),
        _ => return None,
    };
    Some((Rotation { width, dst, src: kept, left, len: 4 }, gone))
}

fn from_other(ops: &[Op], width: Width) -> Option<(Rotation, u8)> {
    let [copy, one, again, two, join, ..] = ops else { return None };
    let (src, lost, dst) = (copy.src, copy.dst, again.dst);
    if !is_move(again, width) || again.src != src || lost == dst || lost == src || !joins(join, width) {
        return None;
    }
    let left = left_of(shift(one, lost, width)?, shift(two, dst, width)?)?;
    match (join.dst, join.src) {
        (to, from) if (to, from) == (dst, lost) => Some((Rotation { width, dst, src, left, len: 5 }, lost)),
        (to, from) if (to, from) == (lost, dst) => Some((Rotation { width, dst: lost, src, left, len: 5 }, dst)),
        _ => None,
    }
}
