//! Walks a tree of what was written, to change it.

use crate::Span;
use crate::ast::{Arg, Block, Expr, ExprKind, Ident, If, Item, Stmt, StmtKind, TypeExpr, TypeKind, TypeOrExpr};

/// Changes a tree. Each method is given one node; the default goes on to the nodes inside, and an own method does so by
/// calling the function of the same name in this module.
pub trait Walk {
    /// A block.
    fn block(&mut self, node: &mut Block) {
        block(self, node);
    }

    /// A statement.
    fn stmt(&mut self, node: &mut Stmt) {
        stmt(self, node);
    }

    /// An expression.
    fn expr(&mut self, node: &mut Expr) {
        expr(self, node);
    }

    /// A type.
    fn ty(&mut self, node: &mut TypeExpr) {
        ty(self, node);
    }

    /// A type or an expression.
    fn type_or_expr(&mut self, node: &mut TypeOrExpr) {
        type_or_expr(self, node);
    }

    /// A variable or a map that is named outside of expressions: declared, or gone over by a loop.
    fn name(&mut self, _: &mut Ident) {}

    /// The place of any node.
    fn span(&mut self, _: &mut Span) {}
}

/// Goes through an item. Names of macros and attach points are not visited.
pub fn item<W: Walk + ?Sized>(walk: &mut W, node: &mut Item) {
    match node {
        Item::Import(_) => {}
        Item::Probe(probe) => {
            if let Some(predicate) = &mut probe.predicate {
                walk.expr(predicate);
            }
            walk.block(&mut probe.body);
        }
        Item::Macro(definition) => walk.block(&mut definition.body),
        Item::MapDecl(declaration) => {
            walk.name(&mut declaration.map);
            walk.expr(&mut declaration.size);
        }
        Item::Function(function) => {
            for (name, kind) in &mut function.params {
                walk.name(name);
                walk.ty(kind);
            }
            walk.ty(&mut function.ret);
            walk.block(&mut function.body);
        }
    }
}

/// Goes through a block.
pub fn block<W: Walk + ?Sized>(walk: &mut W, node: &mut Block) {
    walk.span(&mut node.span);
    node.stmts.iter_mut().for_each(|inner| walk.stmt(inner));
    if let Some(tail) = &mut node.tail {
        walk.expr(tail);
    }
}

/// Goes through a statement.
pub fn stmt<W: Walk + ?Sized>(walk: &mut W, node: &mut Stmt) {
    walk.span(&mut node.span);
    match &mut node.kind {
        StmtKind::Let { var, ty, value } => {
            ident(walk, var);
            if let Some(ty) = ty {
                walk.ty(ty);
            }
            if let Some(value) = value {
                walk.expr(value);
            }
        }
        StmtKind::Assign { target, value, .. } => {
            walk.expr(target);
            walk.expr(value);
        }
        StmtKind::Expr(inner) => walk.expr(inner),
        StmtKind::If(inner) => branches(walk, inner),
        StmtKind::While { cond, body } | StmtKind::Unroll { count: cond, body } => {
            walk.expr(cond);
            walk.block(body);
        }
        StmtKind::ForMap { var, map, body } => {
            ident(walk, var);
            ident(walk, map);
            walk.block(body);
        }
        StmtKind::ForRange { var, start, end, body } => {
            ident(walk, var);
            walk.expr(start);
            walk.expr(end);
            walk.block(body);
        }
        StmtKind::Return(Some(value)) => walk.expr(value),
        StmtKind::Block(inner) => walk.block(inner),
        StmtKind::Import(import) => walk.span(&mut import.span),
        StmtKind::Break | StmtKind::Continue | StmtKind::Return(None) => {}
    }
}

fn ident<W: Walk + ?Sized>(walk: &mut W, node: &mut Ident) {
    walk.span(&mut node.span);
    walk.name(node);
}

fn branches<W: Walk + ?Sized>(walk: &mut W, node: &mut If) {
    walk.expr(&mut node.cond);
    walk.block(&mut node.then);
    if let Some(otherwise) = &mut node.otherwise {
        walk.block(otherwise);
    }
}

/// Goes through an expression.
pub fn expr<W: Walk + ?Sized>(walk: &mut W, node: &mut Expr) {
    walk.span(&mut node.span);
    match &mut node.kind {
        ExprKind::MapElement { map, keys } => {
            ident(walk, map);
            keys.iter_mut().for_each(|key| walk.expr(key));
        }
        ExprKind::Call { name, args } => {
            walk.span(&mut name.span);
            for arg in args {
                match arg {
                    Arg::Expr(inner) => walk.expr(inner),
                    Arg::Type(inner) => walk.ty(inner),
                }
            }
        }
        ExprKind::Unary(_, inner) | ExprKind::Step { target: inner, .. } | ExprKind::Comptime(inner) => {
            walk.expr(inner)
        }
        ExprKind::Binary(_, left, right) | ExprKind::Index(left, right) => {
            walk.expr(left);
            walk.expr(right);
        }
        ExprKind::Ternary(cond, then, otherwise) => {
            walk.expr(cond);
            if let Some(then) = then {
                walk.expr(then);
            }
            walk.expr(otherwise);
        }
        ExprKind::If(inner) => branches(walk, inner),
        ExprKind::Block(inner) => walk.block(inner),
        ExprKind::Field { base, name, .. } => {
            walk.expr(base);
            walk.span(&mut name.span);
        }
        ExprKind::Cast(kind, inner) => {
            walk.ty(kind);
            walk.expr(inner);
        }
        ExprKind::Tuple(elements) => elements.iter_mut().for_each(|element| walk.expr(element)),
        ExprKind::Record(fields) => {
            for (name, value) in fields {
                walk.span(&mut name.span);
                walk.expr(value);
            }
        }
        ExprKind::Sizeof(inner) | ExprKind::Typeinfo(inner) => walk.type_or_expr(inner),
        ExprKind::Offsetof(inner, path) => {
            walk.type_or_expr(inner);
            path.iter_mut().for_each(|name| walk.span(&mut name.span));
        }
        ExprKind::Int { .. }
        | ExprKind::Bool(_)
        | ExprKind::Str(_)
        | ExprKind::Param(_)
        | ExprKind::ParamCount
        | ExprKind::Ident(_)
        | ExprKind::Var(_)
        | ExprKind::Map(_)
        | ExprKind::Discard
        | ExprKind::Error => {}
    }
}

/// Goes through a type.
pub fn ty<W: Walk + ?Sized>(walk: &mut W, node: &mut TypeExpr) {
    walk.span(&mut node.span);
    match &mut node.kind {
        TypeKind::Name(_) | TypeKind::Tagged { .. } => {}
        TypeKind::Sized(_, size) => walk.expr(size),
        TypeKind::Pointer(inner) => walk.ty(inner),
        TypeKind::Array(inner, size) => {
            walk.ty(inner);
            walk.expr(size);
        }
        TypeKind::Tuple(elements) => elements.iter_mut().for_each(|element| walk.ty(element)),
        TypeKind::Typeof(inner) => walk.type_or_expr(inner),
    }
}

/// Goes through a type or an expression.
pub fn type_or_expr<W: Walk + ?Sized>(walk: &mut W, node: &mut TypeOrExpr) {
    match node {
        TypeOrExpr::Type(inner) => walk.ty(inner),
        TypeOrExpr::Expr(inner) => walk.expr(inner),
    }
}
