//! Where values live: the line of instructions, and for every value the stretches of it where the value is needed.
//!
//! # Positions
//!
//! The instructions of all blocks stand in one line, a terminator being one too. Instruction *i* reads at position 2*i* and
//! writes at 2*i*+1. A stretch is half open: a value that is written by 3 and read last by 5 lives in 7..11, one that is
//! written by 5 may have its register. A second operand that must not share the register of the result is read at 2*i*+1 and
//! lives until 2*i*+2. Parameters of a block are written at the position where its first instruction reads, and so is the
//! result of a call at the next one, since r0 is moved from there.
//!
//! # Liveness
//!
//! Each use walks back to the definition, block by block, and leaves the value in the set of every block that it enters
//! ("path exploration": Boissinot et al., "Computing Liveness Sets for SSA-Form Programs", 2011). The sets are lists, so that a
//! large function with many short-lived values stays cheap.

use skep_insn::{AluOp, Width};

use crate::ir::cfg::Cfg;
use crate::ir::{Block, Function, Op, Operand, Terminator, Value};

/// A place in the line.
pub(super) type Pos = u32;

/// The instructions of a function in one line.
#[derive(Debug)]
pub(super) struct Line {
    /// Reachable blocks in the order of emission.
    pub(super) blocks: Vec<LineBlock>,
    /// By block: its place in [`Line::blocks`].
    place: Vec<Option<u32>>,
}

/// One block in the line.
#[derive(Debug)]
pub(super) struct LineBlock {
    pub(super) block: Block,
    /// Number of the first instruction.
    pub(super) first: u32,
    /// Number of the terminator.
    pub(super) last: u32,
    /// Values that come from the blocks before, without its parameters.
    pub(super) live_in: Vec<Value>,
}

impl LineBlock {
    /// Where parameters are written.
    pub(super) fn start(&self) -> Pos {
        2 * self.first
    }

    /// One past the terminator.
    pub(super) fn end(&self) -> Pos {
        2 * self.last + 2
    }
}

impl Line {
    pub(super) fn at(&self, block: Block) -> &LineBlock {
        &self.blocks[self.place_of(block)]
    }

    /// Where a reachable block stands in [`Line::blocks`].
    pub(super) fn place_of(&self, block: Block) -> usize {
        self.place[block.0 as usize].unwrap_or(0) as usize
    }
}

/// Half open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: Pos,
    pub(super) end: Pos,
}

/// Where a value is read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) pos: Pos,
    /// It has to be in a register; else the stack, or the means to make it anew, do as well.
    pub(super) in_register: bool,
}

/// The life of one value.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// Where it lives, ascending, not touching each other.
    pub(super) ranges: Vec<Range>,
    /// Uses and the definition, ascending.
    pub(super) uses: Vec<Use>,
}

/// What the walk finds out.
#[derive(Debug)]
pub(super) struct Lives {
    pub(super) line: Line,
    /// By value; without ranges when it is not used.
    pub(super) lives: Vec<Life>,
    /// By number in the line: the instruction has no effect, and nobody reads its result.
    pub(super) dead: Vec<bool>,
}

/// Finds the lives of all values. Swaps the operands of an addition and its like where that saves a move.
pub(super) fn lives(function: &mut Function) -> Lives {
    let cfg = Cfg::new(function);
    let mut line = Line { blocks: Vec::new(), place: vec![None; function.blocks.len()] };
    let mut next = 0;
    for &block in &cfg.order {
        line.place[block.0 as usize] = Some(line.blocks.len() as u32);
        let last = next + function.blocks[block.0 as usize].insns.len() as u32;
        line.blocks.push(LineBlock { block, first: next, last, live_in: Vec::new() });
        next = last + 1;
    }
    explore(function, &cfg, &mut line);

    let mut walk = Walk { lives: vec![Life::default(); function.values as usize] };
    let mut dead = vec![false; next as usize];
    for at in (0..line.blocks.len()).rev() {
        let here = &line.blocks[at];
        let data = &mut function.blocks[here.block.0 as usize];
        for successor in data.end.successors() {
            for &value in &line.at(successor).live_in {
                walk.live(value, here.start(), here.end());
            }
        }
        walk.terminator(&data.end, here);
        for (index, insn) in data.insns.iter_mut().enumerate().rev() {
            let number = here.first + index as u32;
            let used = insn.result.is_some_and(|it| walk.is_live_after(it, 2 * number + 1));
            if !used && insn.op.is_removable() {
                dead[number as usize] = true;
                continue;
            }
            if let (Op::AtomicAdd { fetch, .. }, false) = (&mut insn.op, used) {
                (*fetch, insn.result) = (false, None);
            }
            walk.swap_operands(&mut insn.op, number);
            if let (Some(result), true) = (insn.result, used) {
                let pos = if insn.op.is_call() { 2 * number + 2 } else { 2 * number + 1 };
                walk.define(result, pos, !insn.op.is_call() && !insn.op.is_rematerialized());
            }
            walk.operands(&insn.op, number, here.start());
        }
        for &param in &data.params {
            walk.define(param, here.start(), false);
        }
    }
    for life in &mut walk.lives {
        life.ranges.reverse();
        life.uses.reverse();
    }
    Lives { line, lives: walk.lives, dead }
}

/// Fills [`LineBlock::live_in`].
fn explore(function: &Function, cfg: &Cfg, line: &mut Line) {
    // By value: the block that defines it, and by block: the last value that was found to enter it. Values are done one
    // after the other, so one mark is enough.
    let mut home = vec![None; function.values as usize];
    for &block in &cfg.order {
        let data = &function.blocks[block.0 as usize];
        for &value in data.params.iter().chain(data.insns.iter().filter_map(|insn| insn.result.as_ref())) {
            home[value.0 as usize] = Some(block);
        }
    }
    let mut used_in: Vec<Vec<Block>> = vec![Vec::new(); function.values as usize];
    for &block in &cfg.order {
        let data = &function.blocks[block.0 as usize];
        let mut note = |value: &Value| {
            let blocks = &mut used_in[value.0 as usize];
            if home[value.0 as usize] != Some(block) && blocks.last() != Some(&block) {
                blocks.push(block);
            }
        };
        data.insns.iter().for_each(|insn| insn.op.each_use(&mut note));
        data.end.each_use(&mut note);
    }
    let mut mark = vec![u32::MAX; function.blocks.len()];
    for (value, mut blocks) in used_in.into_iter().enumerate() {
        while let Some(block) = blocks.pop() {
            if home[value] == Some(block)
                || std::mem::replace(&mut mark[block.0 as usize], value as u32) == value as u32
            {
                continue;
            }
            let place = line.place[block.0 as usize].unwrap_or(0);
            line.blocks[place as usize].live_in.push(Value(value as u32));
            blocks.extend(&cfg.preds[block.0 as usize]);
        }
    }
}

/// The walk from the last instruction to the first; lists are descending until it is over.
struct Walk {
    lives: Vec<Life>,
}

impl Walk {
    fn life(&mut self, value: Value) -> &mut Life {
        &mut self.lives[value.0 as usize]
    }

    fn live(&mut self, value: Value, start: Pos, end: Pos) {
        let ranges = &mut self.life(value).ranges;
        match ranges.last_mut() {
            Some(first) if end >= first.start => {
                first.start = first.start.min(start);
                first.end = first.end.max(end);
            }
            _ => ranges.push(Range { start, end }),
        }
    }

    fn read(&mut self, value: Value, pos: Pos, in_register: bool, block_start: Pos) {
        // Read with the inputs: until the result is written. Read with the outputs: as long as that.
        self.live(value, block_start, pos + 1);
        self.life(value).uses.push(Use { pos, in_register });
    }

    fn define(&mut self, value: Value, pos: Pos, in_register: bool) {
        let life = self.life(value);
        if let Some(first) = life.ranges.last_mut() {
            first.start = pos;
            life.uses.push(Use { pos, in_register });
        }
    }

    fn is_live_after(&self, value: Value, pos: Pos) -> bool {
        self.lives[value.0 as usize].ranges.last().is_some_and(|first| first.start <= pos && pos < first.end)
    }

    fn terminator(&mut self, end: &Terminator, here: &LineBlock) {
        let (pos, start) = (2 * here.last, here.start());
        for target in end.targets() {
            for &arg in &target.args {
                self.read(arg, pos, false, start);
            }
        }
        let in_register = matches!(end, Terminator::Branch { .. });
        end.each_own_use(|value| self.read(*value, pos, in_register, start));
    }

    /// Puts first the operand whose register can be taken over. Sums of 64 bits stay as they are: one side may be a pointer,
    /// and when that is added to a number, the verifier forgets whose stack it points to (`adjust_ptr_min_max_vals`,
    /// kernel/bpf/verifier.c of 6.18, copies type and id, but not `frameno`).
    fn swap_operands(&mut self, op: &mut Op, number: u32) {
        if let Op::Alu { op: AluOp::Mul | AluOp::And | AluOp::Or | AluOp::Xor, a, b, .. }
        | Op::Alu { op: AluOp::Add, width: Width::W32, a, b } = op
            && let Operand::Value(b) = b
            && self.is_live_after(*a, 2 * number + 1)
            && !self.is_live_after(*b, 2 * number + 1)
        {
            std::mem::swap(a, b);
        }
    }

    fn operands(&mut self, op: &Op, number: u32, start: Pos) {
        let (input, output) = (2 * number, 2 * number + 1);
        let mut late = Vec::new();
        match op {
            // The result's register takes the first operand, wherever that is, before the second one is read.
            Op::Alu { a, b, .. } => {
                if let Some(b) = b.value() {
                    late.push((b, if b == *a { input } else { output }));
                }
                late.push((*a, u32::MAX));
            }
            Op::Neg(_, a) | Op::SignExtend { a, .. } | Op::ZeroExtend { a, .. } | Op::ByteSwap { a, .. } => {
                late.push((*a, u32::MAX));
            }
            // The result is written before the operands are compared.
            Op::Compare { a, b, .. } => late.extend([Some(*a), b.value()].into_iter().flatten().map(|it| (it, output))),
            Op::AtomicAdd { base, value, fetch: true, .. } => {
                late.extend(base.value().map(|it| (it, if it == *value { input } else { output })));
                late.push((*value, u32::MAX));
            }
            Op::Load { base, .. } => late.extend(base.value().map(|it| (it, input))),
            Op::Store { .. } | Op::AtomicAdd { .. } => op.each_use(|it| late.push((*it, input))),
            Op::Call { .. } | Op::CallFunc { .. } | Op::CallKfunc { .. } => {
                op.each_use(|it| late.push((*it, u32::MAX)));
            }
            Op::Const(_) | Op::SlotAddr(..) | Op::Map(_) | Op::MapValue(..) | Op::FuncAddr(_) | Op::Extern(_) => {}
        }
        // Lists are descending: the later reads come first.
        late.sort_by_key(|(_, pos)| std::cmp::Reverse(if *pos == u32::MAX { input } else { *pos }));
        for (value, pos) in late {
            let (pos, in_register) = if pos == u32::MAX { (input, false) } else { (pos, true) };
            self.read(value, pos, in_register, start);
        }
    }
}
