//! What an object prints with `bpf_printk`, so that its lines can be told from those of others.
//!
//! The kernel has one stream for the lines of all programs, and a line does not say which program printed it. But a
//! program's format strings are known: a line that none of them could have made belongs to someone else.

use skep_insn::helpers;
use skep_spec::function::RefTarget;
use skep_spec::map::MapContents;
use skep_spec::{Function, Spec};

/// The format strings of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Formats {
    /// Each as the literal pieces between its conversions.
    formats: Vec<Vec<String>>,
    /// Some string was built at run time (on the stack): every line may be ours.
    any: bool,
}

/// The formats that `spec` prints with; `None` when it prints nothing.
pub(crate) fn formats(spec: &Spec) -> Option<Formats> {
    let printing: Vec<&Function> = spec.functions.iter().filter(|function| prints(function)).collect();
    if printing.is_empty() {
        return None;
    }
    let mut found = Formats::default();
    for function in printing {
        let before = found.formats.len();
        for reference in &function.references {
            if let RefTarget::MapValue { map, off_bytes } = reference.target
                && let MapContents::Data(data) = &spec.map(map).contents
                && let Some(text) = c_string(data, off_bytes as usize)
            {
                found.formats.push(pieces(text));
            }
        }
        // No string in a section: it must be on the stack.
        found.any |= found.formats.len() == before;
    }
    Some(found)
}

fn prints(function: &Function) -> bool {
    let mut calls = function.insns.iter().filter_map(|insn| insn.helper());
    calls.any(|helper| matches!(helper, helpers::TRACE_PRINTK | helpers::TRACE_VPRINTK))
}

fn c_string(data: &[u8], off: usize) -> Option<&str> {
    let rest = data.get(off..)?;
    let end = rest.iter().position(|&b| b == 0)?;
    std::str::from_utf8(&rest[..end]).ok().filter(|text| !text.is_empty())
}

/// Splits a format at its conversions (`%d`, `%-8lu`, `%pI4`); `%%` stays a percent sign.
fn pieces(format: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut rest = format.trim_end_matches('\n').chars().peekable();
    while let Some(c) = rest.next() {
        if c != '%' {
            push(&mut pieces, c);
            continue;
        }
        if rest.next_if_eq(&'%').is_some() {
            push(&mut pieces, '%');
            continue;
        }
        while rest.next_if(|c| "-+ #0123456789.*lhzjt".contains(*c)).is_some() {}
        if rest.next() == Some('p') {
            // What follows says how the pointer is shown: `%pI4`, `%pks`, `%pB`.
            while rest.next_if(char::is_ascii_alphanumeric).is_some() {}
        }
        pieces.push(String::new());
    }
    pieces
}

fn push(pieces: &mut [String], c: char) {
    if let Some(last) = pieces.last_mut() {
        last.push(c);
    }
}

impl Formats {
    /// Whether one of the formats could have made this line.
    pub(crate) fn could_make(&self, line: &str) -> bool {
        self.any || self.formats.iter().any(|pieces| fits(pieces, line))
    }
}

fn fits(pieces: &[String], line: &str) -> bool {
    let [first, middle @ .., last] = pieces else {
        return pieces.first().is_none_or(|only| only == line);
    };
    let Some(mut rest) = line.strip_prefix(first.as_str()) else { return false };
    for piece in middle {
        match rest.find(piece.as_str()) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    // The kernel cuts long lines, so that the end may be missing.
    rest.ends_with(last.as_str()) || line.len() >= MAX_LINE
}

/// Length from which the kernel may have cut a line (`BPF_TRACE_PRINTK_SIZE`, kernel/trace/bpf_trace.c, 6.18).
const MAX_LINE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(format: &str, line: &str) -> bool {
        super::fits(&pieces(format), line)
    }

    #[test]
    fn lines_are_told_by_the_literal_parts_of_the_format() {
        assert!(fits("BPF triggered from PID %d.\n", "BPF triggered from PID 4711."));
        assert!(!fits("BPF triggered from PID %d.\n", "Hello World 3"));
        assert!(fits("%s: %-8lu of %pI4 at 100%%", "x: 5        of 127.0.0.1 at 100%"));
        assert!(!fits("%s: %d", "no colon"));
        assert!(fits("plain", "plain"));
        assert!(!fits("plain", "plain and more"));
        assert!(fits("%d", "anything"));
    }
}
