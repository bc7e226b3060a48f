//! Common subexpressions: of two equal pure operations, the second one is the first one's result where that is known.
//!
//! The tree of dominators is walked from the entry; what a block computes is known in the blocks that it dominates. Constants and
//! addresses are left alone: making them anew is cheaper than keeping them in a register.

use std::collections::HashMap;

use crate::ir::cfg::{Cfg, Dominators};
use crate::ir::{Base, Block, Function, Op, Operand, Value};

/// Shares pure operations and pure loads. Whether it found any.
pub fn common(function: &mut Function) -> bool {
    let cfg = Cfg::new(function);
    let tree = Dominators::new(&cfg);
    let mut alias: Vec<Value> = (0..function.values).map(Value).collect();
    let mut known: HashMap<Key, Value> = HashMap::new();
    // A block to enter, or keys to forget when its part of the tree is done.
    enum Step {
        Enter(Block),
        Leave(Vec<Key>),
    }
    let mut steps: Vec<Step> = cfg.order.first().map(|entry| Step::Enter(*entry)).into_iter().collect();
    let mut changed = false;
    while let Some(step) = steps.pop() {
        let block = match step {
            Step::Enter(block) => block,
            Step::Leave(keys) => {
                keys.iter().for_each(|key| {
                    known.remove(key);
                });
                continue;
            }
        };
        let mut added = Vec::new();
        for insn in &mut function.blocks[block.0 as usize].insns {
            insn.op.each_use_mut(|value| *value = alias[value.0 as usize]);
            let (Some(result), Some(key)) = (insn.result, Key::of(&insn.op)) else { continue };
            match known.get(&key) {
                Some(first) => {
                    alias[result.0 as usize] = *first;
                    changed = true;
                }
                None => {
                    known.insert(key.clone(), result);
                    added.push(key);
                }
            }
        }
        steps.push(Step::Leave(added));
        steps.extend(tree.children(block).iter().map(|child| Step::Enter(*child)));
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

/// An operation as something that can be looked up: a tag, small numbers, operands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key(&'static str, [i64; 3], Option<Value>, Option<Operand>);

impl Key {
    fn of(op: &Op) -> Option<Key> {
        Some(match *op {
            Op::Alu { op, width, a, b } => {
                let (code, off) = op.code();
                Key(width_name(width), [i64::from(code), i64::from(off), 0], Some(a), Some(b))
            }
            Op::Neg(width, a) => Key("neg", [i64::from(width.prefix() as u32), 0, 0], Some(a), None),
            Op::SignExtend { bits, a } => Key("sext", [i64::from(bits), 0, 0], Some(a), None),
            Op::ZeroExtend { bits, a } => Key("zext", [i64::from(bits), 0, 0], Some(a), None),
            Op::ByteSwap { bits, a } => Key("bswap", [i64::from(bits), 0, 0], Some(a), None),
            Op::Compare { cond, width, a, b } => {
                let width = i64::from(width.prefix() as u32);
                Key("compare", [i64::from(cond.code()), width, 0], Some(a), Some(b))
            }
            Op::Load { size, base: Base::Value(base), off, pure: true } => {
                Key("load", [i64::from(size), i64::from(off), 0], Some(base), None)
            }
            _ => return None,
        })
    }
}

fn width_name(width: skep_insn::Width) -> &'static str {
    match width {
        skep_insn::Width::W32 => "alu32",
        skep_insn::Width::W64 => "alu64",
    }
}
