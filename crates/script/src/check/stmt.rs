//! Statements and blocks.

use super::infer::Shape;
use super::operators::statements;
use super::{Checker, MAX_UNROLLED};
use crate::points::Provider;
use crate::typed::{Action, Expr, ExprKind, Stmt, StmtKind};
use crate::types::Type;
use crate::{Diagnostic, Span, ast};

/// Most iterations of `unroll`.
const MAX_UNROLL: i128 = 100;

impl Checker<'_> {
    /// A block with variables of its own.
    pub(super) fn block(&mut self, block: &ast::Block) -> Vec<Stmt> {
        self.open_scope();
        let mut out = Vec::new();
        for stmt in &block.stmts {
            self.stmt(stmt, &mut out);
        }
        if let Some(tail) = &block.tail {
            self.expr_stmt(tail, &mut out);
        }
        self.close_scope();
        pair_prints_with_clears(&mut out);
        out
    }

    pub(super) fn stmt(&mut self, stmt: &ast::Stmt, out: &mut Vec<Stmt>) {
        use ast::StmtKind as S;
        let span = stmt.span;
        let push = |out: &mut Vec<Stmt>, kind| out.push(Stmt { kind, span });
        match &stmt.kind {
            S::Let { var, ty, value } => self.let_stmt(var, ty.as_ref(), value.as_ref(), span, out),
            S::Assign { target, op, value } => self.assign(target, *op, value, span, out),
            S::Expr(expr) => self.expr_stmt(expr, out),
            S::If(branch) => self.if_stmt(branch, span, out),
            S::While { cond, body } => {
                let cond = self.condition(cond, "while()");
                self.body.loops += 1;
                let body = self.block(body);
                self.body.loops -= 1;
                if let Some(cond) = cond {
                    push(out, StmtKind::While(cond, body));
                }
            }
            S::ForMap { var, map, body } => self.for_map(var, map, body, span, out),
            S::ForRange { var, start, end, body } => self.for_range(var, (start, end), body, span, out),
            S::Unroll { count, body } => self.unroll(count, body, span, out),
            S::Break | S::Continue => {
                let (word, kind) = match stmt.kind {
                    S::Break => ("break", StmtKind::Break),
                    _ => ("continue", StmtKind::Continue),
                };
                if self.body.loops == 0 {
                    self.error(span, format!("{word} used outside of a loop"));
                }
                push(out, kind);
            }
            S::Return(value) => self.return_stmt(value.as_ref(), span, out),
            S::Block(block) => {
                let inner = self.block(block);
                push(out, StmtKind::Block(inner));
            }
            S::Import(import) => self.error(import.span, "import is only possible at the root of a script"),
        }
    }

    /// An expression for its effect.
    fn expr_stmt(&mut self, expr: &ast::Expr, out: &mut Vec<Stmt>) {
        use ast::ExprKind as E;
        match &expr.kind {
            E::Step { up, prefix, target } => {
                if let Some(value) = self.step(*up, *prefix, target, expr.span, false) {
                    out.extend(statements(value));
                }
            }
            E::If(branch) => self.if_stmt(branch, expr.span, out),
            E::Block(block) => {
                let inner = self.block(block);
                out.push(Stmt { kind: StmtKind::Block(inner), span: expr.span });
            }
            E::Call { name, args } if name.name == "delete" && !args.is_empty() => {
                let Some(value) = self.expr(expr) else { return };
                match value.kind {
                    ExprKind::MapDelete { map, key } => {
                        let key = key.map(|key| *key);
                        out.push(Stmt { kind: StmtKind::Delete { map, key, warn: true }, span: expr.span });
                    }
                    _ => out.extend(statements(value)),
                }
            }
            _ => {
                let Some(value) = self.expr(expr) else { return };
                if value.ty != Type::Void && !has_effect(&value) {
                    let text = "Return value discarded".to_owned();
                    let diagnostic =
                        Diagnostic::warning(expr.span, text).with_hint("write `_ = ...` when that is meant");
                    self.diagnostics.push(diagnostic);
                }
                out.extend(statements(value));
            }
        }
    }

    fn let_stmt(
        &mut self,
        var: &ast::Ident,
        ty: Option<&ast::TypeExpr>,
        value: Option<&ast::Expr>,
        span: Span,
        out: &mut Vec<Stmt>,
    ) {
        let (declared, wrong_type) = self.is_wrong(|it| ty.and_then(|ty| it.type_of(ty)));
        // The value is read before the variable is there: `let $x = $x + 1` is an error.
        let (found, wrong_value) = self.is_wrong(|it| value.and_then(|value| it.value(value)));
        if self.find_var(&var.name).is_some() {
            let text = format!("Variable {} was already declared. Variable shadowing is not allowed.", var.name);
            self.error(var.span, text);
        }
        // `string` alone says the kind, not the room.
        let (fixed, first) = match declared {
            Some(Type::String { size: 0 }) => (None, Some(Type::String { size: 1 })),
            Some(Type::Void) => {
                self.error(ty.map_or(span, |ty| ty.span), "Invalid variable declaration type: void");
                (None, None)
            }
            Some(ref ty) if ty.is_aggregation() => {
                self.error(var.span, format!("Invalid variable declaration type: {ty}"));
                (None, None)
            }
            other => (other, None),
        };
        let target = self.declare_var(var, fixed.clone());
        self.declared_by_let(target);
        if wrong_type || wrong_value {
            self.given_wrong(target);
        }
        if let Some(first) = first {
            self.assigned(target, &Shape::fixed(first), span);
        }
        match (value, found) {
            // Nothing is known of a type that was refused.
            (_, Some(_)) if wrong_type => {}
            (_, Some(value)) => self.set_var(target, value, span, out),
            (Some(_), None) => {}
            (None, None) => {
                // In a loop the variable starts from zero again.
                if self.body.loops > 0
                    && let Some(shape) = self.var_shape(target)
                    && let Some(zero) = zero(&shape.ty.clone(), span)
                {
                    out.push(Stmt { kind: StmtKind::SetVar(target, zero), span });
                }
            }
        }
    }

    fn if_stmt(&mut self, branch: &ast::If, span: Span, out: &mut Vec<Stmt>) {
        if branch.comptime {
            if let Some(Some(taken)) = self.comptime_branch(branch) {
                let inner = self.block(taken);
                out.push(Stmt { kind: StmtKind::Block(inner), span });
            }
            return;
        }
        let condition = self.condition(&branch.cond, "if()");
        let yes = self.block(&branch.then);
        let no = branch.otherwise.as_ref().map(|block| self.block(block)).unwrap_or_default();
        if let Some(condition) = condition {
            out.push(Stmt { kind: StmtKind::If(condition, yes, no), span });
        }
    }

    fn for_map(&mut self, var: &ast::Ident, map: &ast::Ident, body: &ast::Block, span: Span, out: &mut Vec<Stmt>) {
        self.shadowing(var);
        let (pair, wrong) = self.is_wrong(|it| it.pair_type(map));
        self.open_scope();
        let target = self.declare_var(var, pair.as_ref().map(|(_, ty)| ty.clone()));
        if wrong {
            self.given_wrong(target);
        }
        self.declared_by_loop(target);
        self.body.loops += 1;
        self.body.for_loops += 1;
        let body = self.block(body);
        self.body.loops -= 1;
        self.body.for_loops -= 1;
        self.close_scope();
        if let Some((map, ty)) = pair {
            self.assigned(target, &Shape::fixed(ty), span);
            out.push(Stmt { kind: StmtKind::ForMap { var: target, map, body }, span });
        }
    }

    fn for_range(
        &mut self,
        var: &ast::Ident,
        (start, end): (&ast::Expr, &ast::Expr),
        body: &ast::Block,
        span: Span,
        out: &mut Vec<Stmt>,
    ) {
        self.shadowing(var);
        let mut bound = |expr: &ast::Expr, which: &str| {
            let value = self.expr(expr)?;
            if !value.ty.is_integer() {
                let text = format!("Loop range requires an integer for the {which} value, '{}' provided", value.ty);
                return self.fail(expr.span, text);
            }
            let value = self.as_number(value)?;
            Some(self.wide(value, true))
        };
        let bounds = (bound(start, "start"), bound(end, "end"));
        self.open_scope();
        let target = self.declare_var(var, Some(Type::I64));
        self.declared_by_loop(target);
        self.assigned(target, &Shape::fixed(Type::I64), span);
        self.body.loops += 1;
        self.body.for_loops += 1;
        let body = self.block(body);
        self.body.loops -= 1;
        self.body.for_loops -= 1;
        self.close_scope();
        if let (Some(start), Some(end)) = bounds {
            out.push(Stmt { kind: StmtKind::ForRange { var: target, start, end, body }, span });
        }
    }

    fn shadowing(&mut self, var: &ast::Ident) {
        if self.find_var(&var.name).is_some() {
            self.error(var.span, format!("Loop declaration shadows existing variable: {}", var.name));
        }
    }

    /// The body again and again, with the same variables: they are declared inside.
    fn unroll(&mut self, count: &ast::Expr, body: &ast::Block, span: Span, out: &mut Vec<Stmt>) {
        let Some(value) = self.expr(count) else {
            self.block(body);
            return;
        };
        let times = match self.const_int(&value) {
            Some(times) if times < 1 => {
                self.error(span, "unroll minimum value is 1");
                1
            }
            Some(times) if times > MAX_UNROLL => {
                self.error(span, format!("unroll maximum value is {MAX_UNROLL}"));
                1
            }
            Some(times) => times,
            None => {
                self.error(count.span, "invalid unroll value: it is an integer literal");
                1
            }
        };
        for _ in 0..times {
            if self.unrolled >= MAX_UNROLLED {
                self.error(span, format!("unroll makes more than {MAX_UNROLLED} iterations in all"));
                return;
            }
            self.unrolled += 1 + body.stmts.len() as u32;
            let inner = self.block(body);
            out.push(Stmt { kind: StmtKind::Block(inner), span });
        }
    }

    fn return_stmt(&mut self, value: Option<&ast::Expr>, span: Span, out: &mut Vec<Stmt>) {
        let expected = self.body.ret.clone();
        let found = value.map(|value| self.value(value));
        if self.body.in_function && expected.is_none() {
            // The function's type was refused.
            return;
        }
        let kind = match (expected, found) {
            (_, Some(None)) => {
                self.body.bad_return = true;
                return;
            }
            (Some(Type::Void) | None, None) => StmtKind::Return(None),
            (Some(ty), None) => {
                self.body.bad_return = true;
                return self.error(span, format!("Function returns '{ty}', but return has no value"));
            }
            (Some(ty), Some(Some(value))) => {
                let given = value.ty.clone();
                match self.fit(value, &ty) {
                    Some(value) => StmtKind::Return(Some(value)),
                    None => {
                        self.body.bad_return = true;
                        let ty = if ty == Type::Void { "void".to_owned() } else { ty.to_string() };
                        return self.error(span, format!("Function is of type {ty}, cannot return {given}"));
                    }
                }
            }
            (None, Some(Some(value))) => {
                let ty = value.ty.clone();
                let Some(value) = self.as_number(value) else {
                    return self.error(span, format!("A probe returns an integer, not '{ty}'"));
                };
                let value = self.wide(value, true);
                if !matches!(self.provider(), Some(Provider::Test | Provider::Bench) | None) && !is_zero(&value) {
                    self.warning(span, "The return value of a probe is ignored, except in test and bench probes");
                }
                StmtKind::Return(Some(value))
            }
        };
        out.push(Stmt { kind, span });
    }
}

fn is_zero(value: &Expr) -> bool {
    matches!(value.kind, ExprKind::Const(0))
}

/// Zero of a type, where a node says it.
pub(super) fn zero(ty: &Type, span: Span) -> Option<Expr> {
    let kind = match ty {
        Type::String { .. } | Type::Buffer { .. } => ExprKind::Bytes([].into()),
        Type::Tuple(types) => ExprKind::Tuple(types.iter().map(|ty| zero(ty, span)).collect::<Option<_>>()?),
        Type::Record(fields) => ExprKind::Tuple(fields.iter().map(|(_, ty)| zero(ty, span)).collect::<Option<_>>()?),
        ty if ty.is_scalar() => ExprKind::Const(0),
        _ => return None,
    };
    Some(Expr { kind, ty: ty.clone(), span })
}

/// Whether an expression does something besides having a value.
fn has_effect(value: &Expr) -> bool {
    match &value.kind {
        ExprKind::Block(..)
        | ExprKind::MapStep { .. }
        | ExprKind::MapFind { .. }
        | ExprKind::MapDelete { .. }
        | ExprKind::CallFunction(..) => true,
        ExprKind::Call(call, _) => {
            use crate::typed::Call;
            matches!(call, Call::Signal { .. } | Call::Override | Call::WriteUser | Call::SkbOutput { .. })
        }
        ExprKind::And(a, b) | ExprKind::Or(a, b) => has_effect(a) || has_effect(b),
        ExprKind::Ternary(_, a, b) => has_effect(a) || has_effect(b),
        ExprKind::Cast(inner) => has_effect(inner),
        _ => false,
    }
}

/// Marks the printing of maps that the same block clears. Only actions may stand between: whatever branches or leaves could
/// keep the second from happening.
fn pair_prints_with_clears(stmts: &mut [Stmt]) {
    for at in 0..stmts.len() {
        let (before, behind) = stmts.split_at_mut(at + 1);
        let StmtKind::Action(Action::PrintMap { map, cleared, .. }) = &mut before[at].kind else { continue };
        let about = behind.iter().map_while(|stmt| match &stmt.kind {
            StmtKind::Action(Action::Exit(_)) => None,
            StmtKind::Action(action) => Some(action),
            _ => None,
        });
        *cleared = about
            .filter_map(|action| match action {
                Action::Clear(other) => Some((other, true)),
                Action::PrintMap { map: other, .. }
                | Action::PrintMapElement { map: other, .. }
                | Action::Zero(other) => Some((other, false)),
                _ => None,
            })
            .find(|(other, _)| *other == map)
            .is_some_and(|(_, clears)| clears);
    }
}
