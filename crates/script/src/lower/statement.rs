//! Statements.

use super::place::{Body, Kind, Loop, Place};
use super::uses::has_effect;
use crate::ir::Value;
use crate::typed::{Context, Expr, ExprKind, MapRef, Stmt, StmtKind, VarRef};

impl<'a> Body<'_, 'a> {
    /// The statements of a program: scratch is taken before the first that needs it.
    pub(crate) fn top_statements(&mut self, stmts: &'a [Stmt]) {
        for stmt in stmts {
            self.with_scratch(|this| this.statement(stmt));
        }
    }

    /// Statements in something.
    pub(crate) fn statements(&mut self, stmts: &'a [Stmt]) {
        for stmt in stmts {
            self.statement(stmt);
        }
    }

    fn statement(&mut self, stmt: &'a Stmt) {
        let span = self.f.span();
        self.f.set_span(stmt.span);
        let mark = self.mark();
        self.statement_at(stmt);
        self.release(mark);
        self.f.set_span(span);
    }

    fn statement_at(&mut self, stmt: &'a Stmt) {
        match &stmt.kind {
            StmtKind::SetVar(var, value) => self.set_var(*var, value),
            StmtKind::SetMap { map, key, value } => self.set_map(*map, key.as_ref(), value),
            StmtKind::AddMap { map, key, value } => self.add_map(*map, key.as_ref(), value),
            StmtKind::Aggregate { map, key, value, time } => {
                self.aggregate(*map, key.as_ref(), value.as_ref(), time.as_ref());
            }
            StmtKind::Delete { map, key, warn } => self.delete_statement(*map, key.as_ref(), *warn),
            StmtKind::Expr(value) => self.effect(value),
            StmtKind::If(cond, yes, no) => {
                let (then, otherwise, done) = (self.f.block(0), self.f.block(0), self.f.block(0));
                self.branch(cond, then, if no.is_empty() { done } else { otherwise });
                self.f.switch_to(then);
                self.statements(yes);
                self.f.jump(done, &[]);
                if !no.is_empty() {
                    self.f.switch_to(otherwise);
                    self.statements(no);
                    self.f.jump(done, &[]);
                }
                self.f.switch_to(done);
            }
            StmtKind::While(cond, body) => self.while_loop(cond, body),
            StmtKind::ForRange { var, start, end, body } => self.for_range(*var, start, end, body),
            StmtKind::ForMap { var, map, body } => self.for_map(*var, *map, body),
            StmtKind::Break if self.around == Loop::Callback => self.f.ret(1),
            StmtKind::Continue if self.around == Loop::Callback => self.f.ret(0),
            StmtKind::Break | StmtKind::Continue => {}
            StmtKind::Return(Some(value)) if matches!(self.kind, Kind::Function(function) if function.returns_in_memory()) =>
            {
                // The place for the result is the first argument, where a probe has its context.
                let result = self.context();
                self.into(value, Place { stack: true, ..Place::behind(result) }, true);
                self.return_(None);
            }
            StmtKind::Return(value) => {
                let counts = matches!(self.kind, Kind::Function(_)) || self.context_kind() == Context::Xdp;
                let value = match value {
                    Some(value) if counts && value.ty.is_scalar() => Some(self.scalar(value)),
                    Some(value) => {
                        self.effect(value);
                        None
                    }
                    None => None,
                };
                self.return_(value);
            }
            StmtKind::Action(action) => self.action(action, stmt.span),
            StmtKind::Block(stmts) => self.statements(stmts),
        }
    }

    fn set_var(&mut self, var: VarRef, value: &'a Expr) {
        if matches!(self.homes[var.0 as usize], super::place::Home::None) {
            return self.effect(value);
        }
        if value.ty.is_scalar() {
            let mut value = self.operand(value);
            if let super::place::Home::Frame(_) = self.homes[var.0 as usize] {
                value = self.forgotten(value).into();
            }
            let place = self.var_place(var);
            return self.store(place, 0, 8, value);
        }
        if matches!(&value.kind, ExprKind::Var(from) if *from == var) {
            return;
        }
        // A value that is made of the variable itself is made elsewhere first.
        let place = self.var_place(var);
        if reads(value, var) {
            let made = self.temporary(value.ty.size());
            self.into(value, made, false);
            let place = self.var_place(var);
            self.copy(made, place, value.ty.size());
        } else {
            self.into(value, place, false);
        }
    }

    /// An expression whose value nobody wants.
    pub(crate) fn effect(&mut self, e: &'a Expr) {
        match &e.kind {
            ExprKind::Block(stmts, value) => {
                self.statements(stmts);
                self.effect(value);
            }
            _ if !has_effect(e) => {}
            ExprKind::MapDelete { map, key } => {
                self.delete(*map, key.as_deref());
            }
            _ if e.ty.is_scalar() || e.ty.size() == 0 => {
                self.scalar(e);
            }
            _ => {
                let to = self.temporary(e.ty.size());
                self.into(e, to, false);
            }
        }
    }

    /// `find(@m, k, $v)`
    pub(crate) fn find(&mut self, map: MapRef, key: Option<&'a Expr>, var: VarRef) -> Value {
        let ty = self.value_type(map);
        if ty.is_aggregation() {
            let pointer = self.lookup(map, key);
            let (there, join) = (self.f.block(0), self.f.block(1));
            let zero = self.number(0);
            self.f.branch(skep_insn::Cond::Ne, skep_insn::Width::W64, pointer, 0, (there, &[]), (join, &[zero]));
            self.f.switch_to(there);
            let number = self.read_aggregation(map, key);
            let place = self.var_place(var);
            self.store(place, 0, 8, number);
            let one = self.number(1);
            self.f.jump(join, &[one]);
            self.f.switch_to(join);
            return self.f.param(join, 0);
        }
        let pointer = self.lookup(map, key);
        let (there, join) = (self.f.block(0), self.f.block(1));
        let zero = self.number(0);
        self.f.branch(skep_insn::Cond::Ne, skep_insn::Width::W64, pointer, 0, (there, &[]), (join, &[zero]));
        self.f.switch_to(there);
        if ty.is_scalar() {
            let value = self.load_scalar(Place::behind(pointer), ty);
            let place = self.var_place(var);
            self.store(place, 0, 8, value);
        } else {
            let place = self.var_place(var);
            self.copy(Place::behind(pointer), place, ty.size());
        }
        let one = self.number(1);
        self.f.jump(join, &[one]);
        self.f.switch_to(join);
        self.f.param(join, 0)
    }
}

/// Whether an expression reads a variable.
fn reads(e: &Expr, var: VarRef) -> bool {
    let own = match &e.kind {
        ExprKind::Var(it) | ExprKind::AddrOfVar(it) => *it == var,
        // Statements may do anything.
        ExprKind::Block(..) => true,
        _ => false,
    };
    let mut inner = false;
    super::uses::children(e, &mut |child| inner |= reads(child, var));
    own || inner
}
