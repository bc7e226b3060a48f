//! A script's tree as text: one line for each statement, expressions in prefix form.
//!
//! Spans are left out, so that two texts with the same meaning give the same dump.

use std::fmt::Write;

use crate::Sources;
use crate::ast::{
    Arg, AttachPoint, Block, Expr, ExprKind, If, Item, MacroParam, Script, Stmt, StmtKind, Tag, TypeExpr, TypeKind,
    TypeOrExpr, UnaryOp,
};

/// The tree of `script` as text. `sources` has the C parts, of which the tree only knows where they are.
pub fn dump(sources: &Sources, script: &Script) -> String {
    let mut out = Dump { text: String::new(), indent: 0 };
    for part in &script.c_parts {
        out.line(&format!("c {:?}", sources.text(part.span)));
    }
    if let Some(config) = &script.config {
        for entry in &config.entries {
            out.line(&format!("config {} = {:?}", entry.key.name, entry.value));
        }
    }
    script.items.iter().for_each(|item| out.item(item));
    out.text
}

/// The tree of one expression.
pub fn dump_expr(expr: &Expr) -> String {
    let mut text = String::new();
    put_expr(&mut text, expr);
    text
}

/// The tree of a type as written.
pub fn dump_type(ty: &TypeExpr) -> String {
    let mut text = String::new();
    put_type(&mut text, ty);
    text
}

struct Dump {
    text: String,
    indent: usize,
}

impl Dump {
    fn line(&mut self, line: &str) {
        for _ in 0..self.indent {
            self.text.push_str("  ");
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn item(&mut self, item: &Item) {
        match item {
            Item::Import(import) => self.line(&format!("import {:?}", import.path)),
            Item::Probe(probe) => {
                let mut head = String::from("probe");
                if let Some(name) = &probe.name {
                    let _ = write!(head, " {}=", name.name);
                }
                for point in &probe.points {
                    head.push(' ');
                    put_point(&mut head, point);
                }
                if let Some(predicate) = &probe.predicate {
                    head.push_str(" / ");
                    put_expr(&mut head, predicate);
                }
                self.line(&head);
                self.block(&probe.body);
            }
            Item::Macro(definition) => {
                let params: Vec<&str> = definition
                    .params
                    .iter()
                    .map(|param| match param {
                        MacroParam::Var(name) | MacroParam::Map(name) | MacroParam::Expr(name) => name.name.as_str(),
                    })
                    .collect();
                self.line(&format!("macro {}({})", definition.name.name, params.join(" ")));
                self.block(&definition.body);
            }
            Item::MapDecl(declaration) => {
                let (map, kind) = (&declaration.map.name, &declaration.kind.name);
                self.line(&format!("map {map} {kind} {}", dump_expr(&declaration.size)));
            }
            Item::Function(function) => {
                let mut head = format!("fn {}(", function.name.name);
                for (index, (name, ty)) in function.params.iter().enumerate() {
                    let _ = write!(head, "{}{}: {}", if index > 0 { " " } else { "" }, name.name, dump_type(ty));
                }
                self.line(&format!("{head}): {}", dump_type(&function.ret)));
                self.block(&function.body);
            }
        }
    }

    fn block(&mut self, block: &Block) {
        self.indent += 1;
        block.stmts.iter().for_each(|stmt| self.stmt(stmt));
        if let Some(tail) = &block.tail {
            self.line(&format!("=> {}", dump_expr(tail)));
        }
        self.indent -= 1;
    }

    fn stmt(&mut self, stmt: &Stmt) {
        match &stmt.kind {
            StmtKind::If(branch) => self.branches(branch),
            StmtKind::While { cond, body } => {
                self.line(&format!("while {}", dump_expr(cond)));
                self.block(body);
            }
            StmtKind::ForMap { var, map, body } => {
                self.line(&format!("for {} {}", var.name, map.name));
                self.block(body);
            }
            StmtKind::ForRange { var, start, end, body } => {
                self.line(&format!("for {} {}..{}", var.name, dump_expr(start), dump_expr(end)));
                self.block(body);
            }
            StmtKind::Unroll { count, body } => {
                self.line(&format!("unroll {}", dump_expr(count)));
                self.block(body);
            }
            StmtKind::Block(block) => {
                self.line("block");
                self.block(block);
            }
            simple => {
                let mut line = String::new();
                put_simple(&mut line, simple);
                self.line(&line);
            }
        }
    }

    fn branches(&mut self, branch: &If) {
        self.line(&format!("{} {}", if_word(branch), dump_expr(&branch.cond)));
        self.block(&branch.then);
        if let Some(otherwise) = &branch.otherwise {
            self.line("else");
            self.block(otherwise);
        }
    }
}

fn if_word(branch: &If) -> &'static str {
    if branch.comptime { "if comptime" } else { "if" }
}

fn put_point(out: &mut String, point: &AttachPoint) {
    let parts: Vec<String> = point
        .parts
        .iter()
        .map(|part| {
            let plain = !part.is_empty() && !part.contains(|char: char| char == ':' || char == ',' || char <= ' ');
            if plain { part.clone() } else { format!("{part:?}") }
        })
        .collect();
    out.push_str(&parts.join(":"));
}

/// A statement on one line; those with blocks only stand in lines of their own, or inside expressions.
fn put_simple(out: &mut String, kind: &StmtKind) {
    match kind {
        StmtKind::Let { var, ty, value } => {
            let _ = write!(out, "let {}", var.name);
            if let Some(ty) = ty {
                out.push_str(": ");
                put_type(out, ty);
            }
            if let Some(value) = value {
                out.push_str(" = ");
                put_expr(out, value);
            }
        }
        StmtKind::Assign { target, op, value } => {
            put_expr(out, target);
            let _ = write!(out, " {}= ", op.map_or("", |op| op.symbol()));
            put_expr(out, value);
        }
        StmtKind::Expr(expr) => put_expr(out, expr),
        StmtKind::Break => out.push_str("break"),
        StmtKind::Continue => out.push_str("continue"),
        StmtKind::Return(value) => {
            out.push_str("return");
            if let Some(value) = value {
                out.push(' ');
                put_expr(out, value);
            }
        }
        StmtKind::Import(import) => {
            let _ = write!(out, "import {:?}", import.path);
        }
        StmtKind::If(branch) => put_if(out, branch),
        StmtKind::While { cond, body } => {
            out.push_str("while ");
            put_expr(out, cond);
            put_block(out, body);
        }
        StmtKind::ForMap { var, map, body } => {
            let _ = write!(out, "for {} {}", var.name, map.name);
            put_block(out, body);
        }
        StmtKind::ForRange { var, start, end, body } => {
            let _ = write!(out, "for {} ", var.name);
            put_expr(out, start);
            out.push_str("..");
            put_expr(out, end);
            put_block(out, body);
        }
        StmtKind::Unroll { count, body } => {
            out.push_str("unroll ");
            put_expr(out, count);
            put_block(out, body);
        }
        StmtKind::Block(block) => put_block(out, block),
    }
}

fn put_block(out: &mut String, block: &Block) {
    out.push('{');
    for (index, stmt) in block.stmts.iter().enumerate() {
        out.push_str(if index > 0 { "; " } else { " " });
        put_simple(out, &stmt.kind);
    }
    if let Some(tail) = &block.tail {
        out.push_str(if block.stmts.is_empty() { " => " } else { "; => " });
        put_expr(out, tail);
    }
    out.push_str(" }");
}

fn put_if(out: &mut String, branch: &If) {
    let _ = write!(out, "({} ", if_word(branch));
    put_expr(out, &branch.cond);
    out.push(' ');
    put_block(out, &branch.then);
    if let Some(otherwise) = &branch.otherwise {
        out.push_str(" else ");
        put_block(out, otherwise);
    }
    out.push(')');
}

fn put_expr(out: &mut String, expr: &Expr) {
    let mut list = |head: &str, items: &mut dyn Iterator<Item = String>| {
        let _ = write!(out, "({head}");
        items.for_each(|item| {
            let _ = write!(out, " {item}");
        });
        out.push(')');
    };
    match &expr.kind {
        ExprKind::Int { value, duration } => {
            let _ = write!(out, "{value}{}", if *duration { "ns" } else { "" });
        }
        ExprKind::Bool(value) => {
            let _ = write!(out, "{value}");
        }
        ExprKind::Str(bytes) => {
            let _ = write!(out, "\"{}\"", bytes.escape_ascii());
        }
        ExprKind::Param(number) => {
            let _ = write!(out, "${number}");
        }
        ExprKind::ParamCount => out.push_str("$#"),
        ExprKind::Ident(name) | ExprKind::Var(name) | ExprKind::Map(name) => out.push_str(name),
        ExprKind::MapElement { map, keys } => {
            let _ = write!(out, "{}[", map.name);
            for (index, key) in keys.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                put_expr(out, key);
            }
            out.push(']');
        }
        ExprKind::Call { name, args } => list(
            &format!("call {}", name.name),
            &mut args.iter().map(|arg| match arg {
                Arg::Expr(expr) => dump_expr(expr),
                Arg::Type(ty) => format!("<{}>", dump_type(ty)),
            }),
        ),
        ExprKind::Unary(op, operand) => {
            let word = match op {
                UnaryOp::Neg => "neg",
                UnaryOp::Not => "!",
                UnaryOp::BitNot => "~",
                UnaryOp::Deref => "deref",
                UnaryOp::AddrOf => "addr",
            };
            list(word, &mut [dump_expr(operand)].into_iter());
        }
        ExprKind::Step { up, prefix, target } => {
            let word = match (up, prefix) {
                (true, true) => "++_",
                (false, true) => "--_",
                (true, false) => "_++",
                (false, false) => "_--",
            };
            list(word, &mut [dump_expr(target)].into_iter());
        }
        ExprKind::Binary(op, left, right) => {
            list(op.symbol(), &mut [dump_expr(left), dump_expr(right)].into_iter());
        }
        ExprKind::Ternary(cond, then, otherwise) => {
            let middle = then.as_ref().map_or_else(|| "_".to_owned(), |then| dump_expr(then));
            list("?", &mut [dump_expr(cond), middle, dump_expr(otherwise)].into_iter());
        }
        ExprKind::If(branch) => put_if(out, branch),
        ExprKind::Block(block) => put_block(out, block),
        ExprKind::Comptime(inside) => list("comptime", &mut [dump_expr(inside)].into_iter()),
        ExprKind::Field { base, name, arrow } => {
            list(if *arrow { "->" } else { "." }, &mut [dump_expr(base), name.name.clone()].into_iter());
        }
        ExprKind::Index(base, index) => list("index", &mut [dump_expr(base), dump_expr(index)].into_iter()),
        ExprKind::Cast(ty, operand) => {
            list("cast", &mut [format!("<{}>", dump_type(ty)), dump_expr(operand)].into_iter());
        }
        ExprKind::Tuple(elements) => list("tuple", &mut elements.iter().map(dump_expr)),
        ExprKind::Record(fields) => {
            list("record", &mut fields.iter().map(|(name, value)| format!("{}={}", name.name, dump_expr(value))))
        }
        ExprKind::Sizeof(inside) => list("sizeof", &mut [dump_type_or_expr(inside)].into_iter()),
        ExprKind::Typeinfo(inside) => list("typeinfo", &mut [dump_type_or_expr(inside)].into_iter()),
        ExprKind::Offsetof(inside, path) => {
            let path: Vec<&str> = path.iter().map(|name| name.name.as_str()).collect();
            list("offsetof", &mut [dump_type_or_expr(inside), path.join(".")].into_iter());
        }
        ExprKind::Discard => out.push('_'),
        ExprKind::Error => out.push_str("(error)"),
    }
}

fn dump_type_or_expr(inside: &TypeOrExpr) -> String {
    match inside {
        TypeOrExpr::Type(ty) => format!("<{}>", dump_type(ty)),
        TypeOrExpr::Expr(expr) => dump_expr(expr),
    }
}

/// What stands in the brackets of a type.
fn type_size(size: &Expr) -> String {
    if size.span.is_empty() { String::new() } else { dump_expr(size) }
}

fn put_type(out: &mut String, ty: &TypeExpr) {
    match &ty.kind {
        TypeKind::Name(name) => out.push_str(name),
        TypeKind::Tagged { tag, name } => {
            let tag = match tag {
                Tag::Struct => "struct",
                Tag::Union => "union",
                Tag::Enum => "enum",
            };
            let _ = write!(out, "{tag} {name}");
        }
        TypeKind::Sized(name, size) => {
            let _ = write!(out, "{name}[{}]", type_size(size));
        }
        TypeKind::Pointer(to) => {
            put_type(out, to);
            out.push('*');
        }
        TypeKind::Array(element, size) => {
            put_type(out, element);
            let _ = write!(out, "[{}]", type_size(size));
        }
        TypeKind::Tuple(elements) => {
            out.push('(');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                put_type(out, element);
            }
            out.push(')');
        }
        TypeKind::Typeof(inside) => {
            let _ = write!(out, "typeof({})", dump_type_or_expr(inside));
        }
    }
}
