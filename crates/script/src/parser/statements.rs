//! Blocks and statements.

use super::{Parsed, Parser};
use crate::Diagnostic;
use crate::ast::{BinaryOp, Block, Expr, ExprKind, Ident, If, Stmt, StmtKind};
use crate::lexer::{Kind, Punct};

impl Parser<'_> {
    /// `{ ... }`, whose tail is its last expression when no `;` stands behind it.
    pub(super) fn block(&mut self) -> Parsed<Block> {
        self.deeper(|parser| parser.in_brackets(Self::block_inside))
    }

    fn block_inside(&mut self) -> Parsed<Block> {
        let start = self.expect(Punct::LBrace)?.start;
        let mut block = Block::default();
        loop {
            while self.eat(Punct::Semi) {}
            match self.token.kind {
                Kind::Punct(Punct::RBrace) => break,
                Kind::Eof => return Err(self.unexpected("}")),
                _ => {}
            }
            let depth = self.depth;
            if self.statement(&mut block).is_err() {
                self.depth = depth;
                self.skip_statement();
            }
        }
        self.bump();
        block.span = self.since(start);
        Ok(block)
    }

    /// One statement with its `;`, or the value of the block.
    fn statement(&mut self, block: &mut Block) -> Parsed<()> {
        let start = self.token.start;
        let kind = self.statement_kind()?;
        let span = self.since(start);
        // What ends with a block needs no `;`, and is the value when it has one and nothing follows.
        let blocky = match &kind {
            StmtKind::If(_) | StmtKind::Block(_) => true,
            StmtKind::While { .. } | StmtKind::ForMap { .. } | StmtKind::ForRange { .. } | StmtKind::Unroll { .. } => {
                block.stmts.push(Stmt { kind, span });
                self.eat(Punct::Semi);
                return Ok(());
            }
            _ => false,
        };
        if self.eat(Punct::Semi) {
            block.stmts.push(Stmt { kind: kind.without_value(), span });
            return Ok(());
        }
        if self.is(Punct::RBrace) {
            match kind {
                StmtKind::Expr(expr) => block.tail = Some(Box::new(expr)),
                StmtKind::If(branch) if branch.has_value() => {
                    block.tail = Some(Box::new(Expr { kind: ExprKind::If(branch), span }));
                }
                StmtKind::Block(inner) if inner.tail.is_some() => {
                    block.tail = Some(Box::new(Expr { kind: ExprKind::Block(Box::new(inner)), span }));
                }
                kind => block.stmts.push(Stmt { kind: kind.without_value(), span }),
            }
            return Ok(());
        }
        block.stmts.push(Stmt { kind: kind.without_value(), span });
        if blocky { Ok(()) } else { Err(self.unexpected("; or }")) }
    }

    fn statement_kind(&mut self) -> Parsed<StmtKind> {
        match self.token.kind {
            Kind::Punct(Punct::LBrace) => return Ok(StmtKind::Block(self.block()?)),
            Kind::Ident => {}
            _ => return self.expression_statement(),
        }
        match self.text_of(self.token) {
            "let" => self.let_statement(),
            "if" => Ok(StmtKind::If(Box::new(self.if_branches()?))),
            "while" => {
                self.bump();
                let cond = self.condition()?;
                Ok(StmtKind::While { cond, body: self.block()?.into_statements() })
            }
            "unroll" => {
                self.bump();
                let count = self.condition()?;
                Ok(StmtKind::Unroll { count, body: self.block()?.into_statements() })
            }
            "for" => self.for_statement(),
            "break" => {
                self.bump();
                Ok(StmtKind::Break)
            }
            "continue" => {
                self.bump();
                Ok(StmtKind::Continue)
            }
            "return" => {
                self.bump();
                let none = matches!(self.token.kind, Kind::Punct(Punct::Semi | Punct::RBrace) | Kind::Eof);
                Ok(StmtKind::Return(if none { None } else { Some(self.expr()?) }))
            }
            "import" => Ok(StmtKind::Import(self.import()?)),
            _ => self.expression_statement(),
        }
    }

    /// `let $x: type = e`
    fn let_statement(&mut self) -> Parsed<StmtKind> {
        self.bump();
        if self.token.kind != Kind::Var {
            return Err(self.unexpected("a variable"));
        }
        let var = self.name();
        let ty = if self.eat(Punct::Colon) { Some(self.type_expr()?) } else { None };
        let value = if self.eat(Punct::Assign) { Some(self.expr()?) } else { None };
        Ok(StmtKind::Let { var, ty, value })
    }

    /// `if cond { ... } else if ... else { ... }`
    pub(super) fn if_branches(&mut self) -> Parsed<If> {
        self.bump();
        let comptime = self.eat_word("comptime");
        let cond = self.condition()?;
        let then = self.block()?;
        let otherwise = if self.eat_word("else") {
            if self.is_word("if") {
                let start = self.token.start;
                let branch = Box::new(self.deeper(Self::if_branches)?);
                let span = self.since(start);
                Some(if branch.has_value() {
                    let tail = Some(Box::new(Expr { kind: ExprKind::If(branch), span }));
                    Block { stmts: Vec::new(), tail, span }
                } else {
                    let kind = StmtKind::If(branch).without_value();
                    Block { stmts: vec![Stmt { kind, span }], tail: None, span }
                })
            } else {
                Some(self.block()?)
            }
        } else {
            None
        };
        Ok(If { comptime, cond, then, otherwise })
    }

    /// A condition or a count: its parentheses group like any others, and may be left out.
    fn condition(&mut self) -> Parsed<Expr> {
        let outside = std::mem::replace(&mut self.predicate, false);
        let cond = self.expr();
        self.predicate = outside;
        cond
    }

    /// `for ($kv : @m) { ... }`, `for ($i : a..b) { ... }`, with or without parentheses.
    fn for_statement(&mut self) -> Parsed<StmtKind> {
        self.bump();
        let head = self.for_head();
        if head.is_err() {
            // `for (i = 0; i < 9; i++)`: its `;` end no statement.
            while !matches!(self.token.kind, Kind::Punct(Punct::LBrace | Punct::RBrace) | Kind::Eof) {
                self.bump();
            }
        }
        let (var, range) = head?;
        let (start, end) = match range {
            (start, Some(end)) => (start, end),
            (Expr { kind: ExprKind::Map(name), span }, None) => {
                let map = crate::ast::Ident { name, span };
                return Ok(StmtKind::ForMap { var, map, body: self.block()?.into_statements() });
            }
            (other, None) => {
                self.error(other.span, "a for loop goes over a map (`@m`) or a range (`a..b`)");
                let end = Expr { kind: ExprKind::Error, span: other.span };
                (other, end)
            }
        };
        Ok(StmtKind::ForRange { var, start, end, body: self.block()?.into_statements() })
    }

    /// `($kv : @m)`, `($i : a..b)`
    fn for_head(&mut self) -> Parsed<(Ident, (Expr, Option<Expr>))> {
        let parens = self.eat(Punct::LParen);
        if self.token.kind != Kind::Var {
            return Err(self.unexpected("a variable"));
        }
        let var = self.name();
        self.expect(Punct::Colon)?;
        let range = self.in_brackets(|parser| {
            let start = parser.expr()?;
            let end = if parser.eat(Punct::DotDot) { Some(parser.expr()?) } else { None };
            Ok((start, end))
        })?;
        if parens {
            self.expect(Punct::RParen)?;
        }
        Ok((var, range))
    }

    /// `e`, `target = e`, `target op= e`
    fn expression_statement(&mut self) -> Parsed<StmtKind> {
        let target = self.expr()?;
        let Kind::Punct(punct) = self.token.kind else { return Ok(StmtKind::Expr(target)) };
        let Some(op) = assignment(punct) else { return Ok(StmtKind::Expr(target)) };
        let target = match target.kind {
            ExprKind::Ident(name) if name == "_" && op.is_none() => Expr { kind: ExprKind::Discard, ..target },
            ExprKind::Var(_) | ExprKind::Map(_) | ExprKind::MapElement { .. } => target,
            _ => {
                let span = target.span;
                let text = "only a variable, a map, a map element or _ can be assigned to";
                let mut error = Diagnostic::error(span, text);
                error.hints.extend(match &target.kind {
                    ExprKind::Ident(name) => Some(format!("a variable's name begins with `$`: `${name}`")),
                    ExprKind::Tuple(_) => {
                        Some("assign the tuple to one variable: `$t.0` is its first element".to_owned())
                    }
                    ExprKind::Field { .. } => Some("keep the value in a variable of your own: `$x = ...`".to_owned()),
                    _ => None,
                });
                self.report(error);
                Expr { kind: ExprKind::Error, span }
            }
        };
        self.bump();
        let value = self.expr()?;
        Ok(StmtKind::Assign { target: Box::new(target), op, value })
    }
}

/// The operation of an assignment; `None` when this is no assignment.
fn assignment(punct: Punct) -> Option<Option<BinaryOp>> {
    Some(Some(match punct {
        Punct::Assign => return Some(None),
        Punct::AddAssign => BinaryOp::Add,
        Punct::SubAssign => BinaryOp::Sub,
        Punct::MulAssign => BinaryOp::Mul,
        Punct::DivAssign => BinaryOp::Div,
        Punct::ModAssign => BinaryOp::Mod,
        Punct::AndAssign => BinaryOp::BitAnd,
        Punct::OrAssign => BinaryOp::BitOr,
        Punct::XorAssign => BinaryOp::BitXor,
        Punct::ShlAssign => BinaryOp::Shl,
        Punct::ShrAssign => BinaryOp::Shr,
        _ => return None,
    }))
}
