//! Blocks and statements.

use super::doc::Doc;
use super::{Formatter, INDENT};
use crate::ast::{Block, If, Stmt, StmtKind};

impl Formatter<'_> {
    /// `head` and a space; or, when there is a comment inside, the text between `from` and `to`, where a `{` is.
    pub(super) fn header(&mut self, from: usize, to: usize, head: Doc) -> Doc {
        if !self.has_comment(from, to) {
            return Doc::Concat(vec![head, Doc::text(" ")]);
        }
        self.skip_comments(to);
        let text = self.between(from, to).trim_end();
        // What ends with a line comment would make one of the brace too.
        let line_comment = self.script.comments[..self.next_comment]
            .last()
            .is_some_and(|last| last.range().end == from + text.len() && self.source(*last).starts_with("//"));
        Doc::Concat(vec![Doc::text(text), if line_comment { Doc::Hard } else { Doc::text(" ") }])
    }

    /// `{ ... }` over several lines; `{}` when there is nothing inside.
    pub(super) fn block(&mut self, block: &Block) -> Doc {
        let range = block.span.range();
        let mut inside = Vec::new();
        let mut end = self.trailing(range.start + 1, &mut inside);
        let mut first = true;
        for stmt in &block.stmts {
            let place = stmt.span.range();
            end = self.leading(end, place.start, &mut first, &mut inside);
            self.new_line(end, place.start, &mut first, &mut inside);
            let doc = self.stmt(stmt);
            inside.push(doc);
            end = self.trailing(place.end, &mut inside);
        }
        if let Some(tail) = &block.tail {
            // A group's parentheses are not in its span.
            let place = tail.span.range();
            end = self.leading(end, place.start, &mut first, &mut inside);
            self.new_line(end, place.start, &mut first, &mut inside);
            if self.has_comment(place.start, place.end) {
                self.skip_comments(place.end);
                let (open, close) = self.parens(tail);
                inside.push(Doc::text(format!("{open}{}{close}", self.source(tail.span))));
            } else {
                let doc = self.expr(tail);
                inside.push(doc);
            }
            end = self.trailing(place.end, &mut inside);
        }
        self.leading(end, range.end.saturating_sub(1), &mut first, &mut inside);
        if inside.is_empty() {
            return Doc::text("{}");
        }
        Doc::Concat(vec![Doc::text("{"), Doc::nest(INDENT, inside), Doc::Hard, Doc::text("}")])
    }

    fn stmt(&mut self, stmt: &Stmt) -> Doc {
        let range = stmt.span.range();
        let word = |word: &str| Doc::text(word);
        match &stmt.kind {
            StmtKind::If(branch) => self.branches(range.start, branch),
            StmtKind::While { cond, body } => {
                let head = Doc::Concat(vec![word("while "), self.expr(cond)]);
                let head = self.header(range.start, body.span.range().start, head);
                Doc::Concat(vec![head, self.block(body)])
            }
            StmtKind::Unroll { count, body } => {
                let head = Doc::Concat(vec![word("unroll "), self.expr(count)]);
                let head = self.header(range.start, body.span.range().start, head);
                Doc::Concat(vec![head, self.block(body)])
            }
            StmtKind::ForMap { var, map, body } => {
                let head = Doc::text(format!("for ({} : {})", var.name, map.name));
                let head = self.header(range.start, body.span.range().start, head);
                Doc::Concat(vec![head, self.block(body)])
            }
            StmtKind::ForRange { var, start, end, body } => {
                let head = vec![
                    Doc::text(format!("for ({} : ", var.name)),
                    self.expr(start),
                    word(".."),
                    self.expr(end),
                    word(")"),
                ];
                let head = self.header(range.start, body.span.range().start, Doc::Concat(head));
                Doc::Concat(vec![head, self.block(body)])
            }
            StmtKind::Block(block) => self.block(block),
            _ if self.has_comment(range.start, range.end) => {
                self.skip_comments(range.end);
                Doc::text(format!("{};", self.source(stmt.span)))
            }
            StmtKind::Let { var, ty, value } => {
                let mut parts = vec![Doc::text(format!("let {}", var.name))];
                if let Some(ty) = ty {
                    parts.extend([word(": "), self.ty(ty)]);
                }
                if let Some(value) = value {
                    parts.extend([word(" = "), self.expr(value)]);
                }
                parts.push(word(";"));
                Doc::Concat(parts)
            }
            StmtKind::Assign { target, op, value } => {
                let sign = format!(" {}= ", op.map_or("", |op| op.symbol()));
                Doc::Concat(vec![self.expr(target), Doc::text(sign), self.expr(value), word(";")])
            }
            StmtKind::Expr(expr) => Doc::Concat(vec![self.expr(expr), word(";")]),
            StmtKind::Break => word("break;"),
            StmtKind::Continue => word("continue;"),
            StmtKind::Return(None) => word("return;"),
            StmtKind::Return(Some(value)) => Doc::Concat(vec![word("return "), self.expr(value), word(";")]),
            StmtKind::Import(import) => {
                let path = self.source(import.span).trim_start_matches("import").trim();
                Doc::text(format!("import {path};"))
            }
        }
    }

    /// `if ... else if ... else ...`, at `start`.
    pub(super) fn branches(&mut self, start: usize, branch: &If) -> Doc {
        let word = if branch.comptime { "if comptime " } else { "if " };
        let head = Doc::Concat(vec![Doc::text(word), self.expr(&branch.cond)]);
        let head = self.header(start, branch.then.span.range().start, head);
        let mut parts = vec![head, self.block(&branch.then)];
        if let Some(otherwise) = &branch.otherwise {
            parts.push(Doc::text(" else "));
            parts.push(self.otherwise(otherwise));
        }
        Doc::Concat(parts)
    }

    /// What stands behind `else`: a block, or the next `if`.
    pub(super) fn otherwise(&mut self, block: &Block) -> Doc {
        let inner = match (block.stmts.as_slice(), &block.tail) {
            _ if self.source(block.span).starts_with('{') => None,
            ([Stmt { kind: StmtKind::If(inner), .. }], None) => Some(inner),
            ([], Some(tail)) => match &tail.kind {
                crate::ast::ExprKind::If(inner) => Some(inner),
                _ => None,
            },
            _ => None,
        };
        match inner {
            Some(inner) => self.branches(block.span.range().start, inner),
            None => self.block(block),
        }
    }
}
