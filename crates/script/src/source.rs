//! Texts and places in them.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// One of the texts that make a script: the script itself, a file that it imports, or one expansion of a macro. An
/// expansion has the text of the macro's file, and a number of its own, so that a span inside it tells which call made it
/// ([`Sources::expanded_from`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// A stretch of one text, in bytes; `start == end` is a place between two characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Whether nothing is written there.
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }

    /// The stretch `start..end` of `source`.
    pub fn new(source: SourceId, start: usize, end: usize) -> Span {
        Span { source, start: start as u32, end: end as u32 }
    }

    /// From the start of `self` to the end of `other`, which stands behind it in the same text.
    pub fn to(self, other: Span) -> Span {
        Span { end: other.end.max(self.end), ..self }
    }

    /// As indexes of the text.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The texts of one script.
#[derive(Clone, Debug, Default)]
pub struct Sources(Vec<Source>);

/// One text.
#[derive(Clone, Debug)]
pub struct Source {
    /// What messages call it: a path, or `stdin` for a script from the command line.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
    /// The macro call that this is an expansion of.
    pub expanded_from: Option<Span>,
}

/// A line and a column, both from 1; the column counts bytes, as bpftrace does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineCol {
    /// Line.
    pub line: u32,
    /// Column.
    pub col: u32,
}

impl fmt::Display for LineCol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.col)
    }
}

impl Sources {
    /// Adds a text. At most 4 GiB, which [`Span`] can name.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> SourceId {
        self.push(Source { name: name.into(), text: text.into().into(), expanded_from: None })
    }

    /// Adds the expansion of a macro that is written in `of`, for the call at `call`.
    pub fn add_expansion(&mut self, of: SourceId, call: Span) -> SourceId {
        let source = Source { expanded_from: Some(call), ..self.get(of).clone() };
        self.push(source)
    }

    fn push(&mut self, source: Source) -> SourceId {
        self.0.push(source);
        SourceId(self.0.len() as u32 - 1)
    }

    /// The macro calls that brought the text at `span` to where it is, innermost first; empty outside macros.
    pub fn expanded_from(&self, span: Span) -> impl Iterator<Item = Span> {
        std::iter::successors(self.get(span.source).expanded_from, |call| self.get(call.source).expanded_from)
    }

    /// The text `id`.
    pub fn get(&self, id: SourceId) -> &Source {
        &self.0[id.0 as usize]
    }

    /// The text `id`, if there is one.
    pub fn find(&self, id: SourceId) -> Option<&Source> {
        self.0.get(id.0 as usize)
    }

    /// What stands at `span`.
    pub fn text(&self, span: Span) -> &str {
        self.get(span.source).text.get(span.range()).unwrap_or_default()
    }

    /// Line and column of the first byte of `span`.
    pub fn start(&self, span: Span) -> LineCol {
        self.line_col(span.source, span.start)
    }

    /// Line and column one past the last byte of `span`.
    pub fn end(&self, span: Span) -> LineCol {
        self.line_col(span.source, span.end)
    }

    fn line_col(&self, source: SourceId, at: u32) -> LineCol {
        let before = &self.get(source).text.as_bytes()[..(at as usize).min(self.get(source).text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
        let col = before.iter().rev().take_while(|byte| **byte != b'\n').count() as u32 + 1;
        LineCol { line, col }
    }

    /// The line with this number (from 1), without its end.
    pub fn line(&self, source: SourceId, line: u32) -> &str {
        self.get(source).text.lines().nth(line.saturating_sub(1) as usize).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one() {
        let mut sources = Sources::default();
        let id = sources.add("a.bt", "ab\ncd\n");
        let at = |start, end| Span::new(id, start, end);
        assert_eq!(sources.start(at(0, 1)), LineCol { line: 1, col: 1 });
        assert_eq!(sources.start(at(4, 5)), LineCol { line: 2, col: 2 });
        assert_eq!(sources.end(at(4, 5)), LineCol { line: 2, col: 3 });
        assert_eq!(sources.start(at(6, 6)), LineCol { line: 3, col: 1 });
        assert_eq!((sources.line(id, 2), sources.line(id, 9)), ("cd", ""));
        assert_eq!(sources.text(at(3, 5)), "cd");
    }

    #[test]
    fn an_expansion_knows_its_calls() {
        let mut sources = Sources::default();
        let id = sources.add("a.bt", "macro m() { 1 } macro n() { m() } begin { n() }");
        let outer = sources.add_expansion(id, Span::new(id, 42, 45));
        let inner = sources.add_expansion(id, Span::new(outer, 28, 31));
        let one = Span::new(inner, 12, 13);
        assert_eq!(sources.text(one), "1");
        let calls: Vec<&str> = sources.expanded_from(one).map(|call| sources.text(call)).collect();
        assert_eq!(calls, ["m()", "n()"]);
    }
}
