//! Resolving: from a [`Spec`](crate::Spec) and a [`Target`](crate::Target) to a [`Resolved`](crate::Resolved).

use std::fmt;

/// Why one program has no instructions for this target.
#[derive(Debug)]
pub struct Error {
    /// Name of the program.
    pub program: String,
    /// What is missing or wrong, lower case.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "program `{}`: {}", self.program, self.message)
    }
}

impl std::error::Error for Error {}
