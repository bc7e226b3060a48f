//! Diagnostics as text.
//!
//! [`bpftrace`] writes what that program writes, for scripts and tests that read it; [`rustlike`] is what people get from
//! skep itself: the line, what each part of it has to do with the matter, and what to do.

mod bpftrace;
mod rustlike;

pub use bpftrace::bpftrace;
pub use rustlike::rustlike;

/// What text from a script may do to a terminal: nothing. Control characters become escapes.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && !matches!(char, '\t' | '\n') {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// Tabs as this many spaces.
const TAB: usize = 4;

/// How wide a character is when it is shown.
fn width(char: char) -> usize {
    match char {
        '\t' => TAB,
        char if char.is_control() => char.escape_default().count(),
        _ => 1,
    }
}

/// A line as it is shown.
fn shown(line: &str) -> String {
    printable(line).replace('\t', &" ".repeat(TAB))
}

/// Where the byte `col` (from 1) of `line` is shown, in characters from 0. Behind the line it goes on counting.
fn shown_col(line: &str, col: u32) -> usize {
    let at = col.saturating_sub(1) as usize;
    let before: usize = line.char_indices().take_while(|(index, _)| *index < at).map(|(_, char)| width(char)).sum();
    before + at.saturating_sub(line.len())
}
