//! The intermediate form: SSA over 64-bit values, with block parameters instead of phi nodes.
//!
//! # Model
//!
//! - A [`Value`] is 64 bits, defined once: by an instruction, or as a parameter of a block. Every path from the entry to a use
//!   passes its definition.
//! - Memory is explicit: the [stack slots](Slot) of a function (`fp - n` in the end), maps' values, the context, scratch. An
//!   instruction that reads memory names a size and an offset; nothing is read or written behind its back, except by
//!   [`Op::Call`].
//! - A block ends with exactly one [`Terminator`]; jumps give values to the parameters of the block they lead to.
//! - 32-bit operations ([`Width::W32`]) use the lower halves and clear the upper half of the result.
//! - Each instruction has the span of the script that it was made for: it becomes a line record of the program, and through
//!   that a refusal of the verifier finds the expression.
//!
//! # Pointers and the verifier
//!
//! Values are untyped here, but the verifier gives registers types. What it must see again stays in one register or in an
//! 8-byte stack slot, whole; the allocator spills and reloads 64 bits always. Two pointers of different kinds never meet in
//! one block parameter, unless one of them is the constant 0.
//!
//! # Text
//!
//! ```text
//! func @main(v0) {
//!   slot s0: 16 align 8
//! b0(v0):
//!   v1 = const 0
//!   store.4 s0+0, v1
//!   v2 = slot s0+0
//!   v3 = map m1
//!   v4 = call 1(v3, v2)            ; bpf_map_lookup_elem
//!   br.64 eq v4, 0 -> b1(), b2(v4)
//! b1():
//!   ret 0
//! b2(v5):
//!   v6 = const 1
//!   atomic_add.8 v5+0, v6
//!   ret 0
//! }
//! ```

pub mod build;
pub mod cfg;
pub mod interpret;
#[doc(hidden)]
pub mod random;
pub mod text;
pub mod verify;
mod visit;

pub use verify::verify;

use skep_insn::{AluOp, Cond, Width};
use skep_spec::{ExternId, MapId};

use crate::Span;

/// A whole script: functions that refer to each other, and to maps and externs of the Spec that is being made.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// Functions; programs, callbacks and subprograms.
    pub functions: Vec<Function>,
}

/// Position in [`Module::functions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FuncRef(pub u32);

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u32);

/// Position in [`Function::blocks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(pub u32);

/// Position in [`Function::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

/// One function.
#[derive(Clone, Debug)]
pub struct Function {
    /// Its name: a C identifier, unique in the module.
    pub name: String,
    /// How it is entered.
    pub kind: FuncKind,
    /// Blocks; the first is the entry, and its parameters are the function's, at most five.
    pub blocks: Vec<BlockData>,
    /// Stack slots.
    pub slots: Vec<SlotData>,
    /// One more than the highest [`Value`].
    pub values: u32,
}

/// How a function is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FuncKind {
    /// By the kernel; its parameter is the context.
    Program,
    /// By another function of the module, or by a helper that was given its address. Static: verified with its callers.
    Local,
}

/// Memory on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotData {
    /// Size, in bytes.
    pub size: u32,
    /// Alignment, in bytes: 1, 2, 4 or 8.
    pub align: u32,
}

/// One block.
#[derive(Clone, Debug)]
pub struct BlockData {
    /// Values that jumps give.
    pub params: Vec<Value>,
    /// Instructions, in order.
    pub insns: Vec<Insn>,
    /// Where it goes.
    pub end: Terminator,
    /// Place in the script of its end.
    pub end_span: Span,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insn {
    /// The value that it defines; `None` for stores and for calls without use.
    pub result: Option<Value>,
    /// What it does.
    pub op: Op,
    /// Place in the script.
    pub span: Span,
}

/// A value or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A value.
    Value(Value),
    /// A number that fits a sign-extended 32-bit immediate.
    Imm(i32),
}

/// Where memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    /// At a pointer.
    Value(Value),
    /// In a stack slot.
    Slot(Slot),
}

/// What an instruction does. Sizes of memory accesses are 1, 2, 4 or 8 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A number, 64 bits.
    Const(i64),
    /// `a op b`. `SDiv`, `SMod` are here whatever the kernel knows: the generator spells them out for ISA below v4. As in the
    /// ISA, division by zero gives 0 and the rest gives the dividend.
    Alu {
        /// Operation.
        op: AluOp,
        /// Both operands and the result.
        width: Width,
        /// Left.
        a: Value,
        /// Right.
        b: Operand,
    },
    /// `-a`
    Neg(Width, Value),
    /// Lower `bits` bits (8, 16 or 32) with their sign.
    SignExtend {
        /// How many.
        bits: u8,
        /// Of what.
        a: Value,
    },
    /// Lower `bits` bits (8, 16 or 32), zeroes above.
    ZeroExtend {
        /// How many.
        bits: u8,
        /// Of what.
        a: Value,
    },
    /// Lower `bits` bits (16, 32 or 64) with their bytes in the other order, zeroes above.
    ByteSwap {
        /// How many.
        bits: u8,
        /// Of what.
        a: Value,
    },
    /// 1 when `a cond b`, else 0.
    Compare {
        /// Condition.
        cond: Cond,
        /// Bits that are compared.
        width: Width,
        /// Left.
        a: Value,
        /// Right.
        b: Operand,
    },
    /// Memory, zero-extended.
    Load {
        /// Bytes.
        size: u8,
        /// Where.
        base: Base,
        /// Offset, in bytes.
        off: i16,
        /// A load of kernel memory through a BTF pointer: may be repeated, moved and shared.
        pure: bool,
    },
    /// Writes the lower bytes of `value`.
    Store {
        /// Bytes.
        size: u8,
        /// Where.
        base: Base,
        /// Offset, in bytes.
        off: i16,
        /// What.
        value: Operand,
    },
    /// Adds atomically; `size` 4 or 8.
    AtomicAdd {
        /// Bytes.
        size: u8,
        /// Where.
        base: Base,
        /// Offset, in bytes.
        off: i16,
        /// What.
        value: Value,
        /// The result is the old value.
        fetch: bool,
    },
    /// Address in a stack slot.
    SlotAddr(Slot, i32),
    /// A map, for helpers.
    Map(MapId),
    /// Address in the value of a data map.
    MapValue(MapId, u32),
    /// Address of a function, for callbacks.
    FuncAddr(FuncRef),
    /// Address or value of an extern (a typed ksym).
    Extern(ExternId),
    /// A helper by number.
    Call {
        /// Number, see [`skep_insn::helpers`].
        helper: u32,
        /// At most five.
        args: Vec<Value>,
    },
    /// A function of the module; results other than the return value are not there.
    CallFunc {
        /// Which.
        func: FuncRef,
        /// At most five.
        args: Vec<Value>,
    },
    /// A kernel function.
    CallKfunc {
        /// Its `FUNC` in the types of the kernel that the script is compiled for.
        id: u32,
        /// At most five.
        args: Vec<Value>,
    },
}

/// Where a block goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Terminator {
    /// On.
    Jump(Target),
    /// One of two.
    Branch {
        /// Condition.
        cond: Cond,
        /// Bits that are compared.
        width: Width,
        /// Left.
        a: Value,
        /// Right.
        b: Operand,
        /// When it holds.
        then: Target,
        /// When not.
        otherwise: Target,
    },
    /// Out of the function.
    Return(Operand),
}

/// A block and values for its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub block: Block,
    /// As many as the block has parameters.
    pub args: Vec<Value>,
}
