//! Branches and blocks: fewer jumps between fewer blocks.
//!
//! - A branch whose two ways are the same is a jump.
//! - A block without instructions, whose parameters matter to its end alone, is skipped: a jump to it takes its end over, with the
//!   values in the place of the parameters, and a branch to it goes where it jumps to, or where it goes for the numbers that the
//!   branch brings. This is what becomes of `a && b` when it is a condition.
//! - A block that is led to by one jump only joins the block before it.
//! - A parameter that gets the same value from everywhere is that value.

use crate::ir::cfg::Cfg;
use crate::ir::interpret::holds;
use crate::ir::{Block, Function, Insn, Op, Operand, Target, Terminator, Value};

/// Simplifies the blocks of a function. Whether anything changed.
pub fn branch(function: &mut Function) -> bool {
    let mut changed = same_ways(function);
    changed |= skip_empty(function);
    changed |= same_values(function);
    changed | join(function)
}

fn same_ways(function: &mut Function) -> bool {
    let mut changed = false;
    for block in &mut function.blocks {
        if let Terminator::Branch { then, otherwise, .. } = &block.end
            && then == otherwise
        {
            block.end = Terminator::Jump(then.clone());
            changed = true;
        }
    }
    changed
}

/// By value: its number.
fn numbers(function: &Function) -> Vec<Option<i64>> {
    let mut numbers = vec![None; function.values as usize];
    for insn in function.blocks.iter().flat_map(|block| &block.insns) {
        if let (Some(result), &Op::Const(number)) = (insn.result, &insn.op) {
            numbers[result.0 as usize] = Some(number);
        }
    }
    numbers
}

/// By block: whether it has no instructions, and its parameters are read by its own end only.
fn empty(function: &Function, cfg: &Cfg) -> Vec<bool> {
    // By value: the block that it is a parameter of.
    let mut home: Vec<Option<Block>> = vec![None; function.values as usize];
    let mut empty = vec![false; function.blocks.len()];
    for &block in &cfg.order {
        let data = &function.blocks[block.0 as usize];
        empty[block.0 as usize] = block.0 != 0 && data.insns.is_empty();
        data.params.iter().for_each(|param| home[param.0 as usize] = Some(block));
    }
    for &block in &cfg.order {
        let data = &function.blocks[block.0 as usize];
        let mut read = |value: &Value| {
            if let Some(of) = home[value.0 as usize].filter(|of| *of != block) {
                empty[of.0 as usize] = false;
            }
        };
        data.insns.iter().for_each(|insn| insn.op.each_use(&mut read));
        data.end.each_use(read);
    }
    empty
}

fn skip_empty(function: &mut Function) -> bool {
    let cfg = Cfg::new(function);
    let empty = empty(function, &cfg);
    let numbers = numbers(function);
    let mut changed = false;
    for &block in &cfg.order {
        let mut end = function.blocks[block.0 as usize].end.clone();
        // A few steps at once; rings of empty blocks end.
        for _ in 0..4 {
            let skipped =
                match &mut end {
                    Terminator::Jump(target) if empty[target.block.0 as usize] && target.block != block => {
                        let next = &function.blocks[target.block.0 as usize];
                        end = substituted(&next.end, &next.params, &target.args);
                        true
                    }
                    Terminator::Branch { then, otherwise, .. } => [then, otherwise].into_iter().any(|target| {
                        match beyond(function, &numbers, &empty, target).filter(|_| target.block != block) {
                            Some(next) => {
                                *target = next;
                                true
                            }
                            None => false,
                        }
                    }),
                    _ => false,
                };
            if !skipped {
                break;
            }
            changed = true;
        }
        function.blocks[block.0 as usize].end = end;
    }
    changed
}

/// Where one goes on from an empty block, if that is known.
fn beyond(function: &Function, numbers: &[Option<i64>], empty: &[bool], target: &Target) -> Option<Target> {
    let next = &function.blocks[target.block.0 as usize];
    if !empty[target.block.0 as usize] {
        return None;
    }
    match substituted(&next.end, &next.params, &target.args) {
        Terminator::Jump(next) => Some(next),
        Terminator::Branch { cond, width, a, b, then, otherwise } => {
            let a = numbers[a.0 as usize]?;
            let b = match b {
                Operand::Imm(imm) => i64::from(imm),
                Operand::Value(value) => numbers[value.0 as usize]?,
            };
            Some(if holds(cond, width, a as u64, b as u64) { then } else { otherwise })
        }
        Terminator::Return(_) => None,
    }
}

/// The end of a block with values in the place of its parameters.
fn substituted(end: &Terminator, params: &[Value], args: &[Value]) -> Terminator {
    let mut end = end.clone();
    end.each_use_mut(|value| {
        if let Some(index) = params.iter().position(|param| param == value) {
            *value = args[index];
        }
    });
    end
}

/// Replaces parameters that have one value, or one number.
fn same_values(function: &mut Function) -> bool {
    let cfg = Cfg::new(function);
    let numbers = numbers(function);
    // By block and parameter: what it gets.
    let mut gets: Vec<Vec<Vec<Value>>> =
        function.blocks.iter().map(|block| vec![Vec::new(); block.params.len()]).collect();
    for &block in &cfg.order {
        for target in function.blocks[block.0 as usize].end.targets() {
            let params = &function.blocks[target.block.0 as usize].params;
            for (index, arg) in target.args.iter().enumerate() {
                let list = &mut gets[target.block.0 as usize][index];
                if *arg != params[index] && !list.contains(arg) {
                    list.push(*arg);
                }
            }
        }
    }
    let mut alias: Vec<Value> = (0..function.values).map(Value).collect();
    let mut changed = false;
    for &block in cfg.order.iter().skip(1) {
        let data = &mut function.blocks[block.0 as usize];
        for (index, param) in data.params.iter_mut().enumerate() {
            let list = &gets[block.0 as usize][index];
            let number = list.first().and_then(|first| numbers[first.0 as usize]);
            if let [only] = list[..] {
                alias[param.0 as usize] = only;
                changed = true;
            } else if number.is_some() && list.iter().all(|value| numbers[value.0 as usize] == number) {
                // The parameter's own number goes to the constant; the parameter is a new one, and dead.
                let span = data.insns.first().map_or(data.end_span, |insn| insn.span);
                let op = Op::Const(number.unwrap_or_default());
                data.insns.insert(0, Insn::at(span, Some(*param), op));
                *param = Value(function.values);
                function.values += 1;
                alias.push(*param);
                changed = true;
            }
        }
    }
    if changed {
        // Parameters may stand for each other in chains, but never in rings: a ring of them gets nothing from outside, and
        // so cannot be reached.
        let find = |mut value: Value| {
            for _ in 0..alias.len() {
                let next = alias[value.0 as usize];
                if next == value {
                    break;
                }
                value = next;
            }
            value
        };
        for data in &mut function.blocks {
            let mut replace = |value: &mut Value| *value = find(*value);
            data.insns.iter_mut().for_each(|insn| insn.op.each_use_mut(&mut replace));
            data.end.each_use_mut(&mut replace);
        }
        // The parameters themselves stay until dead code goes, but get something that is sure to be defined.
    }
    changed
}

/// Joins blocks to the only one that jumps to them.
fn join(function: &mut Function) -> bool {
    let cfg = Cfg::new(function);
    let mut changed = false;
    let mut alias: Vec<Value> = (0..function.values).map(Value).collect();
    // Which block a joined one is part of now.
    for &block in &cfg.order {
        // A block that was joined is empty and leads nowhere.
        while let Terminator::Jump(Target { block: next, args }) = &function.blocks[block.0 as usize].end
            && cfg.preds[next.0 as usize].len() == 1
            && *next != block
        {
            let (next, args) = (*next, args.clone());
            let taken = &mut function.blocks[next.0 as usize];
            let (params, insns) = (std::mem::take(&mut taken.params), std::mem::take(&mut taken.insns));
            let end = std::mem::replace(&mut taken.end, Terminator::Return(Operand::Imm(0)));
            let end_span = taken.end_span;
            for (param, arg) in params.iter().zip(&args) {
                alias[param.0 as usize] = alias[arg.0 as usize];
            }
            let data = &mut function.blocks[block.0 as usize];
            data.insns.extend(insns);
            (data.end, data.end_span) = (end, end_span);
            changed = true;
        }
    }
    if changed {
        for data in &mut function.blocks {
            let mut replace = |value: &mut Value| *value = alias[value.0 as usize];
            data.insns.iter_mut().for_each(|insn| insn.op.each_use_mut(&mut replace));
            data.end.each_use_mut(&mut replace);
        }
    }
    changed
}
