//! Dead code: blocks that nothing leads to, values that nobody reads.
//!
//! A value is alive when something that has an effect reads it, or something alive does. That is found from the effects
//! backwards, so that values of a loop that only feed each other are dead, too. Parameters of blocks go with the values that
//! jumps bring for them; those of the function stay.

use crate::ir::cfg::Cfg;
use crate::ir::{Block, Function, Terminator, Value};

/// Removes dead blocks, instructions and parameters. Whether it removed any.
pub fn dead(function: &mut Function) -> bool {
    let blocks = unreachable(function);
    values(function) | blocks
}

/// Removes unreachable blocks. The others keep their order.
fn unreachable(function: &mut Function) -> bool {
    let cfg = Cfg::new(function);
    if cfg.order.len() == function.blocks.len() {
        return false;
    }
    let mut number = Vec::with_capacity(function.blocks.len());
    let mut next = 0;
    for index in 0..function.blocks.len() {
        number.push(Block(next));
        next += u32::from(cfg.is_reachable(Block(index as u32)));
    }
    let mut index = 0;
    function.blocks.retain(|_| {
        index += 1;
        cfg.is_reachable(Block(index - 1))
    });
    for target in function.blocks.iter_mut().flat_map(|block| block.end.targets_mut()) {
        target.block = number[target.block.0 as usize];
    }
    true
}

/// Who makes a value.
#[derive(Clone, Copy)]
enum Maker {
    Insn(usize, usize),
    Param(usize, usize),
}

fn values(function: &mut Function) -> bool {
    let mut maker = vec![None; function.values as usize];
    let mut work: Vec<Value> = Vec::new();
    // By block: the jumps that lead to it, as block and position among its targets.
    let mut jumps: Vec<Vec<(usize, usize)>> = vec![Vec::new(); function.blocks.len()];
    for (at, block) in function.blocks.iter().enumerate() {
        for (index, param) in block.params.iter().enumerate() {
            maker[param.0 as usize] = Some(Maker::Param(at, index));
        }
        for (index, insn) in block.insns.iter().enumerate() {
            if let Some(result) = insn.result {
                maker[result.0 as usize] = Some(Maker::Insn(at, index));
            }
            if !insn.op.is_removable() {
                insn.op.each_use(|value| work.push(*value));
            }
        }
        block.end.each_own_use(|value| work.push(*value));
        for (index, target) in block.end.targets().enumerate() {
            jumps[target.block.0 as usize].push((at, index));
        }
    }
    let mut alive = vec![false; function.values as usize];
    while let Some(value) = work.pop() {
        if std::mem::replace(&mut alive[value.0 as usize], true) {
            continue;
        }
        match maker[value.0 as usize] {
            Some(Maker::Insn(at, index)) => function.blocks[at].insns[index].op.each_use(|it| work.push(*it)),
            Some(Maker::Param(at, param)) => {
                work.extend(jumps[at].iter().map(|&(from, index)| nth_args(&function.blocks[from].end, index)[param]));
            }
            None => {}
        }
    }
    sweep(function, &alive)
}

fn nth_args(end: &Terminator, index: usize) -> &[Value] {
    end.targets().nth(index).map_or(&[], |target| &target.args)
}

fn sweep(function: &mut Function, alive: &[bool]) -> bool {
    let mut changed = false;
    let is_alive = |value: Value| alive[value.0 as usize];
    let keep: Vec<Vec<bool>> = function
        .blocks
        .iter()
        .enumerate()
        .map(|(at, block)| block.params.iter().map(|param| at == 0 || is_alive(*param)).collect())
        .collect();
    for (at, block) in function.blocks.iter_mut().enumerate() {
        let before = block.insns.len();
        block.insns.retain(|insn| !insn.op.is_removable() || insn.result.is_some_and(is_alive));
        changed |= block.insns.len() != before;
        changed |= keep[at].contains(&false);
        retain(&mut block.params, &keep[at]);
        for target in block.end.targets_mut() {
            retain(&mut target.args, &keep[target.block.0 as usize]);
        }
    }
    changed
}

fn retain(values: &mut Vec<Value>, keep: &[bool]) {
    let mut keep = keep.iter();
    values.retain(|_| keep.next().copied().unwrap_or(true));
}
