//! What is wrong with a script, and where.
//!
//! Diagnostics are data; two renderers show them: skep's own (spans with labels, reasons and fixes) and, under the name
//! `bpftrace`, that program's (`file:line:c1-c2: ERROR: text`, the line, `~~~` below it, `HINT:` lines).

use crate::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The script runs.
    Warning,
    /// The script does not run.
    Error,
}

/// One finding. The macro calls that led to its place are known to the [`Sources`](crate::Sources::expanded_from).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where; `None` when it is about no place in the script.
    pub span: Option<Span>,
    /// What, in the words that bpftrace uses when it says the same, since scripts and tests rely on them.
    pub message: String,
    /// Other places that explain it, each with a few words.
    pub labels: Vec<(Span, String)>,
    /// What to do about it.
    pub hints: Vec<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            span: Some(span),
            message: message.into(),
            labels: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// A warning at `span`.
    pub fn warning(span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(span, message) }
    }

    /// Adds what to do about it.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hints.push(hint.into());
        self
    }

    /// Adds a place that explains it.
    pub fn with_label(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.labels.push((span, label.into()));
        self
    }
}
