//! Tokens of C.

use std::rc::Rc;

use crate::Span;
use crate::source::SourceId;

/// A word, number, string or sign, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// In the script; of a token from an included file, the `#include`.
    pub(crate) span: Span,
    /// Where in its own text.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// The first of its line.
    pub(crate) first: bool,
    /// A macro's name that is not to be expanded any more, since it stands in its own expansion.
    pub(crate) painted: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind {
    /// A word; `$x`, `@m` and `@` too, so that a macro may use the script's variables and maps.
    Ident(Rc<str>),
    Int(u64),
    Str(Rc<[u8]>),
    Sign(&'static str),
    /// What C has no use for, such as a floating point number.
    Other(Rc<str>),
}

/// Signs, longer ones before those that they begin with.
const SIGNS: [&str; 47] = [
    "...", "<<=", ">>=", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "##", "+=", "-=", "*=",
    "/=", "%=", "&=", "|=", "^=", "{", "}", "(", ")", "[", "]", ";", ",", ":", "?", ".", "+", "-", "*", "/", "%", "&",
    "|", "^", "~", "!", "<", ">", "=",
];

impl Token {
    pub(crate) fn is(&self, sign: &str) -> bool {
        matches!(&self.kind, TokenKind::Sign(it) if *it == sign)
    }

    pub(crate) fn ident(&self) -> Option<&Rc<str>> {
        match &self.kind {
            TokenKind::Ident(name) => Some(name),
            _ => None,
        }
    }

    /// As messages write it.
    pub(crate) fn shown(&self) -> String {
        match &self.kind {
            TokenKind::Ident(text) | TokenKind::Other(text) => text.to_string(),
            TokenKind::Int(value) => value.to_string(),
            TokenKind::Str(bytes) => format!("\"{}\"", String::from_utf8_lossy(bytes)),
            TokenKind::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// Where a text comes from.
#[derive(Clone, Copy)]
pub(crate) enum Origin {
    /// A source of the script; the text begins at this byte of it.
    Script(SourceId, u32),
    /// An included file: everything stands at its `#include`.
    Included(Span),
}

/// The tokens of `text`, comments and joined lines resolved. `#` comes as [`TokenKind::Other`].
pub(crate) fn tokens(text: &str, origin: Origin) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    let mut first = true;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match rest {
            [b'\n', ..] => {
                first = true;
                at += 1;
            }
            [b'\\', b'\n', ..] => at += 2,
            [b'\\', b'\r', b'\n', ..] => at += 3,
            [b'/', b'/', ..] => at += line_end(rest),
            [b'/', b'*', ..] => {
                let end = rest[2..].windows(2).position(|two| two == b"*/");
                at += end.map_or(rest.len(), |end| end + 4);
            }
            [byte, ..] if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let (kind, len) = token(text, at);
                let (start, end) = (at as u32, (at + len) as u32);
                let span = match origin {
                    Origin::Script(source, base) => Span { source, start: base + start, end: base + end },
                    Origin::Included(span) => span,
                };
                found.push(Token { kind, span, start, end, first, painted: false });
                first = false;
                at += len;
            }
        }
    }
    found
}

/// Bytes before the end of the line, joined lines counted as one.
fn line_end(rest: &[u8]) -> usize {
    let mut at = 0;
    while at < rest.len() && rest[at] != b'\n' {
        at += if rest[at..].starts_with(b"\\\n") { 2 } else { 1 };
    }
    at.min(rest.len())
}

fn token(text: &str, at: usize) -> (TokenKind, usize) {
    let rest = &text[at..];
    let bytes = rest.as_bytes();
    let word = |from: usize| {
        let end = bytes[from..].iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_');
        end.map_or(bytes.len(), |end| end + from)
    };
    match bytes[0] {
        b'0'..=b'9' => {
            let mut end = word(0);
            // A fraction or an exponent's sign: one token that is no integer.
            while matches!(bytes.get(end), Some(b'.')) {
                end = word(end + 1);
            }
            let spelled = &rest[..end];
            (integer(spelled).map_or_else(|| TokenKind::Other(spelled.into()), TokenKind::Int), end)
        }
        b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
            let end = word(0);
            (TokenKind::Ident(rest[..end].into()), end)
        }
        b'$' | b'@' => {
            let end = word(1);
            (TokenKind::Ident(rest[..end].into()), end)
        }
        quote @ (b'"' | b'\'') => {
            let (value, len) = quoted(bytes, quote);
            match (quote, &value[..]) {
                (b'"', _) => (TokenKind::Str(value.into()), len),
                (_, [byte]) => (TokenKind::Int(i64::from(*byte as i8) as u64), len),
                _ => (TokenKind::Other(rest.get(..len).unwrap_or("'").into()), len),
            }
        }
        _ => match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => (TokenKind::Sign(sign), sign.len()),
            None => {
                let len = rest.chars().next().map_or(1, char::len_utf8);
                (TokenKind::Other(rest[..len].into()), len)
            }
        },
    }
}

/// An integer of C: `10`, `0x10UL`, `010`, `0b11`.
fn integer(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['u', 'U', 'l', 'L']);
    let lower = digits.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        // `u` and `l` are no hexadecimal digits, so nothing of the number was cut.
        return u64::from_str_radix(hex, 16).ok();
    }
    if let Some(binary) = lower.strip_prefix("0b") {
        return u64::from_str_radix(binary, 2).ok();
    }
    match lower.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => u64::from_str_radix(octal, 8).ok(),
        _ => lower.parse().ok(),
    }
}

/// The bytes between quotes, escapes resolved, and how long it is with its quotes. Ends at the line's end at the latest.
fn quoted(bytes: &[u8], quote: u8) -> (Vec<u8>, usize) {
    let mut value = Vec::new();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'\n' => return (value, at - 1),
            _ if byte == quote => return (value, at),
            b'\\' => {
                let Some(&escape) = bytes.get(at) else { break };
                at += 1;
                let digits = |from: usize, most: usize, radix: u32| {
                    let digits = bytes[from..].iter().take(most).take_while(|it| char::from(**it).is_digit(radix));
                    digits.fold((0u32, 0), |(value, n), it| {
                        (value * radix + char::from(*it).to_digit(radix).unwrap_or_default(), n + 1)
                    })
                };
                match escape {
                    b'n' => value.push(b'\n'),
                    b't' => value.push(b'\t'),
                    b'r' => value.push(b'\r'),
                    b'0'..=b'7' => {
                        let (number, n) = digits(at - 1, 3, 8);
                        value.push(number as u8);
                        at += n - 1;
                    }
                    b'x' => {
                        let (number, n) = digits(at, 2, 16);
                        value.push(number as u8);
                        at += n;
                    }
                    b'\n' => {}
                    other => value.push(other),
                }
            }
            other => value.push(other),
        }
    }
    (value, bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let tokens = tokens(text, Origin::Included(Span::default()));
        let tokens = tokens.iter().map(|it| format!("{}{}", if it.first { "^" } else { "" }, it.shown()));
        tokens.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn text_becomes_tokens() {
        assert_eq!(shown("a /* x\n */ b // c\nd"), "^a b ^d");
        assert_eq!(shown("#define X \\\n 1"), "^# define X 1");
        assert_eq!(shown("0x1fUL 017 0b11 'a' '\\n' 1.5"), "^31 15 3 97 10 1.5");
        assert_eq!(shown("a->b <<= @m $x ..."), "^a -> b <<= @m $x ...");
        assert_eq!(shown("\"a\\x41\\101\" \"open"), "^\"aAA\" \"open\"");
        assert_eq!(shown("'ab' é /* open"), "^'ab' é");
        assert_eq!(shown("'"), "^'");
    }
}
