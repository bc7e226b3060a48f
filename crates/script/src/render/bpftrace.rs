//! As bpftrace writes them: `stdin:1:9-12: ERROR: text`, the line, `~~~` below.

use std::fmt::Write;

use super::{printable, shown, shown_col};
use crate::{Diagnostic, Severity, Sources, Span};

/// The diagnostics in bpftrace's form, each with its lines.
pub fn bpftrace(sources: &Sources, diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let severity = match diagnostic.severity {
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        };
        match diagnostic.span {
            Some(span) => {
                place(&mut out, sources, span, severity, &diagnostic.message);
                for call in sources.expanded_from(span) {
                    place(&mut out, sources, call, severity, "expanded from");
                }
            }
            None => {
                let _ = writeln!(out, "{severity}: {}", printable(&diagnostic.message));
            }
        }
        for (span, label) in &diagnostic.labels {
            place(&mut out, sources, *span, "NOTE", label);
        }
        for hint in &diagnostic.hints {
            let _ = writeln!(out, "HINT: {}", printable(hint));
        }
    }
    out
}

/// A message with its place. Of what covers several lines only their numbers are shown.
fn place(out: &mut String, sources: &Sources, span: Span, severity: &str, message: &str) {
    let (start, end) = (sources.start(span), sources.end(span));
    let (name, message) = (&sources.get(span.source).name, printable(message));
    if start.line != end.line {
        let _ = writeln!(out, "{name}:{}-{}: {severity}: {message}", start.line, end.line);
        return;
    }
    let _ = writeln!(out, "{name}:{}:{}-{}: {severity}: {message}", start.line, start.col, end.col);
    let line = sources.line(span.source, start.line);
    let (from, to) = (shown_col(line, start.col), shown_col(line, end.col));
    let _ = writeln!(out, "{}\n{}{}", shown(line), " ".repeat(from), "~".repeat(to.saturating_sub(from).max(1)));
}
