//! What an engine could not do.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// An engine's refusal, for the person reading it.
///
/// `Display` gives the message alone, lower case; causes follow through [`StdError::source`], and the hint is a sentence
/// of its own that says what to type next.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    log: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What callers decide on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nothing that a caller would treat apart.
    #[default]
    Other,
    /// What it attaches to does not exist on this machine: another program of the object may do.
    Absent,
    /// This machine cannot do it at all: too old a kernel, a switched-off feature.
    Unsupported,
    /// The rights are missing.
    Denied,
    /// The caller has to say where: an interface, a binary, a cgroup.
    NeedsOption,
}

impl Error {
    /// An error that says `message`: what failed, and where.
    pub fn new(message: impl Into<String>) -> Error {
        Error { kind: ErrorKind::Other, message: message.into(), hint: None, log: None, source: None }
    }

    /// Says what callers decide on.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Error {
        self.kind = kind;
        self
    }

    /// Says before the message what it is about: a file, an object.
    #[must_use]
    pub fn about(mut self, what: impl fmt::Display) -> Error {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the verifier's whole log, for those who ask for it.
    #[must_use]
    pub fn with_log(mut self, log: impl Into<String>) -> Error {
        self.log = Some(log.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What callers decide on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What to do about it; `None` when nothing is known.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The verifier's whole log; `None` when there was none.
    pub fn log(&self) -> Option<&str> {
        self.log.as_deref()
    }

    /// The last `lines` lines of the verifier's log before its closing statistics, where the complaint is, with a line before them
    /// that says how many were left out; `None` when there was no log. The message itself names the complaint, its instruction and
    /// its C line already.
    ///
    /// ```
    /// let error = skep_engine::Error::new("the verifier refuses program `x`")
    ///     .with_log("0: (b7) r1 = 1\n1: (61) r0 = *(u32 *)(r1 +0)\nR1 invalid mem access 'scalar'\nprocessed 2 insns\n");
    /// let tail = "(1 line left out)\n1: (61) r0 = *(u32 *)(r1 +0)\nR1 invalid mem access 'scalar'";
    /// assert_eq!(error.log_tail(2).as_deref(), Some(tail));
    /// ```
    pub fn log_tail(&self, lines: usize) -> Option<String> {
        let closing = |line: &&str| {
            let line = line.trim();
            !["processed ", "verification time ", "stack depth "].iter().any(|start| line.starts_with(start))
        };
        let all: Vec<&str> = self.log()?.lines().filter(closing).filter(|line| !line.trim().is_empty()).collect();
        let left_out = all.len().saturating_sub(lines);
        let tail = all[left_out..].join("\n");
        Some(match left_out {
            0 => tail,
            1 => format!("(1 line left out)\n{tail}"),
            more => format!("({more} lines left out)\n{tail}"),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

impl From<skep_spec::Error> for Error {
    fn from(error: skep_spec::Error) -> Error {
        let message = error.to_string();
        match error.hint {
            Some(hint) => Error::new(message).with_hint(hint),
            None => Error::new(message),
        }
    }
}
