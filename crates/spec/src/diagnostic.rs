//! What a reader of an object should know although it opened.

use std::fmt;

/// A warning about one place of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The program, map, section or symbol that it is about.
    pub subject: String,
    /// What is odd, lower case, without a full stop.
    pub message: String,
    /// What to type or change; `None` when nothing is known.
    pub hint: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {}", self.subject, self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
