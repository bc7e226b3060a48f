//! Paths through memory: members, elements, dereferences, addresses.
//!
//! A path from a pointer is folded into one read: `p.a.b[2].c` is one [`ExprKind::Deref`] with the sum of the offsets. A
//! pointer on the way is a read of its own, and the memory that it points into is that of the path unless its type says
//! otherwise.

use super::compile_time::is_constant;
use super::infer;
use super::{Checker, Elaborated};
use crate::typed::{Action, Bits, Expr, ExprKind, Stmt, StmtKind};
use crate::types::{Space, StructRef, Type};
use crate::{Span, ast};

impl Checker<'_> {
    /// `base.name`, `base->name`
    pub(super) fn field(&mut self, base: &ast::Expr, name: &ast::Ident, arrow: bool, span: Span) -> Elaborated {
        match &base.kind {
            ast::ExprKind::Ident(word) if word == "args" => return self.args_field(name, base.span, span),
            ast::ExprKind::Call { name: word, args } if word.name == "args" && args.is_empty() => {
                return self.args_field(name, base.span, span);
            }
            ast::ExprKind::Ident(word) if word == "ctx" => {
                let members = self.args().is_some_and(|args| args.fields.iter().any(|arg| arg.name == name.name));
                if members && self.provider() == Some(crate::points::Provider::Iter) {
                    return self.args_field(name, base.span, span);
                }
            }
            ast::ExprKind::Ident(word) if word == "config" => return self.config_field(name, span),
            _ => {}
        }
        let value = self.expr(base)?;
        if arrow && !matches!(value.ty, Type::Pointer { .. }) {
            let ty = value.ty.clone();
            // Old scripts write `args->x`; elsewhere `->` wants an address.
            if matches!(ty, Type::Struct(_)) {
                let text = format!("Can not access field '{}' on type '{ty}'. Try using '.'", name.name);
                return self.fail(span, text);
            }
        }
        self.member(value, &name.name, name.span, span)
    }

    /// A member of a value by name, or a tuple's element by number.
    pub(super) fn member(&mut self, value: Expr, name: &str, name_span: Span, span: Span) -> Elaborated {
        let ty = value.ty.clone();
        match &ty {
            Type::Tuple(_) => {
                let Ok(at) = name.parse::<usize>() else {
                    return self.fail(name_span, format!("Can not access field '{name}' on type '{ty}'"));
                };
                self.tuple_element(value, at, span)
            }
            Type::Record(fields) => {
                let Some(at) = fields.iter().position(|(it, _)| it == name) else {
                    let near = skep_spec::nearest::did_you_mean(name, fields.iter().map(|(it, _)| it.as_str()));
                    return self.fail_with(name_span, format!("Record does not contain a field named '{name}'"), near);
                };
                self.tuple_element(value, at, span)
            }
            Type::Struct(of) => self.struct_member(value, &of.clone(), name, name_span, span),
            Type::Pointer { to, .. } => match (**to).clone() {
                Type::Struct(of) => {
                    let pointed = self.read_pointer(value, span)?;
                    self.struct_member(pointed, &of, name, name_span, span)
                }
                other => {
                    let text = format!("Can not access field '{name}' on type '{ty}'");
                    let hint = match other {
                        Type::Pointer { .. } => Some("dereference it first, as in `(*p).x`".to_owned()),
                        Type::Void => Some("cast it to a pointer to a struct: `(struct x *)p`".to_owned()),
                        _ => None,
                    };
                    self.fail_with(span, text, hint)
                }
            },
            Type::Int { .. } => {
                let hint = Some("cast it to a pointer to a struct: `(struct x *)e`".to_owned());
                self.fail_with(span, format!("Can not access field '{name}' on type '{ty}'"), hint)
            }
            _ => self.fail(span, format!("Can not access field '{name}' on type '{ty}'")),
        }
    }

    fn struct_member(&mut self, value: Expr, of: &StructRef, name: &str, name_span: Span, span: Span) -> Elaborated {
        let Some(field) = self.structs.field(of, name) else {
            let names = self.structs.field_names(of);
            if names.is_empty() {
                let text = format!("Cannot resolve unknown type \"{}\"", of.name);
                let hint = Some("only its name is known here: its members are in no type information".to_owned());
                return self.fail_with(span, text, hint);
            }
            let near = skep_spec::nearest::did_you_mean(name, names.iter().map(String::as_str));
            let text = format!("Struct/union of type '{}' does not contain a field named '{name}'", of.name);
            return self.fail_with(name_span, text, near);
        };
        Some(self.part(value, field.off, field.ty, field.bits, span))
    }

    /// The part of a value in memory that begins at `off`.
    fn part(&mut self, value: Expr, off: u32, ty: Type, bits: Option<Bits>, span: Span) -> Expr {
        match value.kind {
            ExprKind::Deref { pointer, off: before, bits: None } => {
                let space = self.space_of(&pointer.ty);
                let ty = inherit(ty, space);
                Expr { kind: ExprKind::Deref { pointer, off: before + off, bits }, ty, span }
            }
            ExprKind::ContextField { off: before, bits: None } => {
                let ty = inherit(ty, self.default_space());
                Expr { kind: ExprKind::ContextField { off: before + off, bits }, ty, span }
            }
            ExprKind::Field { base, off: before, bits: None } => {
                let ty = inherit(ty, self.default_space());
                Expr { kind: ExprKind::Field { base, off: before + off, bits }, ty, span }
            }
            _ => {
                let ty = inherit(ty, self.default_space());
                Expr { kind: ExprKind::Field { base: Box::new(value), off, bits }, ty, span }
            }
        }
    }

    /// `t.0`, `t[0]`
    fn tuple_element(&mut self, value: Expr, at: usize, span: Span) -> Elaborated {
        let fields: Vec<(u32, Type)> = value.ty.fields().into_iter().map(|(off, ty)| (off, ty.clone())).collect();
        let Some((off, ty)) = fields.get(at).cloned() else {
            let text = format!("Invalid tuple index: {at}. Found {} elements in tuple.", fields.len());
            return self.fail(span, text);
        };
        match value.kind {
            ExprKind::Field { base, off: before, bits: None } => {
                Some(Expr { kind: ExprKind::Field { base, off: before + off, bits: None }, ty, span })
            }
            // `comptime (typeinfo($x).base_type == "int")`
            ExprKind::Tuple(mut elems) if elems[at].ty == ty && elems.iter().all(is_constant) => {
                Some(Expr { span, ..elems.swap_remove(at) })
            }
            _ => {
                let kind = ExprKind::Field { base: Box::new(value), off, bits: None };
                Some(Expr { kind, ty, span })
            }
        }
    }

    /// `*p`: what a pointer points at, not yet read in part.
    pub(super) fn read_pointer(&mut self, pointer: Expr, span: Span) -> Elaborated {
        let Type::Pointer { to, .. } = pointer.ty.clone() else { return None };
        let space = self.space_of(&pointer.ty);
        let target = (*to).clone();
        if target == Type::Void {
            let hint = Some("cast it first: `*(uint64 *)p`".to_owned());
            return self.fail_with(span, "Cannot dereference pointer of type 'void *'", hint);
        }
        if let Type::Struct(of) = &target
            && of.size == 0
        {
            return self.fail(span, format!("Cannot resolve unknown type \"{}\"", of.name));
        }
        if let ExprKind::Context = pointer.kind {
            return Some(Expr {
                kind: ExprKind::ContextField { off: 0, bits: None },
                ty: inherit(target, Space::Kernel),
                span,
            });
        }
        let pointer = Expr { ty: Type::Pointer { to, space }, ..pointer };
        // `&$x` and back.
        if let ExprKind::AddrOfVar(var) = pointer.kind {
            return self.var_expr(var, span);
        }
        let ty = inherit(target, space);
        Some(Expr { kind: ExprKind::Deref { pointer: Box::new(pointer), off: 0, bits: None }, ty, span })
    }

    /// `base[index]`
    pub(super) fn index(&mut self, base: &ast::Expr, index: &ast::Expr, span: Span) -> Elaborated {
        let value = self.expr(base);
        let at = self.expr(index);
        let (value, at) = (value?, at?);
        if !at.ty.is_integer() {
            let text = format!("The array index operator [] only accepts integer indices, found '{}'", at.ty);
            return self.fail(index.span, text);
        }
        let at = self.as_number(at)?;
        let constant = self.folded(&at);
        let ty = value.ty.clone();
        match &ty {
            Type::Tuple(_) | Type::Record(_) => match constant {
                Some(at) if at >= 0 => self.tuple_element(value, at as usize, span),
                _ => self.fail(index.span, "A tuple's index is an integer literal"),
            },
            Type::Array { elem, count } => self.array_element(value, elem, *count, at, constant, span),
            // Text is an array of characters.
            Type::String { size } => self.array_element(value, &infer::int(1, true), *size, at, constant, span),
            Type::Pointer { .. } => {
                let scale = self.pointee_size(&ty, span)?;
                let pointer = Expr { ty: ty.clone(), ..value };
                let at = self.wide(at, true);
                let moved = match (constant, &pointer.kind) {
                    (Some(0), _) => pointer,
                    // A constant distance is an offset of the read; behind a variable or the context is nothing of theirs.
                    (Some(at), kind)
                        if at > 0
                            && at * i128::from(scale) <= i128::from(i32::MAX)
                            && !matches!(kind, ExprKind::AddrOfVar(_) | ExprKind::Context) =>
                    {
                        let read = self.read_pointer(pointer, span)?;
                        let ty = read.ty.clone();
                        let off = (at * i128::from(scale)) as u32;
                        return Some(self.part(read, off, ty, None, span));
                    }
                    _ => self.pointer_plus(pointer, at, scale, span),
                };
                self.read_pointer(moved, span)
            }
            Type::Buffer { .. } | Type::Inet | Type::Mac => {
                let word = super::call::kind_word(&ty);
                self.fail(
                    span,
                    format!("The array index operator [] can only be used on arrays and pointers, found {word}."),
                )
            }
            _ => {
                let word = super::call::kind_word(&ty);
                self.fail(
                    span,
                    format!("The array index operator [] can only be used on arrays and pointers, found {word}."),
                )
            }
        }
    }

    fn array_element(
        &mut self,
        value: Expr,
        elem: &Type,
        count: u32,
        at: Expr,
        constant: Option<i128>,
        span: Span,
    ) -> Elaborated {
        let size = elem.size();
        // `char name[]` at the end of a struct, or `[0]` of the kernel: as long as its owner says.
        let flexible = count == 0;
        if let Some(at) = constant {
            if at < 0 || (!flexible && at >= i128::from(count)) {
                let text = format!("the index {at} is out of bounds for array of size {count}");
                return self.fail(span, text);
            }
            let Some(off) = u32::try_from(at).ok().and_then(|at| at.checked_mul(size)) else {
                return self.fail(span, format!("the index {at} is too big"));
            };
            let in_memory =
                matches!(value.kind, ExprKind::Deref { .. } | ExprKind::ContextField { .. } | ExprKind::Field { .. });
            if in_memory {
                return Some(self.part(value, off, elem.clone(), None, span));
            }
        }
        if let ExprKind::Deref { pointer, off, bits: None } = value.kind {
            // The element alone is read, at an index that is inside.
            let at = self.wide(at, true);
            let (set, at) = self.once(at);
            let mut index = at.clone();
            if !flexible {
                let limit = Expr { kind: ExprKind::Const(i64::from(count)), ty: Type::U64, span };
                let unsigned = Expr { kind: ExprKind::Cast(Box::new(at.clone())), ty: Type::U64, span };
                let kind = ExprKind::Compare(ast::BinaryOp::Lt, Box::new(unsigned), Box::new(limit));
                let inside = Expr { kind, ty: Type::Bool, span };
                let message = format!("Array index out of bounds, the array has {count} elements");
                let told = Stmt { kind: StmtKind::Action(Action::RuntimeError { message, ends: false }), span };
                let zero = Expr { kind: ExprKind::Const(0), ty: Type::I64, span };
                let outside = Expr { kind: ExprKind::Block(vec![told], Box::new(zero)), ty: Type::I64, span };
                let kind = ExprKind::Ternary(Box::new(inside), Box::new(at), Box::new(outside));
                index = Expr { kind, ty: Type::I64, span };
            }
            if let Some(set) = set {
                index = Expr { kind: ExprKind::Block(vec![set], Box::new(index)), ty: Type::I64, span };
            }
            let space = self.space_of(&pointer.ty);
            let to = infer::pointer(elem.clone(), space);
            let start = if off == 0 {
                Expr { ty: to, ..*pointer }
            } else {
                let bytes = Expr { kind: ExprKind::Const(i64::from(off)), ty: Type::I64, span };
                let moved = self.pointer_plus(*pointer, bytes, 1, span);
                Expr { ty: to, ..moved }
            };
            let moved = self.pointer_plus(start, index, size, span);
            return self.read_pointer(moved, span);
        }
        let at = if at.ty.is_signed() { self.wide(at, true) } else { self.wide(at, false) };
        let ty = inherit(elem.clone(), self.default_space());
        Some(Expr { kind: ExprKind::Index { base: Box::new(value), index: Box::new(at) }, ty, span })
    }

    /// `&e`
    pub(super) fn address_of(&mut self, inner: &ast::Expr, span: Span) -> Elaborated {
        match &inner.kind {
            ast::ExprKind::Var(name) => {
                let value = self.read_var(name, inner.span)?;
                let var = self.find_var(name)?;
                let ty = infer::pointer(value.ty, Space::Bpf);
                Some(Expr { kind: ExprKind::AddrOfVar(var), ty, span })
            }
            ast::ExprKind::Map(name) => self.address_of_map(name, None, inner.span, span),
            ast::ExprKind::MapElement { map, keys } => self.address_of_map(&map.name, Some(keys), inner.span, span),
            ast::ExprKind::Field { .. } | ast::ExprKind::Index(..) | ast::ExprKind::Unary(ast::UnaryOp::Deref, _) => {
                let value = self.expr(inner)?;
                match value.kind {
                    ExprKind::Deref { pointer, off, bits: None } => {
                        let space = self.space_of(&pointer.ty);
                        let to = infer::pointer(value.ty, space);
                        if off == 0 {
                            return Some(Expr { kind: ExprKind::Cast(pointer), ty: to, span });
                        }
                        let bytes = Expr { kind: ExprKind::Const(i64::from(off)), ty: Type::I64, span };
                        let moved = self.pointer_plus(*pointer, bytes, 1, span);
                        Some(Expr { ty: to, ..moved })
                    }
                    _ => self.fail(span, "The address-of operator & needs something in memory: a variable, a map or a member behind a pointer"),
                }
            }
            _ => self.fail(
                span,
                "The address-of operator & needs something in memory: a variable, a map or a member behind a pointer",
            ),
        }
    }

    fn address_of_map(&mut self, name: &str, keys: Option<&[ast::Expr]>, at: Span, span: Span) -> Elaborated {
        let map = self.map(name, at);
        let value = self.map_value(map, at);
        let key = self.map_key(map, keys, at);
        let (value, key) = (value?, key?);
        if value.is_aggregation() {
            return self.fail(span, format!("Cannot take the address of {name}: it is kept for each CPU"));
        }
        let ty = infer::pointer(value, Space::Bpf);
        Some(Expr { kind: ExprKind::AddrOfMap { map, key: key.map(Box::new) }, ty, span })
    }
}

/// A pointer that says nothing about its memory points into that where it was found.
fn inherit(ty: Type, space: Space) -> Type {
    let space = if space == Space::Bpf { Space::None } else { space };
    match ty {
        Type::Pointer { to, space: Space::None } => Type::Pointer { to, space },
        other => other,
    }
}
