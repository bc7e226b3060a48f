//! Small functions, copied to where they are called.
//!
//! A function that only computes needs no frame: it touches no memory, calls nothing, and leaves r6 to r10 alone. What is left of a call
//! to it is what may go wrong, too many frames and too little fuel, and its operations. Its own code is there all the same,
//! for whoever comes by its address.

use super::facts::written;
use super::shape::Shape;
use crate::op::Op;

/// More slots than this are called.
const MOST: usize = 24;

/// Whether a function is such a one.
pub(super) fn fits(ops: &[Op]) -> bool {
    ops.len() <= MOST && ops.iter().all(is_plain)
}

fn is_plain(op: &Op) -> bool {
    let keeps = written(op).is_none_or(|reg| reg < 6);
    let only_computes = matches!(
        Shape::of(op.code),
        Shape::Alu { .. } | Shape::Branch { .. } | Shape::Move | Shape::Jump | Shape::Nothing | Shape::Exit
    );
    only_computes && keeps && op.dst != 10 && op.src != 10
}
