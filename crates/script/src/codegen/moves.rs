//! Parallel copies: many moves that happen at once, put into an order.
//!
//! On an edge every parameter of the block gets its value from places that other moves may be about to overwrite. A move can go
//! first when nobody else reads its destination. When all that are left wait for each other they form rings; one
//! value of a ring is kept elsewhere, which opens it. Values that are made anew read no place and come last.
//!
//! BPF has no exchange and no move from stack to stack. What needs one more register takes a free one, or borrows one that
//! is kept on the stack meanwhile.

use crate::ir::Op;

/// A place that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Spot {
    /// r0 to r9.
    Reg(u8),
    /// 8 bytes of stack that the allocator uses.
    Stack(Spill),
}

/// 8 bytes of stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Spill {
    /// For values, by number.
    Value(u32),
    /// For the content of a borrowed register.
    Borrowed,
    /// For a value that opens a ring.
    Ring,
}

/// What is moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// What is at a place.
    Spot(Spot),
    /// A constant or an address.
    Made(Op),
}

/// One of several moves at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) to: Spot,
    pub(super) from: Source,
}

/// One move after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Register to register.
    Copy(u8, u8),
    /// Stack to register.
    Reload(u8, Spill),
    /// Register to stack.
    Spill(Spill, u8),
    /// A number to the stack.
    SpillImm(Spill, i32),
    /// A constant or an address to a register.
    Make(u8, Op),
}

/// Orders moves whose destinations differ from each other. `free` are registers that hold nothing.
pub(super) fn order(moves: Vec<Move>, free: &[u8]) -> Vec<Step> {
    let mut order = Order { steps: Vec::new(), free };
    let mut pending: Vec<(Spot, Spot)> = Vec::new();
    let mut made: Vec<(Spot, Op)> = Vec::new();
    for Move { to, from } in moves {
        match from {
            Source::Spot(from) if from == to => {}
            Source::Spot(from) => pending.push((to, from)),
            Source::Made(op) => made.push((to, op)),
        }
    }
    while !pending.is_empty() {
        let ready = pending.iter().position(|(to, _)| pending.iter().all(|(_, from)| from != to));
        match ready {
            Some(index) => {
                let (to, from) = pending.swap_remove(index);
                order.step(to, from, &pending, &made);
            }
            None => {
                // Only rings are left.
                let (_, from) = pending[0];
                let kept = order.keep(from, &pending, &made);
                pending.iter_mut().filter(|(_, it)| *it == from).for_each(|(_, it)| *it = kept);
            }
        }
    }
    while let Some((to, op)) = made.pop() {
        match (to, &op) {
            (Spot::Reg(to), _) => order.steps.push(Step::Make(to, op)),
            (Spot::Stack(to), Op::Const(number)) if i32::try_from(*number).is_ok() => {
                order.steps.push(Step::SpillImm(to, *number as i32));
            }
            (Spot::Stack(to), _) => order.with_register(&[], &made, |reg, steps| {
                steps.push(Step::Make(reg, op.clone()));
                steps.push(Step::Spill(to, reg));
            }),
        }
    }
    order.steps
}

struct Order<'a> {
    steps: Vec<Step>,
    free: &'a [u8],
}

impl Order<'_> {
    fn step(&mut self, to: Spot, from: Spot, pending: &[(Spot, Spot)], made: &[(Spot, Op)]) {
        match (to, from) {
            (Spot::Reg(to), Spot::Reg(from)) => self.steps.push(Step::Copy(to, from)),
            (Spot::Reg(to), Spot::Stack(from)) => self.steps.push(Step::Reload(to, from)),
            (Spot::Stack(to), Spot::Reg(from)) => self.steps.push(Step::Spill(to, from)),
            (Spot::Stack(to), Spot::Stack(from)) => self.with_register(pending, made, |reg, steps| {
                steps.push(Step::Reload(reg, from));
                steps.push(Step::Spill(to, reg));
            }),
        }
    }

    /// Copies the value of a ring away.
    fn keep(&mut self, from: Spot, pending: &[(Spot, Spot)], made: &[(Spot, Op)]) -> Spot {
        let kept = match from {
            Spot::Reg(_) => self.idle(pending, made).map_or(Spot::Stack(Spill::Ring), Spot::Reg),
            Spot::Stack(_) => Spot::Stack(Spill::Ring),
        };
        self.step(kept, from, pending, made);
        kept
    }

    /// A register that neither holds something nor will: the destinations of moves that are done count as holding.
    fn idle(&self, pending: &[(Spot, Spot)], made: &[(Spot, Op)]) -> Option<u8> {
        self.free.iter().copied().find(|reg| {
            let spot = Spot::Reg(*reg);
            pending.iter().all(|(to, from)| *to != spot && *from != spot)
                && made.iter().all(|(to, _)| *to != spot)
                && self.steps.iter().all(|step| !step.writes(*reg))
        })
    }

    /// Does something with a register that nobody misses.
    fn with_register(&mut self, pending: &[(Spot, Spot)], made: &[(Spot, Op)], work: impl FnOnce(u8, &mut Vec<Step>)) {
        match self.idle(pending, made) {
            Some(reg) => work(reg, &mut self.steps),
            None => {
                const LENT: u8 = 6;
                self.steps.push(Step::Spill(Spill::Borrowed, LENT));
                work(LENT, &mut self.steps);
                self.steps.push(Step::Reload(LENT, Spill::Borrowed));
            }
        }
    }
}

impl Step {
    fn writes(&self, reg: u8) -> bool {
        match self {
            Step::Copy(to, _) | Step::Reload(to, _) | Step::Make(to, _) => *to == reg,
            Step::Spill(..) | Step::SpillImm(..) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Runs the steps on numbers and looks whether all moves happened as if at once.
    fn check(moves: &[(Spot, Spot)], free: &[u8]) -> usize {
        let all = moves.iter().map(|&(to, from)| Move { to, from: Source::Spot(from) }).collect();
        let steps = order(all, free);
        let spots =
            |count| (0..count).map(Spot::Reg).chain((0..u32::from(count)).map(|it| Spot::Stack(Spill::Value(it))));
        let before: HashMap<Spot, u32> = spots(10).zip(100..).collect();
        let mut state = before.clone();
        for step in &steps {
            let (to, from) = match *step {
                Step::Copy(to, from) => (Spot::Reg(to), Spot::Reg(from)),
                Step::Reload(to, from) => (Spot::Reg(to), Spot::Stack(from)),
                Step::Spill(to, from) => (Spot::Stack(to), Spot::Reg(from)),
                _ => unreachable!(),
            };
            state.insert(to, state[&from]);
        }
        for spot in spots(10) {
            let from = moves.iter().find(|(to, _)| *to == spot).map_or(spot, |(_, from)| *from);
            if !matches!(spot, Spot::Reg(reg) if free.contains(&reg)) || from != spot {
                assert_eq!(state[&spot], before[&from], "{spot:?} after {steps:?}");
            }
        }
        steps.len()
    }

    #[test]
    fn chains_rings_and_stack_to_stack() {
        let (r, s) = (Spot::Reg, |it| Spot::Stack(Spill::Value(it)));
        assert_eq!(check(&[(r(1), r(2)), (r(2), r(3))], &[]), 2);
        assert_eq!(check(&[(r(1), r(2)), (r(2), r(1))], &[5]), 3);
        assert_eq!(check(&[(r(1), r(2)), (r(2), r(1))], &[]), 3);
        assert_eq!(check(&[(s(1), s(2)), (s(2), s(1)), (r(6), s(1))], &[]), 13);
        assert_eq!(check(&[(s(1), s(2)), (r(6), r(7)), (r(7), r(6))], &[0]), 5);
        assert_eq!(check(&[(r(1), r(1)), (r(2), r(1))], &[]), 1);
    }

    #[test]
    fn any_moves_happen_as_if_at_once() {
        let mut random = 1u32;
        for _ in 0..5000 {
            let mut next = |below: u32| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 16) % below
            };
            let spot = |n: u32| if n < 10 { Spot::Reg(n as u8) } else { Spot::Stack(Spill::Value(n - 10)) };
            let free: Vec<u8> = if next(2) == 0 { vec![8, 9] } else { vec![] };
            let usable = |it: &Spot| !matches!(it, Spot::Reg(reg) if free.contains(reg));
            let mut moves: Vec<(Spot, Spot)> = Vec::new();
            for _ in 0..next(12) {
                let (to, from) = (spot(next(20)), spot(next(20)));
                if usable(&from) && moves.iter().all(|(it, _)| *it != to) {
                    moves.push((to, from));
                }
            }
            check(&moves, &free);
        }
    }
}
