//! From instructions with labels to slots.
//!
//! 1. **Jumps** ([`thread`]): one that leads to another jump goes to its end; what nothing leads to any more goes (the verifier
//!    refuses unreachable instructions); a branch around a jump is inverted; a jump to the next instruction goes.
//! 2. **Islands** ([`reach`]): distances of `goto` and branches have 16 bits. A `goto` that has to reach further is a `gotol` with ISA
//!    v4; below that, and for branches, a `goto` half way takes it on.
//! 3. **Slots** ([`assemble`]).

use std::collections::{BTreeSet, HashMap};

use skep_insn::{Insn, InsnIdx, RawInsn};
use skep_spec::function::Reference;

use super::emit::{Code, Item, Label};
use crate::Span;
use crate::passes::inverse;

/// The slots of a function, and what they are about.
#[derive(Debug)]
pub(super) struct Assembled {
    pub(super) insns: Vec<RawInsn>,
    pub(super) references: Vec<Reference>,
    /// Places in the script, each for the slots from there on.
    pub(super) spans: Vec<(InsnIdx, Span)>,
}

/// How far a branch may lead, in slots. A little less than 2^15, so that an island may still grow.
const REACH: i64 = 32_000;

/// Makes slots of a function.
pub(super) fn assemble(mut code: Code, isa: u8) -> Assembled {
    thread(&mut code);
    reach(&mut code, isa, REACH);
    let at = addresses(&code.items);
    let mut out = Assembled { insns: Vec::new(), references: Vec::new(), spans: Vec::new() };
    for (item, span) in &code.items {
        let here = out.insns.len() as u32;
        let distance = |to: &Label| at.get(to).map_or(0, |to| i64::from(*to) - i64::from(here) - 1);
        let insn = match item {
            Item::Label(_) => continue,
            Item::Plain(insn) => *insn,
            Item::Refers(insn, target) => {
                out.references.push(Reference { insn: InsnIdx(here), target: *target });
                *insn
            }
            Item::Jump(to) => match i16::try_from(distance(to)) {
                Ok(off) => Insn::Jump { off },
                Err(_) => Insn::JumpLong { off: distance(to) as i32 },
            },
            Item::Branch { width, cond, a, b, to } => {
                Insn::Branch { width: *width, cond: *cond, dst: *a, src: *b, off: distance(to) as i16 }
            }
        };
        if out.spans.last().is_none_or(|(_, last)| last != span) {
            out.spans.push((InsnIdx(here), *span));
        }
        out.insns.extend(insn.encode());
    }
    out
}

fn len_slots(item: &Item) -> u32 {
    match item {
        Item::Label(_) => 0,
        Item::Plain(insn) | Item::Refers(insn, _) => insn.len_slots(),
        Item::Jump(_) | Item::Branch { .. } => 1,
    }
}

fn addresses(items: &[(Item, Span)]) -> HashMap<Label, u32> {
    let mut at = HashMap::new();
    let mut here = 0;
    for (item, _) in items {
        if let Item::Label(label) = item {
            at.insert(*label, here);
        }
        here += len_slots(item);
    }
    at
}

/// Whether nothing comes behind an item.
fn ends(item: &Item) -> bool {
    matches!(item, Item::Jump(_) | Item::Plain(Insn::Exit))
}

fn thread(code: &mut Code) {
    let mut changed = true;
    while changed {
        changed = retarget(&mut code.items) | invert(&mut code.items) | drop_dead(&mut code.items);
    }
}

/// Leads jumps to the end of the chain that they begin.
fn retarget(items: &mut [(Item, Span)]) -> bool {
    let mut onward: HashMap<Label, Label> = HashMap::new();
    let mut labels = Vec::new();
    for (item, _) in items.iter() {
        match item {
            Item::Label(label) => labels.push(*label),
            Item::Jump(to) => onward.extend(labels.drain(..).map(|label| (label, *to))),
            _ => labels.clear(),
        }
    }
    let end_of = |start: Label| {
        let mut at = start;
        // A ring of jumps is an endless loop of the function; it stays one.
        for _ in 0..onward.len() {
            match onward.get(&at) {
                Some(next) if *next != start => at = *next,
                _ => break,
            }
        }
        at
    };
    let mut changed = false;
    for (item, _) in items {
        if let Item::Jump(to) | Item::Branch { to, .. } = item {
            let end = end_of(*to);
            changed |= end != *to;
            *to = end;
        }
    }
    changed
}

/// `if a goto x; goto y; x:` is `if !a goto y; x:`.
fn invert(items: &mut [(Item, Span)]) -> bool {
    let mut changed = false;
    for at in 0..items.len() {
        let Item::Branch { width, cond, a, b, to } = items[at].0 else { continue };
        let Some((Item::Jump(other), _)) = items.get(at + 1) else { continue };
        let other = *other;
        let follows = |label: Label, from: usize| {
            items[from..]
                .iter()
                .map_while(|(item, _)| match item {
                    Item::Label(label) => Some(*label),
                    _ => None,
                })
                .any(|it| it == label)
        };
        if follows(to, at + 2)
            && !follows(other, at + 2)
            && let Some(cond) = inverse(cond)
        {
            items[at].0 = Item::Branch { width, cond, a, b, to: other };
            items[at + 1].0 = Item::Jump(to);
            changed = true;
        }
    }
    changed
}

/// Takes away what nothing leads to, and jumps to what comes next anyway.
fn drop_dead(items: &mut Vec<(Item, Span)>) -> bool {
    let used: BTreeSet<Label> = items
        .iter()
        .filter_map(|(item, _)| match item {
            Item::Jump(to) | Item::Branch { to, .. } => Some(*to),
            _ => None,
        })
        .collect();
    let before = items.len();
    let mut reachable = true;
    items.retain(|(item, _)| {
        if let Item::Label(label) = item {
            let keep = used.contains(label);
            reachable |= keep;
            return keep;
        }
        let keep = reachable;
        reachable &= !ends(item);
        keep
    });
    // From the end, so that the labels behind an item are known.
    let mut behind: Vec<Label> = Vec::new();
    let mut keep = vec![true; items.len()];
    for (at, (item, _)) in items.iter().enumerate().rev() {
        match item {
            Item::Label(label) => behind.push(*label),
            Item::Jump(to) | Item::Branch { to, .. } if behind.contains(to) => keep[at] = false,
            _ => behind.clear(),
        }
    }
    let mut keep = keep.into_iter();
    items.retain(|_| keep.next().unwrap_or(true));
    items.len() != before
}

/// Puts islands where a jump has to go further than it can.
fn reach(code: &mut Code, isa: u8, reach: i64) {
    loop {
        let at = addresses(&code.items);
        if at.values().all(|it| i64::from(*it) < reach) {
            return;
        }
        let mut starts = Vec::with_capacity(code.items.len());
        let mut here = 0i64;
        for (item, _) in &code.items {
            starts.push(here);
            here += i64::from(len_slots(item));
        }
        let far = code.items.iter().enumerate().find_map(|(index, (item, _))| {
            let to = match item {
                Item::Jump(to) if isa < 4 => to,
                Item::Branch { to, .. } => to,
                _ => return None,
            };
            let distance = at.get(to).map_or(0, |to| i64::from(*to)) - starts[index] - 1;
            (distance.abs() > reach).then_some((index, *to, distance))
        });
        let Some((index, to, distance)) = far else { return };
        // As far as the jump leads, behind an instruction that goes elsewhere if there is one near, so that nothing falls
        // into the island; else with a jump around it.
        let goal = starts[index] + distance.signum() * (reach * 7 / 8);
        let near = starts.partition_point(|it| *it <= goal).clamp(1, code.items.len() - 1);
        let place = (0..reach as usize / 16)
            .flat_map(|step| [near.saturating_sub(step), near + step])
            .find(|it| *it > 0 && *it < code.items.len() && ends(&code.items[it - 1].0))
            .unwrap_or(near);
        let span = code.items[index].1;
        let island = Label(code.labels);
        let around = Label(code.labels + 1);
        code.labels += 2;
        if let Item::Jump(label) | Item::Branch { to: label, .. } = &mut code.items[index].0 {
            *label = island;
        }
        let mut pieces = vec![(Item::Label(island), span), (Item::Jump(to), span)];
        if !ends(&code.items[place - 1].0) {
            pieces.insert(0, (Item::Jump(around), span));
            pieces.push((Item::Label(around), span));
        }
        code.items.splice(place..place, pieces);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_insn::{Cond, Operand, Reg, Width, build};

    fn branch(to: u32) -> Item {
        Item::Branch { width: Width::W64, cond: Cond::Eq, a: Reg::R1, b: Operand::Imm(0), to: Label(to) }
    }

    fn code(items: Vec<Item>) -> Code {
        Code { items: items.into_iter().map(|it| (it, Span::default())).collect(), labels: 100 }
    }

    /// Follows the jumps from slot 0 with r1 as given and says where it exits.
    fn run(insns: &[RawInsn], r1: i64) -> Option<usize> {
        let mut at = 0i64;
        for _ in 0..1_000_000 {
            let insn = Insn::decode(&insns[at as usize..]).ok()?;
            at += 1;
            match insn {
                Insn::Exit => return Some(at as usize - 1),
                Insn::Branch { off, .. } if r1 == 0 => at += i64::from(off),
                Insn::Jump { off } => at += i64::from(off),
                Insn::JumpLong { off } => at += i64::from(off),
                _ => {}
            }
        }
        None
    }

    #[test]
    fn far_jumps_arrive_with_and_without_the_long_one() {
        for isa in [3, 4] {
            let filler = |n: usize| vec![Item::Plain(build::mov(Reg::R0, 1)); n];
            let mut items = vec![branch(1)];
            items.extend(filler(100_000));
            items.extend([Item::Jump(Label(2)), Item::Label(Label(3)), Item::Plain(Insn::Exit), Item::Label(Label(1))]);
            items.extend(filler(80_000));
            items.extend([Item::Jump(Label(3)), Item::Label(Label(2)), Item::Plain(Insn::Exit)]);
            let insns = assemble(code(items), isa).insns;
            let (taken, fallen) = (run(&insns, 0).unwrap(), run(&insns, 1).unwrap());
            assert!(taken < 110_000 && fallen > 170_000, "{taken} {fallen}");
            assert_eq!(insns.iter().any(|insn| insn.code == 0x06), isa == 4);
        }
    }

    #[test]
    fn chains_of_jumps_and_what_they_leave_behind_go() {
        let items = vec![
            branch(1),
            Item::Jump(Label(2)),
            Item::Label(Label(1)),
            Item::Jump(Label(4)),
            Item::Label(Label(2)),
            Item::Plain(build::mov(Reg::R0, 2)),
            Item::Jump(Label(4)),
            Item::Label(Label(3)),
            Item::Plain(build::mov(Reg::R0, 3)),
            Item::Label(Label(4)),
            Item::Plain(Insn::Exit),
        ];
        let insns = assemble(code(items), 3).insns;
        let expected = [build::branch(Cond::Eq, Reg::R1, 0, 1), build::mov(Reg::R0, 2), Insn::Exit];
        assert_eq!(insns, build::slots(&expected));
    }
}
