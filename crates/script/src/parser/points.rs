//! Attach points: `uprobe:/usr/lib/lib*.so:"f(int, char)"`.
//!
//! They have no tokens: an attach point is cut at its colons and ends before white space, a comma or `{`. A `/` belongs to a
//! path once a colon was seen, else it starts the predicate; behind white space it always does.

use crate::ast::AttachPoint;
use crate::lexer;
use crate::lexer::Kind;
use crate::parser::literals::unescape;
use crate::{Diagnostic, Span};

/// What was read of an attach point.
pub(crate) struct Cut {
    pub(crate) point: AttachPoint,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Reads the attach point at the start of `text`, which stands at `at`. `param` says what to put for `$1`; without it stays.
pub(crate) fn cut(text: &str, at: Span, mut param: Option<&mut dyn FnMut(u32) -> String>) -> Cut {
    let bytes = text.as_bytes();
    let mut parts = vec![Vec::new()];
    let mut diagnostics = Vec::new();
    let mut end = 0;
    let place = |range: std::ops::Range<usize>| {
        Span::new(at.source, at.start as usize + range.start, at.start as usize + range.end)
    };
    while let Some(byte) = bytes.get(end).copied() {
        let colon = parts.len() > 1;
        let part = parts.last_mut().expect("there is always one");
        match byte {
            b'"' => {
                let (kind, len) = lexer::string(&text[end..]);
                let quotes = if kind == Kind::Str { 1 } else { 0 };
                if quotes == 0 {
                    diagnostics.push(Diagnostic::error(place(end..end + len), "unterminated string"));
                }
                let (value, wrong) = unescape(&text[end + 1..(end + len - quotes).max(end + 1)]);
                part.extend(value);
                diagnostics.extend(
                    wrong.into_iter().map(|(range, text)| {
                        Diagnostic::error(place(end + 1 + range.start..end + 1 + range.end), text)
                    }),
                );
                end += len;
            }
            b'\\' if bytes.get(end + 1).is_some_and(|next| *next != b'\n') => {
                end += 1;
                let len = text[end..].chars().next().map_or(1, char::len_utf8);
                part.extend(&bytes[end..end + len]);
                end += len;
            }
            b':' => {
                parts.push(Vec::new());
                end += 1;
            }
            b'/' if !colon => break,
            b',' | b'{' | b'}' | b';' => break,
            b'$' if bytes.get(end + 1).is_some_and(u8::is_ascii_digit) => {
                let digits = bytes[end + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let written = &text[end..end + 1 + digits];
                end += 1 + digits;
                // A number that no one can pass is as unset as any other.
                let number = written[1..].parse().unwrap_or(u32::MAX);
                match &mut param {
                    Some(param) => part.extend(param(number).bytes()),
                    None => part.extend(written.bytes()),
                }
            }
            _ => {
                let len = text[end..].chars().next().map_or(1, char::len_utf8);
                if text[end..].starts_with(char::is_whitespace) {
                    break;
                }
                part.extend(&bytes[end..end + len]);
                end += len;
            }
        }
    }
    let parts = parts.into_iter().map(|part| String::from_utf8_lossy(&part).into_owned()).collect();
    let point = AttachPoint { parts, text: text[..end].to_owned(), span: place(0..end) };
    Cut { point, diagnostics }
}
