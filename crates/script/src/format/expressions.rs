//! Expressions and types.

use super::doc::Doc;
use super::{CONTINUED, Formatter};
use crate::ast::{Arg, Block, Expr, ExprKind, If, Tag, TypeExpr, TypeKind, TypeOrExpr, UnaryOp};

impl Formatter<'_> {
    /// The parentheses of a group.
    pub(super) fn parens(&self, expr: &Expr) -> (&'static str, &'static str) {
        if self.script.groups.contains(&expr.span) { ("(", ")") } else { ("", "") }
    }

    /// An expression, with its parentheses where it was written with some.
    /// What stands in the brackets of a type.
    fn type_size(&mut self, size: &Expr) -> Doc {
        if size.span.is_empty() { Doc::text("") } else { self.expr(size) }
    }

    pub(super) fn expr(&mut self, expr: &Expr) -> Doc {
        let doc = self.bare(expr);
        match self.parens(expr) {
            ("", "") => doc,
            (open, close) => Doc::Concat(vec![Doc::text(open), doc, Doc::text(close)]),
        }
    }

    fn bare(&mut self, expr: &Expr) -> Doc {
        let written = |this: &Self| Doc::text(this.source(expr.span));
        match &expr.kind {
            ExprKind::Int { .. } | ExprKind::Str(_) | ExprKind::Error => written(self),
            ExprKind::Bool(value) => Doc::text(value.to_string()),
            ExprKind::Param(number) => Doc::text(format!("${number}")),
            ExprKind::ParamCount => Doc::text("$#"),
            ExprKind::Ident(name) | ExprKind::Var(name) | ExprKind::Map(name) => Doc::text(name.as_str()),
            ExprKind::Discard => Doc::text("_"),
            ExprKind::MapElement { map, keys } => {
                let keys = keys.iter().map(|key| self.expr(key)).collect();
                list(format!("{}[", map.name), keys, "]")
            }
            ExprKind::Call { name, args } => {
                let args = args
                    .iter()
                    .map(|arg| match arg {
                        Arg::Expr(expr) => self.expr(expr),
                        Arg::Type(ty) => self.ty(ty),
                    })
                    .collect();
                list(format!("{}(", name.name), args, ")")
            }
            ExprKind::Unary(op, operand) => {
                let (sign, same): (&str, &[char]) = match op {
                    UnaryOp::Neg => ("-", &['-']),
                    UnaryOp::Not => ("!", &[]),
                    UnaryOp::BitNot => ("~", &[]),
                    UnaryOp::Deref => ("*", &[]),
                    UnaryOp::AddrOf => ("&", &['&']),
                };
                // Two of these would be another operator.
                let grouped = self.script.groups.contains(&operand.span);
                let space = if !grouped && self.source(operand.span).starts_with(same) { " " } else { "" };
                Doc::Concat(vec![Doc::text(format!("{sign}{space}")), self.expr(operand)])
            }
            ExprKind::Step { up, prefix, target } => {
                let sign = Doc::text(if *up { "++" } else { "--" });
                let target = self.expr(target);
                Doc::Concat(if *prefix { vec![sign, target] } else { vec![target, sign] })
            }
            ExprKind::Binary(op, left, right) => {
                let left = self.expr(left);
                let right = self.expr(right);
                Doc::Concat(vec![
                    left,
                    Doc::text(format!(" {}", op.symbol())),
                    Doc::group(vec![Doc::nest(CONTINUED, vec![Doc::Line, right])]),
                ])
            }
            ExprKind::Ternary(cond, then, otherwise) => {
                let cond = self.expr(cond);
                let then = match then {
                    Some(then) => {
                        Doc::Concat(vec![Doc::Line, Doc::text("? "), self.expr(then), Doc::Line, Doc::text(": ")])
                    }
                    None => Doc::Concat(vec![Doc::Line, Doc::text("?: ")]),
                };
                let otherwise = self.expr(otherwise);
                Doc::group(vec![cond, Doc::nest(CONTINUED, vec![then, otherwise])])
            }
            ExprKind::If(branch) => self.inline_if(expr.span.range().start, branch),
            ExprKind::Block(block) => self.inline_block(block),
            ExprKind::Comptime(inside) => Doc::Concat(vec![Doc::text("comptime "), self.expr(inside)]),
            ExprKind::Field { base, name, arrow } => {
                let sign = if *arrow { "->" } else { "." };
                Doc::Concat(vec![self.expr(base), Doc::text(format!("{sign}{}", name.name))])
            }
            ExprKind::Index(base, index) => {
                let base = self.expr(base);
                let index = self.expr(index);
                Doc::Concat(vec![base, Doc::text("["), index, Doc::text("]")])
            }
            ExprKind::Cast(ty, operand) => {
                Doc::Concat(vec![Doc::text("("), self.ty(ty), Doc::text(")"), self.expr(operand)])
            }
            ExprKind::Tuple(elements) => {
                let close = if elements.len() == 1 { ",)" } else { ")" };
                let elements = elements.iter().map(|element| self.expr(element)).collect();
                list("(".to_owned(), elements, close)
            }
            ExprKind::Record(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, value)| Doc::Concat(vec![Doc::text(format!("{}=", name.name)), self.expr(value)]))
                    .collect();
                list("(".to_owned(), fields, ")")
            }
            ExprKind::Sizeof(inside) => self.of("sizeof(", inside),
            ExprKind::Typeinfo(inside) => self.of("typeinfo(", inside),
            ExprKind::Offsetof(inside, path) => {
                let path: Vec<&str> = path.iter().map(|name| name.name.as_str()).collect();
                let inside = self.type_or_expr(inside);
                Doc::Concat(vec![Doc::text("offsetof("), inside, Doc::text(format!(", {})", path.join(".")))])
            }
        }
    }

    /// A branch with a value, on one line when it has nothing but values and fits.
    fn inline_if(&mut self, start: usize, branch: &If) -> Doc {
        let (then, otherwise) = (&branch.then, &branch.otherwise);
        let plain = |block: &Block| block.stmts.is_empty() && block.tail.is_some();
        if !plain(then) || otherwise.as_ref().is_some_and(|block| !plain(block)) {
            return self.branches(start, branch);
        }
        let word = if branch.comptime { "if comptime " } else { "if " };
        let mut parts = vec![Doc::text(word), self.expr(&branch.cond), Doc::text(" "), self.value(then)];
        if let Some(otherwise) = otherwise {
            parts.push(Doc::text(" else "));
            let next = match &otherwise.tail {
                Some(tail) if !self.source(otherwise.span).starts_with('{') => self.expr(tail),
                _ => self.value(otherwise),
            };
            parts.push(next);
        }
        Doc::group(parts)
    }

    fn inline_block(&mut self, block: &Block) -> Doc {
        if block.stmts.is_empty() && block.tail.is_some() {
            return Doc::group(vec![self.value(block)]);
        }
        self.block(block)
    }

    /// `{ value }`
    fn value(&mut self, block: &Block) -> Doc {
        match &block.tail {
            Some(tail) if block.stmts.is_empty() => {
                let tail = self.expr(tail);
                Doc::Concat(vec![
                    Doc::text("{"),
                    Doc::nest(super::INDENT, vec![Doc::Line, tail]),
                    Doc::Line,
                    Doc::text("}"),
                ])
            }
            _ => self.block(block),
        }
    }

    fn of(&mut self, head: &str, inside: &TypeOrExpr) -> Doc {
        Doc::Concat(vec![Doc::text(head), self.type_or_expr(inside), Doc::text(")")])
    }

    fn type_or_expr(&mut self, inside: &TypeOrExpr) -> Doc {
        match inside {
            TypeOrExpr::Type(ty) => self.ty(ty),
            TypeOrExpr::Expr(expr) => self.expr(expr),
        }
    }

    pub(super) fn ty(&mut self, ty: &TypeExpr) -> Doc {
        match &ty.kind {
            TypeKind::Name(name) => Doc::text(name.as_str()),
            TypeKind::Tagged { tag, name } => {
                let tag = match tag {
                    Tag::Struct => "struct",
                    Tag::Union => "union",
                    Tag::Enum => "enum",
                };
                Doc::text(format!("{tag} {name}"))
            }
            TypeKind::Sized(name, size) => {
                Doc::Concat(vec![Doc::text(format!("{name}[")), self.type_size(size), Doc::text("]")])
            }
            TypeKind::Pointer(to) => {
                let space = if matches!(to.kind, TypeKind::Pointer(_)) { "" } else { " " };
                Doc::Concat(vec![self.ty(to), Doc::text(format!("{space}*"))])
            }
            TypeKind::Array(element, size) => {
                Doc::Concat(vec![self.ty(element), Doc::text("["), self.type_size(size), Doc::text("]")])
            }
            TypeKind::Tuple(elements) => {
                let close = if elements.len() == 1 { ",)" } else { ")" };
                let elements = elements.iter().map(|element| self.ty(element)).collect();
                list("(".to_owned(), elements, close)
            }
            TypeKind::Typeof(inside) => self.of("typeof(", inside),
        }
    }
}

/// `open a, b, c close`: as many on each line as fit.
fn list(open: String, items: Vec<Doc>, close: &str) -> Doc {
    let mut parts = vec![Doc::Text(open)];
    let last = items.len().saturating_sub(1);
    for (index, item) in items.into_iter().enumerate() {
        let comma = Doc::text(if index < last { "," } else { "" });
        parts.push(if index == 0 {
            Doc::Concat(vec![Doc::nest(CONTINUED, vec![item]), comma])
        } else {
            Doc::group(vec![Doc::nest(CONTINUED, vec![Doc::Line, item]), comma])
        });
    }
    parts.push(Doc::text(close));
    Doc::Concat(parts)
}
