//! What is known before the program runs: `comptime`, `sizeof`, `offsetof`, questions about types, `static_assert`.

use super::call::{Call, kind_word};
use super::format;
use super::{Checker, Elaborated};
use crate::plan::Part;
use crate::typed::{Expr, ExprKind};
use crate::types::Type;
use crate::{Diagnostic, Span, ast};
use skep_btf::Kind;

impl Checker<'_> {
    /// `comptime e`
    pub(super) fn comptime(&mut self, inner: &ast::Expr) -> Elaborated {
        let value = self.expr(inner)?;
        if let Some(number) = self.folded(&value) {
            return Some(Expr { kind: ExprKind::Const(number as i64), ..value });
        }
        if is_constant(&value) {
            return Some(value);
        }
        self.fail(inner.span, "Unable to evaluate at compile time")
    }

    /// The branch of `if comptime` that is taken: the outer `None` when the condition is not known.
    pub(super) fn comptime_branch<'b>(&mut self, branch: &'b ast::If) -> Option<Option<&'b ast::Block>> {
        let condition = self.condition(&branch.cond, "if()")?;
        match self.folded(&condition) {
            Some(0) => Some(branch.otherwise.as_ref()),
            Some(_) => Some(Some(&branch.then)),
            None => self.fail(branch.cond.span, "Unable to evaluate at compile time"),
        }
    }

    pub(super) fn sizeof(&mut self, of: &ast::TypeOrExpr, span: Span) -> Elaborated {
        let ty = self.type_or_expr(of)?;
        match &ty {
            Type::Struct(s) if s.size == 0 && self.structs.field_names(s).is_empty() => {
                self.fail(span, format!("Cannot resolve unknown type \"{}\"", s.name))
            }
            Type::String { size: 0 } => self.fail(span, "string has no size of its own: write string[16]"),
            _ => Some(self.integer(i128::from(ty.size()), span)),
        }
    }

    pub(super) fn offsetof(&mut self, of: &ast::TypeOrExpr, path: &[ast::Ident], span: Span) -> Elaborated {
        let ty = self.type_or_expr(of)?;
        let off = self.offset_of(ty, path, span)?;
        Some(self.integer(i128::from(off), span))
    }

    /// Offset of a member of a member, in bytes.
    fn offset_of(&mut self, mut ty: Type, path: &[ast::Ident], span: Span) -> Option<u32> {
        let mut off = 0u32;
        for name in path {
            let complete = ty.clone();
            let of = match &complete {
                Type::Struct(of) => of.clone(),
                // `offsetof($p, x)`
                Type::Pointer { to, .. } if off == 0 => match (**to).clone() {
                    Type::Struct(of) => of,
                    _ => return self.fail(span, format!("'{complete}' is not a record type")),
                },
                _ => return self.fail(span, format!("'{complete}' is not a record type")),
            };
            let Some(field) = self.structs.field(&of, &name.name) else {
                let names = self.structs.field_names(&of);
                let near = skep_spec::nearest::did_you_mean(&name.name, names.iter().map(String::as_str));
                let text = format!("'{}' has no field named '{}'", of.name, name.name);
                return self.fail_with(name.span, text, near);
            };
            if field.bits.is_some() {
                return self.fail(name.span, format!("'{}' is a bit-field, which has no offset", name.name));
            }
            off = off.saturating_add(field.off);
            ty = field.ty;
        }
        Some(off)
    }

    /// `container_of(p, struct x, member)`
    pub(super) fn call_container_of(&mut self, call: &Call<'_>) -> Elaborated {
        let pointer = self.address_arg(call, 0);
        let ty = match &call.args[1] {
            ast::Arg::Type(ty) => self.type_of(ty),
            ast::Arg::Expr(expr) => match &expr.kind {
                ast::ExprKind::Ident(name) => match self.structs.type_name(name) {
                    Some(ty) => Some(ty),
                    None => self.fail(expr.span, format!("Cannot resolve unknown type \"{name}\"")),
                },
                _ => self.expr(expr).map(|value| value.ty),
            },
        };
        let mut path = Vec::new();
        let named = call.expr(2).is_some_and(|arg| member_path(arg, &mut path));
        if !named {
            return self.fail(call.arg_span(2), "container_of() expects the name of a member as its third argument");
        }
        let (pointer, ty) = (pointer?, ty?);
        let ty = match &ty {
            Type::Pointer { to, .. } => (**to).clone(),
            _ => ty,
        };
        let off = self.offset_of(ty.clone(), &path, call.span)?;
        let to = super::infer::pointer(ty, self.space_of(&pointer.ty));
        if off == 0 {
            return Some(Expr { kind: ExprKind::Cast(Box::new(pointer)), ty: to, span: call.span });
        }
        let back = Expr { kind: ExprKind::Const(-i64::from(off)), ty: Type::I64, span: call.span };
        let moved = self.pointer_plus(pointer, back, 1, call.span);
        Some(Expr { ty: to, ..moved })
    }

    /// `typeinfo(e)`: a record of names.
    pub(super) fn typeinfo(&mut self, of: &ast::TypeOrExpr, span: Span) -> Elaborated {
        self.unstable("unstable_typeinfo", span)?;
        let ty = self.type_or_expr(of)?;
        let id = self.btf_id(&ty);
        let base = match &ty {
            Type::Int { .. } => "int",
            other => kind_word(other),
        };
        let elems = vec![
            self.integer(i128::from(id), span),
            self.text(base.as_bytes(), span)?,
            self.text(ty.to_string().as_bytes(), span)?,
        ];
        let names = ["btf_id", "base_type", "full_type"].map(str::to_owned);
        let ty = Type::Record(names.into_iter().zip(elems.iter().map(|elem| elem.ty.clone())).collect());
        Some(Expr { kind: ExprKind::Tuple(elems), ty, span })
    }

    /// Number of a struct in the machine's types; 0 for everything else.
    fn btf_id(&self, ty: &Type) -> u32 {
        let Type::Struct(of) = ty else { return 0 };
        let (kind, name) = match of.name.split_once(' ') {
            Some(("union", name)) => (Kind::UNION, name),
            Some((_, name)) => (Kind::STRUCT, name),
            None => (Kind::STRUCT, &*of.name),
        };
        self.target.btf().ok().flatten().and_then(|btf| btf.find(name, kind)).map_or(0, |id| id.0)
    }

    /// `is_str(e)` and its like.
    pub(super) fn call_predicate(&mut self, call: &Call<'_>) -> Elaborated {
        let value = self.arg(call, 0)?;
        let holds = match call.name {
            "is_str" => matches!(value.ty, Type::String { .. }),
            "is_ptr" => matches!(value.ty, Type::Pointer { .. }),
            "is_array" => matches!(value.ty, Type::Array { .. }),
            "is_integer" => matches!(value.ty, Type::Int { .. } | Type::Enum(_)),
            "is_unsigned_integer" => match self.shape_of(&value) {
                shape if shape.range().is_some() => false,
                shape => shape.ty.is_integer() && !shape.ty.is_signed(),
            },
            _ => is_constant(&value),
        };
        Some(self.boolean(holds, call.span))
    }

    /// `static_assert(condition, message)`
    pub(super) fn call_static_assert(&mut self, call: &Call<'_>) -> Elaborated {
        let value = self.arg(call, 0)?;
        let message = match call.args.len() {
            2 => self.literal_text(call, 1)?,
            _ => "static assertion failed".to_owned(),
        };
        match self.folded(&value) {
            Some(0) => self.fail(call.span, message),
            Some(_) => Some(self.effect(Vec::new(), call.span)),
            None => self.fail(call.arg_span(0), "Unable to evaluate at compile time"),
        }
    }

    /// `fail("message %s", "...")`: an error where a branch was not pruned.
    pub(super) fn call_fail(&mut self, call: &Call<'_>) -> Elaborated {
        if call.args.is_empty() {
            return self.fail(call.span, "fail()");
        }
        let text = self.literal_bytes(call, 0)?;
        let format = match format::parse(&text) {
            Ok(format) => format,
            Err(problem) => return self.fail(call.arg_span(0), format!("fail: {problem}")),
        };
        let mut values = (1..call.args.len()).collect::<Vec<_>>().into_iter();
        let mut message = String::new();
        for part in &format.parts {
            match part {
                Part::Text(text) => message.push_str(&String::from_utf8_lossy(text)),
                Part::Conversion(_) => {
                    let Some(at) = values.next() else { continue };
                    let value = self.arg(call, at)?;
                    match (self.const_text(&value), self.folded(&value)) {
                        (Some(text), _) => message.push_str(&text),
                        (None, Some(number)) => message.push_str(&number.to_string()),
                        (None, None) => return self.fail(call.arg_span(at), "fail() expects literals"),
                    }
                }
            }
        }
        self.fail(call.span, message)
    }

    /// `kfunc_exist("name")`, `kfunc_allowed("name")`
    pub(super) fn call_kfunc(&mut self, call: &Call<'_>) -> Elaborated {
        let name = self.literal_text(call, 0)?;
        let btf = match self.target.btf() {
            Ok(btf) => btf,
            Err(error) => {
                let text = format!("the kernel's types cannot be read: {error}");
                self.diagnostics.push(Diagnostic::warning(call.span, text));
                None
            }
        };
        let exists = btf.is_some_and(|btf| btf.find(&name, Kind::FUNC).is_some());
        // Which programs may call it is the kernel's business when it loads them.
        Some(self.boolean(exists, call.span))
    }
}

/// `a`, `a.b`
fn member_path(expr: &ast::Expr, path: &mut Vec<ast::Ident>) -> bool {
    match &expr.kind {
        ast::ExprKind::Ident(name) => path.push(ast::Ident { name: name.clone(), span: expr.span }),
        ast::ExprKind::Field { base, name, .. } => {
            if !member_path(base, path) {
                return false;
            }
            path.push(name.clone());
        }
        _ => return false,
    }
    true
}

/// A value that is known.
pub(super) fn is_constant(value: &Expr) -> bool {
    match &value.kind {
        ExprKind::Const(_) | ExprKind::Bytes(_) => true,
        ExprKind::Tuple(elems) => elems.iter().all(is_constant),
        ExprKind::Cast(inner) => is_constant(inner),
        _ => false,
    }
}
