//! As skep writes them: the line with marks below it, other places that explain it, and what to do.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{printable, shown, shown_col};
use crate::{Diagnostic, Severity, SourceId, Sources, Span};

/// Something below a line.
struct Mark {
    from: usize,
    to: usize,
    main: bool,
    label: String,
}

/// Escape sequences for colours; all empty without them.
struct Paint {
    error: &'static str,
    warning: &'static str,
    frame: &'static str,
    bold: &'static str,
    off: &'static str,
}

const COLOURED: Paint =
    Paint { error: "\x1b[1;31m", warning: "\x1b[1;33m", frame: "\x1b[1;34m", bold: "\x1b[1m", off: "\x1b[0m" };
const PLAIN: Paint = Paint { error: "", warning: "", frame: "", bold: "", off: "" };

/// The diagnostics in skep's own form, with an empty line behind each.
pub fn rustlike(sources: &Sources, diagnostics: &[Diagnostic], colour: bool) -> String {
    let paint = if colour { &COLOURED } else { &PLAIN };
    let mut out = String::new();
    for diagnostic in diagnostics {
        one(&mut out, sources, diagnostic, paint);
        out.push('\n');
    }
    out
}

fn one(out: &mut String, sources: &Sources, diagnostic: &Diagnostic, paint: &Paint) {
    let Paint { frame, bold, off, .. } = paint;
    let (word, hue) = match diagnostic.severity {
        Severity::Warning => ("warning", paint.warning),
        Severity::Error => ("error", paint.error),
    };
    let _ = writeln!(out, "{hue}{word}{off}{bold}: {}{off}", printable(&diagnostic.message));
    let calls: Vec<Span> = diagnostic.span.iter().flat_map(|span| sources.expanded_from(*span)).collect();
    let places = || diagnostic.labels.iter().map(|(span, _)| *span).chain(diagnostic.span).chain(calls.iter().copied());
    let gutter = places().map(|span| sources.end(span).line).max().unwrap_or(0).to_string().len();
    let blank = " ".repeat(gutter);
    if let Some(main) = diagnostic.span {
        let mut marked = vec![(main, true, String::new())];
        marked.extend(diagnostic.labels.iter().map(|(span, label)| (*span, false, printable(label))));
        frames(out, sources, &marked, gutter, hue, paint);
    } else {
        for (span, label) in &diagnostic.labels {
            frames(out, sources, &[(*span, true, printable(label))], gutter, hue, paint);
        }
    }
    if !diagnostic.hints.is_empty() && diagnostic.span.is_some() {
        let _ = writeln!(out, "{blank} {frame}|{off}");
    }
    for hint in &diagnostic.hints {
        let _ = writeln!(out, "{blank} {frame}={off} {bold}help{off}: {}", printable(hint));
    }
    for call in calls {
        let _ = writeln!(out, "{bold}note{off}: expanded from this macro call");
        frames(out, sources, &[(call, true, String::new())], gutter, frame, paint);
    }
}

/// The lines with marks, in order, one frame for each text; the first mark's text comes first.
fn frames(
    out: &mut String,
    sources: &Sources,
    marked: &[(Span, bool, String)],
    gutter: usize,
    hue: &str,
    paint: &Paint,
) {
    let Paint { frame, off, .. } = paint;
    let blank = " ".repeat(gutter);
    // Expansions of one macro are one text to the reader.
    let text_of = |source: SourceId| sources.get(source).text.as_ptr();
    let mut texts: Vec<Span> = Vec::new();
    for (span, ..) in marked {
        if !texts.iter().any(|known| text_of(known.source) == text_of(span.source)) {
            texts.push(*span);
        }
    }
    for (index, first) in texts.into_iter().enumerate() {
        let arrow = if index == 0 { "-->" } else { ":::" };
        let _ = writeln!(
            out,
            "{blank}{frame}{arrow}{off} {}:{}",
            printable(&sources.get(first.source).name),
            sources.start(first)
        );
        let _ = writeln!(out, "{blank} {frame}|{off}");
        let mut lines: BTreeMap<u32, Vec<Mark>> = BTreeMap::new();
        for (span, main, label) in marked.iter().filter(|(span, ..)| text_of(span.source) == text_of(first.source)) {
            mark(&mut lines, sources, *span, *main, label);
        }
        let mut last = None;
        for (number, marks) in &lines {
            if last.is_some_and(|last: u32| last + 1 < *number) {
                let _ = writeln!(out, "{frame}...{off}");
            }
            last = Some(*number);
            let text = shown(sources.line(first.source, *number));
            let _ = writeln!(out, "{frame}{number:>gutter$} |{off} {text}");
            below(out, marks, &blank, hue, paint);
        }
    }
}

/// Notes what is to be marked. What covers several lines is marked where it starts and where it ends.
fn mark(lines: &mut BTreeMap<u32, Vec<Mark>>, sources: &Sources, span: Span, main: bool, label: &str) {
    let (start, end) = (sources.start(span), sources.end(span));
    let mut add = |line: u32, from: usize, to: usize, label: &str| {
        let to = to.max(from + 1);
        lines.entry(line).or_default().push(Mark { from, to, main, label: label.to_owned() });
    };
    let text = sources.line(span.source, start.line);
    let from = shown_col(text, start.col);
    if start.line == end.line {
        add(start.line, from, shown_col(text, end.col), label);
        return;
    }
    add(start.line, from, shown(text.trim_end()).chars().count(), "");
    let text = sources.line(span.source, end.line);
    let indent = text.len() - text.trim_start().len();
    add(end.line, shown_col(text, indent as u32 + 1), shown_col(text, end.col), label);
}

/// The marks below one line: all on one line with the label of the last, the other labels below, from right to left.
fn below(out: &mut String, marks: &[Mark], blank: &str, hue: &str, paint: &Paint) {
    let Paint { frame, off, .. } = paint;
    let mut order: Vec<&Mark> = marks.iter().collect();
    order.sort_by_key(|mark| (mark.from, mark.to));
    let width = order.iter().map(|mark| mark.to).max().unwrap_or(0);
    let mut row = vec![' '; width];
    for mark in order.iter().filter(|mark| !mark.main).chain(order.iter().filter(|mark| mark.main)) {
        row[mark.from..mark.to].fill(if mark.main { '^' } else { '-' });
    }
    // What is marked twice at one place has its labels in lines of their own.
    let right = order.last().filter(|last| order.iter().all(|mark| mark.to < last.from || std::ptr::eq(*mark, **last)));
    let inline = right.map_or("", |mark| mark.label.as_str());
    let row: String = row.into_iter().collect();
    let space = if inline.is_empty() { "" } else { " " };
    let _ = writeln!(out, "{blank} {frame}|{off} {hue}{row}{space}{inline}{off}");
    for mark in order.iter().rev().filter(|mark| !mark.label.is_empty()) {
        if right.is_some_and(|right| std::ptr::eq(*right, *mark)) {
            continue;
        }
        let _ = writeln!(out, "{blank} {frame}|{off} {}{frame}{}{off}", " ".repeat(mark.from), mark.label);
    }
}
