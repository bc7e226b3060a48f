//! Expressions of C: bodies of macros, conditions of `#if`, lengths of arrays, values of enums.

use std::rc::Rc;

use super::cursor::Cursor;
use super::token::{Token, TokenKind};
use crate::Span;
use crate::ast::{Arg, BinaryOp, Expr, ExprKind, Ident, Tag, TypeExpr, TypeKind, TypeOrExpr, UnaryOp};

/// How deep expressions may nest.
const MAX_DEPTH: u32 = 200;

/// Operators between two operands, by how tight they bind.
const BINARY: [(&str, BinaryOp, u32); 18] = [
    ("||", BinaryOp::Or, 1),
    ("&&", BinaryOp::And, 2),
    ("|", BinaryOp::BitOr, 3),
    ("^", BinaryOp::BitXor, 4),
    ("&", BinaryOp::BitAnd, 5),
    ("==", BinaryOp::Eq, 6),
    ("!=", BinaryOp::Ne, 6),
    ("<", BinaryOp::Lt, 7),
    ("<=", BinaryOp::Le, 7),
    (">", BinaryOp::Gt, 7),
    (">=", BinaryOp::Ge, 7),
    ("<<", BinaryOp::Shl, 8),
    (">>", BinaryOp::Shr, 8),
    ("+", BinaryOp::Add, 9),
    ("-", BinaryOp::Sub, 9),
    ("*", BinaryOp::Mul, 10),
    ("/", BinaryOp::Div, 10),
    ("%", BinaryOp::Mod, 10),
];

/// The expression that all of `tokens` are.
pub(crate) fn parse(tokens: &[Token]) -> Result<Expr, String> {
    let mut parser = Parser { cursor: Cursor::new(tokens), depth: MAX_DEPTH };
    let tree = parser.ternary()?;
    match parser.cursor.peek() {
        None => Ok(tree),
        Some(token) => Err(format!("unexpected {}", token.shown())),
    }
}

struct Parser<'t> {
    cursor: Cursor<'t>,
    depth: u32,
}

impl Parser<'_> {
    fn expect(&mut self, sign: &str) -> Result<(), String> {
        match self.cursor.eat(sign) {
            true => Ok(()),
            false => Err(match self.cursor.peek() {
                Some(token) => format!("expected {sign}, not {}", token.shown()),
                None => format!("expected {sign} at its end"),
            }),
        }
    }

    fn span(&self) -> Span {
        self.cursor
            .tokens
            .get(self.cursor.at.min(self.cursor.tokens.len().saturating_sub(1)))
            .map(|it| it.span)
            .unwrap_or_default()
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.depth = self.depth.checked_sub(1).ok_or("an expression is nested too deep")?;
        let parsed = parse(self);
        self.depth += 1;
        parsed
    }

    fn ternary(&mut self) -> Result<Expr, String> {
        self.deeper(|parser| {
            let cond = parser.binary(1)?;
            if !parser.cursor.eat("?") {
                return Ok(cond);
            }
            let span = cond.span;
            let then = match parser.cursor.is(":") {
                true => None,
                false => Some(Box::new(parser.ternary()?)),
            };
            parser.expect(":")?;
            let otherwise = parser.ternary()?;
            Ok(Expr { kind: ExprKind::Ternary(Box::new(cond), then, Box::new(otherwise)), span })
        })
    }

    fn binary(&mut self, tightness: u32) -> Result<Expr, String> {
        self.deeper(|parser| {
            let mut left = parser.unary()?;
            loop {
                let found = BINARY.iter().find(|(sign, _, tight)| *tight >= tightness && parser.cursor.is(sign));
                let Some((_, op, tight)) = found else { return Ok(left) };
                parser.cursor.at += 1;
                let right = parser.binary(tight + 1)?;
                let span = left.span;
                left = Expr { kind: ExprKind::Binary(*op, Box::new(left), Box::new(right)), span };
            }
        })
    }

    fn unary(&mut self) -> Result<Expr, String> {
        let span = self.span();
        let signs = [
            ("-", UnaryOp::Neg),
            ("!", UnaryOp::Not),
            ("~", UnaryOp::BitNot),
            ("*", UnaryOp::Deref),
            ("&", UnaryOp::AddrOf),
        ];
        if let Some((_, op)) = signs.iter().find(|(sign, _)| self.cursor.is(sign)) {
            self.cursor.at += 1;
            let operand = self.deeper(Self::unary)?;
            return Ok(Expr { kind: ExprKind::Unary(*op, Box::new(operand)), span });
        }
        if self.cursor.eat("+") {
            return self.deeper(Self::unary);
        }
        if self.cursor.is("(") {
            let back = self.cursor.at;
            self.cursor.at += 1;
            if let Some(ty) = self.type_name()
                && self.cursor.eat(")")
                && self.starts_operand()
            {
                let operand = self.deeper(Self::unary)?;
                return Ok(Expr { kind: ExprKind::Cast(ty, Box::new(operand)), span });
            }
            self.cursor.at = back;
        }
        self.postfix()
    }

    /// Whether what follows may be the operand of a cast.
    fn starts_operand(&self) -> bool {
        self.cursor.peek().is_some_and(|token| match &token.kind {
            TokenKind::Sign(sign) => matches!(*sign, "(" | "-" | "!" | "~" | "*" | "&" | "+"),
            TokenKind::Other(_) => false,
            _ => true,
        })
    }

    fn postfix(&mut self) -> Result<Expr, String> {
        let mut base = self.primary()?;
        loop {
            let span = base.span;
            let arrow = self.cursor.is("->");
            if arrow || self.cursor.is(".") {
                self.cursor.at += 1;
                let name_span = self.span();
                let name = match self.cursor.peek().map(|token| &token.kind) {
                    Some(TokenKind::Ident(name)) => name.to_string(),
                    Some(TokenKind::Int(index)) => index.to_string(),
                    _ => return Err("expected a member's name".to_owned()),
                };
                self.cursor.at += 1;
                let name = Ident { name, span: name_span };
                base = Expr { kind: ExprKind::Field { base: Box::new(base), name, arrow }, span };
            } else if self.cursor.eat("[") {
                let index = self.ternary()?;
                let mut keys = vec![index];
                while self.cursor.eat(",") {
                    keys.push(self.ternary()?);
                }
                self.expect("]")?;
                base = match (base.kind, keys.len()) {
                    (ExprKind::Map(name), _) => {
                        Expr { kind: ExprKind::MapElement { map: Ident { name, span }, keys }, span }
                    }
                    (kind, 1) => {
                        let whole = Box::new(Expr { kind, span });
                        let index = keys.pop().map(Box::new).ok_or("expected an index")?;
                        Expr { kind: ExprKind::Index(whole, index), span }
                    }
                    _ => return Err("an array has one index".to_owned()),
                };
            } else {
                return Ok(base);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, String> {
        let span = self.span();
        let token = self.cursor.peek().cloned().ok_or("it ends too early")?;
        self.cursor.at += 1;
        let kind = match token.kind {
            TokenKind::Int(value) => ExprKind::Int { value, duration: false },
            TokenKind::Str(first) => {
                let mut text = first.to_vec();
                // Strings side by side are one.
                while let Some(TokenKind::Str(next)) = self.cursor.peek().map(|token| &token.kind) {
                    text.extend_from_slice(next);
                    self.cursor.at += 1;
                }
                ExprKind::Str(text)
            }
            TokenKind::Ident(name) => return self.word(&name, span),
            TokenKind::Sign("(") => {
                let inner = self.ternary()?;
                self.expect(")")?;
                return Ok(inner);
            }
            TokenKind::Sign(sign) => return Err(format!("unexpected {sign}")),
            TokenKind::Other(text) => return Err(format!("unexpected {text}")),
        };
        Ok(Expr { kind, span })
    }

    fn word(&mut self, name: &Rc<str>, span: Span) -> Result<Expr, String> {
        if let Some(param) = name.strip_prefix('$').and_then(|it| it.parse().ok()) {
            return Ok(Expr { kind: ExprKind::Param(param), span });
        }
        if name.starts_with('$') {
            return Ok(Expr { kind: ExprKind::Var(name.to_string()), span });
        }
        if name.starts_with('@') {
            return Ok(Expr { kind: ExprKind::Map(name.to_string()), span });
        }
        match &**name {
            "true" | "false" => return Ok(Expr { kind: ExprKind::Bool(&**name == "true"), span }),
            "sizeof" => return self.size_of(span),
            _ => {}
        }
        if !self.cursor.eat("(") {
            return Ok(Expr { kind: ExprKind::Ident(name.to_string()), span });
        }
        let mut args = Vec::new();
        while !self.cursor.is(")") {
            args.push(Arg::Expr(self.ternary()?));
            if !self.cursor.eat(",") {
                break;
            }
        }
        self.expect(")")?;
        let name = Ident { name: name.to_string(), span };
        Ok(Expr { kind: ExprKind::Call { name, args }, span })
    }

    fn size_of(&mut self, span: Span) -> Result<Expr, String> {
        let of = if self.cursor.eat("(") {
            let back = self.cursor.at;
            let of = match self.type_name().filter(|_| self.cursor.is(")")) {
                Some(ty) => TypeOrExpr::Type(ty),
                None => {
                    self.cursor.at = back;
                    TypeOrExpr::Expr(self.ternary()?)
                }
            };
            self.expect(")")?;
            of
        } else {
            TypeOrExpr::Expr(self.deeper(Self::unary)?)
        };
        Ok(Expr { kind: ExprKind::Sizeof(Box::new(of)), span })
    }

    /// A type, when what follows can be nothing else: C's own words, `struct x`, a word that ends like a typedef, or one
    /// before a star and a parenthesis.
    fn type_name(&mut self) -> Option<TypeExpr> {
        let span = self.span();
        let back = self.cursor.at;
        let mut words: Vec<Rc<str>> = Vec::new();
        while let Some(word) = self.cursor.peek().and_then(Token::ident).cloned() {
            let known = super::declare::is_type_word(&word);
            let typedef = words.is_empty() && (super::declare::is_typedef_like(&word) || self.is_starred(1));
            let tag = words.last().is_some_and(|last| matches!(&**last, "struct" | "union" | "enum"));
            if !(known || typedef || tag) {
                break;
            }
            self.cursor.at += 1;
            if !matches!(&*word, "const" | "volatile" | "__user" | "__rcu" | "__percpu") {
                words.push(word);
            }
        }
        let kind = match &words[..] {
            [] => {
                self.cursor.at = back;
                return None;
            }
            [tag, name] if matches!(&**tag, "struct" | "union" | "enum") => TypeKind::Tagged {
                tag: match &**tag {
                    "struct" => Tag::Struct,
                    "union" => Tag::Union,
                    _ => Tag::Enum,
                },
                name: name.to_string(),
            },
            words => TypeKind::Name(words.join(" ")),
        };
        let mut ty = TypeExpr { kind, span };
        let mut stars = 0;
        while self.cursor.eat("*") {
            stars += 1;
            if stars > 8 {
                return None;
            }
            ty = TypeExpr { kind: TypeKind::Pointer(Box::new(ty)), span };
            while self
                .cursor
                .peek()
                .and_then(Token::ident)
                .is_some_and(|it| matches!(&**it, "const" | "volatile" | "restrict"))
            {
                self.cursor.at += 1;
            }
        }
        Some(ty)
    }

    /// Whether stars and then a parenthesis follow, `ahead` tokens on.
    fn is_starred(&self, ahead: usize) -> bool {
        let rest = self.cursor.tokens.get(self.cursor.at + ahead..).unwrap_or_default();
        let stars = rest.iter().take_while(|token| token.is("*")).count();
        stars > 0 && rest.get(stars).is_some_and(|token| token.is(")"))
    }
}

/// Sets every span of `tree` to `span` and puts other trees in for some words. `false` when it grows beyond `left` nodes.
pub(crate) fn rewrite(
    tree: &mut Expr,
    span: Span,
    left: &mut usize,
    put: &mut dyn FnMut(&str) -> Option<Expr>,
) -> bool {
    let Some(rest) = left.checked_sub(1) else { return false };
    *left = rest;
    if let ExprKind::Ident(word) = &tree.kind
        && let Some(other) = put(word)
    {
        *tree = other;
        return true;
    }
    tree.span = span;
    match &mut tree.kind {
        ExprKind::Unary(_, a) | ExprKind::Cast(_, a) => rewrite(a, span, left, put),
        ExprKind::Field { base, name, .. } => {
            name.span = span;
            rewrite(base, span, left, put)
        }
        ExprKind::Binary(_, a, b) | ExprKind::Index(a, b) => rewrite(a, span, left, put) && rewrite(b, span, left, put),
        ExprKind::Ternary(a, b, c) => {
            rewrite(a, span, left, put)
                && b.as_mut().is_none_or(|b| rewrite(b, span, left, put))
                && rewrite(c, span, left, put)
        }
        ExprKind::MapElement { map, keys } => {
            map.span = span;
            keys.iter_mut().all(|key| rewrite(key, span, left, put))
        }
        ExprKind::Call { name, args } => {
            name.span = span;
            args.iter_mut().all(|arg| match arg {
                Arg::Expr(arg) => rewrite(arg, span, left, put),
                Arg::Type(ty) => {
                    ty.span = span;
                    true
                }
            })
        }
        ExprKind::Sizeof(of) => match of.as_mut() {
            TypeOrExpr::Expr(of) => rewrite(of, span, left, put),
            TypeOrExpr::Type(ty) => {
                ty.span = span;
                true
            }
        },
        _ => true,
    }
}

/// What a constant expression may ask.
pub(crate) trait Known {
    /// Value of a word: an enum's constant.
    fn word(&self, name: &str) -> Option<i128>;
    /// Size of a type, in bytes.
    fn size_of(&self, ty: &TypeExpr) -> Option<u64>;
}

/// The value of a constant expression, with C's operators on numbers wide enough for all of its types.
pub(crate) fn value(tree: &Expr, known: &dyn Known) -> Result<i128, String> {
    let too_big = || "a number is too big".to_owned();
    match &tree.kind {
        ExprKind::Int { value, .. } => Ok(i128::from(*value)),
        ExprKind::Bool(value) => Ok(i128::from(*value)),
        ExprKind::Ident(name) => known.word(name).ok_or_else(|| format!("{name} is not known")),
        ExprKind::Sizeof(of) => match of.as_ref() {
            TypeOrExpr::Type(ty) => known.size_of(ty).map(i128::from).ok_or_else(|| "a type is not known".to_owned()),
            TypeOrExpr::Expr(Expr { kind: ExprKind::Ident(name), span }) => {
                let ty = TypeExpr { kind: TypeKind::Name(name.clone()), span: *span };
                known.size_of(&ty).map(i128::from).ok_or_else(|| format!("the type {name} is not known"))
            }
            TypeOrExpr::Expr(_) => Err("sizeof takes a type here".to_owned()),
        },
        ExprKind::Cast(ty, inner) => {
            let value = value(inner, known)?;
            Ok(match known.size_of(ty) {
                Some(size @ 1..8) => value & ((1 << (8 * size)) - 1),
                _ => value,
            })
        }
        ExprKind::Unary(op, inner) => {
            let value = value(inner, known)?;
            match op {
                UnaryOp::Neg => value.checked_neg().ok_or_else(too_big),
                UnaryOp::Not => Ok(i128::from(value == 0)),
                UnaryOp::BitNot => Ok(!value),
                UnaryOp::Deref | UnaryOp::AddrOf => Err("it is not constant".to_owned()),
            }
        }
        ExprKind::Ternary(cond, then, otherwise) => match value(cond, known)? {
            0 => value(otherwise, known),
            cond => then.as_ref().map_or(Ok(cond), |then| value(then, known)),
        },
        ExprKind::Binary(op, a, b) => {
            let a = value(a, known)?;
            match op {
                BinaryOp::And if a == 0 => return Ok(0),
                BinaryOp::Or if a != 0 => return Ok(1),
                _ => {}
            }
            let b = value(b, known)?;
            let shift = || u32::try_from(b).ok().filter(|by| *by < 64).ok_or("a shift is by more than 63 bits");
            Ok(match op {
                BinaryOp::Add => a.checked_add(b).ok_or_else(too_big)?,
                BinaryOp::Sub => a.checked_sub(b).ok_or_else(too_big)?,
                BinaryOp::Mul => a.checked_mul(b).ok_or_else(too_big)?,
                BinaryOp::Div => a.checked_div(b).ok_or("division by zero")?,
                BinaryOp::Mod => a.checked_rem(b).ok_or("division by zero")?,
                BinaryOp::BitAnd => a & b,
                BinaryOp::BitOr => a | b,
                BinaryOp::BitXor => a ^ b,
                BinaryOp::Shl => a.checked_mul(1 << shift()?).ok_or_else(too_big)?,
                BinaryOp::Shr => a >> shift()?,
                BinaryOp::Eq => i128::from(a == b),
                BinaryOp::Ne => i128::from(a != b),
                BinaryOp::Lt => i128::from(a < b),
                BinaryOp::Le => i128::from(a <= b),
                BinaryOp::Gt => i128::from(a > b),
                BinaryOp::Ge => i128::from(a >= b),
                BinaryOp::And | BinaryOp::Or => i128::from(b != 0),
            })
        }
        _ => Err("it is not constant".to_owned()),
    }
}
