//! [`FunctionBuilder`]: a function while it is made, one instruction after the other.
//!
//! ```
//! use skep_insn::{AluOp, Cond, Width, helpers};
//! use skep_script::ir::{FuncKind, build::FunctionBuilder};
//!
//! // return bpf_ktime_get_ns() > 1000 ? 1 : 0, with a block that takes the result as its parameter
//! let mut f = FunctionBuilder::new("main", FuncKind::Program, 1);
//! let now = f.call(helpers::KTIME_GET_NS, &[]);
//! let (late, join) = (f.block(0), f.block(1));
//! let (zero, one) = (f.constant(0), f.constant(1));
//! f.branch(Cond::Gt, Width::W64, now, 1000, (late, &[]), (join, &[zero]));
//! f.switch_to(late);
//! f.jump(join, &[one]);
//! f.switch_to(join);
//! let result = f.param(join, 0);
//! f.ret(result);
//! assert_eq!(f.finish().blocks.len(), 3);
//! ```

use skep_insn::{AluOp, Cond, Width};
use skep_spec::{ExternId, MapId};

use super::{
    Base, Block, BlockData, FuncKind, FuncRef, Function, Insn, Op, Operand, Slot, SlotData, Target, Terminator, Value,
};
use crate::Span;

/// A function in the making. It always has a current block, to which instructions are appended.
///
/// Code after the end of a block (behind a `return` of the script) is legal to append: it goes to a fresh block that nothing
/// leads to, and the passes remove it.
#[derive(Clone, Debug)]
pub struct FunctionBuilder {
    function: Function,
    /// Which blocks have their terminator.
    ended: Vec<bool>,
    current: Block,
    span: Span,
}

impl From<Value> for Operand {
    fn from(value: Value) -> Operand {
        Operand::Value(value)
    }
}

impl From<i32> for Operand {
    fn from(number: i32) -> Operand {
        Operand::Imm(number)
    }
}

impl From<Value> for Base {
    fn from(value: Value) -> Base {
        Base::Value(value)
    }
}

impl From<Slot> for Base {
    fn from(slot: Slot) -> Base {
        Base::Slot(slot)
    }
}

impl FunctionBuilder {
    /// Starts a function with so many parameters (at most five; one for a program); its entry block is the current one.
    pub fn new(name: &str, kind: FuncKind, params: u32) -> FunctionBuilder {
        let function = Function { name: name.to_owned(), kind, blocks: Vec::new(), slots: Vec::new(), values: 0 };
        let mut builder = FunctionBuilder { function, ended: Vec::new(), current: Block(0), span: Span::default() };
        builder.block(params);
        builder
    }

    /// Instructions from here on were made for this place of the script.
    pub fn set_span(&mut self, span: Span) {
        self.span = span;
    }

    /// The place that was set last.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Parameter `index` of the function.
    ///
    /// # Panics
    ///
    /// When the function has fewer.
    pub fn argument(&self, index: usize) -> Value {
        self.param(Block(0), index)
    }

    /// Makes a block with so many parameters. The current block stays.
    pub fn block(&mut self, params: u32) -> Block {
        let params = (0..params).map(|_| self.value()).collect();
        let end = Terminator::Return(Operand::Imm(0));
        self.function.blocks.push(BlockData { params, insns: Vec::new(), end, end_span: self.span });
        self.ended.push(false);
        Block(self.function.blocks.len() as u32 - 1)
    }

    /// Parameter `index` of a block.
    ///
    /// # Panics
    ///
    /// When the block has fewer.
    pub fn param(&self, block: Block, index: usize) -> Value {
        self.function.blocks[block.0 as usize].params[index]
    }

    /// Gives a block one more parameter; every jump to it has to bring one more value.
    pub fn add_param(&mut self, block: Block) -> Value {
        let value = self.value();
        self.function.blocks[block.0 as usize].params.push(value);
        value
    }

    /// Appends to this block from here on.
    pub fn switch_to(&mut self, block: Block) {
        self.current = block;
    }

    /// The block that is appended to.
    pub fn current(&self) -> Block {
        self.current
    }

    /// Whether the current block has its end already, so that what is appended next cannot be reached.
    pub fn is_ended(&self) -> bool {
        self.ended[self.current.0 as usize]
    }

    /// Reserves stack memory, `align` being 1, 2, 4 or 8. Its content is undefined until it is stored to.
    pub fn slot(&mut self, size: u32, align: u32) -> Slot {
        self.function.slots.push(SlotData { size, align });
        Slot(self.function.slots.len() as u32 - 1)
    }

    /// Size and alignment of a slot.
    pub fn slot_data(&self, slot: Slot) -> SlotData {
        self.function.slots[slot.0 as usize]
    }

    /// Appends an instruction with a result.
    pub fn insert(&mut self, op: Op) -> Value {
        let result = self.value();
        self.push(Some(result), op);
        result
    }

    /// Appends an instruction without a result.
    pub fn effect(&mut self, op: Op) {
        self.push(None, op);
    }

    /// A number.
    pub fn constant(&mut self, number: i64) -> Value {
        self.insert(Op::Const(number))
    }

    /// A number as an operand: an immediate when it fits, else a value.
    pub fn operand(&mut self, number: i64) -> Operand {
        match i32::try_from(number) {
            Ok(small) => Operand::Imm(small),
            Err(_) => Operand::Value(self.constant(number)),
        }
    }

    /// `a op b`
    pub fn alu(&mut self, op: AluOp, width: Width, a: Value, b: impl Into<Operand>) -> Value {
        self.insert(Op::Alu { op, width, a, b: b.into() })
    }

    /// `a + b`, 64 bits.
    pub fn add(&mut self, a: Value, b: impl Into<Operand>) -> Value {
        self.alu(AluOp::Add, Width::W64, a, b)
    }

    /// `-a`
    pub fn neg(&mut self, width: Width, a: Value) -> Value {
        self.insert(Op::Neg(width, a))
    }

    /// The lower 8, 16 or 32 bits with their sign.
    pub fn sign_extend(&mut self, bits: u8, a: Value) -> Value {
        self.insert(Op::SignExtend { bits, a })
    }

    /// The lower 8, 16 or 32 bits.
    pub fn zero_extend(&mut self, bits: u8, a: Value) -> Value {
        self.insert(Op::ZeroExtend { bits, a })
    }

    /// The lower 16, 32 or 64 bits with their bytes in the other order.
    pub fn byte_swap(&mut self, bits: u8, a: Value) -> Value {
        self.insert(Op::ByteSwap { bits, a })
    }

    /// 1 when `a cond b`, else 0.
    pub fn compare(&mut self, cond: Cond, width: Width, a: Value, b: impl Into<Operand>) -> Value {
        self.insert(Op::Compare { cond, width, a, b: b.into() })
    }

    /// `size` bytes at `base + off`, zero-extended; `base` is a value or a slot.
    pub fn load(&mut self, size: u8, base: impl Into<Base>, off: i16) -> Value {
        self.insert(Op::Load { size, base: base.into(), off, pure: false })
    }

    /// As [`FunctionBuilder::load`], of kernel memory through a BTF pointer: may be shared with an equal one.
    pub fn load_pure(&mut self, size: u8, base: impl Into<Base>, off: i16) -> Value {
        self.insert(Op::Load { size, base: base.into(), off, pure: true })
    }

    /// Writes the lower `size` bytes of a value or number to `base + off`.
    pub fn store(&mut self, size: u8, base: impl Into<Base>, off: i16, value: impl Into<Operand>) {
        self.effect(Op::Store { size, base: base.into(), off, value: value.into() });
    }

    /// Writes zeroes to the whole of a slot, in the biggest stores that its alignment allows.
    pub fn zero_slot(&mut self, slot: Slot) {
        let SlotData { size, align } = self.slot_data(slot);
        let mut off = 0;
        while off < size {
            let step = [8, 4, 2, 1].into_iter().find(|step| *step <= align.max(1) && off + step <= size).unwrap_or(1);
            self.store(step as u8, slot, off as i16, 0);
            off += step;
        }
    }

    /// Adds a value to 4 or 8 bytes of memory, atomically.
    pub fn atomic_add(&mut self, size: u8, base: impl Into<Base>, off: i16, value: Value) {
        self.effect(Op::AtomicAdd { size, base: base.into(), off, value, fetch: false });
    }

    /// As [`FunctionBuilder::atomic_add`], and gives the value before.
    pub fn fetch_add(&mut self, size: u8, base: impl Into<Base>, off: i16, value: Value) -> Value {
        self.insert(Op::AtomicAdd { size, base: base.into(), off, value, fetch: true })
    }

    /// The address of byte `off` of a slot.
    pub fn slot_addr(&mut self, slot: Slot, off: i32) -> Value {
        self.insert(Op::SlotAddr(slot, off))
    }

    /// A map, as helpers take it.
    pub fn map(&mut self, map: MapId) -> Value {
        self.insert(Op::Map(map))
    }

    /// The address of byte `off` of the value of a data map.
    pub fn map_value(&mut self, map: MapId, off: u32) -> Value {
        self.insert(Op::MapValue(map, off))
    }

    /// The address of a function, for helpers that take a callback.
    pub fn func_addr(&mut self, func: FuncRef) -> Value {
        self.insert(Op::FuncAddr(func))
    }

    /// Address or value of an extern variable.
    pub fn external(&mut self, external: ExternId) -> Value {
        self.insert(Op::Extern(external))
    }

    /// Calls a helper by its number, one of [`skep_insn::helpers`].
    pub fn call(&mut self, helper: u32, args: &[Value]) -> Value {
        self.insert(Op::Call { helper, args: args.to_vec() })
    }

    /// Calls a function of the module.
    pub fn call_func(&mut self, func: FuncRef, args: &[Value]) -> Value {
        self.insert(Op::CallFunc { func, args: args.to_vec() })
    }

    /// Calls a function of the kernel that the script is compiled for, by the number of its type.
    pub fn call_kfunc(&mut self, id: u32, args: &[Value]) -> Value {
        self.insert(Op::CallKfunc { id, args: args.to_vec() })
    }

    /// Ends the current block with a jump.
    pub fn jump(&mut self, block: Block, args: &[Value]) {
        self.end(Terminator::Jump(Target { block, args: args.to_vec() }));
    }

    /// Ends the current block with a choice between two blocks, each with the values for its parameters.
    pub fn branch(
        &mut self,
        cond: Cond,
        width: Width,
        a: Value,
        b: impl Into<Operand>,
        then: (Block, &[Value]),
        otherwise: (Block, &[Value]),
    ) {
        let target = |(block, args): (Block, &[Value])| Target { block, args: args.to_vec() };
        let (then, otherwise) = (target(then), target(otherwise));
        self.end(Terminator::Branch { cond, width, a, b: b.into(), then, otherwise });
    }

    /// Ends the current block: to `then` when all 64 bits of `a` are not zero together, else to `otherwise`; neither has
    /// parameters.
    pub fn branch_if(&mut self, a: Value, then: Block, otherwise: Block) {
        self.branch(Cond::Ne, Width::W64, a, 0, (then, &[]), (otherwise, &[]));
    }

    /// Ends the current block and the function.
    pub fn ret(&mut self, result: impl Into<Operand>) {
        self.end(Terminator::Return(result.into()));
    }

    /// The function. A block that was given no end returns 0.
    pub fn finish(self) -> Function {
        self.function
    }

    fn value(&mut self) -> Value {
        self.function.values += 1;
        Value(self.function.values - 1)
    }

    fn push(&mut self, result: Option<Value>, op: Op) {
        self.leave_ended();
        let span = self.span;
        self.function.blocks[self.current.0 as usize].insns.push(Insn { result, op, span });
    }

    fn end(&mut self, end: Terminator) {
        self.leave_ended();
        let block = &mut self.function.blocks[self.current.0 as usize];
        (block.end, block.end_span) = (end, self.span);
        self.ended[self.current.0 as usize] = true;
    }

    fn leave_ended(&mut self) {
        if self.is_ended() {
            self.current = self.block(0);
        }
    }
}
