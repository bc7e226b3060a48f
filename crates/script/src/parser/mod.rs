//! Text to tree, by recursive descent; operators by precedence.
//!
//! The parser never fails: it returns the tree that it could make *and* the diagnostics. Behind an error it goes on at the
//! next statement or item, so that one run shows all mistakes; after [`ERRORS_MAX`] it gives up. The tree is never nested
//! deeper than [`DEPTH_MAX`], so that everything behind may walk it by recursion.

mod expressions;
mod items;
pub(crate) mod literals;
pub(crate) mod points;
mod slips;
mod statements;
mod types;

use crate::ast::{Ident, Script};
use crate::lexer::{Kind, Lexer, Punct, Token};
use crate::{Diagnostic, SourceId, Sources, Span};

pub(crate) use types::{BUILTINS, is_builtin};

/// How deep expressions, blocks and types may be nested, a chain such as `a + b + c` counting one for each operator.
pub const DEPTH_MAX: u32 = 200;

/// After so many errors the rest of the text is not looked at.
pub const ERRORS_MAX: usize = 50;

/// Parses one text of `sources`.
pub fn parse(sources: &Sources, id: SourceId) -> (Script, Vec<Diagnostic>) {
    let mut parser = Parser::new(id, &sources.get(id).text);
    parser.script();
    (parser.out, parser.diagnostics)
}

/// Words that are no names.
const KEYWORDS: &[&str] = &[
    "break", "comptime", "config", "continue", "else", "false", "fn", "for", "if", "import", "let", "macro",
    "offsetof", "return", "sizeof", "true", "typeinfo", "typeof", "unroll", "while",
];

/// Something was wrong and has been reported; the caller goes on at a place that it knows.
struct Reported;

type Parsed<T> = Result<T, Reported>;

struct Parser<'a> {
    text: &'a str,
    source: SourceId,
    lexer: Lexer<'a>,
    /// The next token.
    token: Token,
    /// One past the last byte of the token before it.
    end: usize,
    depth: u32,
    /// Between the slashes of a predicate and in no bracket: a `/` before `{` is the end.
    predicate: bool,
    /// Expression parameters of the macro around: names that are no types.
    params: Vec<String>,
    diagnostics: Vec<Diagnostic>,
    /// Nothing more is read or reported.
    stopped: bool,
    out: Script,
}

impl<'a> Parser<'a> {
    fn new(source: SourceId, text: &'a str) -> Parser<'a> {
        Parser {
            text,
            source,
            lexer: Lexer::new(source, text),
            token: Token { kind: Kind::Eof, start: 0, end: 0 },
            end: 0,
            depth: 0,
            predicate: false,
            params: Vec::new(),
            diagnostics: Vec::new(),
            stopped: false,
            out: Script::default(),
        }
    }

    /// Reads the next token, keeping the comments before it.
    fn advance(&mut self) {
        while let Some(comment) = self.lexer.comment() {
            // Recovery may read a stretch twice.
            if self.out.comments.last().is_none_or(|last| last.start < comment.span.start) {
                self.out.comments.push(comment.span);
                if comment.unterminated {
                    self.error(comment.span, "unterminated comment");
                }
            }
        }
        self.token = self.lexer.token();
    }

    /// Takes the next token.
    fn bump(&mut self) -> Token {
        let token = self.token;
        self.end = token.end;
        self.advance();
        token
    }

    /// Goes on at byte `at`.
    fn seek(&mut self, at: usize) {
        self.lexer.seek(at);
        self.advance();
    }

    /// The token behind the next one.
    fn second(&self) -> Token {
        let mut lexer = self.lexer;
        lexer.token()
    }

    fn text_of(&self, token: Token) -> &'a str {
        &self.text[token.start..token.end]
    }

    fn span(&self, start: usize, end: usize) -> Span {
        Span::new(self.source, start, end)
    }

    /// Where the next token is.
    fn here(&self) -> Span {
        self.span(self.token.start, self.token.end)
    }

    /// From `start` to the end of the last token.
    fn since(&self, start: usize) -> Span {
        self.span(start, self.end.max(start))
    }

    fn is(&self, punct: Punct) -> bool {
        self.token.kind == Kind::Punct(punct)
    }

    fn is_word(&self, word: &str) -> bool {
        self.token.kind == Kind::Ident && self.text_of(self.token) == word
    }

    fn eat(&mut self, punct: Punct) -> bool {
        let found = self.is(punct);
        if found {
            self.bump();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.bump();
        }
        found
    }

    fn expect(&mut self, punct: Punct) -> Parsed<Token> {
        if self.is(punct) { Ok(self.bump()) } else { Err(self.unexpected(punct.text())) }
    }

    /// A name that is no keyword.
    fn ident(&mut self, what: &str) -> Parsed<Ident> {
        if self.token.kind != Kind::Ident || KEYWORDS.contains(&self.text_of(self.token)) {
            return Err(self.unexpected(what));
        }
        Ok(self.name())
    }

    /// The next token as a name, whatever it is.
    fn name(&mut self) -> Ident {
        let token = self.bump();
        Ident { name: self.text_of(token).to_owned(), span: self.span(token.start, token.end) }
    }

    fn error(&mut self, span: Span, message: impl Into<String>) -> Reported {
        self.report(Diagnostic::error(span, message))
    }

    fn report(&mut self, diagnostic: Diagnostic) -> Reported {
        if !self.stopped {
            self.diagnostics.push(diagnostic);
        }
        if self.diagnostics.len() >= ERRORS_MAX {
            self.stop();
        }
        Reported
    }

    /// Reads and reports nothing more: the next token is the end of the text.
    fn stop(&mut self) {
        self.stopped = true;
        self.lexer.seek(self.text.len());
        self.token = Token { kind: Kind::Eof, start: self.text.len(), end: self.text.len() };
    }

    /// The next token cannot be here.
    fn unexpected(&mut self, expected: &str) -> Reported {
        let (span, what) = match self.token.kind {
            Kind::Eof => (self.span(self.end.saturating_sub(1).min(self.text.len()), self.end), "end of file"),
            _ => (self.here(), self.text_of(self.token)),
        };
        // A place inside a character would be no place.
        let mut start = span.range().start;
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let span = self.span(start, span.range().end);
        match self.token.kind {
            Kind::Eof => {
                self.error(span, format!("syntax error, unexpected {what}, expecting {expected}"));
                self.stop();
                Reported
            }
            Kind::UnterminatedStr => self.error(span, "unterminated string"),
            kind => {
                let text = match kind {
                    Kind::Unknown => format!("invalid character '{}'", what.escape_default()),
                    _ => format!("syntax error, unexpected {what}, expecting {expected}"),
                };
                let mut error = Diagnostic::error(span, text);
                error.hints.extend(slips::hint(&self.text[..self.token.start], self.token.kind, what, expected));
                self.report(error)
            }
        }
    }

    /// Runs `inner` one level deeper.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.deepen()?;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn deepen(&mut self) -> Parsed<()> {
        if self.depth >= DEPTH_MAX {
            let span = self.here();
            self.error(span, format!("nested too deeply: more than {DEPTH_MAX} levels"));
            // What follows would only be the closing brackets.
            self.stop();
            return Err(Reported);
        }
        self.depth += 1;
        Ok(())
    }

    /// Runs `inner` inside brackets, where a `/` is a division.
    fn in_brackets<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let outside = std::mem::replace(&mut self.predicate, false);
        let result = inner(self);
        self.predicate = outside;
        result
    }

    /// Items between commas up to `close`, which is taken; a comma may stand behind the last one.
    fn list<T>(&mut self, close: Punct, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.is(close) {
            items.push(item(self)?);
            if !self.eat(Punct::Comma) {
                break;
            }
        }
        if !self.is(close) {
            return Err(self.unexpected(&format!("{} or \",\"", close.text())));
        }
        self.bump();
        Ok(items)
    }

    /// Skips to the end of the statement: behind its `;`, or before the `}` of the block around, or behind a block of its own.
    fn skip_statement(&mut self) {
        let mut depth = 0u32;
        loop {
            match self.token.kind {
                Kind::Eof => return,
                Kind::Punct(Punct::LBrace) => depth += 1,
                Kind::Punct(Punct::RBrace) if depth == 0 => return,
                Kind::Punct(Punct::RBrace) => {
                    depth -= 1;
                    if depth == 0 {
                        self.bump();
                        return;
                    }
                }
                Kind::Punct(Punct::Semi) if depth == 0 => {
                    self.bump();
                    return;
                }
                _ => {}
            }
            self.bump();
        }
    }
}
