//! What keeps an object from opening.

use std::fmt;

/// Why an object could not be opened or edited, and where.
///
/// `Display` gives place and message on one line, such as
/// ``section `.maps` at offset 32 (`counts`): key size is given twice``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Section; `None` when the fault lies in the file as a whole.
    pub section: Option<String>,
    /// Offset in the section, or in the file when there is no section, in bytes.
    pub offset: Option<u64>,
    /// Symbol, map, program or variable.
    pub symbol: Option<String>,
    /// What is wrong, lower case.
    pub message: String,
    /// What to type or change; `None` when nothing is known.
    pub hint: Option<String>,
}

impl Error {
    pub(crate) fn new(message: impl Into<String>) -> Error {
        Error { section: None, offset: None, symbol: None, message: message.into(), hint: None }
    }

    #[must_use]
    pub(crate) fn in_section(mut self, section: &str) -> Error {
        self.section.get_or_insert_with(|| section.to_owned());
        self
    }

    #[must_use]
    pub(crate) fn at(mut self, offset: u64) -> Error {
        self.offset.get_or_insert(offset);
        self
    }

    #[must_use]
    pub(crate) fn about(mut self, symbol: &str) -> Error {
        self.symbol.get_or_insert_with(|| symbol.to_owned());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.section, self.offset) {
            (Some(section), Some(offset)) => write!(f, "section `{section}` at offset {offset}")?,
            (Some(section), None) => write!(f, "section `{section}`")?,
            (None, Some(offset)) => write!(f, "offset {offset} of the file")?,
            (None, None) => {}
        }
        let placed = self.section.is_some() || self.offset.is_some();
        match &self.symbol {
            Some(symbol) if placed => write!(f, " (`{symbol}`): ")?,
            Some(symbol) => write!(f, "`{symbol}`: ")?,
            None if placed => write!(f, ": ")?,
            None => {}
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
