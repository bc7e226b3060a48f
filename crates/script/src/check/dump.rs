//! A checked script as text: what each name became, and every conversion. For `-d types` and for tests.

use std::fmt::{self, Write};

use crate::ast::UnaryOp;
use crate::typed::{Action, Bits, Body, Call, Expr, ExprKind, MapRef, Script, Stmt, StmtKind, VarRef};
use crate::types::{Space, Type};

/// The script as text: maps, subprograms, probes.
pub fn dump(script: &Script) -> String {
    let mut out = String::new();
    // Writing into a String does not fail.
    let _ = Printer { script, body: None, out: &mut out }.script();
    out
}

struct Printer<'a> {
    script: &'a Script,
    body: Option<&'a Body>,
    out: &'a mut String,
}

impl<'a> Printer<'a> {
    fn script(&mut self) -> fmt::Result {
        for map in &self.script.maps {
            write!(self.out, "map @{}", map.name)?;
            if let Some(key) = &map.key {
                write!(self.out, "[{}]", full(key))?;
            }
            write!(self.out, ": {}", full(&map.value))?;
            if let Some((kind, size)) = map.decl {
                write!(self.out, " = {kind:?}({size})")?;
            }
            writeln!(self.out, "{}", if map.printed_and_cleared { " printed and cleared" } else { "" })?;
        }
        for function in &self.script.functions {
            writeln!(self.out, "fn {} -> {}", function.name, function.ret)?;
            self.body(&function.body)?;
        }
        for probe in &self.script.probes {
            let places: Vec<&str> = probe.places.iter().map(|place| place.name.as_str()).collect();
            writeln!(self.out, "probe {}", places.join(", "))?;
            self.body(&probe.body)?;
        }
        Ok(())
    }

    fn body(&mut self, body: &'a Body) -> fmt::Result {
        self.body = Some(body);
        for var in &body.vars {
            writeln!(self.out, "  {}: {}", var.name, full(&var.ty))?;
        }
        self.stmts(&body.stmts, 1)
    }

    fn stmts(&mut self, stmts: &[Stmt], depth: usize) -> fmt::Result {
        stmts.iter().try_for_each(|stmt| self.stmt(stmt, depth))
    }

    fn line(&mut self, depth: usize) -> fmt::Result {
        write!(self.out, "{:1$}", "", depth * 2)
    }

    fn block(&mut self, stmts: &[Stmt], depth: usize) -> fmt::Result {
        writeln!(self.out, " {{")?;
        self.stmts(stmts, depth + 1)?;
        self.line(depth)?;
        write!(self.out, "}}")
    }

    fn stmt(&mut self, stmt: &Stmt, depth: usize) -> fmt::Result {
        self.line(depth)?;
        match &stmt.kind {
            StmtKind::SetVar(var, value) => {
                self.var(*var)?;
                write!(self.out, " = ")?;
                self.expr(value)?;
            }
            StmtKind::SetMap { map, key, value } => {
                self.element(*map, key.as_ref())?;
                write!(self.out, " = ")?;
                self.expr(value)?;
            }
            StmtKind::AddMap { map, key, value } => {
                self.element(*map, key.as_ref())?;
                write!(self.out, " += ")?;
                self.expr(value)?;
            }
            StmtKind::Aggregate { map, key, value, .. } => {
                self.element(*map, key.as_ref())?;
                write!(self.out, " <- ")?;
                match value {
                    Some(value) => self.expr(value)?,
                    None => write!(self.out, "1")?,
                }
            }
            StmtKind::Delete { map, key, warn } => {
                write!(self.out, "delete{} ", if *warn { "" } else { " quietly" })?;
                self.element(*map, key.as_ref())?;
            }
            StmtKind::Expr(value) => self.expr(value)?,
            StmtKind::If(cond, yes, no) => {
                write!(self.out, "if ")?;
                self.expr(cond)?;
                self.block(yes, depth)?;
                if !no.is_empty() {
                    write!(self.out, " else")?;
                    self.block(no, depth)?;
                }
            }
            StmtKind::While(cond, body) => {
                write!(self.out, "while ")?;
                self.expr(cond)?;
                self.block(body, depth)?;
            }
            StmtKind::ForRange { var, start, end, body } => {
                write!(self.out, "for ")?;
                self.var(*var)?;
                write!(self.out, " in ")?;
                self.expr(start)?;
                write!(self.out, "..")?;
                self.expr(end)?;
                self.block(body, depth)?;
            }
            StmtKind::ForMap { var, map, body } => {
                write!(self.out, "for ")?;
                self.var(*var)?;
                write!(self.out, " in ")?;
                self.map(*map)?;
                self.block(body, depth)?;
            }
            StmtKind::Break => write!(self.out, "break")?,
            StmtKind::Continue => write!(self.out, "continue")?,
            StmtKind::Return(value) => {
                write!(self.out, "return")?;
                if let Some(value) = value {
                    write!(self.out, " ")?;
                    self.expr(value)?;
                }
            }
            StmtKind::Action(action) => self.action(action)?,
            StmtKind::Block(stmts) => {
                write!(self.out, "do")?;
                self.block(stmts, depth)?;
            }
        }
        writeln!(self.out)
    }

    fn action(&mut self, action: &Action) -> fmt::Result {
        match action {
            Action::Format { kind, args, .. } => self.call(&format!("{kind:?}").to_lowercase(), args),
            Action::PrintValue(value) => self.call("print", std::slice::from_ref(value)),
            Action::PrintMap { map, top, div, cleared } => {
                write!(self.out, "print ")?;
                self.map(*map)?;
                write!(self.out, " top {top} div {div}{}", if *cleared { " cleared" } else { "" })
            }
            Action::PrintMapElement { map, key } => {
                write!(self.out, "print element ")?;
                self.element(*map, Some(key))
            }
            Action::Clear(map) => {
                write!(self.out, "clear ")?;
                self.map(*map)
            }
            Action::Zero(map) => {
                write!(self.out, "zero ")?;
                self.map(*map)
            }
            Action::Join { argv, separator } => {
                self.call("join", std::slice::from_ref(argv))?;
                write!(self.out, " by {:?}", String::from_utf8_lossy(separator))
            }
            Action::Time(format) => {
                let text = self.script.time_formats.get(*format as usize).map_or("", String::as_str);
                write!(self.out, "time {text:?}")
            }
            Action::Exit(code) => self.call("exit", std::slice::from_ref(code)),
            Action::Unwatch(address) => self.call("unwatch", std::slice::from_ref(address)),
            Action::RuntimeError { message, .. } => write!(self.out, "runtime error {message:?}"),
        }
    }

    fn var(&mut self, var: VarRef) -> fmt::Result {
        let name = self.body.and_then(|body| body.vars.get(var.0 as usize)).map_or("$?", |var| var.name.as_str());
        write!(self.out, "{name}")
    }

    fn map(&mut self, map: MapRef) -> fmt::Result {
        let name = self.script.maps.get(map.0 as usize).map_or("?", |map| map.name.as_str());
        write!(self.out, "@{name}")
    }

    fn element(&mut self, map: MapRef, key: Option<&Expr>) -> fmt::Result {
        self.map(map)?;
        if let Some(key) = key {
            write!(self.out, "[")?;
            self.expr(key)?;
            write!(self.out, "]")?;
        }
        Ok(())
    }

    fn call(&mut self, name: &str, args: &[Expr]) -> fmt::Result {
        write!(self.out, "{name}(")?;
        for (i, arg) in args.iter().enumerate() {
            if i > 0 {
                write!(self.out, ", ")?;
            }
            self.expr(arg)?;
        }
        write!(self.out, ")")
    }

    fn pair(&mut self, a: &Expr, word: &str, b: &Expr) -> fmt::Result {
        write!(self.out, "(")?;
        self.expr(a)?;
        write!(self.out, " {word} ")?;
        self.expr(b)?;
        write!(self.out, ")")
    }

    fn expr(&mut self, expr: &Expr) -> fmt::Result {
        let ty = full(&expr.ty);
        match &expr.kind {
            ExprKind::Const(value) => match &expr.ty {
                Type::Int { .. } => write!(self.out, "{}", number(*value, &expr.ty)),
                _ => write!(self.out, "{ty} {value}"),
            },
            ExprKind::Bytes(bytes) => match &expr.ty {
                Type::String { .. } => write!(self.out, "{:?}", String::from_utf8_lossy(bytes)),
                _ => write!(self.out, "{ty} {bytes:?}"),
            },
            ExprKind::Var(var) => self.var(*var),
            ExprKind::MapGet { map, key } => self.element(*map, key.as_deref()),
            ExprKind::MapHas { map, key } => {
                write!(self.out, "has ")?;
                self.element(*map, Some(key))
            }
            ExprKind::MapFind { map, key, var } => {
                write!(self.out, "find ")?;
                self.element(*map, key.as_deref())?;
                write!(self.out, " into ")?;
                self.var(*var)
            }
            ExprKind::MapDelete { map, key } => {
                write!(self.out, "delete ")?;
                self.element(*map, key.as_deref())
            }
            ExprKind::MapLen(map) => {
                write!(self.out, "len ")?;
                self.map(*map)
            }
            ExprKind::MapStep { map, key, by, old } => {
                self.element(*map, key.as_deref())?;
                write!(self.out, " step {by}{}", if *old { " old" } else { "" })
            }
            ExprKind::Block(stmts, value) => {
                writeln!(self.out, "{{")?;
                self.stmts(stmts, 2)?;
                write!(self.out, "    ")?;
                self.expr(value)?;
                write!(self.out, " }}")
            }
            ExprKind::Unary(op, inner) => {
                write!(self.out, "{}", if *op == UnaryOp::Neg { "-" } else { "~" })?;
                self.expr(inner)
            }
            ExprKind::Not(inner) => {
                write!(self.out, "!")?;
                self.expr(inner)
            }
            ExprKind::Binary(op, a, b) => {
                self.pair(a, op.symbol(), b)?;
                if expr.ty.is_signed() { Ok(()) } else { write!(self.out, "u") }
            }
            ExprKind::PointerAdd { pointer, index, scale } => {
                self.pair(pointer, &format!("+{scale}*"), index)?;
                write!(self.out, ":{ty}")
            }
            ExprKind::Compare(op, a, b) => {
                let sign = if a.ty.is_signed() { "" } else { "u" };
                self.pair(a, &format!("{}{sign}", op.symbol()), b)
            }
            ExprKind::StringEq { a, b, limit, negate } => {
                let word = match limit {
                    Some(limit) => format!("{}[..{limit}]", if *negate { "!=" } else { "==" }),
                    None => if *negate { "!=" } else { "==" }.to_owned(),
                };
                self.pair(a, &word, b)
            }
            ExprKind::MemoryEq { a, b, negate } => self.pair(a, if *negate { "!=bytes" } else { "==bytes" }, b),
            ExprKind::And(a, b) => self.pair(a, "&&", b),
            ExprKind::Or(a, b) => self.pair(a, "||", b),
            ExprKind::Ternary(cond, yes, no) => {
                write!(self.out, "(")?;
                self.expr(cond)?;
                write!(self.out, " ? ")?;
                self.expr(yes)?;
                write!(self.out, " : ")?;
                self.expr(no)?;
                write!(self.out, ")")
            }
            ExprKind::Cast(inner) => {
                write!(self.out, "({ty})")?;
                self.expr(inner)
            }
            ExprKind::Deref { pointer, off, bits } => {
                write!(self.out, "read {ty} at ")?;
                self.expr(pointer)?;
                let space = match &pointer.ty {
                    Type::Pointer { space: Space::Kernel, .. } => "kernel",
                    Type::Pointer { space: Space::User, .. } => "user",
                    Type::Pointer { space: Space::Bpf, .. } => "bpf",
                    Type::Pointer { space: Space::Any, .. } => "any",
                    _ => "none",
                };
                write!(self.out, "+{off}{} {space}", bit_range(*bits))
            }
            ExprKind::Field { base, off, bits } => {
                self.expr(base)?;
                write!(self.out, ".+{off}{}:{ty}", bit_range(*bits))
            }
            ExprKind::Index { base, index } => {
                self.expr(base)?;
                write!(self.out, "[")?;
                self.expr(index)?;
                write!(self.out, "]:{ty}")
            }
            ExprKind::Tuple(elems) => self.call("", elems),
            ExprKind::AddrOfVar(var) => {
                write!(self.out, "&")?;
                self.var(*var)
            }
            ExprKind::AddrOfMap { map, key } => {
                write!(self.out, "&")?;
                self.element(*map, key.as_deref())
            }
            ExprKind::Context => write!(self.out, "ctx"),
            ExprKind::ContextField { off, bits } => write!(self.out, "ctx+{off}{}:{ty}", bit_range(*bits)),
            ExprKind::DataLoc { off, rel } => {
                write!(self.out, "{}_loc+{off}:{ty}", if *rel { "rel" } else { "data" })
            }
            ExprKind::Argument(number) => write!(self.out, "arg{number}:{ty}"),
            ExprKind::ReturnValue { .. } => write!(self.out, "retval:{ty}"),
            ExprKind::Register(off) => write!(self.out, "reg+{off}"),
            ExprKind::Builtin(builtin) => {
                let text = format!("{builtin:?}").to_lowercase();
                match &expr.ty {
                    Type::Stack(stack) => write!(self.out, "{ty}({:?}, {})", stack.mode, stack.limit),
                    _ => write!(self.out, "{text}"),
                }
            }
            ExprKind::Call(call, args) => {
                let name = match call {
                    Call::Strftime { format, .. } => {
                        let text = self.script.time_formats.get(*format as usize).map_or("", String::as_str);
                        format!("strftime {text:?} ")
                    }
                    other => format!("{other:?}").to_lowercase(),
                };
                self.call(&name, args)?;
                write!(self.out, ":{ty}")
            }
            ExprKind::CallFunction(function, args) => {
                let script = self.script;
                let name = script.functions.get(function.0 as usize).map_or("?", |function| function.name.as_str());
                self.call(name, args)
            }
        }
    }
}

fn number(value: i64, ty: &Type) -> String {
    if ty.is_signed() { value.to_string() } else { (value as u64).to_string() }
}

fn bit_range(bits: Option<Bits>) -> String {
    bits.map(|bits| format!(" bits {}..{}", bits.shift, u32::from(bits.shift) + u32::from(bits.width)))
        .unwrap_or_default()
}

/// The type with what its usual text leaves out.
fn full(ty: &Type) -> String {
    match ty {
        Type::Pointer { to, space } => {
            let word = match space {
                Space::None => "",
                Space::Kernel => " kernel",
                Space::User => " user",
                Space::Bpf => " bpf",
                Space::Any => " any",
            };
            format!("{to} *{word}")
        }
        Type::Hist { bits } => format!("hist_t({bits})"),
        Type::Lhist(shape) => format!("lhist_t({}, {}, {})", shape.min, shape.max, shape.step),
        Type::Tseries(shape) => format!("tseries_t({}, {}, {:?})", shape.interval_ns, shape.count, shape.agg),
        Type::Word(word) => format!("{word:?}").to_lowercase(),
        other => other.to_string(),
    }
}
