//! Text to modules.

use std::collections::HashMap;
use std::fmt;

use skep_insn::Width;
use skep_spec::{ExternId, MapId};

use super::super::*;
use super::{ALU, COND};
use crate::SourceId;

/// Why a text is no module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Line, from 1.
    pub line: u32,
    /// What is wrong, lower case.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl std::error::Error for Error {}

/// Numbers of values stay below this, since analyses have a table entry for each.
const MAX_VALUES: u32 = 1 << 20;

/// Reads a module. Only the text is judged, not what it means; [`verify`](super::super::verify::verify) does that.
pub fn parse(text: &str) -> Result<Module, Error> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("func @").or_else(|| line.strip_prefix("local @")) {
            let name = rest.split('(').next().unwrap_or_default();
            names.insert(name, FuncRef(names.len() as u32));
        }
    }
    let mut parser = Parser { names, module: Module::default(), function: None };
    for (index, line) in text.lines().enumerate() {
        let line = line.split(';').next().unwrap_or_default().trim();
        let at = |message| Error { line: index as u32 + 1, message };
        if !line.is_empty() {
            parser.line(&mut Cursor(line)).map_err(at)?;
        }
    }
    match parser.function {
        Some(_) => {
            Err(Error { line: text.lines().count() as u32, message: "the last function lacks its `}`".to_owned() })
        }
        None => Ok(parser.module),
    }
}

type Result<T, E = String> = std::result::Result<T, E>;

struct Parser<'t> {
    names: HashMap<&'t str, FuncRef>,
    module: Module,
    function: Option<Open>,
}

/// A function whose `}` has not come yet.
struct Open {
    function: Function,
    params: Vec<Value>,
    /// Whether the last block has its terminator.
    ended: bool,
}

/// The rest of a line.
struct Cursor<'t>(&'t str);

impl<'t> Cursor<'t> {
    fn eat(&mut self, text: &str) -> bool {
        match self.0.strip_prefix(text) {
            Some(rest) => {
                self.0 = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, text: &str) -> Result<()> {
        if self.eat(text) { Ok(()) } else { Err(format!("expected `{text}` before `{}`", self.0)) }
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'t str {
        let end = self.0.find(|c| !wanted(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest.trim_start();
        word
    }

    fn word(&mut self) -> &'t str {
        self.take(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    fn number<N: std::str::FromStr>(&mut self) -> Result<N> {
        let before = self.0;
        let sign = if self.eat("-") { "-" } else { "" };
        self.eat("+");
        let digits = self.take(|c| c.is_ascii_digit());
        format!("{sign}{digits}").parse().map_err(|_| format!("no number that fits here: `{before}`"))
    }

    /// A letter and a number, such as `v7`.
    fn entity(&mut self, letter: &str) -> Result<u32> {
        let before = self.0;
        match self.eat(letter) && self.0.starts_with(|c: char| c.is_ascii_digit()) {
            true => self.number(),
            false => Err(format!("expected `{letter}` and a number before `{before}`")),
        }
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect("(")?;
        let mut items = Vec::new();
        while !self.eat(")") {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn span(&mut self) -> Result<Span> {
        if !self.eat("!") {
            return Ok(Span::default());
        }
        let mut start: u32 = self.number()?;
        let mut source = 0;
        if self.eat(":") {
            (source, start) = (start, self.number()?);
        }
        self.expect("..")?;
        Ok(Span { source: SourceId(source), start, end: self.number()? })
    }

    fn finish(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("`{}` is too much", self.0)) }
    }
}

impl Parser<'_> {
    fn line(&mut self, at: &mut Cursor<'_>) -> Result<()> {
        let Some(open) = &mut self.function else {
            self.function = Some(header(at)?);
            return at.finish();
        };
        if at.eat("}") {
            if !open.ended {
                return Err("the last block lacks its end".to_owned());
            }
            self.module.functions.extend(self.function.take().map(|open| open.function));
        } else if at.0.starts_with("slot ") {
            at.eat("slot");
            let index = at.entity("s")?;
            at.expect(":")?;
            let size = at.number()?;
            at.expect("align")?;
            if index as usize != open.function.slots.len() {
                return Err(format!("slot s{} is next", open.function.slots.len()));
            }
            open.function.slots.push(SlotData { size, align: at.number()? });
        } else if at.0.starts_with('b') && at.0.ends_with("):") {
            let index = at.entity("b")?;
            if !open.ended || index as usize != open.function.blocks.len() {
                return Err(match open.ended {
                    true => format!("block b{} is next", open.function.blocks.len()),
                    false => "the block before lacks its end".to_owned(),
                });
            }
            let params = at.list(|at| open.value(at))?;
            at.expect(":")?;
            if index == 0 && params != open.params {
                return Err("the entry block has the parameters of the function".to_owned());
            }
            let end = Terminator::Return(Operand::Imm(0));
            open.function.blocks.push(BlockData { params, insns: Vec::new(), end, end_span: Span::default() });
            open.ended = false;
        } else {
            if open.ended {
                return Err("an instruction outside of a block".to_owned());
            }
            open.instruction(at, &self.names)?;
        }
        at.finish()
    }
}

fn header(at: &mut Cursor<'_>) -> Result<Open> {
    let kind = match at.word() {
        "func" => FuncKind::Program,
        "local" => FuncKind::Local,
        word => return Err(format!("expected `func` or `local`, not `{word}`")),
    };
    at.expect("@")?;
    let name = at.word().to_owned();
    let function = Function { name, kind, blocks: Vec::new(), slots: Vec::new(), values: 0 };
    let mut open = Open { function, params: Vec::new(), ended: true };
    open.params = at.list(|at| open.value(at))?;
    at.expect("{")?;
    Ok(open)
}

impl Open {
    fn value(&mut self, at: &mut Cursor<'_>) -> Result<Value> {
        let number = at.entity("v")?;
        if number >= MAX_VALUES {
            return Err(format!("v{number} is beyond the highest value v{}", MAX_VALUES - 1));
        }
        self.function.values = self.function.values.max(number + 1);
        Ok(Value(number))
    }

    fn operand(&mut self, at: &mut Cursor<'_>) -> Result<Operand> {
        if at.0.starts_with('v') { self.value(at).map(Operand::Value) } else { at.number().map(Operand::Imm) }
    }

    fn base(&mut self, at: &mut Cursor<'_>) -> Result<(Base, i16)> {
        let base = match at.0.starts_with('s') {
            true => Base::Slot(Slot(at.entity("s")?)),
            false => Base::Value(self.value(at)?),
        };
        Ok((base, if at.0.starts_with(['+', '-']) { at.number()? } else { 0 }))
    }

    fn target(&mut self, at: &mut Cursor<'_>) -> Result<Target> {
        Ok(Target { block: Block(at.entity("b")?), args: at.list(|at| self.value(at))? })
    }

    fn instruction(&mut self, at: &mut Cursor<'_>, names: &HashMap<&str, FuncRef>) -> Result<()> {
        let mut result = None;
        let is_value = at.0.starts_with('v') && at.0[1..].starts_with(|c: char| c.is_ascii_digit());
        if is_value {
            result = Some(self.value(at)?);
            at.expect("=")?;
        }
        let name = at.word();
        let suffix: u8 = if at.eat(".") { at.number()? } else { 0 };
        if let Some(end) = self.terminator(at, name, suffix)? {
            let span = at.span()?;
            self.ended = true;
            if let Some(block) = self.function.blocks.last_mut() {
                (block.end, block.end_span) = (end, span);
            }
            return Ok(());
        }
        let op = self.op(at, name, suffix, result.is_some(), names)?;
        let span = at.span()?;
        if let Some(block) = self.function.blocks.last_mut() {
            block.insns.push(Insn { result, op, span });
        }
        Ok(())
    }

    fn terminator(&mut self, at: &mut Cursor<'_>, name: &str, suffix: u8) -> Result<Option<Terminator>> {
        Ok(Some(match name {
            "jump" => Terminator::Jump(self.target(at)?),
            "ret" => Terminator::Return(self.operand(at)?),
            "br" => {
                let (width, cond) = (width(suffix)?, cond(at)?);
                let a = self.value(at)?;
                at.expect(",")?;
                let b = self.operand(at)?;
                at.expect("->")?;
                let then = self.target(at)?;
                at.expect(",")?;
                Terminator::Branch { cond, width, a, b, then, otherwise: self.target(at)? }
            }
            _ => return Ok(None),
        }))
    }

    fn op(
        &mut self,
        at: &mut Cursor<'_>,
        name: &str,
        suffix: u8,
        has_result: bool,
        names: &HashMap<&str, FuncRef>,
    ) -> Result<Op> {
        let function = |at: &mut Cursor<'_>| {
            let name = at.word();
            names.get(name).copied().ok_or_else(|| format!("no function is called `{name}`"))
        };
        Ok(match name {
            "const" => Op::Const(at.number()?),
            "neg" => Op::Neg(width(suffix)?, self.value(at)?),
            "sext" => Op::SignExtend { bits: suffix, a: self.value(at)? },
            "zext" => Op::ZeroExtend { bits: suffix, a: self.value(at)? },
            "bswap" => Op::ByteSwap { bits: suffix, a: self.value(at)? },
            "compare" => {
                let (width, cond) = (width(suffix)?, cond(at)?);
                let a = self.value(at)?;
                at.expect(",")?;
                Op::Compare { cond, width, a, b: self.operand(at)? }
            }
            "load" | "load_pure" => {
                let (base, off) = self.base(at)?;
                Op::Load { size: suffix, base, off, pure: name == "load_pure" }
            }
            "store" => {
                let (base, off) = self.base(at)?;
                at.expect(",")?;
                Op::Store { size: suffix, base, off, value: self.operand(at)? }
            }
            "atomic_add" => {
                let (base, off) = self.base(at)?;
                at.expect(",")?;
                Op::AtomicAdd { size: suffix, base, off, value: self.value(at)?, fetch: has_result }
            }
            "slot" => Op::SlotAddr(Slot(at.entity("s")?), if at.0.is_empty() { 0 } else { at.number()? }),
            "map" => Op::Map(MapId(at.entity("m")?)),
            "map_value" => Op::MapValue(MapId(at.entity("m")?), if at.0.is_empty() { 0 } else { at.number()? }),
            "func" => {
                at.expect("@")?;
                Op::FuncAddr(function(at)?)
            }
            "extern" => Op::Extern(ExternId(at.entity("e")?)),
            "call" if at.eat("@") => {
                let func = function(at)?;
                Op::CallFunc { func, args: at.list(|at| self.value(at))? }
            }
            "call" if at.eat("kfunc") => {
                let id = at.number()?;
                Op::CallKfunc { id, args: at.list(|at| self.value(at))? }
            }
            "call" => {
                let helper = at.number()?;
                Op::Call { helper, args: at.list(|at| self.value(at))? }
            }
            _ => {
                let Some((op, _)) = ALU.iter().find(|(_, it)| *it == name) else {
                    return Err(format!("no instruction is called `{name}`"));
                };
                let (width, a) = (width(suffix)?, self.value(at)?);
                at.expect(",")?;
                Op::Alu { op: *op, width, a, b: self.operand(at)? }
            }
        })
    }
}

fn width(suffix: u8) -> Result<Width> {
    match suffix {
        32 => Ok(Width::W32),
        64 => Ok(Width::W64),
        _ => Err("a width is `.32` or `.64`".to_owned()),
    }
}

fn cond(at: &mut Cursor<'_>) -> Result<skep_insn::Cond> {
    let name = at.word();
    let found = COND.iter().find(|(_, it)| *it == name).map(|(cond, _)| *cond);
    found.ok_or_else(|| format!("no condition is called `{name}`"))
}
