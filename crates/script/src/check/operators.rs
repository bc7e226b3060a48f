//! Operators: arithmetic, comparison, logic, `?:`.

use super::convert::is_char;
use super::expr::truncate;
use super::infer::{self, Joined, Shape};
use super::{Checker, Elaborated};
use crate::ast::{BinaryOp, UnaryOp};
use crate::typed::{Expr, ExprKind, Stmt, StmtKind};
use crate::types::{Space, Type, Word};
use crate::{Diagnostic, Span, ast};

impl Checker<'_> {
    pub(super) fn binary(&mut self, op: BinaryOp, left: &ast::Expr, right: &ast::Expr, span: Span) -> Elaborated {
        if op.is_logical() {
            return self.logical(op, left, right, span);
        }
        let (a, b) = self.both(op, left, right);
        self.binary_of(op, a?, b?, span)
    }

    /// Both operands.
    fn both(&mut self, op: BinaryOp, left: &ast::Expr, right: &ast::Expr) -> (Elaborated, Elaborated) {
        let mut operand = |expr: &ast::Expr| {
            let value = self.expr(expr);
            value.filter(|value| {
                let fine = value.ty != Type::Void;
                if !fine {
                    self.error(
                        expr.span,
                        format!("The {} operator can not be used on expressions of type 'none'", op.symbol()),
                    );
                }
                fine
            })
        };
        (operand(left), operand(right))
    }

    /// An operation on values that are already known.
    pub(super) fn binary_of(&mut self, op: BinaryOp, a: Expr, b: Expr, span: Span) -> Elaborated {
        if op.is_comparison() {
            return self.compare(op, a, b, span);
        }
        if let (Type::Pointer { .. }, _) | (_, Type::Pointer { .. }) = (&a.ty, &b.ty)
            && let Some(moved) = self.pointer_arithmetic(op, &a, &b, span)
        {
            return moved;
        }
        let (a_ty, b_ty) = (a.ty.clone(), b.ty.clone());
        let text_like = |ty: &Type| matches!(ty, Type::String { .. } | Type::Word(_) | Type::Buffer { .. });
        if text_like(&a_ty) && text_like(&b_ty) {
            let text =
                format!("The {} operator can not be used on expressions of types '{a_ty}', '{b_ty}'", op.symbol());
            let hint = (op == BinaryOp::Add).then(|| "`str_concat(a, b)` joins two texts".to_owned());
            return self.fail_with(span, text, hint);
        }
        let (Some(a), Some(b)) = (self.as_number(a), self.as_number(b)) else {
            let text = if a_ty == b_ty {
                format!("The {} operator can not be used on expressions of types '{a_ty}', '{b_ty}'", op.symbol())
            } else {
                format!("Type mismatch for '{}': comparing '{a_ty}' with '{b_ty}'", op.symbol())
            };
            return self.fail(span, text);
        };
        if let (Some(x), Some(y)) = (self.folded(&a), self.folded(&b)) {
            return self.fold(op, x, y, span);
        }
        if matches!(op, BinaryOp::Div | BinaryOp::Mod) && self.const_int(&b) == Some(0) {
            return self.fail(b.span, "Division by zero");
        }
        if matches!(op, BinaryOp::Shl | BinaryOp::Shr)
            && let Some(by) = self.const_int(&b)
            && !(0..64).contains(&by)
        {
            self.warning(b.span, format!("a shift by {by} is a shift by {}: registers have 64 bits", by & 63));
        }
        let signed = match op {
            BinaryOp::Sub => true,
            // The number of places says nothing about the value's sign.
            BinaryOp::Shl | BinaryOp::Shr => !self.is_unsigned(&a),
            _ => self.common_sign(&a, &b, op, span),
        };
        let (a, b) = (self.wide(a, signed), self.wide(b, signed));
        let ty = infer::int(8, signed);
        Some(Expr { kind: ExprKind::Binary(op, Box::new(a), Box::new(b)), ty, span })
    }

    fn is_unsigned(&self, value: &Expr) -> bool {
        let shape = self.shape_of(value);
        shape.range().is_none() && matches!(shape.ty, Type::Int { signed: false, .. })
            || shape.range().is_some_and(|(_, high)| high > i128::from(i64::MAX))
    }

    /// Whether two numbers meet as signed ones. A mix with `uint64` gets a warning.
    fn common_sign(&mut self, a: &Expr, b: &Expr, op: BinaryOp, span: Span) -> bool {
        match infer::join(&self.shape_of(a), &self.shape_of(b)) {
            Joined::Shape(shape) => shape.ty.is_signed() || shape.range().is_some_and(|(low, _)| low < 0),
            Joined::Lossy(_) => {
                let verb = if op.is_comparison() { "comparison of" } else { "arithmetic on" };
                let text = format!(
                    "{verb} integers of different signs: '{}' and '{}' can lead to undefined behavior",
                    a.ty, b.ty
                );
                self.diagnostics
                    .push(Diagnostic::warning(span, text).with_hint("cast one side, as in `(int64)x` or `(uint64)x`"));
                true
            }
            Joined::Conflict => true,
        }
    }

    /// Arithmetic of literals.
    fn fold(&mut self, op: BinaryOp, x: i128, y: i128, span: Span) -> Elaborated {
        let shift = (y & 63) as u32;
        let value = match op {
            BinaryOp::Add => x + y,
            BinaryOp::Sub => x - y,
            BinaryOp::Mul => x.checked_mul(y).unwrap_or(i128::MAX),
            BinaryOp::Div | BinaryOp::Mod if y == 0 => return self.fail(span, "Division by zero"),
            BinaryOp::Div => x / y,
            BinaryOp::Mod => x % y,
            BinaryOp::BitAnd => x & y,
            BinaryOp::BitOr => x | y,
            BinaryOp::BitXor => x ^ y,
            BinaryOp::Shl => truncate(x << shift, &Type::U64),
            BinaryOp::Shr => x >> shift,
            _ => return None,
        };
        if value > i128::from(u64::MAX) || value < i128::from(i64::MIN) {
            return self.fail(span, format!("The result of {x} {} {y} does not fit into 64 bits", op.symbol()));
        }
        Some(self.integer(value, span))
    }

    /// Pointer plus or minus an integer, pointer minus pointer. `None` when it is neither.
    fn pointer_arithmetic(&mut self, op: BinaryOp, a: &Expr, b: &Expr, span: Span) -> Option<Elaborated> {
        let bad = |this: &mut Self| {
            let text =
                format!("The {} operator can not be used on expressions of types '{}', '{}'", op.symbol(), a.ty, b.ty);
            Some(this.fail(span, text))
        };
        match (&a.ty, &b.ty) {
            (Type::Pointer { .. }, Type::Pointer { .. }) => {
                if op != BinaryOp::Sub || a.ty != b.ty {
                    // Addresses as numbers: `p & mask` is done with a cast, but two pointers have no sum.
                    return bad(self);
                }
                let (Some(x), Some(y)) = (self.as_number(a.clone()), self.as_number(b.clone())) else {
                    return bad(self);
                };
                let (x, y) = (self.wide(x, true), self.wide(y, true));
                let bytes = Expr { kind: ExprKind::Binary(op, Box::new(x), Box::new(y)), ty: Type::I64, span };
                let size = self.pointee_size(&a.ty, span)?;
                if size <= 1 {
                    return Some(Some(bytes));
                }
                let size = Expr { kind: ExprKind::Const(i64::from(size)), ty: Type::I64, span };
                let kind = ExprKind::Binary(BinaryOp::Div, Box::new(bytes), Box::new(size));
                Some(Some(Expr { kind, ty: Type::I64, span }))
            }
            (Type::Pointer { .. }, other) | (other, Type::Pointer { .. })
                if matches!(op, BinaryOp::Add | BinaryOp::Sub) && other.is_integer() =>
            {
                let (pointer, index) = if other == &b.ty { (a, b) } else { (b, a) };
                if op == BinaryOp::Sub && std::ptr::eq(pointer, b) {
                    return bad(self);
                }
                let index = self.as_number(index.clone())?;
                let mut index = self.wide(index, true);
                if op == BinaryOp::Sub {
                    index = self.negated(index);
                }
                let Some(scale) = self.pointee_size(&pointer.ty, span) else { return Some(None) };
                Some(Some(self.pointer_plus(pointer.clone(), index, scale, span)))
            }
            // Masks and the like see the address.
            (Type::Pointer { .. }, other) | (other, Type::Pointer { .. }) if other.is_integer() => None,
            _ => bad(self),
        }
    }

    /// Pointer plus index; a constant one stays a number in bytes.
    pub(super) fn pointer_plus(&self, pointer: Expr, index: Expr, scale: u32, span: Span) -> Expr {
        let ty = pointer.ty.clone();
        Expr { kind: ExprKind::PointerAdd { pointer: Box::new(pointer), index: Box::new(index), scale }, ty, span }
    }

    /// Size of what a pointer points at; 1 for `void`.
    pub(super) fn pointee_size(&mut self, pointer: &Type, span: Span) -> Option<u32> {
        let Type::Pointer { to, .. } = pointer else { return None };
        match (**to).clone() {
            Type::Void => Some(1),
            Type::Struct(s) if s.size == 0 => {
                self.fail(span, format!("the size of '{}' is not known, so a pointer to it cannot be moved", s.name))
            }
            other => Some(other.size()),
        }
    }

    fn negated(&self, value: Expr) -> Expr {
        let span = value.span;
        match value.kind {
            ExprKind::Const(number) => Expr { kind: ExprKind::Const(number.wrapping_neg()), ..value },
            _ => {
                let ty = value.ty.clone();
                Expr { kind: ExprKind::Unary(UnaryOp::Neg, Box::new(value)), ty, span }
            }
        }
    }

    fn compare(&mut self, op: BinaryOp, a: Expr, b: Expr, span: Span) -> Elaborated {
        let equality = matches!(op, BinaryOp::Eq | BinaryOp::Ne);
        let text_like = |ty: &Type| match ty {
            Type::String { .. } | Type::Word(Word::Place) => true,
            Type::Array { elem, .. } => is_char(elem),
            _ => false,
        };
        let named = |value: &Expr| matches!(value.kind, ExprKind::Builtin(crate::typed::Builtin::Func));
        let (x, y) = (text_like(&a.ty), text_like(&b.ty));
        if (x || named(&a))
            && (y || named(&b))
            && (x || y)
            && !matches!((&a.ty, &b.ty), (Type::Array { .. }, Type::Array { .. }))
        {
            let (a, b) = (self.as_text(a), self.as_text(b));
            let (a, b) = (a?, b?);
            if !equality {
                let text = format!(
                    "The {} operator can not be used on expressions of types '{}', '{}'",
                    op.symbol(),
                    a.ty,
                    b.ty
                );
                return self.fail_with(span, text, Some("`strncmp(a, b, n)` compares text".to_owned()));
            }
            return Some(self.text_equal(a, b, None, op == BinaryOp::Ne, span));
        }
        let (a_ty, b_ty) = (a.ty.clone(), b.ty.clone());
        if a_ty.is_scalar() && b_ty.is_scalar() {
            return self.compare_scalars(op, a, b, span);
        }
        let in_memory = |ty: &Type| {
            matches!(
                ty,
                Type::Array { .. }
                    | Type::Tuple(_)
                    | Type::Record(_)
                    | Type::Struct(_)
                    | Type::Inet
                    | Type::Mac
                    | Type::Usym
                    | Type::Buffer { .. }
                    | Type::Stack(_)
            )
        };
        // Equal bytes are not what C means by equal, with two zeros and what is no number.
        let float = matches!((&a_ty, &b_ty), (Type::Float { .. }, _) | (_, Type::Float { .. }));
        if float {
            let text =
                format!("The {} operator can not be used on expressions of types '{a_ty}', '{b_ty}'", op.symbol());
            return self.fail_with(span, text, Some("there is no arithmetic of floating-point numbers".to_owned()));
        }
        if in_memory(&a_ty) && in_memory(&b_ty) && std::mem::discriminant(&a_ty) == std::mem::discriminant(&b_ty) {
            if !equality {
                let text =
                    format!("The {} operator can not be used on expressions of types '{a_ty}', '{b_ty}'", op.symbol());
                return self.fail(span, text);
            }
            let common = match infer::join(&self.shape_of(&a), &self.shape_of(&b)) {
                Joined::Shape(shape) | Joined::Lossy(shape) => Some(shape.ty),
                Joined::Conflict => None,
            };
            if let Some(common) = common
                && let (Some(a), Some(b)) = (self.fit(a, &common), self.fit(b, &common))
            {
                let negate = op == BinaryOp::Ne;
                let kind = ExprKind::MemoryEq { a: Box::new(a), b: Box::new(b), negate };
                return Some(Expr { kind, ty: Type::Bool, span });
            }
        }
        self.fail(span, format!("Type mismatch for '{}': comparing '{a_ty}' with '{b_ty}'", op.symbol()))
    }

    fn compare_scalars(&mut self, op: BinaryOp, a: Expr, b: Expr, span: Span) -> Elaborated {
        let (a_ty, b_ty) = (a.ty.clone(), b.ty.clone());
        if matches!((&a_ty, &b_ty), (Type::Word(_), _) | (_, Type::Word(_))) {
            return self.fail(span, format!("Type mismatch for '{}': comparing '{a_ty}' with '{b_ty}'", op.symbol()));
        }
        if (a_ty == Type::Bool) != (b_ty == Type::Bool) {
            let number = if a_ty == Type::Bool { &b } else { &a };
            if !matches!(self.const_int(number), Some(0 | 1)) {
                return self
                    .fail(span, format!("Type mismatch for '{}': comparing '{a_ty}' with '{b_ty}'", op.symbol()));
            }
        }
        let (a, b) = (self.as_number(a)?, self.as_number(b)?);
        if let (Some(x), Some(y)) = (self.folded(&a), self.folded(&b)) {
            let holds = match op {
                BinaryOp::Eq => x == y,
                BinaryOp::Ne => x != y,
                BinaryOp::Lt => x < y,
                BinaryOp::Le => x <= y,
                BinaryOp::Gt => x > y,
                _ => x >= y,
            };
            return Some(self.boolean(holds, span));
        }
        let signed = self.common_sign(&a, &b, op, span);
        let (a, b) = (self.wide(a, signed), self.wide(b, signed));
        Some(Expr { kind: ExprKind::Compare(op, Box::new(a), Box::new(b)), ty: Type::Bool, span })
    }

    /// `==` or `!=` of two texts.
    pub(super) fn text_equal(&mut self, a: Expr, b: Expr, limit: Option<u32>, negate: bool, span: Span) -> Expr {
        if let (ExprKind::Bytes(x), ExprKind::Bytes(y)) = (&a.kind, &b.kind) {
            let cut = |bytes: &std::sync::Arc<[u8]>| match limit {
                Some(limit) => bytes[..bytes.len().min(limit as usize)].to_vec(),
                None => bytes.to_vec(),
            };
            return self.boolean((cut(x) == cut(y)) != negate, span);
        }
        let kind = ExprKind::StringEq { a: Box::new(a), b: Box::new(b), limit, negate };
        Expr { kind, ty: Type::Bool, span }
    }

    fn logical(&mut self, op: BinaryOp, left: &ast::Expr, right: &ast::Expr, span: Span) -> Elaborated {
        let (a, b) = (self.expr(left), self.expr(right));
        let (a, b) = (a?, b?);
        let (Some(x), Some(y)) = (self.truth(a.clone()), self.truth(b.clone())) else {
            let text =
                format!("The {} operator can not be used on expressions of types '{}', '{}'", op.symbol(), a.ty, b.ty);
            return self.fail(span, text);
        };
        let and = op == BinaryOp::And;
        match (self.folded(&x), self.folded(&y)) {
            (Some(x), _) if (x != 0) != and => return Some(self.boolean(!and, span)),
            (Some(x), Some(y)) => {
                let value = if and { x != 0 && y != 0 } else { x != 0 || y != 0 };
                return Some(self.boolean(value, span));
            }
            _ => {}
        }
        let kind = if and { ExprKind::And(Box::new(x), Box::new(y)) } else { ExprKind::Or(Box::new(x), Box::new(y)) };
        Some(Expr { kind, ty: Type::Bool, span })
    }

    /// A value that means "not zero": `None` when it is no number.
    pub(super) fn truth(&mut self, value: Expr) -> Elaborated {
        let fine = value.ty.is_scalar() && !matches!(value.ty, Type::Word(_));
        fine.then_some(value)
    }

    /// A condition. `place` is its name in messages.
    pub(super) fn condition(&mut self, cond: &ast::Expr, place: &str) -> Elaborated {
        let value = self.expr(cond)?;
        let ty = value.ty.clone();
        match self.truth(value) {
            Some(value) => Some(value),
            None => {
                let ty = if ty == Type::Void { "none".to_owned() } else { ty.to_string() };
                let text = if place == "predicate" {
                    format!("Invalid type used in predicate: {ty}")
                } else {
                    format!("Invalid condition in {place}: {ty}")
                };
                // `if (x = 1)` is a record to the parser.
                let hint = matches!(&cond.kind, ast::ExprKind::Record(fields) if fields.len() == 1);
                self.fail_with(cond.span, text, hint.then(|| "`==` compares".to_owned()))
            }
        }
    }

    pub(super) fn unary(&mut self, op: UnaryOp, inner: &ast::Expr, span: Span) -> Elaborated {
        match op {
            UnaryOp::AddrOf => return self.address_of(inner, span),
            UnaryOp::Deref => {
                let pointer = self.expr(inner)?;
                return self.deref(pointer, span);
            }
            _ => {}
        }
        let value = self.expr(inner)?;
        let ty = value.ty.clone();
        if op == UnaryOp::Not {
            let Some(value) = self.truth(value) else {
                return self.fail(inner.span, format!("The ! operator can not be used on expressions of type '{ty}'"));
            };
            if let Some(number) = self.folded(&value) {
                return Some(self.boolean(number == 0, span));
            }
            return Some(Expr { kind: ExprKind::Not(Box::new(value)), ty: Type::Bool, span });
        }
        let symbol = if op == UnaryOp::Neg { "-" } else { "~" };
        let number = if ty == Type::Bool || ty == Type::Ksym { None } else { self.as_number(value) };
        let Some(number) = number else {
            let text = format!("The {symbol} operator can not be used on expressions of type '{ty}'");
            return self.fail(inner.span, text);
        };
        if let ExprKind::Const(_) = number.kind
            && let Some(value) = self.const_int(&number)
        {
            let folded = if op == UnaryOp::Neg { -value } else { !value };
            if folded < i128::from(i64::MIN) {
                return self.fail(span, format!("-{value} does not fit into 'int64'"));
            }
            return Some(self.integer(folded, span));
        }
        let signed = op == UnaryOp::Neg || !self.is_unsigned(&number);
        let number = self.wide(number, signed);
        let ty = number.ty.clone();
        Some(Expr { kind: ExprKind::Unary(op, Box::new(number)), ty, span })
    }

    /// `c ? a : b`, `c ?: b`
    pub(super) fn ternary(
        &mut self,
        cond: &ast::Expr,
        yes: Option<&ast::Expr>,
        no: &ast::Expr,
        span: Span,
    ) -> Elaborated {
        let Some(yes) = yes else { return self.elvis(cond, no, span) };
        let condition = self.condition(cond, "ternary");
        let (yes, no) = (self.expr(yes), self.expr(no));
        self.choose(condition?, yes?, no?, span)
    }

    /// `c ?: b`: `c` when it is not zero.
    fn elvis(&mut self, cond: &ast::Expr, no: &ast::Expr, span: Span) -> Elaborated {
        let value = self.expr(cond);
        let no = self.expr(no);
        let (value, no) = (value?, no?);
        let (set, value) = self.once(value);
        let condition = match &value.ty {
            Type::String { .. } => self.cast_to(value.clone(), &Type::Bool, span)?,
            ty => {
                let ty = ty.clone();
                match self.truth(value.clone()) {
                    Some(value) => value,
                    None => return self.fail(cond.span, format!("Invalid condition in ternary: {ty}")),
                }
            }
        };
        let chosen = self.choose(condition, value, no, span)?;
        Some(match set {
            None => chosen,
            Some(set) => {
                let ty = chosen.ty.clone();
                Expr { kind: ExprKind::Block(vec![set], Box::new(chosen)), ty, span }
            }
        })
    }

    /// One of two values, of a common type.
    pub(super) fn choose(&mut self, condition: Expr, yes: Expr, no: Expr, span: Span) -> Elaborated {
        if yes.ty == Type::Void || no.ty == Type::Void {
            if yes.ty != no.ty && !(is_nothing(&yes) || is_nothing(&no)) {
                let name = |ty: &Type| if *ty == Type::Void { "none".to_owned() } else { ty.to_string() };
                let text = format!("Ternary return type mismatch: have '{}' and '{}'", name(&yes.ty), name(&no.ty));
                return self.fail(span, text);
            }
            let (yes, no) = (statements(yes), statements(no));
            return self.effect_of(StmtKind::If(condition, yes, no), span);
        }
        let common = match infer::join(&self.shape_of(&yes), &self.shape_of(&no)) {
            Joined::Shape(shape) | Joined::Lossy(shape) => shape.ty,
            Joined::Conflict => {
                let text = format!("Ternary return type mismatch: have '{}' and '{}'", yes.ty, no.ty);
                return self.fail(span, text);
            }
        };
        let (yes_ty, no_ty) = (yes.ty.clone(), no.ty.clone());
        let (Some(yes), Some(no)) = (self.fit(yes, &common), self.fit(no, &common)) else {
            let text = format!("Ternary return type mismatch: have '{yes_ty}' and '{no_ty}'");
            return self.fail(span, text);
        };
        if let Some(number) = self.folded(&condition) {
            return Some(if number != 0 { yes } else { no });
        }
        let kind = ExprKind::Ternary(Box::new(condition), Box::new(yes), Box::new(no));
        Some(Expr { kind, ty: common, span })
    }

    /// `++x`, `x--`: `wanted` says whether the value is used.
    pub(super) fn step(&mut self, up: bool, prefix: bool, target: &ast::Expr, span: Span, wanted: bool) -> Elaborated {
        let symbol = if up { "++" } else { "--" };
        match &target.kind {
            ast::ExprKind::Var(name) => self.step_var(name, up, prefix, target.span, span, wanted),
            ast::ExprKind::Map(name) => self.step_map(name, None, up, prefix, (target.span, span), wanted),
            ast::ExprKind::MapElement { map, keys } => {
                self.step_map(&map.name, Some(keys), up, prefix, (target.span, span), wanted)
            }
            _ => self.fail(span, format!("The {symbol} operator must be applied to a map or variable")),
        }
    }

    fn step_var(&mut self, name: &str, up: bool, prefix: bool, at: Span, span: Span, wanted: bool) -> Elaborated {
        let symbol = if up { "++" } else { "--" };
        let value = self.read_var(name, at)?;
        let var = self.find_var(name)?;
        if let Type::Pointer { .. } = value.ty {
            let scale = self.pointee_size(&value.ty, span)?;
            let by = |n: i64| Expr { kind: ExprKind::Const(n), ty: Type::I64, span };
            let next = self.pointer_plus(value.clone(), by(if up { 1 } else { -1 }), scale, span);
            self.assigned(var, &Shape::fixed(value.ty.clone()), span);
            let set = Stmt { kind: StmtKind::SetVar(var, next), span };
            if !wanted {
                return Some(self.effect(vec![set], span));
            }
            let old = self.pointer_plus(value.clone(), by(if up { -1 } else { 1 }), scale, span);
            let result = if prefix { value } else { old };
            let ty = result.ty.clone();
            return Some(Expr { kind: ExprKind::Block(vec![set], Box::new(result)), ty, span });
        }
        if !matches!(value.ty, Type::Int { .. }) {
            let text = format!("The {symbol} operator can not be used on expressions of type '{}'", value.ty);
            return self.fail(at, text);
        }
        let signed = !up || !self.is_unsigned(&value);
        self.assigned(var, &Shape::fixed(infer::int(8, signed)), span);
        let value = self.var_expr(var, at)?;
        let ty = value.ty.clone();
        let one = || Box::new(Expr { kind: ExprKind::Const(1), ty: ty.clone(), span });
        let (there, back) = if up { (BinaryOp::Add, BinaryOp::Sub) } else { (BinaryOp::Sub, BinaryOp::Add) };
        let next = Expr { kind: ExprKind::Binary(there, Box::new(value.clone()), one()), ty: ty.clone(), span };
        let set = Stmt { kind: StmtKind::SetVar(var, next), span };
        if !wanted {
            return Some(self.effect(vec![set], span));
        }
        let result = if prefix {
            value
        } else {
            Expr { kind: ExprKind::Binary(back, Box::new(value), one()), ty: ty.clone(), span }
        };
        Some(Expr { kind: ExprKind::Block(vec![set], Box::new(result)), ty, span })
    }

    fn step_map(
        &mut self,
        name: &str,
        keys: Option<&[ast::Expr]>,
        up: bool,
        prefix: bool,
        (at, span): (Span, Span),
        wanted: bool,
    ) -> Elaborated {
        let symbol = if up { "++" } else { "--" };
        let map = self.map(name, at);
        let old = self.slot(map).value.clone();
        let bad = match &old {
            None => None,
            Some(shape) => match &shape.ty {
                Type::Int { .. } | Type::Pointer { .. } => None,
                other => Some(other.clone()),
            },
        };
        if let Some(ty) = bad {
            let text = format!("The {symbol} operator can not be used on expressions of type '{ty}'");
            return self.fail(at, text);
        }
        let unsigned = old.as_ref().is_some_and(|it| it.range().is_none() && !it.ty.is_signed());
        let value = match &old {
            Some(Shape { ty: ty @ Type::Pointer { .. }, .. }) => ty.clone(),
            _ => infer::int(8, !(up && unsigned)),
        };
        let ty = self.map_assigned(map, &Shape::fixed(value), span);
        let key = self.map_key(map, keys, at);
        let (ty, key) = (ty?, key?);
        let scale = match &ty {
            Type::Pointer { .. } => i64::from(self.pointee_size(&ty, span)?),
            _ => 1,
        };
        let by = if up { scale } else { -scale };
        if !wanted {
            let value = Expr { kind: ExprKind::Const(by), ty, span };
            return self.effect_of(StmtKind::AddMap { map, key, value }, span);
        }
        let kind = ExprKind::MapStep { map, key: key.map(Box::new), by, old: !prefix };
        Some(Expr { kind, ty, span })
    }

    /// `*p`, for pointers and, as the old tools do, for addresses in integers.
    pub(super) fn deref(&mut self, pointer: Expr, span: Span) -> Elaborated {
        let ty = pointer.ty.clone();
        match &ty {
            Type::Pointer { .. } => self.read_pointer(pointer, span),
            Type::Int { .. } => {
                let space = self.default_space();
                let to = infer::pointer(Type::U64, space);
                let pointer = Expr { kind: ExprKind::Cast(Box::new(pointer)), ty: to, span };
                self.read_pointer(pointer, span)
            }
            _ => {
                let text = format!("The dereference operator can not be used on expressions of type '{ty}'");
                self.fail(pointer.span, text)
            }
        }
    }

    /// Space of a pointer, with the probe's own where it says nothing.
    pub(super) fn space_of(&self, pointer: &Type) -> Space {
        match pointer {
            Type::Pointer { space: Space::None, .. } => self.default_space(),
            Type::Pointer { space, .. } => *space,
            _ => self.default_space(),
        }
    }
}

/// The statements of an expression without a value.
pub(super) fn statements(value: Expr) -> Vec<Stmt> {
    match value.kind {
        ExprKind::Block(stmts, _) if value.ty == Type::Void => stmts,
        ExprKind::Const(_) if value.ty == Type::Void => Vec::new(),
        _ => {
            let span = value.span;
            vec![Stmt { kind: StmtKind::Expr(value), span }]
        }
    }
}

/// An empty branch.
fn is_nothing(value: &Expr) -> bool {
    value.ty == Type::Void && matches!(value.kind, ExprKind::Const(_))
}
