//! A place in tokens, for those who read them from left to right.

use super::token::Token;

/// Tokens, and how far they are read.
pub(super) struct Cursor<'t> {
    pub(super) tokens: &'t [Token],
    /// The next one; their number at the end.
    pub(super) at: usize,
}

impl<'t> Cursor<'t> {
    /// Before the first of `tokens`.
    pub(super) fn new(tokens: &'t [Token]) -> Cursor<'t> {
        Cursor { tokens, at: 0 }
    }

    /// The next token.
    pub(super) fn peek(&self) -> Option<&'t Token> {
        self.tokens.get(self.at)
    }

    /// Whether the next token is this sign.
    pub(super) fn is(&self, sign: &str) -> bool {
        self.peek().is_some_and(|token| token.is(sign))
    }

    /// Passes over the sign, if it is next.
    pub(super) fn eat(&mut self, sign: &str) -> bool {
        let is = self.is(sign);
        self.at += usize::from(is);
        is
    }
}
