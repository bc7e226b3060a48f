//! Text with places where a line may end.
//!
//! A [`Doc::Group`] goes on one line when it fits, otherwise each [`Doc::Line`] directly inside it ends the line. It is the
//! printer of Oppen and Wadler, in its usual form with a stack.

/// A piece of text.
pub(super) enum Doc {
    /// Text as it is; it may have several lines.
    Text(String),
    /// A space, or the end of the line.
    Line,
    /// The end of the line; what is around does not fit on one line.
    Hard,
    /// One after another.
    Concat(Vec<Doc>),
    /// Lines that begin inside are indented by this much more.
    Nest(usize, Box<Doc>),
    /// On one line when it fits.
    Group(Box<Doc>),
}

/// Lines are at most this wide where there is a choice.
const WIDTH: usize = 100;

impl Doc {
    pub(super) fn text(text: impl Into<String>) -> Doc {
        Doc::Text(text.into())
    }

    pub(super) fn nest(by: usize, inside: Vec<Doc>) -> Doc {
        Doc::Nest(by, Box::new(Doc::Concat(inside)))
    }

    pub(super) fn group(inside: Vec<Doc>) -> Doc {
        Doc::Group(Box::new(Doc::Concat(inside)))
    }

    /// The text, without white space at the ends of lines.
    pub(super) fn print(&self) -> String {
        let mut out = String::new();
        let mut col = 0;
        // What is to be printed, the next one last: indent, flat, what.
        let mut stack: Vec<(usize, bool, &Doc)> = vec![(0, false, self)];
        while let Some((indent, flat, doc)) = stack.pop() {
            match doc {
                Doc::Text(text) => {
                    if text.is_empty() {
                        continue;
                    }
                    if out.ends_with('\n') || out.is_empty() {
                        out.extend(std::iter::repeat_n(' ', indent));
                        col = indent;
                    }
                    out.push_str(text);
                    col = text.rfind('\n').map_or(col + width(text), |end| width(&text[end + 1..]));
                }
                Doc::Line if flat => {
                    out.push(' ');
                    col += 1;
                }
                Doc::Line | Doc::Hard => {
                    let len = out.trim_end_matches(' ').len();
                    out.truncate(len);
                    out.push('\n');
                    col = 0;
                }
                Doc::Concat(parts) => stack.extend(parts.iter().rev().map(|part| (indent, flat, part))),
                Doc::Nest(by, inside) => stack.push((indent + by, flat, inside)),
                Doc::Group(inside) => {
                    let fits = flat || fits(WIDTH.saturating_sub(col.max(indent)), inside, &stack);
                    stack.push((indent, fits, inside));
                }
            }
        }
        out
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Whether `first`, on one line, and what follows up to the next end of a line, needs no more than `room`.
fn fits(mut room: usize, first: &Doc, rest: &[(usize, bool, &Doc)]) -> bool {
    let mut stack: Vec<(bool, &Doc)> = vec![(true, first)];
    let mut rest = rest.iter().rev();
    loop {
        let (flat, doc) = match stack.pop() {
            Some(next) => next,
            None => match rest.next() {
                Some((_, flat, doc)) => (*flat, *doc),
                None => return true,
            },
        };
        match doc {
            Doc::Text(text) => match text.split_once('\n') {
                // Text of several lines is as wide as its first line.
                Some((line, _)) => return width(line) <= room,
                None => match room.checked_sub(width(text)) {
                    Some(left) => room = left,
                    None => return false,
                },
            },
            Doc::Line if !flat => return true,
            Doc::Line => match room.checked_sub(1) {
                Some(left) => room = left,
                None => return false,
            },
            // Inside the group it would end a line that is to be one line.
            Doc::Hard => return !flat,
            Doc::Concat(parts) => stack.extend(parts.iter().rev().map(|part| (flat, part))),
            Doc::Nest(_, inside) => stack.push((flat, inside)),
            // What follows may end its line at its first chance.
            Doc::Group(inside) => stack.push((flat, inside)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_breaks_only_when_it_must() {
        let words = |count: usize| {
            let mut parts = vec![Doc::text("f(")];
            for _ in 0..count {
                parts.push(Doc::nest(4, vec![Doc::Line, Doc::text("word,")]));
            }
            parts.push(Doc::text(")"));
            Doc::group(parts).print()
        };
        assert_eq!(words(2), "f( word, word,)");
        assert!(words(30).lines().count() == 31, "{}", words(30));
    }
}
