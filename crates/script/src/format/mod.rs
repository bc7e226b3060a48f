//! One way to write a script: two spaces for each block, one statement on each line, lines of at most 100 columns.
//!
//! The meaning stays: what is formatted parses to the same tree, and formatting it again changes nothing. Comments stay, as
//! do numbers and strings as they were written, C parts, single empty lines, and parentheses that only group. A statement
//! with a comment in its middle is left as it is.

mod doc;
mod expressions;
mod items;
mod statements;

use crate::ast::Script;
use crate::{SourceId, Sources, Span};
use doc::Doc;

/// A script, formatted. `script` is what the parser made of the text `id`, without errors; with errors the parts that could
/// not be parsed are missing.
pub fn format(sources: &Sources, id: SourceId, script: &Script) -> String {
    let mut formatter = Formatter { text: &sources.get(id).text, script, next_comment: 0 };
    formatter.script().print()
}

/// Columns for each level.
const INDENT: usize = 2;

/// Columns for what goes on from the line before.
const CONTINUED: usize = 4;

struct Formatter<'a> {
    text: &'a str,
    script: &'a Script,
    /// The first comment that is not printed yet.
    next_comment: usize,
}

impl<'a> Formatter<'a> {
    fn source(&self, span: Span) -> &'a str {
        self.text.get(span.range()).unwrap_or_default()
    }

    fn between(&self, from: usize, to: usize) -> &'a str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// Whether a comment stands inside.
    fn has_comment(&self, from: usize, to: usize) -> bool {
        self.script.comments[self.next_comment..]
            .iter()
            .any(|comment| from <= comment.start as usize && (comment.start as usize) < to)
    }

    /// Counts the comments before `to` as printed: they are in a text that is left as it is.
    fn skip_comments(&mut self, to: usize) {
        while self.comment().is_some_and(|comment| (comment.start as usize) < to) {
            self.next_comment += 1;
        }
    }

    /// The next comment.
    fn comment(&self) -> Option<Span> {
        self.script.comments.get(self.next_comment).copied()
    }

    /// The comments on the line on which `end` is, if nothing but a `;` stands between; with the end of the last.
    fn trailing(&mut self, mut end: usize, out: &mut Vec<Doc>) -> usize {
        while let Some(comment) = self.comment() {
            let start = comment.range().start;
            if start < end || self.between(end, start).contains('\n') || !self.is_blank(end, start) {
                break;
            }
            out.push(Doc::text(" "));
            out.push(self.comment_doc(comment));
            end = comment.range().end;
            self.next_comment += 1;
        }
        end
    }

    fn is_blank(&self, from: usize, to: usize) -> bool {
        self.between(from, to).chars().all(|char| char.is_whitespace() || char == ';' || char == ',')
    }

    /// The comments before `to`, each on a line of its own, an empty line before those that had one; with the end of the last.
    fn leading(&mut self, mut end: usize, to: usize, first: &mut bool, out: &mut Vec<Doc>) -> usize {
        while let Some(comment) = self.comment() {
            let range = comment.range();
            if range.start >= to {
                break;
            }
            self.new_line(end, range.start, first, out);
            out.push(self.comment_doc(comment));
            end = range.end;
            self.next_comment += 1;
        }
        end
    }

    /// A comment. When each of its lines starts with a star, the stars are put below each other.
    fn comment_doc(&self, comment: Span) -> Doc {
        let text = self.source(comment);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        if !text.starts_with("/*") || !lines.clone().all(|line| line.trim_start().starts_with('*')) {
            return Doc::text(text);
        }
        let mut out = vec![Doc::text(first.trim_end())];
        for line in lines {
            out.extend([Doc::Hard, Doc::text(format!(" {}", line.trim()))]);
        }
        Doc::Concat(out)
    }

    /// A new line, and an empty one before it where the text had some; neither at the start of a block.
    fn new_line(&self, from: usize, to: usize, first: &mut bool, out: &mut Vec<Doc>) {
        if !*first && self.between(from, to).matches('\n').count() > 1 && self.has_empty_line(from, to) {
            out.push(Doc::Hard);
        }
        out.push(Doc::Hard);
        *first = false;
    }

    fn has_empty_line(&self, from: usize, to: usize) -> bool {
        let mut lines = self.between(from, to).split('\n').skip(1).peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_some() && line.trim().is_empty() {
                return true;
            }
        }
        false
    }
}
