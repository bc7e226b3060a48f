//! Variables of a body, and the blocks that they belong to.

use std::collections::HashMap;

use super::infer::{self, Joined, Shape};
use super::{Checker, PATIENCE, address};
use crate::typed::{self, Expr, ExprKind, VarRef};
use crate::types::Type;
use crate::{Diagnostic, Span, ast};

/// The body that is being walked.
#[derive(Default)]
pub(super) struct Body {
    locals: Vec<Local>,
    scopes: Vec<HashMap<String, VarRef>>,
    /// Variables of blocks that were left.
    left: HashMap<String, (Span, Ends)>,
    /// Loops around this place.
    pub loops: u32,
    /// Loops of `for` around this place.
    pub for_loops: u32,
    /// What `return` gives: a subprogram's type.
    pub ret: Option<Type>,
    /// In a subprogram, which has no context.
    pub in_function: bool,
    /// A `return` was refused, so that nothing is to be said about its lack.
    pub bad_return: bool,
}

/// Why a variable ends with its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// It was only assigned there.
    Assigned,
    /// `let` declared it.
    Let,
    /// It counts a loop.
    Loop,
}

struct Local {
    name: String,
    /// Node that declares it; `None` for one that was made here.
    key: Option<usize>,
    span: Span,
    shape: Option<Shape>,
    /// Written with its type.
    declared: bool,
    /// Why it ends where it does.
    ends: Ends,
    assigned: bool,
    read: bool,
    /// What it was given is wrong, and told so.
    wrong: bool,
}

impl Checker<'_> {
    /// Starts a body.
    pub(super) fn open_body(&mut self) {
        self.body = Body::default();
        self.body.scopes.push(HashMap::new());
        let wide = self.wide.iter().filter(|((unit, _), _)| *unit == self.unit);
        let mut wide: Vec<_> = wide.map(|((_, name), &(node, span))| (node, name.clone(), span)).collect();
        wide.sort_unstable_by_key(|(node, ..)| std::cmp::Reverse(*node));
        for (node, name, span) in wide {
            self.declare_at(&name, node, span, None);
            let text =
                format!("{name} is used outside of the block that assigns it first, and so belongs to the whole probe");
            let hint = format!("declare it in front of the block, as newer bpftrace wants it: `let {name};`");
            self.diagnostics.push(Diagnostic::warning(span, text).with_hint(hint));
        }
    }

    /// Ends a body: its variables with their types.
    pub(super) fn close_body(&mut self) -> Vec<typed::Var> {
        let body = std::mem::take(&mut self.body);
        let mut vars = Vec::with_capacity(body.locals.len());
        for local in body.locals {
            if local.key.is_some() && !local.assigned && local.shape.is_none() {
                let text = format!("Variable {} was never assigned to.", local.name);
                self.diagnostics.push_late(Diagnostic::warning(local.span, text));
            }
            vars.push(typed::Var { name: local.name, ty: local.shape.map_or(Type::I64, |shape| shape.ty) });
        }
        vars
    }

    pub(super) fn open_scope(&mut self) {
        self.body.scopes.push(HashMap::new());
    }

    pub(super) fn close_scope(&mut self) {
        for (name, var) in self.body.scopes.pop().unwrap_or_default() {
            if let Some(local) = self.body.locals.get(var.0 as usize) {
                self.body.left.insert(name, (local.span, local.ends));
            }
        }
    }

    /// The variable of this name that is seen here.
    pub(super) fn find_var(&self, name: &str) -> Option<VarRef> {
        self.body.scopes.iter().rev().find_map(|scope| scope.get(name).copied())
    }

    /// A new variable in the innermost block. `declared` is a type that does not move.
    pub(super) fn declare_var(&mut self, name: &ast::Ident, declared: Option<Type>) -> VarRef {
        self.declare_at(&name.name, address(name), name.span, declared)
    }

    /// As [`Self::declare_var`], for a variable that an expression declares by assigning it.
    pub(super) fn declare_at(&mut self, name: &str, node: usize, span: Span, declared: Option<Type>) -> VarRef {
        let key = (self.unit, node);
        let is_declared = declared.is_some();
        let shape = match declared {
            Some(ty) => Some(Shape::fixed(ty)),
            None => self.vars.get(&key).cloned(),
        };
        let var = VarRef(self.body.locals.len() as u32);
        self.body.locals.push(Local {
            name: name.to_owned(),
            key: Some(node),
            span,
            shape,
            declared: is_declared,
            ends: Ends::Assigned,
            assigned: false,
            read: false,
            wrong: false,
        });
        if let Some(scope) = self.body.scopes.last_mut() {
            scope.insert(name.to_owned(), var);
        }
        var
    }

    /// A variable of the checker's own.
    pub(super) fn temp(&mut self, ty: Type) -> VarRef {
        let var = VarRef(self.body.locals.len() as u32);
        self.body.locals.push(Local {
            name: format!("$.{}", var.0),
            key: None,
            span: Span::default(),
            shape: Some(Shape::fixed(ty)),
            declared: true,
            ends: Ends::Assigned,
            assigned: true,
            read: true,
            wrong: false,
        });
        var
    }

    /// Notes that `let` declared the variable, so it ends with its block whatever follows.
    pub(super) fn declared_by_let(&mut self, var: VarRef) {
        if let Some(local) = self.body.locals.get_mut(var.0 as usize) {
            local.ends = Ends::Let;
        }
    }

    /// Notes that the variable counts a loop.
    pub(super) fn declared_by_loop(&mut self, var: VarRef) {
        if let Some(local) = self.body.locals.get_mut(var.0 as usize) {
            local.ends = Ends::Loop;
        }
    }

    /// Notes that what the variable was given is wrong, and told so.
    pub(super) fn given_wrong(&mut self, var: VarRef) {
        if let Some(local) = self.body.locals.get_mut(var.0 as usize) {
            local.wrong = true;
        }
    }

    /// Where the variable begins; `None` for one that was made here.
    pub(super) fn var_span(&self, var: VarRef) -> Option<Span> {
        self.body.locals.get(var.0 as usize).filter(|local| local.key.is_some()).map(|local| local.span)
    }

    /// The variable's value.
    pub(super) fn var_expr(&self, var: VarRef, span: Span) -> Option<Expr> {
        let shape = self.var_shape(var)?;
        Some(Expr { kind: ExprKind::Var(var), ty: shape.ty.clone(), span })
    }

    pub(super) fn var_shape(&self, var: VarRef) -> Option<&Shape> {
        self.body.locals.get(var.0 as usize)?.shape.as_ref()
    }

    pub(super) fn is_declared(&self, var: VarRef) -> bool {
        self.body.locals.get(var.0 as usize).is_some_and(|local| local.declared)
    }

    pub(super) fn var_name(&self, var: VarRef) -> String {
        self.body.locals.get(var.0 as usize).map(|local| local.name.clone()).unwrap_or_default()
    }

    /// A use of `$x`.
    pub(super) fn read_var(&mut self, name: &str, span: Span) -> Option<Expr> {
        let Some(var) = self.find_var(name) else {
            let mut diagnostic = Diagnostic::error(span, format!("Undefined or undeclared variable: {name}"));
            if let Some(&(first, ends)) = self.body.left.get(name) {
                // Up to bpftrace 0.21 a variable belonged to the whole probe, and many tools still rely on that.
                if !self.options.bpftrace && ends == Ends::Assigned && !self.diagnostics.speaking {
                    // No node of the tree lies there.
                    let node = usize::MAX - self.wide.len();
                    self.wide.insert((self.unit, name.to_owned()), (node, span));
                    self.changed = true;
                    return None;
                }
                diagnostic = match ends {
                    Ends::Loop => diagnostic
                        .with_label(first, "it ends with this loop")
                        .with_hint("keep it in a variable that begins in front of the loop"),
                    _ => diagnostic
                        .with_label(first, "the variable of this name ends with its block")
                        .with_hint(format!("declare it in front of the block: `let {name};`")),
                };
            } else {
                let names: Vec<&str> =
                    self.body.scopes.iter().flat_map(|scope| scope.keys()).map(String::as_str).collect();
                diagnostic.hints.extend(skep_spec::nearest::did_you_mean(name, names));
            }
            self.diagnostics.push(diagnostic);
            return None;
        };
        let settled = self.settled;
        let local = self.body.locals.get_mut(var.0 as usize)?;
        local.read = true;
        let unassigned = !local.assigned && !local.declared && local.shape.is_none();
        if unassigned && local.wrong {
            return self.follows();
        }
        if unassigned && settled {
            // Declared by `let $x;` and never given a value that has a type.
            self.body.locals[var.0 as usize].shape = Some(Shape::fixed(Type::I64));
        }
        self.var_expr(var, span)
    }

    /// Notes that `value` is stored into `var`.
    pub(super) fn assigned(&mut self, var: VarRef, value: &Shape, span: Span) {
        let (unit, limit) = (self.unit, self.config.max_strlen);
        let slow = self.walks > PATIENCE;
        let Some(local) = self.body.locals.get_mut(var.0 as usize) else { return };
        local.assigned = true;
        let Some(key) = local.key.filter(|_| !local.declared) else { return };
        let (joined, lossy) = match &local.shape {
            None => (value.clone(), false),
            Some(old) => match infer::join(old, value) {
                Joined::Shape(shape) => (shape, false),
                Joined::Lossy(shape) => (shape, true),
                Joined::Conflict => return,
            },
        };
        if lossy {
            let text = format!(
                "{} is given signed and unsigned integers: its type is 'int64', and the greatest unsigned ones do not fit",
                local.name
            );
            self.diagnostics.push(Diagnostic::warning(span, text));
            return self.store_var(var, (unit, key), joined);
        }
        let joined = if slow && local.shape.as_ref() != Some(&joined) {
            Shape { ty: infer::widen(&joined.ty, limit), ..joined }
        } else {
            joined
        };
        self.store_var(var, (unit, key), joined);
    }

    fn store_var(&mut self, var: VarRef, key: (u32, usize), shape: Shape) {
        if self.vars.get(&key) != Some(&shape) {
            self.vars.insert(key, shape.clone());
            self.changed = true;
        }
        if let Some(local) = self.body.locals.get_mut(var.0 as usize) {
            local.shape = Some(shape);
        }
    }
}
