//! Assignments: to variables, to maps, to `_`; with `op=` and with aggregations.

use super::infer::Shape;
use super::operators::statements;
use super::{Checker, address, aggregate};
use crate::ast::BinaryOp;
use crate::typed::{Expr, ExprKind, Stmt, StmtKind, VarRef};
use crate::types::Type;
use crate::{Span, ast};

impl Checker<'_> {
    pub(super) fn assign(
        &mut self,
        target: &ast::Expr,
        op: Option<BinaryOp>,
        value: &ast::Expr,
        span: Span,
        out: &mut Vec<Stmt>,
    ) {
        match &target.kind {
            ast::ExprKind::Var(name) => self.assign_var(name, target, op, value, span, out),
            ast::ExprKind::Map(name) => self.assign_map((name, target.span), None, target.span, op, value, out),
            ast::ExprKind::MapElement { map, keys } => {
                self.assign_map((&map.name, map.span), Some(keys), target.span, op, value, out);
            }
            ast::ExprKind::Discard => {
                if let Some(value) = self.expr(value) {
                    match value.kind {
                        ExprKind::MapDelete { map, key } => {
                            let kind = StmtKind::Delete { map, key: key.map(|key| *key), warn: false };
                            out.push(Stmt { kind, span });
                        }
                        _ => out.extend(statements(value)),
                    }
                }
            }
            ast::ExprKind::Field { .. } | ast::ExprKind::Index(..) | ast::ExprKind::Unary(..) => {
                let hint = Some(
                    "memory of the kernel and of processes is read only; `write_user(p, value)` writes".to_owned(),
                );
                self.fail_with::<()>(target.span, "Only variables and maps can be assigned to", hint);
            }
            _ => self.error(target.span, "Only variables and maps can be assigned to"),
        }
    }

    fn assign_var(
        &mut self,
        name: &str,
        target: &ast::Expr,
        op: Option<BinaryOp>,
        value: &ast::Expr,
        span: Span,
        out: &mut Vec<Stmt>,
    ) {
        if let Some(op) = op {
            let old = self.read_var(name, target.span);
            let value = self.value(value);
            let (Some(old), Some(value)) = (old, value) else { return };
            let Some(var) = self.find_var(name) else { return };
            let Some(value) = self.binary_of(op, old, value, span) else { return };
            let value = self.cut_to_declared(var, value);
            return self.set_var(var, value, span, out);
        }
        if let Some(call) = aggregate::called(value) {
            // Says that it belongs to a map.
            return self.error(value.span, format!("{call}() should be directly assigned to a map"));
        }
        // The value first: `$x = $x` needs an earlier `$x`.
        let (value, wrong) = self.is_wrong(|it| it.value(value));
        let var = match self.find_var(name) {
            Some(var) => var,
            None => self.declare_at(name, address(target), target.span, None),
        };
        if wrong {
            self.given_wrong(var);
        }
        if let Some(value) = value {
            self.set_var(var, value, span, out);
        }
    }

    /// `op=` on a declared integer wraps, as in C.
    fn cut_to_declared(&mut self, var: VarRef, value: Expr) -> Expr {
        let Some(shape) = self.var_shape(var).cloned() else { return value };
        let narrow = self.is_declared(var)
            && matches!(shape.ty, Type::Int { .. })
            && value.ty.is_integer()
            && shape.ty != value.ty;
        if !narrow {
            return value;
        }
        let span = value.span;
        Expr { kind: ExprKind::Cast(Box::new(value)), ty: shape.ty, span }
    }

    /// `$x = value`, when both are known.
    pub(super) fn set_var(&mut self, var: VarRef, value: Expr, span: Span, out: &mut Vec<Stmt>) {
        let shape = self.shape_of(&value);
        self.assigned(var, &shape, span);
        let Some(ty) = self.var_shape(var).map(|shape| shape.ty.clone()) else { return };
        let given = value.ty.clone();
        let literal = self.const_int(&value).filter(|_| matches!(value.kind, ExprKind::Const(_)));
        match self.fit(value, &ty) {
            Some(value) => out.push(Stmt { kind: StmtKind::SetVar(var, value), span }),
            None => {
                let name = self.var_name(var);
                let text = match literal {
                    Some(number) if ty.is_integer() && given.is_integer() => format!(
                        "Type mismatch for {name}: trying to assign value '{number}' which does not fit into the variable of type '{ty}'"
                    ),
                    _ if ty.is_integer() && given.is_integer() => format!(
                        "Integer size mismatch. Assignment type '{given}' is larger than the variable type '{ty}'."
                    ),
                    _ => format!(
                        "Type mismatch for {name}: trying to assign value of type '{given}' when variable already has a type '{ty}'"
                    ),
                };
                let first = self.var_span(var);
                self.conflict(span, text, first, format!("{name} begins here"));
            }
        }
    }

    fn assign_map(
        &mut self,
        (name, name_span): (&str, Span),
        keys: Option<&[ast::Expr]>,
        span: Span,
        op: Option<BinaryOp>,
        value: &ast::Expr,
        out: &mut Vec<Stmt>,
    ) {
        let map = self.map(name, name_span);
        if let Some(called) = aggregate::called(value) {
            if op.is_some() {
                return self.error(value.span, format!("{called}() should be directly assigned to a map"));
            }
            return self.aggregate((map, span), keys, value, out);
        }
        if let Some(op) = op {
            return self.assign_map_op((map, span), keys, op, value, out);
        }
        // `@y = @x` of an aggregation would copy a number without saying so.
        if let ast::ExprKind::Map(other) | ast::ExprKind::MapElement { map: ast::Ident { name: other, .. }, .. } =
            &value.kind
        {
            let other = self.map(other, value.span);
            if let Some(Shape { ty, .. }) = self.slot(other).value.clone()
                && ty.is_aggregation()
            {
                let text = format!(
                    "Map value '{ty}' cannot be assigned from one map to another. The function that returns this type must be called directly e.g. `{name} = {}`.",
                    aggregate::example(&ty)
                );
                let hint = match ty {
                    Type::Count | Type::Sum { .. } | Type::Min { .. } | Type::Max { .. } | Type::Avg { .. } => {
                        Some(format!(
                            "Add a cast to integer if you want the value of the aggregate, e.g. `{name} = (int64){}`.",
                            self.sources.text(value.span)
                        ))
                    }
                    _ => None,
                };
                self.slot(map).assigned = true;
                self.fail_with::<()>(value.span, text, hint);
                return;
            }
        }
        self.slot(map).assigned = true;
        let value_span = value.span;
        let (value, wrong) = self.is_wrong(|it| it.value(value));
        self.slot(map).wrong |= wrong;
        let key = self.map_key(map, keys, span);
        let Some(value) = value else { return };
        if matches!(value.ty, Type::Void) {
            return self.error(value_span, "Invalid expression for assignment: none");
        }
        let shape = self.shape_of(&value);
        let Some(ty) = self.map_assigned(map, &shape, span) else { return };
        let Some(key) = key else { return };
        let given = value.ty.clone();
        match self.fit(value, &ty) {
            Some(value) => out.push(Stmt { kind: StmtKind::SetMap { map, key, value }, span }),
            None => {
                let name = self.slot(map).name.clone();
                let text = format!(
                    "Type mismatch for {name}: trying to assign value of type '{given}' when map already has a type '{ty}'"
                );
                let first = Some(self.slot(map).span);
                self.conflict(span, text, first, format!("{name} is first used here"));
            }
        }
    }

    /// `@m[k] op= e`
    fn assign_map_op(
        &mut self,
        (map, span): (crate::typed::MapRef, Span),
        keys: Option<&[ast::Expr]>,
        op: BinaryOp,
        value: &ast::Expr,
        out: &mut Vec<Stmt>,
    ) {
        self.slot(map).assigned = true;
        let (value, wrong) = self.is_wrong(|it| it.value(value));
        self.slot(map).wrong |= wrong;
        let key = self.map_key(map, keys, span);
        let Some(value) = value else { return };
        let old = match self.slot(map).value.clone() {
            Some(shape) => shape.ty,
            // `@x += 1` starts from nothing: zero.
            None if value.ty.is_integer() => self.shape_of(&value).ty,
            None => Type::I64,
        };
        if old.is_aggregation() {
            let name = self.slot(map).name.clone();
            let text = format!(
                "Type mismatch for {name}: trying to assign value of type '{}' when map already has a type '{old}'",
                value.ty
            );
            let first = Some(self.slot(map).span);
            return self.conflict(span, text, first, format!("{name} is first used here"));
        }
        let get = Expr { kind: ExprKind::MapGet { map, key: None }, ty: old.clone(), span };
        let Some(result) = self.binary_of(op, get, value.clone(), span) else { return };
        let Some(ty) = self.map_assigned(map, &Shape::fixed(result.ty.clone()), span) else { return };
        let Some(key) = key else { return };
        if matches!(op, BinaryOp::Add | BinaryOp::Sub)
            && matches!(ty, Type::Int { size: 4 | 8, .. })
            && let Some(number) = self.as_number(value.clone())
        {
            let number = self.wide(number, ty.is_signed());
            let number = if op == BinaryOp::Sub { self.minus(number) } else { number };
            if let Some(value) = self.fit(number, &ty) {
                out.push(Stmt { kind: StmtKind::AddMap { map, key, value }, span });
                return;
            }
        }
        // The key is used twice, so it is kept.
        let (set, key) = match key {
            Some(key) => {
                let (set, key) = self.once(key);
                (set, Some(key))
            }
            None => (None, None),
        };
        let get = Expr { kind: ExprKind::MapGet { map, key: key.clone().map(Box::new) }, ty: ty.clone(), span };
        let Some(result) = self.binary_of(op, get, value, span) else { return };
        let given = result.ty.clone();
        let Some(value) = self.fit(result, &ty) else {
            let name = self.slot(map).name.clone();
            let text = format!(
                "Type mismatch for {name}: trying to assign value of type '{given}' when map already has a type '{ty}'"
            );
            let first = Some(self.slot(map).span);
            return self.conflict(span, text, first, format!("{name} is first used here"));
        };
        out.extend(set);
        out.push(Stmt { kind: StmtKind::SetMap { map, key, value }, span });
    }

    fn minus(&mut self, value: Expr) -> Expr {
        let (ty, span) = (value.ty.clone(), value.span);
        match value.kind {
            ExprKind::Const(number) => Expr { kind: ExprKind::Const(number.wrapping_neg()), ty, span },
            _ => Expr { kind: ExprKind::Unary(ast::UnaryOp::Neg, Box::new(value)), ty, span },
        }
    }
}
