//! Types as written: `int32`, `struct task_struct *`, `string[16]`, `int32*[4]`, `(int8, string)`.

use super::{Parsed, Parser};
use crate::Span;
use crate::ast::{Expr, ExprKind, Tag, TypeExpr, TypeKind, TypeOrExpr};
use crate::lexer::{Kind, Lexer, Punct, Token};

/// Words that name types and nothing else.
const TYPE_WORDS: &[&str] = &[
    "avg_t",
    "bool",
    "buffer",
    "char",
    "count_t",
    "double",
    "float",
    "hist_t",
    "inet",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "ksym_t",
    "kstack_t",
    "lhist_t",
    "long",
    "max_t",
    "min_t",
    "short",
    "signed",
    "stats_t",
    "string",
    "sum_t",
    "timestamp",
    "tseries_t",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "unsigned",
    "ustack_t",
    "usym_t",
    "void",
];

/// Words that together name an integer of C.
const C_WORDS: &[&str] = &["char", "int", "long", "short", "signed", "unsigned"];

/// Words whose number in brackets is a capacity.
const SIZED_WORDS: &[&str] = &["buffer", "inet", "string"];

/// Names of values, but `argN`, which are no types, whatever stands behind them.
pub(crate) const BUILTINS: &[&str] = &[
    "args",
    "cgroup",
    "comm",
    "config",
    "cpid",
    "cpu",
    "ctx",
    "curtask",
    "dw_ustack",
    "elapsed",
    "func",
    "gid",
    "has_cpid",
    "jiffies",
    "kstack",
    "leader_comm",
    "leader_tid",
    "ncpus",
    "nsecs",
    "numaid",
    "pcomm",
    "pid",
    "ppid",
    "probe",
    "probetype",
    "rand",
    "retval",
    "tid",
    "uid",
    "usermode",
    "username",
    "ustack",
];

/// How many tokens [`Parser::scan_type`] looks ahead.
const SCAN_MAX: u32 = 256;

/// What looks like a type from afar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likely {
    /// It can be nothing else.
    Type,
    /// A word that may be a typedef as well as a constant.
    Word,
}

/// Whether this word names a type of the language.
fn is_type_word(word: &str) -> bool {
    TYPE_WORDS.contains(&word)
}

fn tag(word: &str) -> Option<Tag> {
    Some(match word {
        "struct" => Tag::Struct,
        "union" => Tag::Union,
        "enum" => Tag::Enum,
        _ => return None,
    })
}

impl Parser<'_> {
    /// A type at the next token.
    pub(super) fn type_expr(&mut self) -> Parsed<TypeExpr> {
        self.deeper(|parser| parser.in_brackets(Self::type_inside))
    }

    fn type_inside(&mut self) -> Parsed<TypeExpr> {
        let start = self.token.start;
        let kind = if self.eat(Punct::LParen) {
            TypeKind::Tuple(self.list(Punct::RParen, Self::type_expr)?)
        } else if self.eat_word("typeof") {
            TypeKind::Typeof(Box::new(self.type_or_expr_in_parens()?))
        } else {
            self.named_type()?
        };
        let mut ty = TypeExpr { kind, span: self.since(start) };
        let depth = self.depth;
        loop {
            if self.eat(Punct::Star) {
                ty = TypeExpr { kind: TypeKind::Pointer(Box::new(ty)), span: self.since(start) };
            } else if self.eat(Punct::LBracket) {
                let size = Box::new(self.type_size()?);
                ty = TypeExpr { kind: TypeKind::Array(Box::new(ty), size), span: self.since(start) };
            } else {
                self.depth = depth;
                return Ok(ty);
            }
            self.deepen()?;
        }
    }

    fn named_type(&mut self) -> Parsed<TypeKind> {
        let word = self.text_of(self.token);
        if self.token.kind == Kind::Ident
            && let Some(tag) = tag(word)
        {
            self.bump();
            return Ok(TypeKind::Tagged { tag, name: self.ident("a name")?.name });
        }
        if self.token.kind == Kind::Ident && C_WORDS.contains(&word) {
            let mut words = vec![self.bump_text()];
            while words.len() < 4 && self.token.kind == Kind::Ident && C_WORDS.contains(&self.text_of(self.token)) {
                words.push(self.bump_text());
            }
            return Ok(TypeKind::Name(words.join(" ")));
        }
        let name = self.ident("a type")?.name;
        if SIZED_WORDS.contains(&name.as_str()) && self.eat(Punct::LBracket) {
            let size = Box::new(self.type_size()?);
            return Ok(TypeKind::Sized(name, size));
        }
        Ok(TypeKind::Name(name))
    }

    /// What stands behind the `[` of a type, with its `]`. No size, as in `(uint8[])e`, is a 0 that takes no place.
    fn type_size(&mut self) -> Parsed<Expr> {
        let start = self.token.start;
        if self.eat(Punct::RBracket) {
            let span = Span { end: start as u32, ..self.since(start) };
            return Ok(Expr { kind: ExprKind::Int { value: 0, duration: false }, span });
        }
        let size = self.expr()?;
        self.expect(Punct::RBracket)?;
        Ok(size)
    }

    /// `(type)` or `(expression)`, as `sizeof` takes them.
    pub(super) fn type_or_expr_in_parens(&mut self) -> Parsed<TypeOrExpr> {
        self.expect(Punct::LParen)?;
        let inside = self.in_brackets(Self::type_or_expr)?;
        self.expect(Punct::RParen)?;
        Ok(inside)
    }

    /// A type where one can be, an expression otherwise: `foo` and `foo[4]` are types, `(foo)` is an expression.
    pub(super) fn type_or_expr(&mut self) -> Parsed<TypeOrExpr> {
        let mut ahead = self.ahead();
        let is_type = self.scan_type(&mut ahead).is_some_and(|likely| {
            let next = ahead.next();
            matches!(next.kind, Kind::Punct(Punct::RParen | Punct::Comma))
                && (likely == Likely::Type || !self.is(Punct::LParen))
        });
        Ok(if is_type { TypeOrExpr::Type(self.type_expr()?) } else { TypeOrExpr::Expr(self.expr()?) })
    }

    /// `(type) operand` at `(`; `None` when this is something else, with nothing taken.
    pub(super) fn cast(&mut self) -> Parsed<Option<Expr>> {
        let start = self.token.start;
        let mut ahead = self.ahead();
        ahead.next();
        let Some(likely) = self.scan_type(&mut ahead) else { return Ok(None) };
        if ahead.next().kind != Kind::Punct(Punct::RParen) {
            return Ok(None);
        }
        let operand = ahead.next();
        let starts = match operand.kind {
            Kind::Ident => !matches!(self.text_of(operand), "else"),
            Kind::Var | Kind::Param | Kind::ParamCount | Kind::Map | Kind::Number | Kind::Str => true,
            Kind::Punct(Punct::LParen | Punct::Not | Punct::Tilde) => true,
            // Between two operands these are operators of two operands; behind a type they are of one.
            Kind::Punct(Punct::Minus | Punct::Star | Punct::And | Punct::Inc | Punct::Dec) => true,
            Kind::Punct(Punct::Plus) => likely == Likely::Type,
            _ => likely == Likely::Type,
        };
        if !starts {
            return Ok(None);
        }
        self.bump();
        let ty = self.type_expr()?;
        self.expect(Punct::RParen)?;
        let operand = self.deeper(Self::unary)?;
        Ok(Some(Expr { span: self.since(start), kind: ExprKind::Cast(ty, Box::new(operand)) }))
    }

    pub(super) fn ahead(&self) -> Ahead<'_> {
        let mut lexer = self.lexer;
        lexer.seek(self.token.start);
        Ahead { lexer, left: SCAN_MAX }
    }

    /// Skips what looks like a type. It may turn out to be none: `ahead` is then somewhere.
    pub(super) fn scan_type(&self, ahead: &mut Ahead<'_>) -> Option<Likely> {
        let first = ahead.next();
        let word = self.text_of(first);
        let mut likely = Likely::Word;
        match first.kind {
            Kind::Ident if tag(word).is_some() => {
                likely = Likely::Type;
                if ahead.next().kind != Kind::Ident {
                    return None;
                }
            }
            Kind::Ident if word == "typeof" => {
                likely = Likely::Type;
                ahead.brackets(Punct::LParen, Punct::RParen)?;
            }
            Kind::Ident if C_WORDS.contains(&word) => {
                likely = Likely::Type;
                while C_WORDS.contains(&self.text_of(ahead.peek())) {
                    ahead.next();
                }
            }
            Kind::Ident if is_type_word(word) => likely = Likely::Type,
            Kind::Ident if super::KEYWORDS.contains(&word) || is_builtin(word) || self.is_param(word) => return None,
            Kind::Ident => {}
            Kind::Punct(Punct::LParen) => {
                // A tuple of types, when the first one is surely a type.
                let inside = self.scan_inner_type(ahead)?;
                if inside != Likely::Type {
                    return None;
                }
                likely = Likely::Type;
                loop {
                    match ahead.next().kind {
                        Kind::Punct(Punct::Comma) => {
                            if ahead.peek().kind == Kind::Punct(Punct::RParen) {
                                continue;
                            }
                            self.scan_inner_type(ahead)?;
                        }
                        Kind::Punct(Punct::RParen) => break,
                        _ => return None,
                    }
                }
            }
            _ => return None,
        }
        loop {
            match ahead.peek().kind {
                Kind::Punct(Punct::Star) => {
                    ahead.next();
                    // Behind a star there can only be the end of a type, else it is a multiplication.
                    match ahead.peek().kind {
                        Kind::Punct(Punct::Star | Punct::LBracket) => {}
                        Kind::Punct(Punct::RParen | Punct::Comma) => likely = Likely::Type,
                        _ => return None,
                    }
                }
                Kind::Punct(Punct::LBracket) => {
                    ahead.brackets(Punct::LBracket, Punct::RBracket)?;
                }
                _ => return Some(likely),
            }
        }
    }

    /// One level deeper in a tuple of types; [`SCAN_MAX`] bounds the depth.
    fn scan_inner_type(&self, ahead: &mut Ahead<'_>) -> Option<Likely> {
        self.scan_type(ahead)
    }

    fn is_param(&self, word: &str) -> bool {
        self.params.iter().any(|param| param == word)
    }
}

/// Whether this word is a value of the language.
pub(crate) fn is_builtin(word: &str) -> bool {
    BUILTINS.contains(&word)
        || word.strip_prefix("arg").is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Looks ahead over a bounded number of tokens, and sees the end of the text behind them.
pub(super) struct Ahead<'a> {
    lexer: Lexer<'a>,
    left: u32,
}

impl Ahead<'_> {
    pub(super) fn next(&mut self) -> Token {
        if self.left == 0 {
            return self.end();
        }
        self.left -= 1;
        self.lexer.token()
    }

    /// What [`Ahead::next`] gives, not yet taken. Behind the bound it sees the end, too: whoever takes what he sees would
    /// see it for ever.
    pub(super) fn peek(&self) -> Token {
        if self.left == 0 {
            return self.end();
        }
        let mut lexer = self.lexer;
        lexer.token()
    }

    fn end(&self) -> Token {
        Token { kind: Kind::Eof, start: self.lexer.at(), end: self.lexer.at() }
    }

    /// Skips `open ... close`.
    fn brackets(&mut self, open: Punct, close: Punct) -> Option<()> {
        let mut depth = 0u32;
        loop {
            match self.next().kind {
                Kind::Eof => return None,
                kind if kind == Kind::Punct(open) => depth += 1,
                kind if kind == Kind::Punct(close) => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(());
                    }
                }
                _ if depth == 0 => return None,
                _ => {}
            }
        }
    }
}
