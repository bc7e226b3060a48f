//! Variables: a part of a slot that is only loaded and stored whole becomes values.
//!
//! Lowering may keep a script's variables in slots and leave SSA form to this pass. A part (an offset and a size) of a slot
//! qualifies when nobody takes the slot's address, nobody adds to it atomically, and no access overlaps it in part. Where several
//! ways meet and the variable is still wanted, the block gets a parameter; parameters that turn out to have one value are
//! [taken away again](super::branch()). What is read before it was written is 0.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::cfg::Cfg;
use crate::ir::{Base, Block, Function, Insn, Op, Operand, Slot, Terminator, Value};

/// An offset in a slot and a size, in bytes.
type Part = (Slot, i16, u8);

/// Turns variables into values. Whether it found any.
pub fn promote(function: &mut Function) -> bool {
    let parts = parts(function);
    if parts.is_empty() {
        return false;
    }
    let cfg = Cfg::new(function);
    let wanted = wanted(function, &cfg, &parts);
    // Parameters first, so that jumps know what to bring.
    let n = parts.len();
    let mut params: Vec<Vec<(usize, Value)>> = vec![Vec::new(); function.blocks.len()];
    for &block in cfg.order.iter().skip(1) {
        if cfg.preds[block.0 as usize].len() < 2 {
            continue;
        }
        for part in (0..n).filter(|part| wanted[block.0 as usize][*part]) {
            let param = fresh(function);
            function.blocks[block.0 as usize].params.push(param);
            params[block.0 as usize].push((part, param));
        }
    }
    let zero = fresh(function);
    let mut alias: Vec<Value> = (0..function.values).map(Value).collect();
    // By block: what the variables are at its end.
    let mut ends: Vec<Option<Vec<Value>>> = vec![None; function.blocks.len()];
    for &block in &cfg.order {
        let mut now = match cfg.preds[block.0 as usize][..] {
            [pred] => ends[pred.0 as usize].clone().unwrap_or_else(|| vec![zero; n]),
            _ => vec![zero; n],
        };
        params[block.0 as usize].iter().for_each(|(part, param)| now[*part] = *param);
        let insns = std::mem::take(&mut function.blocks[block.0 as usize].insns);
        let mut kept = Vec::with_capacity(insns.len());
        for mut insn in insns {
            insn.op.each_use_mut(|value| *value = alias[value.0 as usize]);
            let part = access(&insn.op).and_then(|part| parts.get(&part)).copied();
            match (part, &insn.op) {
                (Some(part), Op::Load { .. }) => {
                    if let Some(result) = insn.result {
                        alias[result.0 as usize] = now[part];
                    }
                }
                (Some(part), &Op::Store { size, value, .. }) => {
                    now[part] = stored(function, &mut alias, &mut kept, insn.span, size, value);
                }
                _ => kept.push(insn),
            }
        }
        function.blocks[block.0 as usize].insns = kept;
        ends[block.0 as usize] = Some(now);
    }
    for &block in &cfg.order {
        let now = ends[block.0 as usize].take().unwrap_or_default();
        let end = &mut function.blocks[block.0 as usize].end;
        for target in end.targets_mut() {
            target.args.extend(params[target.block.0 as usize].iter().map(|(part, _)| now[*part]));
        }
        end.each_use_mut(|value| *value = alias[value.0 as usize]);
    }
    let first = &mut function.blocks[0];
    let span = first.insns.first().map_or(first.end_span, |insn| insn.span);
    first.insns.insert(0, Insn::at(span, Some(zero), Op::Const(0)));
    drop_unreachable(function, &cfg);
    true
}

fn fresh(function: &mut Function) -> Value {
    function.values += 1;
    Value(function.values - 1)
}

/// The value that a later load gives: only the bytes that were stored.
fn stored(
    function: &mut Function,
    alias: &mut Vec<Value>,
    kept: &mut Vec<Insn>,
    span: crate::Span,
    size: u8,
    value: Operand,
) -> Value {
    let mut make = |op: Op| {
        let result = fresh(function);
        alias.push(result);
        kept.push(Insn::at(span, Some(result), op));
        result
    };
    let bits = 8 * size;
    match value {
        Operand::Imm(imm) => {
            let number = i64::from(imm) as u64;
            make(Op::Const((number << (64 - bits) >> (64 - bits)) as i64))
        }
        Operand::Value(value) if size == 8 => value,
        Operand::Value(value) => make(Op::ZeroExtend { bits, a: value }),
    }
}

/// The part that a plain access is about.
fn access(op: &Op) -> Option<Part> {
    match *op {
        Op::Load { size, base: Base::Slot(slot), off, .. } | Op::Store { size, base: Base::Slot(slot), off, .. } => {
            Some((slot, off, size))
        }
        _ => None,
    }
}

/// The parts that qualify, numbered.
fn parts(function: &Function) -> BTreeMap<Part, usize> {
    let mut taken: BTreeSet<Slot> = BTreeSet::new();
    let mut found: BTreeSet<Part> = BTreeSet::new();
    for insn in function.blocks.iter().flat_map(|block| &block.insns) {
        match insn.op {
            Op::SlotAddr(slot, _) | Op::AtomicAdd { base: Base::Slot(slot), .. } => {
                taken.insert(slot);
            }
            _ => found.extend(access(&insn.op)),
        }
    }
    let overlaps =
        |a: &Part, b: &Part| a != b && a.0 == b.0 && a.1 < b.1 + i16::from(b.2) && b.1 < a.1 + i16::from(a.2);
    let good = |part: &&Part| !taken.contains(&part.0) && !found.iter().any(|other| overlaps(part, other));
    found.iter().filter(good).copied().zip(0..).collect()
}

/// By block and part: whether it is read there or behind, before it is written.
fn wanted(function: &Function, cfg: &Cfg, parts: &BTreeMap<Part, usize>) -> Vec<Vec<bool>> {
    let n = parts.len();
    let mut wanted = vec![vec![false; n]; function.blocks.len()];
    let mut written = wanted.clone();
    for &block in &cfg.order {
        for insn in &function.blocks[block.0 as usize].insns {
            let Some(part) = access(&insn.op).and_then(|part| parts.get(&part)).copied() else { continue };
            match insn.op {
                Op::Load { .. } if !written[block.0 as usize][part] => wanted[block.0 as usize][part] = true,
                Op::Store { .. } => written[block.0 as usize][part] = true,
                _ => {}
            }
        }
    }
    let mut work: Vec<(Block, usize)> = Vec::new();
    for &block in &cfg.order {
        work.extend((0..n).filter(|part| wanted[block.0 as usize][*part]).map(|part| (block, part)));
    }
    while let Some((block, part)) = work.pop() {
        for pred in &cfg.preds[block.0 as usize] {
            if !written[pred.0 as usize][part] && !std::mem::replace(&mut wanted[pred.0 as usize][part], true) {
                work.push((*pred, part));
            }
        }
    }
    wanted
}

/// Blocks that nothing leads to were not renamed: they may name slots and bring too few values.
fn drop_unreachable(function: &mut Function, cfg: &Cfg) {
    for (index, block) in function.blocks.iter_mut().enumerate() {
        if !cfg.is_reachable(Block(index as u32)) {
            block.insns.clear();
            block.end = Terminator::Return(Operand::Imm(0));
        }
    }
}
