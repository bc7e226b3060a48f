//! Types as written, to types.

use super::infer;
use super::{Checker, expr::size_of};
use crate::types::{Space, Type};
use crate::{Span, ast};
use skep_btf::Kind;

/// Most elements of an array, most bytes of a text.
const MOST: i128 = 1 << 20;

impl Checker<'_> {
    /// The type. `string` without a size has size 0: the caller knows what that means.
    pub(super) fn type_of(&mut self, ty: &ast::TypeExpr) -> Option<Type> {
        let found = self.type_inside(ty)?;
        if size_of(&found) > MOST as u64 {
            return self.fail(ty.span, format!("A value of type '{found}' is too big: {} bytes", size_of(&found)));
        }
        Some(found)
    }

    fn type_inside(&mut self, ty: &ast::TypeExpr) -> Option<Type> {
        match &ty.kind {
            ast::TypeKind::Name(name) => self.named_type(name, ty.span),
            ast::TypeKind::Tagged { tag, name } => self.tagged_type(*tag, name, ty.span),
            ast::TypeKind::Sized(word, count) => {
                let count = self.type_count(count)?;
                match word.as_str() {
                    "string" if count > 0 => Some(Type::String { size: count }),
                    "string" => self.fail(ty.span, "A string has room for its end at least: string[1]"),
                    "buffer" => Some(Type::Buffer { size: count }),
                    "inet" => Some(Type::Inet),
                    other => {
                        let elem = self.named_type(other, ty.span)?;
                        self.array_type(elem, count, ty.span)
                    }
                }
            }
            ast::TypeKind::Pointer(inner) => {
                let to = self.type_inside(inner)?;
                Some(infer::pointer(to, Space::None))
            }
            ast::TypeKind::Array(inner, count) => {
                let elem = self.type_inside(inner)?;
                let count = self.type_count(count)?;
                self.array_type(elem, count, ty.span)
            }
            ast::TypeKind::Tuple(types) => {
                let types: Vec<Option<Type>> = types.iter().map(|ty| self.type_inside(ty)).collect();
                let types: Vec<Type> = types.into_iter().collect::<Option<_>>()?;
                Some(infer::tuple(types))
            }
            ast::TypeKind::Typeof(of) => self.type_or_expr(of),
        }
    }

    fn array_type(&mut self, elem: Type, count: u32, span: Span) -> Option<Type> {
        if elem.size() == 0 {
            return self.fail(span, format!("There are no arrays of '{elem}'"));
        }
        Some(Type::Array { elem: elem.into(), count })
    }

    fn type_count(&mut self, count: &ast::Expr) -> Option<u32> {
        let value = self.expr(count)?;
        match self.folded(&value) {
            Some(count) if (0..=MOST).contains(&count) => Some(count as u32),
            Some(other) => self.fail(count.span, format!("The size {other} is not possible here, at most {MOST}")),
            None => self.fail(count.span, "The size of a type is an integer literal"),
        }
    }

    /// What `sizeof` and `typeof` take: of an expression only the type is of interest.
    pub(super) fn type_or_expr(&mut self, of: &ast::TypeOrExpr) -> Option<Type> {
        match of {
            ast::TypeOrExpr::Type(ast::TypeExpr { kind: ast::TypeKind::Name(name), span })
                if self.structs.type_name(name).is_none() && self.structs.constant(name).is_some() =>
            {
                // A constant of an enum: `sizeof(TCP_ESTABLISHED)`.
                let value = self.expr(&ast::Expr { kind: ast::ExprKind::Ident(name.clone()), span: *span })?;
                Some(self.shape_of(&value).ty)
            }
            ast::TypeOrExpr::Type(ty) => self.type_of(ty),
            ast::TypeOrExpr::Expr(expr) => {
                // A map's type is of interest even when it cannot be read.
                if let ast::ExprKind::Map(name) = &expr.kind {
                    let map = self.map(name, expr.span);
                    return self.map_value(map, expr.span);
                }
                let value = self.expr(expr)?;
                Some(self.shape_of(&value).ty)
            }
        }
    }

    fn named_type(&mut self, name: &str, span: Span) -> Option<Type> {
        let int = |size, signed| Some(infer::int(size, signed));
        match name {
            "int8" => int(1, true),
            "int16" => int(2, true),
            "int32" => int(4, true),
            "int64" => int(8, true),
            "uint8" => int(1, false),
            "uint16" => int(2, false),
            "uint32" => int(4, false),
            "uint64" => int(8, false),
            "bool" => Some(Type::Bool),
            "string" => Some(Type::String { size: 0 }),
            "buffer" => Some(Type::Buffer { size: self.config.max_strlen }),
            "inet" => Some(Type::Inet),
            "macaddr" | "mac_address" => Some(Type::Mac),
            "ksym_t" | "ksym" => Some(Type::Ksym),
            "usym_t" | "usym" => Some(Type::Usym),
            "void" => Some(Type::Void),
            "timestamp" => Some(Type::Timestamp),
            "cgroup_path_t" => Some(Type::CgroupPath),
            "count_t" => Some(Type::Count),
            "sum_t" => Some(Type::Sum { signed: true }),
            "usum_t" => Some(Type::Sum { signed: false }),
            "min_t" => Some(Type::Min { signed: true }),
            "umin_t" => Some(Type::Min { signed: false }),
            "max_t" => Some(Type::Max { signed: true }),
            "umax_t" => Some(Type::Max { signed: false }),
            "avg_t" => Some(Type::Avg { signed: true }),
            "uavg_t" => Some(Type::Avg { signed: false }),
            "stats_t" => Some(Type::Stats { signed: true }),
            "ustats_t" => Some(Type::Stats { signed: false }),
            _ => {
                if let Some(found) = self.structs.type_name(name) {
                    return Some(found);
                }
                if let Some(rest) = name.strip_prefix("struct ") {
                    return self.tagged_type(ast::Tag::Struct, rest.trim(), span);
                }
                let near = skep_spec::nearest::did_you_mean(name, NAMES.iter().copied()).or_else(|| {
                    self.structs.tagged(ast::Tag::Struct, name).map(|_| format!("did you mean `struct {name}`?"))
                });
                self.fail_with(span, format!("Cannot resolve unknown type \"{name}\""), near)
            }
        }
    }

    fn tagged_type(&mut self, tag: ast::Tag, name: &str, span: Span) -> Option<Type> {
        if let Some(found) = self.structs.tagged(tag, name) {
            return Some(found);
        }
        let (word, kind) = match tag {
            ast::Tag::Struct => ("struct", Kind::STRUCT),
            ast::Tag::Union => ("union", Kind::UNION),
            ast::Tag::Enum => ("enum", Kind::ENUM),
        };
        let text = match tag {
            ast::Tag::Enum => format!("Unknown enum: 'enum {name}'"),
            _ => format!("Unknown struct/union: '{word} {name}'"),
        };
        let near = if self.is_last() { self.near_types(name, word, kind) } else { None };
        self.fail_with(span, text, near)
    }

    /// Types of the machine with a similar name.
    fn near_types(&self, name: &str, word: &str, kind: Kind) -> Option<String> {
        let btf = self.target.btf().ok().flatten()?;
        let names: Vec<String> =
            btf.own_types().filter(|(_, ty)| ty.kind() == kind).map(|(_, ty)| ty.name().to_owned()).collect();
        let near = skep_spec::nearest::nearest(name, names.iter().map(String::as_str));
        let list: Vec<String> = near.iter().map(|name| format!("`{word} {name}`")).collect();
        (!list.is_empty()).then(|| format!("did you mean {}?", list.join(" or ")))
    }
}

/// The language's own names.
const NAMES: [&str; 16] = [
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool", "string", "buffer", "inet",
    "void", "ksym_t", "usym_t", "count_t",
];
