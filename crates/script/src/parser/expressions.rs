//! Expressions, by the precedence of C.

use super::{Parsed, Parser, literals};
use crate::ast::{Arg, BinaryOp, Expr, ExprKind, Ident, UnaryOp};
use crate::lexer::{Kind, Punct, Token};

/// How tightly an operator binds; a larger number binds more tightly.
pub(crate) fn precedence(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And => 2,
        BinaryOp::BitOr => 3,
        BinaryOp::BitXor => 4,
        BinaryOp::BitAnd => 5,
        BinaryOp::Eq | BinaryOp::Ne => 6,
        BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge => 7,
        BinaryOp::Shl | BinaryOp::Shr => 8,
        BinaryOp::Add | BinaryOp::Sub => 9,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod => 10,
    }
}

fn binary(punct: Punct) -> Option<BinaryOp> {
    Some(match punct {
        Punct::OrOr => BinaryOp::Or,
        Punct::AndAnd => BinaryOp::And,
        Punct::Or => BinaryOp::BitOr,
        Punct::Xor => BinaryOp::BitXor,
        Punct::And => BinaryOp::BitAnd,
        Punct::EqEq => BinaryOp::Eq,
        Punct::NotEq => BinaryOp::Ne,
        Punct::Less => BinaryOp::Lt,
        Punct::LessEq => BinaryOp::Le,
        Punct::Greater => BinaryOp::Gt,
        Punct::GreaterEq => BinaryOp::Ge,
        Punct::Shl => BinaryOp::Shl,
        Punct::Shr => BinaryOp::Shr,
        Punct::Plus => BinaryOp::Add,
        Punct::Minus => BinaryOp::Sub,
        Punct::Star => BinaryOp::Mul,
        Punct::Slash => BinaryOp::Div,
        Punct::Percent => BinaryOp::Mod,
        _ => return None,
    })
}

fn is_step_target(expr: &Expr) -> bool {
    matches!(expr.kind, ExprKind::Var(_) | ExprKind::Map(_) | ExprKind::MapElement { .. } | ExprKind::Error)
}

impl<'a> Parser<'a> {
    /// Any expression.
    pub(super) fn expr(&mut self) -> Parsed<Expr> {
        self.deeper(Self::ternary)
    }

    fn ternary(&mut self) -> Parsed<Expr> {
        let start = self.token.start;
        let cond = self.operators(1)?;
        if !self.eat(Punct::Question) {
            return Ok(cond);
        }
        let then = if self.is(Punct::Colon) { None } else { Some(Box::new(self.expr()?)) };
        self.expect(Punct::Colon)?;
        let otherwise = Box::new(self.deeper(Self::ternary)?);
        Ok(Expr { kind: ExprKind::Ternary(Box::new(cond), then, otherwise), span: self.since(start) })
    }

    /// Operators that bind as tightly as `least` or more.
    fn operators(&mut self, least: u8) -> Parsed<Expr> {
        let depth = self.depth;
        let start = self.token.start;
        let mut left = self.unary()?;
        while let Some(op) = self.operator() {
            let level = precedence(op);
            if level < least || (op == BinaryOp::Div && self.ends_predicate()) {
                break;
            }
            self.deepen()?;
            self.bump();
            let right = self.operators(level + 1)?;
            let span = self.since(start);
            left = Expr { kind: ExprKind::Binary(op, Box::new(left), Box::new(right)), span };
        }
        self.depth = depth;
        Ok(left)
    }

    /// The operator of two operands at the next token.
    fn operator(&self) -> Option<BinaryOp> {
        if let Kind::Punct(punct) = self.token.kind { binary(punct) } else { None }
    }

    /// Whether the `/` here ends the predicate: a block can be no operand of a division.
    fn ends_predicate(&self) -> bool {
        self.predicate && self.second().kind == Kind::Punct(Punct::LBrace)
    }

    pub(super) fn unary(&mut self) -> Parsed<Expr> {
        let start = self.token.start;
        let op = match self.token.kind {
            Kind::Punct(Punct::Minus) => UnaryOp::Neg,
            Kind::Punct(Punct::Not) => UnaryOp::Not,
            Kind::Punct(Punct::Tilde) => UnaryOp::BitNot,
            Kind::Punct(Punct::Star) => UnaryOp::Deref,
            Kind::Punct(Punct::And) => UnaryOp::AddrOf,
            Kind::Punct(punct @ (Punct::Inc | Punct::Dec)) => {
                self.bump();
                let target = self.deeper(Self::unary)?;
                return self.step(start, punct == Punct::Inc, true, target);
            }
            Kind::Ident if self.is_word("comptime") => {
                self.bump();
                let inside = self.deeper(Self::unary)?;
                return Ok(Expr { kind: ExprKind::Comptime(Box::new(inside)), span: self.since(start) });
            }
            _ => return self.postfix(),
        };
        self.bump();
        let operand = self.deeper(Self::unary)?;
        Ok(Expr { kind: ExprKind::Unary(op, Box::new(operand)), span: self.since(start) })
    }

    fn step(&mut self, start: usize, up: bool, prefix: bool, target: Expr) -> Parsed<Expr> {
        let span = self.since(start);
        if !is_step_target(&target) {
            let op = if up { "++" } else { "--" };
            return Err(self.error(span, format!("{op} needs a variable, a map or a map element")));
        }
        Ok(Expr { kind: ExprKind::Step { up, prefix, target: Box::new(target) }, span })
    }

    fn postfix(&mut self) -> Parsed<Expr> {
        let depth = self.depth;
        let start = self.token.start;
        let mut expr = self.primary()?;
        // A cast took its operand with all that is behind it.
        if matches!(expr.kind, ExprKind::Cast(..)) && !self.out.groups.contains(&expr.span) {
            return Ok(expr);
        }
        loop {
            match self.token.kind {
                Kind::Punct(punct @ (Punct::Dot | Punct::Arrow)) => {
                    self.bump();
                    if !matches!(self.token.kind, Kind::Ident | Kind::Number) {
                        return Err(self.unexpected("a field"));
                    }
                    let name = self.name();
                    if matches!(expr.kind, ExprKind::Int { .. }) {
                        return Err(self.error(self.since(start), "there are no floating point numbers"));
                    }
                    if name.name.starts_with(|char: char| char.is_ascii_digit()) && name.name.parse::<u32>().is_err() {
                        return Err(
                            self.error(name.span, format!("invalid number of a tuple's element: {}", name.name))
                        );
                    }
                    let arrow = punct == Punct::Arrow;
                    let span = self.since(start);
                    expr = Expr { kind: ExprKind::Field { base: Box::new(expr), name, arrow }, span };
                }
                Kind::Punct(Punct::LBracket) => {
                    self.bump();
                    let mut keys = self.in_brackets(|parser| parser.list(Punct::RBracket, Self::expr))?;
                    let span = self.since(start);
                    let kind = match expr.kind {
                        _ if keys.is_empty() => {
                            return Err(self.error(span, "an index is missing between [ and ]"));
                        }
                        ExprKind::Map(name) => ExprKind::MapElement { map: Ident { name, span: expr.span }, keys },
                        _ if keys.len() > 1 => {
                            return Err(self.error(span, "only a map can have several keys"));
                        }
                        _ => match keys.pop() {
                            Some(index) => ExprKind::Index(Box::new(expr), Box::new(index)),
                            None => ExprKind::Error,
                        },
                    };
                    expr = Expr { kind, span };
                }
                Kind::Punct(punct @ (Punct::Inc | Punct::Dec)) if is_step_target(&expr) => {
                    self.bump();
                    expr = self.step(start, punct == Punct::Inc, false, expr)?;
                }
                _ => break,
            }
            self.deepen()?;
        }
        self.depth = depth;
        Ok(expr)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let token = self.token;
        let text = self.text_of(token);
        let kind = match token.kind {
            Kind::Number => {
                let (value, duration) = self.number();
                ExprKind::Int { value, duration }
            }
            Kind::Str => ExprKind::Str(self.string()),
            Kind::Var => ExprKind::Var(self.bump_text().to_owned()),
            Kind::Map => ExprKind::Map(self.bump_text().to_owned()),
            Kind::Param => {
                self.bump();
                match text[1..].parse() {
                    Ok(0) | Err(_) => {
                        let span = self.span(token.start, token.end);
                        return Err(self.error(span, format!("{text} is no parameter: they count from $1")));
                    }
                    Ok(number) => ExprKind::Param(number),
                }
            }
            Kind::ParamCount => {
                self.bump();
                ExprKind::ParamCount
            }
            Kind::Ident => return self.word(),
            Kind::Punct(Punct::LParen) => return self.parens(),
            Kind::Punct(Punct::LBrace) => ExprKind::Block(Box::new(self.block()?)),
            _ => return Err(self.unexpected("an expression")),
        };
        Ok(Expr { kind, span: self.since(token.start) })
    }

    /// What starts with a word.
    fn word(&mut self) -> Parsed<Expr> {
        let start = self.token.start;
        let kind = match self.text_of(self.token) {
            "true" | "false" => ExprKind::Bool(self.bump_text() == "true"),
            "if" => ExprKind::If(Box::new(self.if_branches()?)),
            "sizeof" => {
                self.bump();
                ExprKind::Sizeof(Box::new(self.type_or_expr_in_parens()?))
            }
            "typeinfo" => {
                self.bump();
                ExprKind::Typeinfo(Box::new(self.type_or_expr_in_parens()?))
            }
            "offsetof" => {
                self.bump();
                self.expect(Punct::LParen)?;
                let base = self.in_brackets(Self::type_or_expr)?;
                self.expect(Punct::Comma)?;
                let mut path = Vec::new();
                loop {
                    if self.token.kind != Kind::Ident {
                        return Err(self.unexpected("a field"));
                    }
                    path.push(self.name());
                    if !self.eat(Punct::Dot) {
                        break;
                    }
                }
                self.expect(Punct::RParen)?;
                ExprKind::Offsetof(Box::new(base), path)
            }
            "typeof" => {
                let span = self.here();
                return Err(self.error(span, "typeof is a type, and a value is needed here"));
            }
            // `config.key`: elsewhere the word begins the block of settings.
            "config" if self.second().kind == Kind::Punct(Punct::Dot) => ExprKind::Ident(self.name().name),
            _ => {
                let name = self.ident("an expression")?;
                if self.eat(Punct::LParen) {
                    let args = self.in_brackets(|parser| parser.list(Punct::RParen, Self::argument))?;
                    ExprKind::Call { name, args }
                } else {
                    ExprKind::Ident(name.name)
                }
            }
        };
        Ok(Expr { kind, span: self.since(start) })
    }

    /// An argument: a type only when it can be nothing else.
    fn argument(&mut self) -> Parsed<Arg> {
        let mut ahead = self.ahead();
        let is_type = self.scan_type(&mut ahead) == Some(super::types::Likely::Type)
            && matches!(ahead.next().kind, Kind::Punct(Punct::Comma | Punct::RParen));
        if is_type {
            return Ok(Arg::Type(self.type_expr()?));
        }
        Ok(Arg::Expr(self.expr()?))
    }

    /// What starts with `(`: a cast, a record, a tuple, or a group.
    fn parens(&mut self) -> Parsed<Expr> {
        if let Some(cast) = self.cast()? {
            return Ok(cast);
        }
        let start = self.bump().start;
        let mut ahead = self.ahead();
        if ahead.next().kind == Kind::Ident && ahead.next().kind == Kind::Punct(Punct::Assign) {
            let fields = self.in_brackets(|parser| {
                parser.list(Punct::RParen, |parser| {
                    let name = parser.ident("a field")?;
                    parser.expect(Punct::Assign)?;
                    Ok((name, parser.expr()?))
                })
            })?;
            return Ok(Expr { kind: ExprKind::Record(fields), span: self.since(start) });
        }
        if self.eat(Punct::RParen) {
            return Ok(Expr { kind: ExprKind::Tuple(Vec::new()), span: self.since(start) });
        }
        let first = self.in_brackets(Self::expr)?;
        if self.eat(Punct::RParen) {
            self.out.groups.insert(first.span);
            return Ok(first);
        }
        if !self.eat(Punct::Comma) {
            return Err(self.unexpected(") or \",\""));
        }
        let mut elements = vec![first];
        elements.extend(self.in_brackets(|parser| parser.list(Punct::RParen, Self::expr))?);
        Ok(Expr { kind: ExprKind::Tuple(elements), span: self.since(start) })
    }

    /// The number at the next token.
    pub(super) fn number(&mut self) -> (u64, bool) {
        let token = self.bump();
        match literals::number(self.text_of(token)) {
            Ok(number) => (number.value, number.duration),
            Err(message) => {
                let span = self.span(token.start, token.end);
                self.error(span, message);
                (0, false)
            }
        }
    }

    /// The string at the next token.
    pub(super) fn string(&mut self) -> Vec<u8> {
        let Token { start, end, .. } = self.bump();
        let (bytes, wrong) = literals::unescape(&self.text[start + 1..end - 1]);
        for (range, message) in wrong {
            let span = self.span(start + 1 + range.start, start + 1 + range.end);
            self.error(span, message);
        }
        bytes
    }

    /// The text of the next token, which is taken.
    pub(super) fn bump_text(&mut self) -> &'a str {
        let token = self.bump();
        self.text_of(token)
    }
}
