//! How a body uses its variables: which need to be zero at the start, and which are reached from callbacks.

use crate::typed::{Action, Body, Expr, ExprKind, Stmt, StmtKind, VarRef};

/// What is known about a body.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// It has loops.
    pub(crate) has_loops: bool,
    /// Each of its variables.
    pub(crate) vars: Vec<Use>,
}

/// What is known about a variable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// Something mentions it.
    pub(crate) used: bool,
    /// The body of a loop, or a condition of `while`, mentions it.
    pub(crate) in_loop: bool,
    /// It may be read before it was assigned.
    pub(crate) zeroed: bool,
}

/// Looks at a body.
pub(crate) fn of(body: &Body) -> Uses {
    let mut uses = Uses { has_loops: false, vars: vec![Use::default(); body.vars.len()] };
    let mut walk = Walk { uses: &mut uses, loops: 0 };
    walk.stmts(&body.stmts);
    for (at, known) in uses.vars.iter_mut().enumerate() {
        known.zeroed = known.used && !assigned_first(&body.stmts, VarRef(at as u32));
    }
    uses
}

/// Whether every mention of `var` in `stmts` comes after an assignment that is always made: the first statement that mentions
/// it assigns it, or is the only one and holds a list of which the same is true.
fn assigned_first(stmts: &[Stmt], var: VarRef) -> bool {
    let mut mentioning = stmts.iter().filter(|stmt| stmt_mentions(stmt, var));
    let Some(first) = mentioning.next() else { return true };
    let only = mentioning.next().is_none();
    match &first.kind {
        StmtKind::SetVar(to, value) => *to == var && !expr_mentions(value, var),
        StmtKind::ForRange { var: own, start, end, .. } if *own == var => {
            !expr_mentions(start, var) && !expr_mentions(end, var)
        }
        StmtKind::ForMap { var: own, .. } if *own == var => true,
        StmtKind::Block(inner) => assigned_first(inner, var),
        StmtKind::If(cond, yes, no) => {
            let both = only || (always_assigns(yes, var) && always_assigns(no, var));
            both && !expr_mentions(cond, var) && assigned_first(yes, var) && assigned_first(no, var)
        }
        StmtKind::While(cond, inner) => only && !expr_mentions(cond, var) && assigned_first(inner, var),
        StmtKind::ForRange { start, end, body, .. } => {
            only && !expr_mentions(start, var) && !expr_mentions(end, var) && assigned_first(body, var)
        }
        StmtKind::ForMap { body, .. } => only && assigned_first(body, var),
        _ => false,
    }
}

fn always_assigns(stmts: &[Stmt], var: VarRef) -> bool {
    stmts.iter().any(|stmt| match &stmt.kind {
        StmtKind::SetVar(to, _) => *to == var,
        StmtKind::Block(inner) => always_assigns(inner, var),
        StmtKind::If(_, yes, no) => always_assigns(yes, var) && always_assigns(no, var),
        _ => false,
    })
}

fn stmt_mentions(stmt: &Stmt, var: VarRef) -> bool {
    let mut found = false;
    visit_stmt(stmt, &mut |it, _| found |= it == var, &mut |_| ());
    found
}

fn expr_mentions(expr: &Expr, var: VarRef) -> bool {
    let mut found = false;
    visit_expr(expr, &mut |it, _| found |= it == var, &mut |_| ());
    found
}

struct Walk<'a> {
    uses: &'a mut Uses,
    loops: u32,
}

impl Walk<'_> {
    fn stmts(&mut self, stmts: &[Stmt]) {
        for stmt in stmts {
            let (uses, loops) = (&mut *self.uses, std::cell::Cell::new(self.loops));
            let vars = &mut uses.vars;
            let has_loops = &mut uses.has_loops;
            visit_stmt(
                stmt,
                &mut |var, inside| {
                    if let Some(known) = vars.get_mut(var.0 as usize) {
                        known.used = true;
                        known.in_loop |= inside;
                    }
                },
                &mut |enter| {
                    loops.set(if enter { loops.get() + 1 } else { loops.get() - 1 });
                    *has_loops = true;
                },
            );
        }
    }
}

/// Whether running an expression changes something, so that it must run even when nobody wants its value.
pub(crate) fn has_effect(expr: &Expr) -> bool {
    let own = matches!(
        expr.kind,
        ExprKind::MapDelete { .. }
            | ExprKind::MapFind { .. }
            | ExprKind::MapStep { .. }
            | ExprKind::Block(..)
            | ExprKind::CallFunction(..)
            | ExprKind::Call(
                crate::typed::Call::Signal { .. }
                    | crate::typed::Call::Override
                    | crate::typed::Call::WriteUser
                    | crate::typed::Call::SkbOutput { .. },
                _
            )
    );
    let mut inner = false;
    children(expr, &mut |child| inner |= has_effect(child));
    own || inner
}

/// Whether something is true of some expression in these statements.
pub(crate) fn any_expr(stmts: &[Stmt], is_it: &mut dyn FnMut(&Expr) -> bool) -> bool {
    fn in_expr(expr: &Expr, is_it: &mut dyn FnMut(&Expr) -> bool) -> bool {
        let mut found = is_it(expr);
        if let ExprKind::Block(stmts, _) = &expr.kind {
            found |= any_expr(stmts, is_it);
        }
        children(expr, &mut |child| found |= in_expr(child, is_it));
        found
    }
    let mut found = false;
    for stmt in stmts {
        stmt_exprs(stmt, &mut |expr| found |= in_expr(expr, is_it));
        match &stmt.kind {
            StmtKind::If(_, yes, no) => found |= any_expr(yes, is_it) || any_expr(no, is_it),
            StmtKind::While(_, body)
            | StmtKind::ForRange { body, .. }
            | StmtKind::ForMap { body, .. }
            | StmtKind::Block(body) => found |= any_expr(body, is_it),
            _ => {}
        }
    }
    found
}

type OnVar<'f> = &'f mut dyn FnMut(VarRef, bool);
type OnLoop<'f> = &'f mut dyn FnMut(bool);

fn visit_stmt(stmt: &Stmt, on_var: OnVar<'_>, on_loop: OnLoop<'_>) {
    visit_stmt_in(stmt, false, on_var, on_loop);
}

fn visit_expr(expr: &Expr, on_var: OnVar<'_>, on_loop: OnLoop<'_>) {
    visit_expr_in(expr, false, on_var, on_loop);
}

fn visit_stmt_in(stmt: &Stmt, inside: bool, on_var: OnVar<'_>, on_loop: OnLoop<'_>) {
    match &stmt.kind {
        StmtKind::SetVar(var, _) => on_var(*var, inside),
        StmtKind::While(cond, body) => {
            on_loop(true);
            visit_expr_in(cond, true, on_var, on_loop);
            body.iter().for_each(|stmt| visit_stmt_in(stmt, true, on_var, on_loop));
            on_loop(false);
            return;
        }
        StmtKind::ForRange { var, start, end, body } => {
            visit_expr_in(start, inside, on_var, on_loop);
            visit_expr_in(end, inside, on_var, on_loop);
            on_loop(true);
            on_var(*var, true);
            body.iter().for_each(|stmt| visit_stmt_in(stmt, true, on_var, on_loop));
            on_loop(false);
            return;
        }
        StmtKind::ForMap { var, body, .. } => {
            on_loop(true);
            on_var(*var, true);
            body.iter().for_each(|stmt| visit_stmt_in(stmt, true, on_var, on_loop));
            on_loop(false);
            return;
        }
        _ => {}
    }
    stmt_exprs(stmt, &mut |expr| visit_expr_in(expr, inside, on_var, on_loop));
    match &stmt.kind {
        StmtKind::If(_, yes, no) => {
            yes.iter().chain(no).for_each(|stmt| visit_stmt_in(stmt, inside, on_var, on_loop));
        }
        StmtKind::Block(body) => body.iter().for_each(|stmt| visit_stmt_in(stmt, inside, on_var, on_loop)),
        _ => {}
    }
}

fn visit_expr_in(expr: &Expr, inside: bool, on_var: OnVar<'_>, on_loop: OnLoop<'_>) {
    match &expr.kind {
        ExprKind::Var(var) | ExprKind::AddrOfVar(var) | ExprKind::MapFind { var, .. } => on_var(*var, inside),
        ExprKind::Block(stmts, _) => stmts.iter().for_each(|stmt| visit_stmt_in(stmt, inside, on_var, on_loop)),
        _ => {}
    }
    children(expr, &mut |child| visit_expr_in(child, inside, on_var, on_loop));
}

/// The expressions of a statement, without those of the statements in it.
fn stmt_exprs(stmt: &Stmt, each: &mut dyn FnMut(&Expr)) {
    match &stmt.kind {
        StmtKind::SetVar(_, value) | StmtKind::Expr(value) | StmtKind::If(value, ..) | StmtKind::While(value, _) => {
            each(value);
        }
        StmtKind::SetMap { key, value, .. } | StmtKind::AddMap { key, value, .. } => {
            key.iter().for_each(&mut *each);
            each(value);
        }
        StmtKind::Aggregate { key, value, time, .. } => {
            key.iter().chain(value).chain(time).for_each(each);
        }
        StmtKind::Delete { key, .. } => key.iter().for_each(each),
        StmtKind::ForRange { start, end, .. } => {
            each(start);
            each(end);
        }
        StmtKind::Return(value) => value.iter().for_each(each),
        StmtKind::Action(action) => match action {
            Action::Format { args, .. } => args.iter().for_each(each),
            Action::PrintValue(e) | Action::Exit(e) | Action::Unwatch(e) | Action::PrintMapElement { key: e, .. } => {
                each(e);
            }
            Action::Join { argv, .. } => each(argv),
            Action::PrintMap { .. }
            | Action::Clear(_)
            | Action::Zero(_)
            | Action::Time(_)
            | Action::RuntimeError { .. } => {}
        },
        StmtKind::ForMap { .. } | StmtKind::Break | StmtKind::Continue | StmtKind::Block(_) => {}
    }
}

/// The expressions directly inside one.
pub(crate) fn children(expr: &Expr, each: &mut dyn FnMut(&Expr)) {
    match &expr.kind {
        ExprKind::MapGet { key, .. }
        | ExprKind::MapFind { key, .. }
        | ExprKind::MapDelete { key, .. }
        | ExprKind::MapStep { key, .. }
        | ExprKind::AddrOfMap { key, .. } => key.iter().for_each(|key| each(key)),
        ExprKind::MapHas { key: a, .. }
        | ExprKind::Block(_, a)
        | ExprKind::Unary(_, a)
        | ExprKind::Not(a)
        | ExprKind::Cast(a)
        | ExprKind::Deref { pointer: a, .. }
        | ExprKind::Field { base: a, .. } => each(a),
        ExprKind::Binary(_, a, b)
        | ExprKind::PointerAdd { pointer: a, index: b, .. }
        | ExprKind::Compare(_, a, b)
        | ExprKind::StringEq { a, b, .. }
        | ExprKind::MemoryEq { a, b, .. }
        | ExprKind::And(a, b)
        | ExprKind::Or(a, b)
        | ExprKind::Index { base: a, index: b } => {
            each(a);
            each(b);
        }
        ExprKind::Ternary(c, a, b) => {
            each(c);
            each(a);
            each(b);
        }
        ExprKind::Tuple(all) | ExprKind::Call(_, all) | ExprKind::CallFunction(_, all) => all.iter().for_each(each),
        ExprKind::Const(_)
        | ExprKind::Bytes(_)
        | ExprKind::Var(_)
        | ExprKind::MapLen(_)
        | ExprKind::AddrOfVar(_)
        | ExprKind::Context
        | ExprKind::ContextField { .. }
        | ExprKind::DataLoc { .. }
        | ExprKind::Argument(_)
        | ExprKind::ReturnValue { .. }
        | ExprKind::Register(_)
        | ExprKind::Builtin(_) => {}
    }
}
