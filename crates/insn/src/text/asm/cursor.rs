//! Reads one line of assembly from left to right and remembers where it is.

/// A message with the column (counted in characters from 1) that it is about.
pub(super) type Failure = (usize, String);

/// A place in a line.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(line: &'a str) -> Cursor<'a> {
        Cursor { line, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.line[self.at..]
    }

    pub(super) fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    pub(super) fn column(&self) -> usize {
        self.line[..self.at].chars().count() + 1
    }

    /// Goes behind `token` if it comes next.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        self.skip_blanks();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    /// Goes behind `token`, or says that it was expected.
    pub(super) fn expect(&mut self, token: &str) -> Result<(), Failure> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    /// Goes behind the word `word` if it comes next; `goto` is not at the start of `gotol`.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let found = self.peek_word() == word;
        if found {
            self.at += word.len();
        }
        found
    }

    /// The longest run of letters, digits, `_`, `.` and `$` that comes next; may be empty.
    pub(super) fn peek_word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        &rest[..end]
    }

    /// Goes behind the word that comes next.
    pub(super) fn word(&mut self) -> &'a str {
        self.skip_blanks();
        let word = self.peek_word();
        self.at += word.len();
        word
    }

    /// Goes behind the first of `tokens` that comes next.
    pub(super) fn eat_any<T: Copy>(&mut self, tokens: &[(&str, T)]) -> Option<T> {
        tokens.iter().find_map(|(token, value)| self.eat(token).then_some(*value))
    }

    /// Goes behind an unsigned number, decimal or with `0x`.
    pub(super) fn digits(&mut self) -> Result<u64, Failure> {
        self.skip_blanks();
        let start = self.clone();
        let word = self.word();
        let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16).ok(),
            None if word.bytes().all(|b| b.is_ascii_digit()) => word.parse().ok(),
            _ => None,
        };
        match parsed {
            Some(value) => Ok(value),
            None if word.starts_with(|c: char| c.is_ascii_digit()) => {
                Err((start.column(), format!("`{}` is no number of 64 bits", shorten(word))))
            }
            None => Err(start.expected("a number")),
        }
    }

    /// Goes behind a number with an optional sign.
    pub(super) fn number(&mut self) -> Result<i128, Failure> {
        let negative = self.eat("-");
        if !negative {
            self.eat("+");
        }
        let value = i128::from(self.digits()?);
        Ok(if negative { -value } else { value })
    }

    pub(super) fn at_end(&mut self) -> bool {
        self.skip_blanks();
        self.rest().is_empty()
    }

    /// The failure that something else was expected here.
    pub(super) fn expected(&self, what: &str) -> Failure {
        let mut here = self.clone();
        here.skip_blanks();
        let column = here.column();
        let word = here.peek_word();
        let found = match (word, here.rest().chars().next()) {
            (_, None) => "the end of the line".to_owned(),
            ("", Some(c)) => format!("`{}`", c.escape_default()),
            (word, _) => format!("`{}`", shorten(word)),
        };
        (column, format!("expected {what}, found {found}"))
    }
}

pub(super) fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$')
}

/// At most 24 characters of a word, for messages.
pub(super) fn shorten(word: &str) -> String {
    match word.char_indices().nth(24) {
        Some((end, _)) => format!("{}...", &word[..end]),
        None => word.to_owned(),
    }
}
