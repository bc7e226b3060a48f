//! The stack of one function.
//!
//! ```text
//! fp - 0    ┌──────────────────────┐
//!           │ slots of the function│  those whose lives do not meet share their bytes
//!           ├──────────────────────┤
//!           │ spilled values       │  8 bytes each, shared in the same way
//! fp - 512  └──────────────────────┘  at most (MAX_BPF_STACK, include/linux/filter.h)
//! ```
//!
//! # Lives of slots
//!
//! A slot lives from any access to any later access: where an access can have happened before *and* can happen after. An access
//! is an instruction that names the slot, or that uses an address made from it. Addresses are followed through sums and signs,
//! block parameters and results of calls that take them; a slot whose address is stored somewhere is alive everywhere. What
//! two slots never hold at the same time can lie at the same place, whatever the order in which they are written.

use skep_insn::AluOp;

use super::live::{Line, Range};
use crate::ir::{Base, Function, Op, Operand, Slot, SlotData};

/// `MAX_BPF_STACK`, in bytes.
pub(super) const MAX_STACK: u32 = 512;

/// Offsets from the frame pointer, all negative.
#[derive(Debug)]
pub(super) struct Frame {
    slots: Vec<i32>,
    /// Bytes used by slots.
    pub(super) slot_bytes: u32,
    /// 8-byte words below the slots.
    pub(super) words: u32,
}

impl Frame {
    /// Lays out the slots.
    pub(super) fn new(function: &Function, line: &Line) -> Frame {
        let lives = slot_lives(function, line);
        // One that nobody accesses, since its variables became values, takes no place.
        let mut order: Vec<usize> = (0..function.slots.len()).filter(|index| !lives[*index].is_empty()).collect();
        // Big ones first, so that small ones fill what is left.
        order.sort_by_key(|index| std::cmp::Reverse((function.slots[*index].align, function.slots[*index].size)));
        let mut placed: Vec<(usize, u32, u32)> = Vec::new();
        let mut slots = vec![0; function.slots.len()];
        for index in order {
            let SlotData { size, align } = function.slots[index];
            let mut others: Vec<(u32, u32)> = placed
                .iter()
                .filter(|(other, ..)| meet(&lives[index], &lives[*other]))
                .map(|&(_, start, end)| (start, end))
                .collect();
            others.sort_unstable();
            // Bytes are counted downwards from the frame pointer: `end` is the distance of the first byte.
            let mut end = size.next_multiple_of(align);
            for (start, other_end) in others {
                if start < end && end - size < other_end {
                    end = (other_end + size).next_multiple_of(align);
                }
            }
            placed.push((index, end - size, end));
            slots[index] = -(end as i32);
        }
        let slot_bytes = placed.iter().map(|(.., end)| *end).max().unwrap_or(0);
        Frame { slots, slot_bytes: slot_bytes.next_multiple_of(8), words: 0 }
    }

    /// Where a slot begins.
    pub(super) fn slot(&self, slot: Slot) -> i32 {
        self.slots[slot.0 as usize]
    }

    /// Where word `index` below the slots begins.
    pub(super) fn word(&mut self, index: u32) -> i32 {
        self.words = self.words.max(index + 1);
        -((self.slot_bytes + 8 * (index + 1)) as i32)
    }

    /// Bytes in all.
    pub(super) fn size(&self) -> u32 {
        self.slot_bytes + 8 * self.words
    }
}

/// Whether two sorted lists of stretches have a position in common.
pub(super) fn meet(a: &[Range], b: &[Range]) -> bool {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    while let (Some(first), Some(second)) = (a.peek(), b.peek()) {
        if first.start < second.end && second.start < first.end {
            return true;
        }
        if first.end <= second.end {
            a.next()
        } else {
            b.next()
        };
    }
    false
}

/// By value: the slots that it may be an address of, as sorted numbers.
fn addresses(function: &Function, line: &Line) -> Vec<Vec<u32>> {
    fn join(into: &mut Vec<u32>, from: &[u32]) -> bool {
        let before = into.len();
        for slot in from {
            if let Err(at) = into.binary_search(slot) {
                into.insert(at, *slot);
            }
        }
        into.len() > before
    }
    let mut of: Vec<Vec<u32>> = vec![Vec::new(); function.values as usize];
    let mut changed = true;
    while changed {
        changed = false;
        for here in &line.blocks {
            let data = &function.blocks[here.block.0 as usize];
            for insn in &data.insns {
                let Some(result) = insn.result else { continue };
                let mut found: Vec<u32> = Vec::new();
                match &insn.op {
                    Op::SlotAddr(slot, _) => found.push(slot.0),
                    Op::Alu { op: AluOp::Add | AluOp::Sub, .. }
                    | Op::Neg(..)
                    | Op::Call { .. }
                    | Op::CallFunc { .. }
                    | Op::CallKfunc { .. } => insn.op.each_use(|it| {
                        join(&mut found, &of[it.0 as usize]);
                    }),
                    _ => continue,
                }
                changed |= join(&mut of[result.0 as usize], &found);
            }
            for target in data.end.targets() {
                for (arg, param) in target.args.iter().zip(&function.blocks[target.block.0 as usize].params) {
                    let from = of[arg.0 as usize].clone();
                    changed |= join(&mut of[param.0 as usize], &from);
                }
            }
        }
    }
    of
}

/// By slot: where it lives.
fn slot_lives(function: &Function, line: &Line) -> Vec<Vec<Range>> {
    let n = function.slots.len();
    let of = addresses(function, line);
    // By block of the line and slot: first and last access inside.
    let mut inside: Vec<Vec<Option<(u32, u32)>>> = vec![vec![None; n]; line.blocks.len()];
    let mut everywhere = vec![false; n];
    for (at, here) in line.blocks.iter().enumerate() {
        let data = &function.blocks[here.block.0 as usize];
        let mut access = |slot: u32, number: u32| {
            let entry = &mut inside[at][slot as usize];
            *entry = Some((entry.map_or(number, |(first, _)| first), number));
        };
        for (number, insn) in (here.first..).zip(&data.insns) {
            match &insn.op {
                Op::Load { base: Base::Slot(slot), .. }
                | Op::AtomicAdd { base: Base::Slot(slot), .. }
                | Op::Store { base: Base::Slot(slot), .. }
                | Op::SlotAddr(slot, _) => access(slot.0, number),
                _ => {}
            }
            insn.op.each_use(|value| of[value.0 as usize].iter().for_each(|slot| access(*slot, number)));
            if let Op::Store { value: Operand::Value(value), .. } | Op::AtomicAdd { value, .. } = &insn.op {
                of[value.0 as usize].iter().for_each(|slot| everywhere[*slot as usize] = true);
            }
        }
        data.end.each_use(|value| of[value.0 as usize].iter().for_each(|slot| access(*slot, here.last)));
    }
    // Whether an access can have happened before the block, and can happen after it.
    let m = line.blocks.len();
    let place = |block| line.place_of(block);
    let (mut before, mut after) = (vec![vec![false; n]; m], vec![vec![false; n]; m]);
    let mut changed = true;
    while changed {
        changed = false;
        for at in 0..m {
            for next in function.blocks[line.blocks[at].block.0 as usize].end.successors().map(place) {
                for slot in 0..n {
                    let passes = before[at][slot] || inside[at][slot].is_some();
                    changed |= passes && !std::mem::replace(&mut before[next][slot], true);
                    let comes = after[next][slot] || inside[next][slot].is_some();
                    changed |= comes && !std::mem::replace(&mut after[at][slot], true);
                }
            }
        }
    }
    (0..n)
        .map(|slot| {
            let mut ranges: Vec<Range> = Vec::new();
            for (at, here) in line.blocks.iter().enumerate() {
                let (before, after) = (before[at][slot], after[at][slot]);
                let range = match inside[at][slot] {
                    _ if everywhere[slot] => Range { start: here.start(), end: here.end() },
                    None if before && after => Range { start: here.start(), end: here.end() },
                    None => continue,
                    Some((first, last)) => Range {
                        start: if before { here.start() } else { 2 * first },
                        end: if after { here.end() } else { 2 * last + 2 },
                    },
                };
                ranges.push(range);
            }
            ranges
        })
        .collect()
}
