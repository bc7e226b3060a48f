//! Modules to text.

use std::fmt::{self, Display, Formatter};

use skep_insn::Width;

use super::super::*;
use super::{ALU, COND, name_of};

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "v{}", self.0)
    }
}

impl Display for Block {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", self.0)
    }
}

impl Display for Slot {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl Display for Operand {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Operand::Value(value) => value.fmt(f),
            Operand::Imm(imm) => imm.fmt(f),
        }
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.block, List(&self.args))
    }
}

/// The whole module, in the form that [`parse`](super::parse) reads.
impl Display for Module {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, function) in self.functions.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write_function(f, function, Some(self))?;
        }
        Ok(())
    }
}

/// One function; others that it names are written by number, as `@#1`.
impl Display for Function {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write_function(f, self, None)
    }
}

struct List<'a>(&'a [Value]);

impl Display for List<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter().enumerate() {
            write!(f, "{}{value}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

/// A place in memory, or an offset into something.
struct Place<T, N>(T, N);

impl<T: Display, N: Into<i64> + Copy> Display for Place<T, N> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:+}", self.0, self.1.into())
    }
}

fn memory(base: Base, off: i16) -> String {
    match base {
        Base::Value(value) => Place(value, off).to_string(),
        Base::Slot(slot) => Place(slot, off).to_string(),
    }
}

fn bits(width: Width) -> u8 {
    match width {
        Width::W32 => 32,
        Width::W64 => 64,
    }
}

struct Callee<'a>(FuncRef, Option<&'a Module>);

impl Display for Callee<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.1.and_then(|module| module.functions.get(self.0.0 as usize)) {
            Some(function) => write!(f, "@{}", function.name),
            None => write!(f, "@#{}", self.0.0),
        }
    }
}

fn write_function(f: &mut Formatter<'_>, function: &Function, module: Option<&Module>) -> fmt::Result {
    let kind = match function.kind {
        FuncKind::Program => "func",
        FuncKind::Local => "local",
    };
    let params = function.blocks.first().map_or(&[][..], |entry| &entry.params);
    writeln!(f, "{kind} @{}({}) {{", function.name, List(params))?;
    for (index, slot) in function.slots.iter().enumerate() {
        writeln!(f, "  slot s{index}: {} align {}", slot.size, slot.align)?;
    }
    for (index, block) in function.blocks.iter().enumerate() {
        writeln!(f, "b{index}({}):", List(&block.params))?;
        for insn in &block.insns {
            f.write_str("  ")?;
            if let Some(result) = insn.result {
                write!(f, "{result} = ")?;
            }
            write_op(f, &insn.op, module)?;
            write_span(f, insn.span)?;
        }
        f.write_str("  ")?;
        match &block.end {
            Terminator::Jump(target) => write!(f, "jump {target}")?,
            Terminator::Branch { cond, width, a, b, then, otherwise } => {
                let cond = name_of(&COND, *cond);
                write!(f, "br.{} {cond} {a}, {b} -> {then}, {otherwise}", bits(*width))?;
            }
            Terminator::Return(operand) => write!(f, "ret {operand}")?,
        }
        write_span(f, block.end_span)?;
    }
    writeln!(f, "}}")
}

fn write_span(f: &mut Formatter<'_>, span: Span) -> fmt::Result {
    match span {
        Span { source, start: 0, end: 0 } if source.0 == 0 => writeln!(f),
        Span { source, start, end } if source.0 == 0 => writeln!(f, " !{start}..{end}"),
        Span { source, start, end } => writeln!(f, " !{}:{start}..{end}", source.0),
    }
}

fn write_op(f: &mut Formatter<'_>, op: &Op, module: Option<&Module>) -> fmt::Result {
    match op {
        Op::Const(number) => write!(f, "const {number}"),
        Op::Alu { op, width, a, b } => write!(f, "{}.{} {a}, {b}", name_of(&ALU, *op), bits(*width)),
        Op::Neg(width, a) => write!(f, "neg.{} {a}", bits(*width)),
        Op::SignExtend { bits, a } => write!(f, "sext.{bits} {a}"),
        Op::ZeroExtend { bits, a } => write!(f, "zext.{bits} {a}"),
        Op::ByteSwap { bits, a } => write!(f, "bswap.{bits} {a}"),
        Op::Compare { cond, width, a, b } => {
            write!(f, "compare.{} {} {a}, {b}", bits(*width), name_of(&COND, *cond))
        }
        Op::Load { size, base, off, pure } => {
            write!(f, "load{}.{size} {}", if *pure { "_pure" } else { "" }, memory(*base, *off))
        }
        Op::Store { size, base, off, value } => write!(f, "store.{size} {}, {value}", memory(*base, *off)),
        Op::AtomicAdd { size, base, off, value, fetch: _ } => {
            write!(f, "atomic_add.{size} {}, {value}", memory(*base, *off))
        }
        Op::SlotAddr(slot, off) => write!(f, "slot {}", Place(slot, *off)),
        Op::Map(map) => write!(f, "map m{}", map.0),
        Op::MapValue(map, off) => write!(f, "map_value {}", Place(format_args!("m{}", map.0), *off)),
        Op::FuncAddr(func) => write!(f, "func {}", Callee(*func, module)),
        Op::Extern(external) => write!(f, "extern e{}", external.0),
        Op::Call { helper, args } => write!(f, "call {helper}({})", List(args)),
        Op::CallFunc { func, args } => write!(f, "call {}({})", Callee(*func, module), List(args)),
        Op::CallKfunc { id, args } => write!(f, "call kfunc {id}({})", List(args)),
    }
}
