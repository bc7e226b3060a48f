//! Expressions: literals, names, tuples, blocks; the way to everything else.

use std::rc::Rc;

use super::infer::{self, Flex, Shape};
use super::{Checker, Elaborated, address};
use crate::typed::{Expr, ExprKind, Stmt, StmtKind};
use crate::types::Type;
use crate::{Span, ast};

/// How deep expressions may be: the parser allows less, `#define`s may add to it.
const MAX_DEPTH: u32 = 400;

impl Checker<'_> {
    /// An expression that must have a value.
    pub(super) fn value(&mut self, expr: &ast::Expr) -> Elaborated {
        let value = self.expr(expr)?;
        if value.ty == Type::Void {
            let what = match &expr.kind {
                ast::ExprKind::Call { name, .. } => format!("{}() has no value", name.name),
                _ => "Invalid expression for assignment: none".to_owned(),
            };
            return self.fail(expr.span, what);
        }
        Some(value)
    }

    /// An expression, of whatever type.
    pub(super) fn expr(&mut self, expr: &ast::Expr) -> Elaborated {
        if self.depth >= MAX_DEPTH {
            return self.fail(expr.span, "expression is nested too deeply");
        }
        self.depth += 1;
        let value = self.dispatch(expr);
        self.depth -= 1;
        value
    }

    fn dispatch(&mut self, expr: &ast::Expr) -> Elaborated {
        use ast::ExprKind as E;
        let span = expr.span;
        match &expr.kind {
            E::Int { value, .. } => Some(self.integer(i128::from(*value), span)),
            E::Bool(value) => Some(self.boolean(*value, span)),
            E::Str(bytes) => self.text(bytes, span),
            E::Ident(name) => self.identifier(name, expr),
            E::Var(name) => self.read_var(name, span),
            E::Map(name) => self.map_get(name, None, span, span),
            E::MapElement { map, keys } => self.map_get(&map.name, Some(keys), map.span, span),
            E::Call { name, args } => self.call(name, args, expr),
            E::Unary(op, inner) => self.unary(*op, inner, span),
            E::Step { up, prefix, target } => self.step(*up, *prefix, target, span, true),
            E::Binary(op, left, right) => self.binary(*op, left, right, span),
            E::Ternary(cond, yes, no) => self.ternary(cond, yes.as_deref(), no, span),
            E::If(branch) => self.if_value(branch, span),
            E::Block(block) => self.block_value(block, span),
            E::Comptime(inner) => self.comptime(inner),
            E::Field { base, name, arrow } => self.field(base, name, *arrow, span),
            E::Index(base, index) => self.index(base, index, span),
            E::Cast(ty, inner) => self.cast(ty, inner, span),
            E::Tuple(elems) => self.tuple(elems, span),
            E::Record(fields) => self.record(fields, span),
            E::Sizeof(of) => self.sizeof(of, span),
            E::Offsetof(of, path) => self.offsetof(of, path, span),
            E::Typeinfo(of) => self.typeinfo(of, span),
            E::Discard => self.fail(span, "_ can only be assigned to"),
            // Parameters are put in when macros are expanded; an error was already told.
            E::Param(_) | E::ParamCount | E::Error => {
                self.error(span, "this expression was not understood");
                None
            }
        }
    }

    /// A literal number.
    pub(super) fn integer(&self, value: i128, span: Span) -> Expr {
        Expr { kind: ExprKind::Const(value as i64), ty: infer::literal_type(value, value), span }
    }

    /// A literal truth.
    pub(super) fn boolean(&self, value: bool, span: Span) -> Expr {
        Expr { kind: ExprKind::Const(i64::from(value)), ty: Type::Bool, span }
    }

    /// A literal text.
    pub(super) fn text(&mut self, bytes: &[u8], span: Span) -> Elaborated {
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let size = bytes.len() as u32 + 1;
        if size > self.config.max_strlen.max(1) {
            let text = format!("String is too long ({size} bytes, at most {} with its end)", self.config.max_strlen);
            let hint = Some("raise it: `config = { max_strlen = ... }`".to_owned());
            return self.fail_with(span, text, hint);
        }
        Some(Expr { kind: ExprKind::Bytes(bytes.into()), ty: Type::String { size }, span })
    }

    /// What an integer constant is, seen through conversions.
    pub(super) fn const_int(&self, expr: &Expr) -> Option<i128> {
        match &expr.kind {
            ExprKind::Const(value)
                if matches!(expr.ty, Type::Int { size: 8, signed: false } | Type::Pointer { .. }) =>
            {
                Some(i128::from(*value as u64))
            }
            ExprKind::Const(value) => Some(i128::from(*value)),
            ExprKind::Cast(inner) if expr.ty.is_integer() || expr.ty == Type::Bool => {
                let value = self.const_int(inner)?;
                Some(truncate(value, &expr.ty))
            }
            _ => None,
        }
    }

    /// What a constant text is.
    pub(super) fn const_text(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            ExprKind::Cast(inner) if matches!(expr.ty, Type::String { .. }) => self.const_text(inner),
            _ => None,
        }
    }

    /// How the type of an expression may bend where it is stored.
    pub(super) fn shape_of(&self, expr: &Expr) -> Shape {
        let flex = match &expr.kind {
            ExprKind::Const(_) if matches!(expr.ty, Type::Int { .. }) => {
                return Shape::literal(self.const_int(expr).unwrap_or(0));
            }
            ExprKind::Var(var) => {
                return self.var_shape(*var).cloned().unwrap_or_else(|| Shape::fixed(expr.ty.clone()));
            }
            ExprKind::Tuple(elems) => {
                let shapes: Vec<Shape> = elems.iter().map(|elem| self.shape_of(elem)).collect();
                let types: Vec<Type> = shapes.iter().map(|shape| shape.ty.clone()).collect();
                let ty = match &expr.ty {
                    Type::Record(fields) => {
                        Type::Record(fields.iter().map(|(name, _)| name.clone()).zip(types).collect())
                    }
                    _ => infer::tuple(types),
                };
                return Shape { ty, flex: Flex::Elems(shapes.into_iter().map(|shape| shape.flex).collect()) };
            }
            ExprKind::Block(_, value) => return self.shape_of(value),
            ExprKind::Ternary(_, yes, no) => match (self.shape_of(yes).range(), self.shape_of(no).range()) {
                (Some((a, b)), Some((c, d))) => Flex::Range(a.min(c), b.max(d)),
                _ => Flex::Fixed,
            },
            _ => Flex::Fixed,
        };
        match flex {
            Flex::Range(low, high) => Shape { ty: infer::literal_type(low, high), flex },
            flex => Shape { ty: expr.ty.clone(), flex },
        }
    }

    /// A word: a `#define`, a builtin, an enum's constant.
    fn identifier(&mut self, name: &str, node: &ast::Expr) -> Elaborated {
        if let Some(expanded) = self.define(name, None, node) {
            return self.expr(&*expanded?);
        }
        if let Some(found) = self.builtin(name, node.span) {
            return found;
        }
        if let Some(constant) = self.structs.constant(name) {
            let ty = match constant.ty {
                Type::Enum(e) => Type::Enum(e),
                _ => infer::literal_type(constant.value, constant.value),
            };
            return Some(Expr { kind: ExprKind::Const(constant.value as i64), ty, span: node.span });
        }
        if super::call::is_function(name) {
            let text = format!("Unknown identifier: '{name}'");
            return self.fail_with(node.span, text, Some(format!("it is a function: `{name}(...)`")));
        }
        let hint =
            self.meant_by(name, node.span).or_else(|| skep_spec::nearest::did_you_mean(name, super::builtins::names()));
        self.fail_with(node.span, format!("Unknown identifier: '{name}'"), hint)
    }

    /// What a word that means nothing here was probably meant to be: a variable or a map without its sign, a field without
    /// `args`, a word of another language.
    fn meant_by(&self, name: &str, span: Span) -> Option<String> {
        let meant = |text: String| Some(format!("did you mean `{text}`?"));
        if self.find_var(&format!("${name}")).is_some() {
            return meant(format!("${name}"));
        }
        if self.has_map(&format!("@{name}")) {
            return meant(format!("@{name}"));
        }
        if self.args_have(name, span) {
            return meant(format!("args.{name}"));
        }
        match name {
            "NULL" | "null" | "nullptr" | "nil" | "None" => Some("a null pointer is written `0`".to_owned()),
            "True" | "TRUE" => meant("true".to_owned()),
            "False" | "FALSE" => meant("false".to_owned()),
            _ => None,
        }
    }

    /// What a `#define` stands for at this node. `None` when there is no such macro of C, `Some(None)` when it is wrong.
    pub(super) fn define(
        &mut self,
        name: &str,
        args: Option<&[ast::Expr]>,
        node: &ast::Expr,
    ) -> Option<Option<Rc<ast::Expr>>> {
        if let Some(expanded) = self.defines.get(&address(node)) {
            return Some(Some(expanded.clone()));
        }
        let kind = usize::from(args.is_some());
        if self.no_defines[kind].contains(name) {
            return None;
        }
        let Some(expanded) = self.structs.expand(name, args, node.span) else {
            self.no_defines[kind].insert(name.to_owned());
            return None;
        };
        match expanded {
            // `#define pid pid`
            Ok(same) if matches!(&same.kind, ast::ExprKind::Ident(word) if word == name) => None,
            Ok(expanded) => {
                let expanded = Rc::new(expanded);
                self.defines.insert(address(node), expanded.clone());
                Some(Some(expanded))
            }
            Err(diagnostic) => {
                self.diagnostics.push(*diagnostic);
                Some(None)
            }
        }
    }

    fn tuple(&mut self, elems: &[ast::Expr], span: Span) -> Elaborated {
        let elems: Vec<Elaborated> = elems.iter().map(|elem| self.element_value(elem)).collect();
        let elems: Vec<Expr> = elems.into_iter().collect::<Option<_>>()?;
        let ty = infer::tuple(elems.iter().map(|elem| elem.ty.clone()));
        self.limited(Expr { kind: ExprKind::Tuple(elems), ty, span })
    }

    fn record(&mut self, fields: &[(ast::Ident, ast::Expr)], span: Span) -> Elaborated {
        let mut seen = std::collections::HashSet::new();
        for (name, _) in fields {
            if !seen.insert(name.name.as_str()) {
                self.error(name.span, format!("Duplicate field name in record: '{}'", name.name));
                return None;
            }
        }
        let values: Vec<Elaborated> = fields.iter().map(|(_, value)| self.element_value(value)).collect();
        let values: Vec<Expr> = values.into_iter().collect::<Option<_>>()?;
        let names = fields.iter().map(|(name, _)| name.name.clone());
        let ty = Type::Record(names.zip(values.iter().map(|value| value.ty.clone())).collect());
        self.limited(Expr { kind: ExprKind::Tuple(values), ty, span })
    }

    fn element_value(&mut self, elem: &ast::Expr) -> Elaborated {
        let value = self.expr(elem)?;
        if value.ty == Type::Void {
            return self.fail(elem.span, "A tuple cannot have an element without a value");
        }
        Some(value)
    }

    /// Refuses a value that is too big for any program to hold.
    pub(super) fn limited(&mut self, value: Expr) -> Elaborated {
        const MOST: u32 = 1 << 20;
        if size_of(&value.ty) > u64::from(MOST) {
            let text =
                format!("A value of type '{}' is too big: {} bytes, at most {MOST}", value.ty, size_of(&value.ty));
            return self.fail(value.span, text);
        }
        Some(value)
    }

    /// `{ ...; e }`
    fn block_value(&mut self, block: &ast::Block, span: Span) -> Elaborated {
        self.open_scope();
        let mut stmts = Vec::new();
        for stmt in &block.stmts {
            self.stmt(stmt, &mut stmts);
        }
        let value = match &block.tail {
            Some(tail) => self.expr(tail),
            None => Some(Expr { kind: ExprKind::Const(0), ty: Type::Void, span }),
        };
        self.close_scope();
        let value = value?;
        if stmts.is_empty() {
            return Some(value);
        }
        let ty = value.ty.clone();
        Some(Expr { kind: ExprKind::Block(stmts, Box::new(value)), ty, span })
    }

    /// `if c { a } else { b }` as a value.
    fn if_value(&mut self, branch: &ast::If, span: Span) -> Elaborated {
        if branch.comptime {
            let taken = self.comptime_branch(branch)?;
            return match taken {
                Some(block) => self.block_value(block, block.span),
                None => Some(Expr { kind: ExprKind::Const(0), ty: Type::Void, span }),
            };
        }
        let condition = self.condition(&branch.cond, "if()");
        let yes = self.block_value(&branch.then, branch.then.span);
        let no = match &branch.otherwise {
            Some(block) => self.block_value(block, block.span),
            None => Some(Expr { kind: ExprKind::Const(0), ty: Type::Void, span }),
        };
        let (condition, yes, no) = (condition?, yes?, no?);
        self.choose(condition, yes, no, span)
    }

    /// Statements that have no value, as an expression.
    pub(super) fn effect(&self, stmts: Vec<Stmt>, span: Span) -> Expr {
        let nothing = Expr { kind: ExprKind::Const(0), ty: Type::Void, span };
        Expr { kind: ExprKind::Block(stmts, Box::new(nothing)), ty: Type::Void, span }
    }

    /// A statement that has no value, as an expression.
    pub(super) fn effect_of(&self, kind: StmtKind, span: Span) -> Elaborated {
        Some(self.effect(vec![Stmt { kind, span }], span))
    }

    /// The value itself when it may be written twice without doing anything twice; otherwise a variable that keeps it,
    /// and the statement that fills it.
    pub(super) fn once(&mut self, value: Expr) -> (Option<Stmt>, Expr) {
        if matches!(value.kind, ExprKind::Const(_) | ExprKind::Var(_) | ExprKind::Bytes(_) | ExprKind::Context) {
            return (None, value);
        }
        let (ty, span) = (value.ty.clone(), value.span);
        let var = self.temp(ty.clone());
        let set = Stmt { kind: StmtKind::SetVar(var, value), span };
        (Some(set), Expr { kind: ExprKind::Var(var), ty, span })
    }
}

/// `value` as the bits of `ty` say.
pub(super) fn truncate(value: i128, ty: &Type) -> i128 {
    if *ty == Type::Bool {
        return i128::from(value != 0);
    }
    let bits = ty.size().clamp(1, 8) * 8;
    let low = value & ((1i128 << bits) - 1);
    if ty.is_signed() && low >> (bits - 1) == 1 { low - (1i128 << bits) } else { low }
}

/// Size of a type, in bytes, without running over.
pub(super) fn size_of(ty: &Type) -> u64 {
    match ty {
        Type::Array { elem, count } => size_of(elem).saturating_mul(u64::from(*count)),
        Type::Tuple(elems) => elems.iter().map(|elem| size_of(elem).saturating_add(8)).fold(0, u64::saturating_add),
        Type::Record(fields) => fields.iter().map(|(_, ty)| size_of(ty).saturating_add(8)).fold(0, u64::saturating_add),
        other => u64::from(other.size()),
    }
}
