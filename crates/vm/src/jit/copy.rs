//! Small functions, copied to where they are called.
//!
//! A function that only computes needs no frame: it touches no memory, calls nothing, and leaves r6 to r10 alone. What is left of a call
//! to it is what may go wrong, too many frames and too little fuel, and its operations. Its own code is there all the same,
//! for whoever comes by its address.

use super::Call;
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

/// A function that is being copied, and what the labels of its own code are meanwhile.
pub(super) struct Copied<L> {
    start: usize,
    own: Vec<L>,
    /// Where it goes on behind the copy.
    pub(super) end: L,
}

impl<L> Copied<L> {
    /// From here on the labels of the function's slots, up to `end`, are the copy's.
    pub(super) fn begin(slots: &mut Vec<L>, call: Call, end: u32, mut label: impl FnMut() -> L) -> Copied<L> {
        let fresh: Vec<L> = (call.target..end).map(|_| label()).collect();
        let start = call.target as usize;
        Copied { start, own: slots.splice(start..end as usize, fresh).collect(), end: label() }
    }

    /// They are its own again; gives where it goes on.
    pub(super) fn end(self, slots: &mut Vec<L>) -> L {
        slots.splice(self.start..self.start + self.own.len(), self.own);
        self.end
    }
}
