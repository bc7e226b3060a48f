//! Conversions: those that happen by themselves, and casts.

use std::sync::Arc;

use super::expr::truncate;
use super::infer::{self, Flex};
use super::{Checker, Elaborated};
use crate::typed::{Expr, ExprKind};
use crate::types::{Space, Type, Word};
use crate::{Span, ast};

/// `char`, of arrays that are text.
pub(super) fn is_char(ty: &Type) -> bool {
    matches!(ty, Type::Int { size: 1, signed: true })
}

impl Checker<'_> {
    /// Converts a value to the type of the place where it goes. `None` when it does not fit; nothing is reported.
    pub(super) fn fit(&mut self, value: Expr, to: &Type) -> Elaborated {
        if value.ty == *to {
            return Some(value);
        }
        let (span, ty) = (value.span, value.ty.clone());
        match value.kind {
            ExprKind::Block(stmts, inner) => {
                let inner = self.fit(*inner, to)?;
                return Some(Expr { kind: ExprKind::Block(stmts, Box::new(inner)), ty: to.clone(), span });
            }
            ExprKind::Ternary(cond, yes, no) => {
                let (yes, no) = (self.fit(*yes, to)?, self.fit(*no, to)?);
                let kind = ExprKind::Ternary(cond, Box::new(yes), Box::new(no));
                return Some(Expr { kind, ty: to.clone(), span });
            }
            _ => {}
        }
        match (&ty, to) {
            (from, to) if from.is_integer() && matches!(to, Type::Int { .. }) => self.fit_integer(value, to),
            (Type::Int { .. }, Type::Pointer { .. }) if self.const_int(&value) == Some(0) => {
                Some(Expr { ty: to.clone(), ..value })
            }
            (Type::String { size }, Type::String { size: room }) => match &value.kind {
                ExprKind::Bytes(bytes) if bytes.len() < *room as usize => Some(Expr { ty: to.clone(), ..value }),
                _ if size <= room => Some(self.converted(value, to)),
                _ => None,
            },
            (Type::Buffer { size }, Type::Buffer { size: room }) if size <= room => Some(self.converted(value, to)),
            (Type::Word(Word::Place), Type::String { .. }) => self.place_text(value, to),
            (Type::Array { elem, count }, Type::String { size }) if is_char(elem) && count <= size => {
                Some(self.converted(value, to))
            }
            (Type::Pointer { to: x, space: p }, Type::Pointer { to: y, space: q }) => {
                let same = x == y || **x == Type::Void || **y == Type::Void;
                let near = p == q || *p == Space::None || matches!(q, Space::None | Space::Any);
                (same && near).then(|| Expr { ty: to.clone(), ..value })
            }
            (Type::Stack(x), Type::Stack(y)) if x.user == y.user && x.mode == y.mode && x.limit <= y.limit => {
                Some(Expr { ty: to.clone(), ..value })
            }
            (Type::Tuple(_) | Type::Record(_), Type::Tuple(_) | Type::Record(_)) => self.fit_elements(value, to),
            _ => None,
        }
    }

    fn converted(&self, value: Expr, to: &Type) -> Expr {
        let span = value.span;
        Expr { kind: ExprKind::Cast(Box::new(value)), ty: to.clone(), span }
    }

    fn fit_integer(&mut self, value: Expr, to: &Type) -> Elaborated {
        if let ExprKind::Const(_) = value.kind {
            let number = self.const_int(&value)?;
            if infer::holds(to, number) {
                return Some(Expr { kind: ExprKind::Const(number as i64), ty: to.clone(), span: value.span });
            }
            // A `uint64` literal where signed numbers meet it.
            return (*to == Type::I64 && matches!(value.ty, Type::Int { signed: false, .. }))
                .then(|| Expr { ty: to.clone(), ..value });
        }
        let flexible = matches!(self.shape_of(&value).flex, Flex::Range(low, high) if infer::holds(to, low) && infer::holds(to, high));
        (value.ty.size() <= to.size() || flexible).then(|| self.converted(value, to))
    }

    fn fit_elements(&mut self, value: Expr, to: &Type) -> Elaborated {
        let span = value.span;
        // Where each element of the new value comes from.
        let from: Vec<usize> = match (&value.ty, to) {
            (Type::Tuple(x), Type::Tuple(y)) if x.len() == y.len() => (0..x.len()).collect(),
            (Type::Record(x), Type::Record(y)) if x.len() == y.len() => {
                y.iter().map(|(name, _)| x.iter().position(|(it, _)| it == name)).collect::<Option<_>>()?
            }
            _ => return None,
        };
        let wanted: Vec<Type> = match to {
            Type::Tuple(types) => types.to_vec(),
            Type::Record(fields) => fields.iter().map(|(_, ty)| ty.clone()).collect(),
            _ => return None,
        };
        if let ExprKind::Tuple(elems) = value.kind {
            let mut old: Vec<Option<Expr>> = elems.into_iter().map(Some).collect();
            let mut elems = Vec::with_capacity(old.len());
            for (at, ty) in from.into_iter().zip(&wanted) {
                elems.push(self.fit(old.get_mut(at)?.take()?, ty)?);
            }
            return Some(Expr { kind: ExprKind::Tuple(elems), ty: to.clone(), span });
        }
        // Element by element out of a value that is kept.
        let (set, kept) = self.once(value);
        let fields: Vec<(u32, Type)> = kept.ty.fields().into_iter().map(|(off, ty)| (off, ty.clone())).collect();
        let mut elems = Vec::with_capacity(from.len());
        for (at, ty) in from.into_iter().zip(&wanted) {
            let (off, elem) = fields.get(at)?.clone();
            let kind = ExprKind::Field { base: Box::new(kept.clone()), off, bits: None };
            elems.push(self.fit(Expr { kind, ty: elem, span }, ty)?);
        }
        let tuple = Expr { kind: ExprKind::Tuple(elems), ty: to.clone(), span };
        Some(match set {
            None => tuple,
            Some(set) => Expr { kind: ExprKind::Block(vec![set], Box::new(tuple)), ty: to.clone(), span },
        })
    }

    /// `probe` or `func` as text: a constant when there is one place, else a reason to split the unit.
    pub(super) fn place_text(&mut self, value: Expr, to: &Type) -> Elaborated {
        let Type::String { size } = *to else { return None };
        let unit = self.unit_mut()?;
        let [point] = unit.points.as_slice() else {
            unit.wants_split = true;
            return None;
        };
        let name = &point.place.name;
        let end = name.len().min(size.saturating_sub(1) as usize);
        Some(Expr { kind: ExprKind::Bytes(name.as_bytes()[..end].into()), ty: to.clone(), span: value.span })
    }

    /// A value as text where it is compared or measured: `probe` and `func` become constants.
    pub(super) fn as_text(&mut self, value: Expr) -> Elaborated {
        match &value.ty {
            Type::String { .. } => Some(value),
            Type::Word(Word::Place) => {
                let size = self.unit()?.points.first().map_or(1, |point| point.place.name.len() as u32 + 1);
                self.place_text(value, &Type::String { size })
            }
            Type::Ksym | Type::Usym if matches!(value.kind, ExprKind::Builtin(crate::typed::Builtin::Func)) => {
                let unit = self.unit_mut()?;
                let [point] = unit.points.as_slice() else {
                    unit.wants_split = true;
                    return None;
                };
                let Some(name) = point.place.func.clone() else {
                    return self
                        .fail(value.span, "the name of the function is not known here, compare `probe` instead");
                };
                let size = name.len() as u32 + 1;
                Some(Expr {
                    kind: ExprKind::Bytes(name.into_bytes().into()),
                    ty: Type::String { size },
                    span: value.span,
                })
            }
            Type::Array { elem, count } if is_char(elem) => {
                let to = Type::String { size: *count };
                Some(self.converted(value, &to))
            }
            _ => Some(value),
        }
    }

    /// An integer of 8 bytes, of the sign that `signed` says.
    pub(super) fn wide(&mut self, value: Expr, signed: bool) -> Expr {
        let to = infer::int(8, signed);
        if value.ty == to {
            return value;
        }
        if let ExprKind::Const(_) = value.kind {
            let number = self.const_int(&value).unwrap_or(0);
            return Expr { kind: ExprKind::Const(number as i64), ty: to, span: value.span };
        }
        self.converted(value, &to)
    }

    /// A number out of anything that is one: integers, enums, booleans, pointers, symbols.
    pub(super) fn as_number(&mut self, value: Expr) -> Elaborated {
        match &value.ty {
            Type::Int { .. } => Some(value),
            Type::Enum(_) => {
                let to = infer::plain(&value.ty);
                Some(match self.const_int(&value) {
                    Some(number) => self.integer(number, value.span),
                    None => self.converted(value, &to),
                })
            }
            Type::Bool => Some(match self.const_int(&value) {
                Some(number) => self.integer(number, value.span),
                None => self.converted(value, &infer::int(1, false)),
            }),
            Type::Pointer { .. } | Type::Ksym => Some(self.converted(value, &Type::U64)),
            _ => None,
        }
    }

    /// `(type)e`
    pub(super) fn cast(&mut self, ty: &ast::TypeExpr, inner: &ast::Expr, span: Span) -> Elaborated {
        let to = self.type_of(ty);
        let value = self.expr(inner);
        let (to, value) = (to?, value?);
        let to = match (&to, &value.ty) {
            // `(string)e` keeps the room that the text has.
            (Type::String { size: 0 }, Type::String { size }) => Type::String { size: *size },
            (Type::String { size: 0 }, Type::Array { count, .. }) => Type::String { size: *count },
            // `(int8[])e`
            (Type::Array { elem, count: 0 }, from) if elem.size() > 0 => {
                Type::Array { elem: elem.clone(), count: from.size() / elem.size() }
            }
            _ => to,
        };
        self.cast_to(value, &to, span)
    }

    /// The cast of a value that is already known.
    pub(super) fn cast_to(&mut self, value: Expr, to: &Type, span: Span) -> Elaborated {
        let from = value.ty.clone();
        let wrap = |value: Expr| Some(Expr { kind: ExprKind::Cast(Box::new(value)), ty: to.clone(), span });
        match (&from, to) {
            (from, to) if from == to && !matches!(value.kind, ExprKind::Const(_)) => Some(Expr { span, ..value }),
            (Type::Void, _) => self.fail(span, format!("Cannot cast from \"none\" to \"{to}\"")),
            (_, Type::Int { .. }) if from.is_scalar() => wrap(value),
            (Type::Usym, Type::Int { .. }) => {
                let kind = ExprKind::Field { base: Box::new(value), off: 0, bits: None };
                let address = Expr { kind, ty: Type::U64, span };
                if *to == Type::U64 { Some(address) } else { wrap(address) }
            }
            (_, Type::Bool) if from.is_scalar() => wrap(value),
            (Type::String { .. }, Type::Bool) => {
                // Whether there is any text.
                let empty = Expr { kind: ExprKind::Bytes(Arc::from(&b""[..])), ty: Type::String { size: 1 }, span };
                let kind = ExprKind::StringEq { a: Box::new(value), b: Box::new(empty), limit: None, negate: true };
                Some(Expr { kind, ty: Type::Bool, span })
            }
            (_, Type::Enum(e)) if from.is_integer() => {
                if let Some(number) = self.const_int(&value)
                    && !e.names.iter().any(|(value, _)| *value == number)
                {
                    return self.fail(span, format!("Enum: {} doesn't contain a variant value of {number}", e.name));
                }
                wrap(value)
            }
            (
                Type::Int { .. } | Type::Enum(_) | Type::Pointer { .. } | Type::Ksym,
                Type::Pointer { to: target, space },
            ) => {
                let space = match (*space, &from) {
                    (Space::None, Type::Pointer { space, .. }) if *space != Space::None => *space,
                    (Space::None, Type::Ksym) => Space::Kernel,
                    (Space::None, _) => self.default_space(),
                    (known, _) => known,
                };
                let ty = Type::Pointer { to: target.clone(), space };
                Some(Expr { kind: ExprKind::Cast(Box::new(value)), ty, span })
            }
            // A literal has the size that it is cast to.
            (Type::Int { .. }, Type::Array { .. })
                if matches!(value.kind, ExprKind::Const(_)) && matches!(to.size(), 1 | 2 | 4 | 8) =>
            {
                let ty = infer::int(to.size() as u8, true);
                let unsigned = infer::int(to.size() as u8, false);
                let number = self.const_int(&value).unwrap_or(0);
                if !infer::holds(&ty, number) && !infer::holds(&unsigned, number) {
                    return self.fail(span, format!("Cannot cast from \"{from}\" to \"{to}\""));
                }
                let value = Expr { kind: ExprKind::Const(number as i64), ty: unsigned, span };
                wrap(value)
            }
            (Type::Array { .. }, Type::Int { .. }) | (Type::Int { .. }, Type::Array { .. })
                if from.size() == to.size() =>
            {
                wrap(value)
            }
            (Type::String { .. }, Type::String { size }) if *size > 0 => wrap(value),
            (Type::Array { elem, .. }, Type::String { size }) if elem.size() == 1 && *size > 0 => wrap(value),
            (Type::String { size }, Type::Array { elem, count }) if elem.size() == 1 && size <= count => wrap(value),
            (Type::Array { elem: x, count: n }, Type::Array { elem: y, count: m })
                if x.size() == y.size() && n == m && x.is_integer() && y.is_integer() =>
            {
                wrap(value)
            }
            (Type::Int { .. } | Type::Pointer { .. }, Type::Ksym) => wrap(value),
            (Type::Tuple(_), Type::Tuple(_)) | (Type::Record(_), Type::Record(_)) => {
                self.cast_elements(value, to, span)
            }
            (_, Type::Struct(s)) => {
                let hint = Some(format!("did you mean `({} *)`?", s.name));
                self.fail_with(span, format!("Cannot cast from \"{from}\" to \"{to}\""), hint)
            }
            _ => match self.fit(value, to) {
                Some(value) => Some(Expr { span, ..value }),
                None => self.fail(span, format!("Cannot cast from \"{from}\" to \"{to}\"")),
            },
        }
    }

    fn cast_elements(&mut self, value: Expr, to: &Type, span: Span) -> Elaborated {
        let from = value.ty.clone();
        let wanted: Vec<(Option<String>, Type)> = match to {
            Type::Tuple(types) => types.iter().map(|ty| (None, ty.clone())).collect(),
            Type::Record(fields) => fields.iter().map(|(name, ty)| (Some(name.clone()), ty.clone())).collect(),
            _ => return None,
        };
        let fields: Vec<(u32, Type)> = from.fields().into_iter().map(|(off, ty)| (off, ty.clone())).collect();
        if fields.len() != wanted.len() {
            return self.fail(span, format!("Cannot cast from \"{from}\" to \"{to}\""));
        }
        let (set, kept) = self.once(value);
        let mut elems = Vec::with_capacity(fields.len());
        for (i, (name, ty)) in wanted.iter().enumerate() {
            let at = match (name, &from) {
                (Some(name), Type::Record(old)) => old.iter().position(|(it, _)| it == name),
                _ => Some(i),
            };
            let Some((off, elem)) = at.and_then(|at| fields.get(at)).cloned() else {
                return self.fail(span, format!("Cannot cast from \"{from}\" to \"{to}\""));
            };
            let kind = ExprKind::Field { base: Box::new(kept.clone()), off, bits: None };
            elems.push(self.cast_to(Expr { kind, ty: elem, span }, ty, span)?);
        }
        let tuple = Expr { kind: ExprKind::Tuple(elems), ty: to.clone(), span };
        Some(match set {
            None => tuple,
            Some(set) => Expr { kind: ExprKind::Block(vec![set], Box::new(tuple)), ty: to.clone(), span },
        })
    }

    /// A constant cut to its type: `(uint8)300`.
    pub(super) fn folded(&self, value: &Expr) -> Option<i128> {
        self.const_int(value).map(|number| if value.ty.is_integer() { truncate(number, &value.ty) } else { number })
    }
}
