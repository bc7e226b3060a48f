//! From values with places to instructions with labels.

use std::collections::{BTreeMap, BTreeSet};

use skep_insn::{
    AluOp, AtomicOp, Cond, Endian, Imm64, Insn, LoadType, Operand as MachineOperand, Reg, SignExtend, Size,
};
use skep_insn::{SwapBits, SwapKind, Width};
use skep_spec::ExternId;
use skep_spec::function::RefTarget;

use super::allocate::{Allocation, Place, REGS};
use super::frame::{self, Frame};
use super::live::{Lives, Pos, Range};
use super::moves::{self, Move, Source, Spill, Spot, Step};
use super::{Fault, Ids};
use crate::Span;
use crate::ir::cfg::Cfg;
use crate::ir::{Base, Block, Function, Op, Operand, Terminator, Value};

/// A place that jumps lead to; blocks have the first numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Label(pub(super) u32);

/// One instruction whose distances are not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Jumps lead here.
    Label(Label),
    /// An instruction that refers to nothing.
    Plain(Insn),
    /// An instruction that the linker fills in.
    Refers(Insn, RefTarget),
    /// `goto`
    Jump(Label),
    /// `if a cond b goto`
    Branch {
        /// Bits compared.
        width: Width,
        /// The comparison.
        cond: Cond,
        /// Left side.
        a: Reg,
        /// Right side.
        b: MachineOperand,
        /// Where to.
        to: Label,
    },
}

/// Items with the places in the script that they were made for.
#[derive(Debug)]
pub(super) struct Code {
    pub(super) items: Vec<(Item, Span)>,
    /// Labels made so far.
    pub(super) labels: u32,
}

/// Emits a legalized function. Gives its frame, too.
pub(super) fn emit(
    function: &Function,
    lives: &Lives,
    allocation: &Allocation,
    ids: &Ids<'_>,
    isa: u8,
    endian: Endian,
) -> Result<(Code, Frame), Fault> {
    let frame = Frame::new(function, &lives.line);
    let made = made(function);
    let spills = spills(function, lives, allocation, &made);
    let mut emitter = Emitter {
        function,
        cfg: Cfg::new(function),
        lives,
        allocation,
        words: spills.iter().flatten().max().map_or(0, |it| it + 1),
        spills,
        made,
        frame,
        ids,
        isa,
        endian,
        gaps: BTreeMap::new(),
        code: Code { items: Vec::new(), labels: function.blocks.len() as u32 },
        span: Span::default(),
        extra: BTreeMap::new(),
    };
    emitter.plan_gaps();
    for at in 0..lives.line.blocks.len() {
        emitter.block(at)?;
    }
    Ok((emitter.code, emitter.frame))
}

/// By value: how it is made anew.
fn made(function: &Function) -> Vec<Option<Op>> {
    let mut made = vec![None; function.values as usize];
    for insn in function.blocks.iter().flat_map(|block| &block.insns) {
        if let (Some(result), true) = (insn.result, insn.op.is_rematerialized()) {
            made[result.0 as usize] = Some(insn.op.clone());
        }
    }
    made
}

/// By value: its word on the stack, if some piece of it is in memory. Values whose lives do not meet share words; one that is
/// handed on to a parameter tries the same word first.
fn spills(function: &Function, lives: &Lives, allocation: &Allocation, made: &[Option<Op>]) -> Vec<Option<u32>> {
    let mut partners: Vec<Vec<Value>> = vec![Vec::new(); function.values as usize];
    for here in &lives.line.blocks {
        for target in function.blocks[here.block.0 as usize].end.targets() {
            for (arg, param) in target.args.iter().zip(&function.blocks[target.block.0 as usize].params) {
                partners[arg.0 as usize].push(*param);
                partners[param.0 as usize].push(*arg);
            }
        }
    }
    let mut spilled: Vec<(Pos, Value)> = (0..function.values)
        .map(Value)
        .filter(|value| made[value.0 as usize].is_none())
        .filter(|value| allocation.pieces(*value).any(|piece| piece.place == Place::Memory))
        .filter_map(|value| Some((lives.lives[value.0 as usize].ranges.first()?.start, value)))
        .collect();
    spilled.sort_unstable();
    let mut words: Vec<Vec<Range>> = Vec::new();
    let mut found = vec![None; function.values as usize];
    for (_, value) in spilled {
        let life = &lives.lives[value.0 as usize].ranges;
        let partner =
            partners[value.0 as usize].iter().filter_map(|it| found[it.0 as usize]).map(|it: u32| it as usize);
        let word = partner.chain(0..words.len()).find(|word| !frame::meet(&words[*word], life)).unwrap_or(words.len());
        if word == words.len() {
            words.push(Vec::new());
        }
        words[word].extend(life);
        words[word].sort_unstable_by_key(|range| range.start);
        found[value.0 as usize] = Some(word as u32);
    }
    found
}

struct Emitter<'a> {
    function: &'a Function,
    cfg: Cfg,
    lives: &'a Lives,
    allocation: &'a Allocation,
    /// By value: its word on the stack.
    spills: Vec<Option<u32>>,
    /// Words for values.
    words: u32,
    /// By value: how it is made anew.
    made: Vec<Option<Op>>,
    frame: Frame,
    ids: &'a Ids<'a>,
    isa: u8,
    endian: Endian,
    /// By number of an instruction: moves in front of it.
    gaps: BTreeMap<u32, Vec<Move>>,
    /// Words for [`Spill::Borrowed`] and [`Spill::Ring`], once they are wanted.
    extra: BTreeMap<Spill, u32>,
    code: Code,
    span: Span,
}

impl Emitter<'_> {
    fn source(&self, value: Value, place: Place) -> Source {
        match (place, &self.made[value.0 as usize], self.spills[value.0 as usize]) {
            (Place::Reg(reg), ..) => Source::Spot(Spot::Reg(reg)),
            (Place::Memory, Some(op), _) => Source::Made(op.clone()),
            (Place::Memory, None, word) => Source::Spot(Spot::Stack(Spill::Value(word.unwrap_or(0)))),
        }
    }

    /// Where a value is when an instruction reads.
    fn source_at(&self, value: Value, pos: Pos) -> Source {
        self.source(value, self.allocation.place(value, pos))
    }

    fn word(&self, value: Value) -> Option<Spot> {
        self.spills[value.0 as usize].map(|word| Spot::Stack(Spill::Value(word)))
    }

    /// Moves between pieces, and stores behind definitions.
    fn plan_gaps(&mut self) {
        let starts: BTreeSet<Pos> = self.lives.line.blocks.iter().map(|here| here.start()).collect();
        let mut plan: Vec<(u32, Move)> = Vec::new();
        for value in (0..self.function.values).map(Value) {
            let pieces = self.allocation.pieces(value);
            for (before, after) in pieces.clone().zip(pieces.skip(1)) {
                if let Place::Reg(reg) = after.place
                    && before.end() == after.start()
                    && before.place != after.place
                    && !starts.contains(&after.start())
                {
                    let from = self.source(value, before.place);
                    plan.push((after.start() / 2, Move { to: Spot::Reg(reg), from }));
                }
            }
        }
        for here in &self.lives.line.blocks {
            let data = &self.function.blocks[here.block.0 as usize];
            for (index, &param) in data.params.iter().enumerate() {
                let place = self.allocation.place(param, here.start());
                let used = !self.lives.lives[param.0 as usize].ranges.is_empty();
                if here.first == 0 && used {
                    let from = Source::Spot(Spot::Reg(1 + index as u8));
                    plan.extend(self.definition(param, place, &from).into_iter().map(|it| (0, it)));
                } else if let (Place::Reg(reg), Some(to)) = (place, self.word(param)) {
                    plan.push((here.first, Move { to, from: Source::Spot(Spot::Reg(reg)) }));
                }
            }
            for (number, insn) in (here.first..).zip(&data.insns) {
                let Some(result) = insn.result else { continue };
                if self.lives.lives[result.0 as usize].ranges.is_empty() || insn.op.is_rematerialized() {
                    continue;
                }
                if insn.op.is_call() {
                    let place = self.allocation.place(result, 2 * number + 2);
                    let from = Source::Spot(Spot::Reg(0));
                    plan.extend(self.definition(result, place, &from).into_iter().map(|it| (number + 1, it)));
                } else if let (Place::Reg(reg), Some(to)) =
                    (self.allocation.place(result, 2 * number + 1), self.word(result))
                {
                    plan.push((number + 1, Move { to, from: Source::Spot(Spot::Reg(reg)) }));
                }
            }
        }
        for (number, one) in plan {
            self.gaps.entry(number).or_default().push(one);
        }
    }

    /// Moves of a value that comes in a register to where it belongs.
    fn definition(&self, value: Value, place: Place, from: &Source) -> Vec<Move> {
        let mut moves = Vec::new();
        if let Place::Reg(reg) = place {
            moves.push(Move { to: Spot::Reg(reg), from: from.clone() });
        }
        moves.extend(self.word(value).map(|to| Move { to, from: from.clone() }));
        moves
    }

    /// Registers that hold nothing before and after some position.
    fn free(&self, positions: &[Pos]) -> Vec<u8> {
        (0..REGS as u8).filter(|reg| positions.iter().all(|pos| self.allocation.is_free(*reg, *pos))).collect()
    }

    fn block(&mut self, at: usize) -> Result<(), Fault> {
        let here = &self.lives.line.blocks[at];
        let data = &self.function.blocks[here.block.0 as usize];
        self.span = data.insns.first().map_or(data.end_span, |insn| insn.span);
        self.push(Item::Label(Label(here.block.0)));
        if let [pred] = self.cfg.preds[here.block.0 as usize][..]
            && self.function.blocks[pred.0 as usize].end.targets().count() == 2
        {
            self.edge(pred, here.block);
        }
        for (number, insn) in (here.first..).zip(&data.insns) {
            self.span = insn.span;
            self.gap(number, here.start());
            if !self.lives.dead[number as usize] {
                self.insn(number, insn)?;
            }
        }
        self.span = data.end_span;
        self.gap(here.last, here.start());
        self.terminator(here.block, here.last, &data.end)
    }

    fn gap(&mut self, number: u32, start: Pos) {
        if let Some(moves) = self.gaps.remove(&number) {
            let pos = 2 * number;
            let free = if pos > start { self.free(&[pos - 1, pos]) } else { self.free(&[pos]) };
            self.moves(moves, &free);
        }
    }

    fn moves(&mut self, moves: Vec<Move>, free: &[u8]) {
        for step in moves::order(moves, free) {
            match step {
                Step::Copy(to, from) => self.plain(skep_insn::build::mov(reg(to), reg(from))),
                Step::Reload(to, from) => {
                    let off = self.spill(from);
                    self.plain(skep_insn::build::load(Size::Dw, reg(to), Reg::FP, off));
                }
                Step::Spill(to, from) => {
                    let off = self.spill(to);
                    self.plain(skep_insn::build::store(Size::Dw, Reg::FP, off, reg(from)));
                }
                Step::SpillImm(to, imm) => {
                    let off = self.spill(to);
                    self.plain(skep_insn::build::store(Size::Dw, Reg::FP, off, imm));
                }
                Step::Make(to, op) => self.make(reg(to), &op),
            }
        }
    }

    /// Offset of a word of the allocator. A frame that is too big is noticed when the function is whole.
    fn spill(&mut self, spill: Spill) -> i16 {
        let index = match spill {
            Spill::Value(index) => index,
            other => {
                let next = self.words + self.extra.len() as u32;
                *self.extra.entry(other).or_insert(next)
            }
        };
        self.frame.word(index) as i16
    }

    /// What has to move on the way from one block to another.
    fn edge(&mut self, from: Block, to: Block) {
        let (pred, succ) = (self.lives.line.at(from), self.lives.line.at(to));
        let (leave, enter) = (2 * pred.last, succ.start());
        let end = &self.function.blocks[from.0 as usize].end;
        let params = &self.function.blocks[to.0 as usize].params;
        let mut moves = Vec::new();
        for target in end.targets().filter(|target| target.block == to).take(1) {
            for (&arg, &param) in target.args.iter().zip(params) {
                if self.lives.lives[param.0 as usize].ranges.is_empty() {
                    continue;
                }
                let spot = match self.allocation.place(param, enter) {
                    Place::Reg(reg) => Some(Spot::Reg(reg)),
                    Place::Memory => self.word(param),
                };
                moves.extend(spot.map(|to| Move { to, from: self.source_at(arg, leave) }));
            }
        }
        let mut compared = Vec::new();
        if matches!(end, Terminator::Branch { .. }) {
            end.each_own_use(|value| compared.push(*value));
        }
        for &value in &succ.live_in {
            let from = self.source_at(value, leave);
            // The verifier knows more of a value that was compared. Before 6.8 it forgot that of the copy on the stack, so
            // that is written again.
            if let (true, Source::Spot(Spot::Reg(_)), Some(to)) = (compared.contains(&value), &from, self.word(value)) {
                moves.push(Move { to, from: from.clone() });
            }
            if let Place::Reg(reg) = self.allocation.place(value, enter) {
                moves.push(Move { to: Spot::Reg(reg), from });
            }
        }
        let free = self.free(&[leave, enter]);
        self.moves(moves, &free);
    }

    fn terminator(&mut self, block: Block, number: u32, end: &Terminator) -> Result<(), Fault> {
        let pos = 2 * number;
        match end {
            Terminator::Jump(target) => {
                self.edge(block, target.block);
                self.push(Item::Jump(Label(target.block.0)));
            }
            Terminator::Branch { cond, width, a, b, then, otherwise } => {
                let (a, b) = (self.register(*a, pos)?, self.operand(*b, pos)?);
                let to = Label(then.block.0);
                self.push(Item::Branch { width: *width, cond: *cond, a, b, to });
                self.push(Item::Jump(Label(otherwise.block.0)));
            }
            Terminator::Return(result) => {
                match *result {
                    Operand::Imm(imm) => self.plain(skep_insn::build::mov(Reg::R0, imm)),
                    Operand::Value(value) => {
                        let from = self.source_at(value, pos);
                        self.moves(vec![Move { to: Spot::Reg(0), from }], &[]);
                    }
                }
                self.plain(Insn::Exit);
            }
        }
        Ok(())
    }

    fn push(&mut self, item: Item) {
        self.code.items.push((item, self.span));
    }

    fn plain(&mut self, insn: Insn) {
        self.push(Item::Plain(insn));
    }

    fn label(&mut self) -> Label {
        self.code.labels += 1;
        Label(self.code.labels - 1)
    }

    /// The register of a value that is in one.
    fn register(&self, value: Value, pos: Pos) -> Result<Reg, Fault> {
        match self.allocation.place(value, pos) {
            Place::Reg(number) => Ok(reg(number)),
            Place::Memory => Err(Fault::NoRegister { value }),
        }
    }

    fn operand(&self, operand: Operand, pos: Pos) -> Result<MachineOperand, Fault> {
        Ok(match operand {
            Operand::Imm(imm) => MachineOperand::Imm(imm),
            Operand::Value(value) => MachineOperand::Reg(self.register(value, pos)?),
        })
    }

    fn base(&self, base: Base, off: i16, pos: Pos) -> Result<(Reg, i16), Fault> {
        Ok(match base {
            Base::Value(value) => (self.register(value, pos)?, off),
            Base::Slot(slot) => (Reg::FP, (self.frame.slot(slot) + i32::from(off)) as i16),
        })
    }

    /// Brings a value into a register, wherever it is when the instruction reads.
    fn bring(&mut self, to: Reg, value: Value, pos: Pos) {
        let from = self.source_at(value, pos);
        self.moves(vec![Move { to: Spot::Reg(to.number()), from }], &[]);
    }

    fn make(&mut self, dst: Reg, op: &Op) {
        let wide = |value| Insn::LoadImm64 { dst, value };
        match *op {
            Op::Const(number) => match (i32::try_from(number), u32::try_from(number)) {
                (Ok(small), _) => self.plain(skep_insn::build::mov(dst, small)),
                (_, Ok(half)) => self.plain(skep_insn::build::mov32(dst, half as i32)),
                _ => self.plain(skep_insn::build::load_imm64(dst, number as u64)),
            },
            Op::SlotAddr(slot, off) => {
                self.plain(skep_insn::build::mov(dst, Reg::FP));
                self.plain(skep_insn::build::add(dst, self.frame.slot(slot) + off));
            }
            Op::Map(map) => self.push(Item::Refers(wide(Imm64::MapFd(map.0 as i32)), RefTarget::Map(map))),
            Op::MapValue(map, off_bytes) => {
                let value = Imm64::MapValue { fd: map.0 as i32, off: off_bytes };
                self.push(Item::Refers(wide(value), RefTarget::MapValue { map, off_bytes }));
            }
            Op::FuncAddr(func) => {
                let id = self.ids.function(func);
                self.push(Item::Refers(wide(Imm64::Func { off: -1 }), RefTarget::FuncAddr(id)));
            }
            Op::Extern(external) => {
                let ExternId(id) = external;
                self.push(Item::Refers(wide(Imm64::BtfId { id, btf_fd: 0 }), RefTarget::Extern(external)));
            }
            _ => {}
        }
    }

    fn insn(&mut self, number: u32, insn: &crate::ir::Insn) -> Result<(), Fault> {
        let (input, output) = (2 * number, 2 * number + 1);
        let place = |result: Option<Value>| {
            let result = result.unwrap_or(Value(0));
            self.allocation.place(result, output)
        };
        if insn.op.is_rematerialized() {
            if let Place::Reg(number) = place(insn.result) {
                self.make(reg(number), &insn.op);
            }
            return Ok(());
        }
        let dst = match (insn.result, insn.op.is_call()) {
            (Some(result), false) => self.register(result, output)?,
            _ => Reg::R0,
        };
        match &insn.op {
            Op::Alu { op, width, a, b } => {
                let src = match b {
                    Operand::Imm(imm) => MachineOperand::Imm(*imm),
                    // Behind the move, the result's register holds both.
                    Operand::Value(b) if b == a => MachineOperand::Reg(dst),
                    Operand::Value(b) => MachineOperand::Reg(self.register(*b, output)?),
                };
                self.bring(dst, *a, input);
                if (*op, *width, src) != (AluOp::Add, Width::W64, MachineOperand::Imm(0)) {
                    self.plain(Insn::Alu { width: *width, op: *op, dst, src });
                }
            }
            Op::Neg(width, a) => {
                self.bring(dst, *a, input);
                self.plain(Insn::Neg { width: *width, dst });
            }
            Op::SignExtend { bits, a } => self.sign_extend(dst, *bits, *a, input),
            Op::ZeroExtend { bits: 32, a } => {
                let src = match self.allocation.place(*a, input) {
                    Place::Reg(number) => reg(number),
                    Place::Memory => {
                        self.bring(dst, *a, input);
                        dst
                    }
                };
                self.plain(skep_insn::build::mov32(dst, src));
            }
            Op::ZeroExtend { bits, a } => {
                self.bring(dst, *a, input);
                self.plain(skep_insn::build::alu(AluOp::And, dst, (1i32 << bits) - 1));
            }
            Op::ByteSwap { bits, a } => {
                self.bring(dst, *a, input);
                let kind = match self.endian {
                    Endian::Little => SwapKind::Be,
                    Endian::Big => SwapKind::Le,
                };
                let bits = match bits {
                    16 => SwapBits::B16,
                    32 => SwapBits::B32,
                    _ => SwapBits::B64,
                };
                self.plain(Insn::Swap { kind, bits, dst });
            }
            Op::Compare { cond, width, a, b } => {
                let (a, b) = (self.register(*a, output)?, self.operand(*b, output)?);
                let to = self.label();
                self.plain(skep_insn::build::mov(dst, 1));
                self.push(Item::Branch { width: *width, cond: *cond, a, b, to });
                self.plain(skep_insn::build::mov(dst, 0));
                self.push(Item::Label(to));
            }
            Op::Load { size, base, off, pure: _ } => {
                let (base, off) = self.base(*base, *off, input)?;
                self.plain(Insn::Load { ty: LoadType::from(memory(*size)), dst, base, off });
            }
            Op::Store { size, base, off, value } => {
                let (base, off) = self.base(*base, *off, input)?;
                let src = self.operand(*value, input)?;
                self.plain(Insn::Store { size: memory(*size), base, off, src });
            }
            Op::AtomicAdd { size, base, off, value, fetch } => {
                let width = if *size == 4 { Width::W32 } else { Width::W64 };
                let same = base.value() == Some(*value);
                let (base, off) = self.base(*base, *off, if *fetch && !same { output } else { input })?;
                let (op, src) = match fetch {
                    true => {
                        self.bring(dst, *value, input);
                        (AtomicOp::FetchAdd, dst)
                    }
                    false => (AtomicOp::Add, self.register(*value, input)?),
                };
                self.plain(Insn::Atomic { op, width, base, off, src });
            }
            Op::Call { helper, args } => {
                self.arguments(args, input);
                self.plain(Insn::CallHelper { id: *helper as i32 });
            }
            Op::CallFunc { func, args } => {
                self.arguments(args, input);
                let id = self.ids.function(*func);
                self.push(Item::Refers(Insn::CallLocal { off: -1 }, RefTarget::Call(id)));
            }
            Op::CallKfunc { id, args } => {
                self.arguments(args, input);
                self.plain(Insn::CallKfunc { btf_id: *id as i32, fd_idx: 0 });
            }
            Op::Const(_) | Op::SlotAddr(..) | Op::Map(_) | Op::MapValue(..) | Op::FuncAddr(_) | Op::Extern(_) => {}
        }
        Ok(())
    }

    fn sign_extend(&mut self, dst: Reg, bits: u8, a: Value, input: Pos) {
        self.bring(dst, a, input);
        match SignExtend::new(Width::W64, i16::from(bits)) {
            Some(extend) if self.isa >= 4 => self.plain(Insn::MovSx { extend, dst, src: dst }),
            _ => {
                let by = 64 - i32::from(bits);
                self.plain(skep_insn::build::alu(AluOp::Lsh, dst, by));
                self.plain(skep_insn::build::alu(AluOp::Arsh, dst, by));
            }
        }
    }

    fn arguments(&mut self, args: &[Value], input: Pos) {
        let to = (1..).map(Spot::Reg);
        let moves = to.zip(args).map(|(to, arg)| Move { to, from: self.source_at(*arg, input) }).collect();
        let free = self.free(&[input, input + 1]);
        self.moves(moves, &free);
    }
}

fn reg(number: u8) -> Reg {
    Reg::new(number).unwrap_or(Reg::R0)
}

fn memory(bytes: u8) -> Size {
    match bytes {
        1 => Size::B,
        2 => Size::H,
        4 => Size::W,
        _ => Size::Dw,
    }
}
