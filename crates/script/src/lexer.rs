//! Words of the language: text to tokens, one at a time.
//!
//! Attach points have words of their own (`uprobe:/lib/*:f`), so tokens are made when the parser asks for them, and the
//! parser reads attach points from the text itself ([`Lexer::seek`]).

use crate::{SourceId, Span};

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// End of the text.
    Eof,
    /// `name`, keywords included.
    Ident,
    /// `$name`
    Var,
    /// `$1`
    Param,
    /// `$#`
    ParamCount,
    /// `@`, `@name`
    Map,
    /// A number, with whatever letters follow it (`0x1f`, `1e6`, `5ms`, `10UL`).
    Number,
    /// `"..."`, both quotes included.
    Str,
    /// `"...` up to the end of the line.
    UnterminatedStr,
    /// An operator or a bracket.
    Punct(Punct),
    /// A character that starts nothing.
    Unknown,
}

macro_rules! puncts {
    ($($name:ident $text:literal)*) => {
        /// Operators and brackets.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is named for its characters")]
        pub enum Punct { $($name),* }

        impl Punct {
            /// As written.
            pub fn text(self) -> &'static str {
                match self { $(Punct::$name => $text),* }
            }

            /// All, those before their own beginnings.
            const ALL: &[Punct] = &[$(Punct::$name),*];
        }
    };
}

puncts! {
    ShlAssign "<<=" ShrAssign ">>="
    Arrow "->" Inc "++" Dec "--" AndAnd "&&" OrOr "||" EqEq "==" NotEq "!=" LessEq "<=" GreaterEq ">=" Shl "<<" Shr ">>"
    AddAssign "+=" SubAssign "-=" MulAssign "*=" DivAssign "/=" ModAssign "%=" AndAssign "&=" OrAssign "|=" XorAssign "^="
    DotDot ".."
    LBrace "{" RBrace "}" LParen "(" RParen ")" LBracket "[" RBracket "]" Comma "," Semi ";" Colon ":" Question "?" Dot "."
    Assign "=" Less "<" Greater ">" Plus "+" Minus "-" Star "*" Slash "/" Percent "%" And "&" Or "|" Xor "^" Not "!"
    Tilde "~" Hash "#"
}

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Makes the tokens of one text.
#[derive(Clone, Copy, Debug)]
pub struct Lexer<'a> {
    text: &'a str,
    source: SourceId,
    at: usize,
}

/// What stands before a token and means nothing to the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comment {
    /// Where, without the end of the line.
    pub span: Span,
    /// A `/*` without its `*/`.
    pub unterminated: bool,
}

impl<'a> Lexer<'a> {
    /// Starts at the first byte.
    pub fn new(source: SourceId, text: &'a str) -> Lexer<'a> {
        Lexer { text, source, at: 0 }
    }

    /// Goes to another byte of the text, which must be the start of a character.
    pub fn seek(&mut self, at: usize) {
        self.at = at;
    }

    /// The byte that comes next.
    pub fn at(&self) -> usize {
        self.at
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips white space; the comment behind it, if there is one, is skipped and returned.
    pub fn comment(&mut self) -> Option<Comment> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        let rest = self.rest();
        let (len, unterminated) = if rest.starts_with("//") {
            (rest.find('\n').map_or(rest.len(), |end| rest[..end].trim_end().len()), false)
        } else if let Some(inside) = rest.strip_prefix("/*") {
            inside.find("*/").map_or((rest.len(), true), |end| (end + 4, false))
        } else {
            return None;
        };
        let start = self.at;
        self.at += len;
        Some(Comment { span: Span::new(self.source, start, self.at), unterminated })
    }

    /// The next token, skipping white space and comments.
    pub fn token(&mut self) -> Token {
        while self.comment().is_some() {}
        let rest = self.rest();
        let (kind, len) = match rest.as_bytes() {
            [] => (Kind::Eof, 0),
            [b'"', ..] => string(rest),
            [b'$', b'#', ..] => (Kind::ParamCount, 2),
            [b'$', b'0'..=b'9', ..] => (Kind::Param, 1 + run(&rest[1..], |byte| byte.is_ascii_digit())),
            [b'$', first, ..] if is_ident_start(*first) => (Kind::Var, 1 + run(&rest[1..], is_ident)),
            [b'@', first, ..] if is_ident_start(*first) => (Kind::Map, 1 + run(&rest[1..], is_ident)),
            [b'@', ..] => (Kind::Map, 1),
            [b'0'..=b'9', ..] => (Kind::Number, run(rest, is_ident)),
            [first, ..] if is_ident_start(*first) => (Kind::Ident, run(rest, is_ident)),
            _ => match Punct::ALL.iter().find(|punct| rest.starts_with(punct.text())) {
                Some(punct) => (Kind::Punct(*punct), punct.text().len()),
                None => (Kind::Unknown, rest.chars().next().map_or(0, char::len_utf8)),
            },
        };
        let start = self.at;
        self.at += len;
        Token { kind, start, end: self.at }
    }
}

/// Whether a name may start with this byte.
pub fn is_ident_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_'
}

/// Whether a name may go on with this byte.
pub fn is_ident(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn run(text: &str, belongs: fn(u8) -> bool) -> usize {
    text.bytes().take_while(|byte| belongs(*byte)).count()
}

/// A string, from its first quote; it ends at the end of the line at the latest.
pub(crate) fn string(text: &str) -> (Kind, usize) {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return (Kind::Str, at + 1),
            b'\n' => break,
            b'\\' if bytes.get(at + 1).is_some_and(|next| *next != b'\n') => at += 2,
            _ => at += 1,
        }
    }
    // A backslash may have skipped the first byte of a longer character.
    let mut end = at.min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    (Kind::UnterminatedStr, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(Kind, &str)> {
        let mut lexer = Lexer::new(SourceId(0), text);
        let mut all = Vec::new();
        loop {
            let token = lexer.token();
            if token.kind == Kind::Eof {
                return all;
            }
            all.push((token.kind, &text[token.start..token.end]));
        }
    }

    #[test]
    fn the_longest_operator_wins() {
        let texts = |text| words(text).into_iter().map(|(_, word)| word).collect::<Vec<_>>();
        assert_eq!(texts("a<<=b<<c<=d<e"), ["a", "<<=", "b", "<<", "c", "<=", "d", "<", "e"]);
        assert_eq!(texts("0..10"), ["0", "..", "10"]);
        assert_eq!(texts("$t.0.1"), ["$t", ".", "0", ".", "1"]);
        assert_eq!(texts("a->b--->c"), ["a", "->", "b", "--", "->", "c"]);
    }

    #[test]
    fn sigils_belong_to_names() {
        assert_eq!(
            words("$x $1 $12a $# @ @m $"),
            [
                (Kind::Var, "$x"),
                (Kind::Param, "$1"),
                (Kind::Param, "$12"),
                (Kind::Ident, "a"),
                (Kind::ParamCount, "$#"),
                (Kind::Map, "@"),
                (Kind::Map, "@m"),
                (Kind::Unknown, "$")
            ]
        );
    }

    #[test]
    fn strings_end_at_the_line() {
        assert_eq!(words(r#""a\"b" c"#), [(Kind::Str, r#""a\"b""#), (Kind::Ident, "c")]);
        assert_eq!(words("\"a\nb"), [(Kind::UnterminatedStr, "\"a"), (Kind::Ident, "b")]);
        assert_eq!(words("\"a\\"), [(Kind::UnterminatedStr, "\"a\\")]);
        assert_eq!(words("\"\\é"), [(Kind::UnterminatedStr, "\"\\é")]);
    }

    #[test]
    fn comments_are_skipped_and_named() {
        assert_eq!(words("a // b\n/* c */ d /* e"), [(Kind::Ident, "a"), (Kind::Ident, "d")]);
        let mut lexer = Lexer::new(SourceId(0), "  // b \n/* c");
        let first = lexer.comment().expect("a comment");
        assert_eq!((first.span.range(), first.unterminated), (2..6, false));
        let second = lexer.comment().expect("another");
        assert_eq!((second.span.range(), second.unterminated), (8..12, true));
        assert_eq!(lexer.comment(), None);
    }
}
