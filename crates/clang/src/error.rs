//! What can go wrong between C and ELF, for the person who reads it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why no object came out.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Nothing that compiles for BPF was found. `refused` names what was found but cannot.
    NoCompiler {
        /// The command that installs a compiler on this system.
        install: String,
        /// Compilers that were tried, with the reason why they do not do.
        refused: Vec<String>,
    },
    /// `$SKEP_CLANG` names something that cannot be used; there is no silent fallback behind a wish.
    BadCompiler {
        /// The value of the variable.
        wanted: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The source file cannot be read.
    Source {
        /// The file as it was named.
        path: PathBuf,
        /// The reason.
        cause: io::Error,
    },
    /// A folder or file of the cache cannot be written or read.
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The reason.
        cause: io::Error,
    },
    /// The compiler could not be started.
    Start {
        /// The command.
        command: String,
        /// The reason.
        cause: io::Error,
    },
    /// The compiler refused the source. `text` is what it said, with skep's own paths taken out.
    Compile {
        /// The file as it was named.
        path: PathBuf,
        /// Clang's diagnostics, ending in a newline.
        text: String,
        /// A sentence that says what to do, where skep knows more than clang.
        hint: Option<String>,
    },
    /// `vmlinux.h` could not be made from the BTF that was given.
    Vmlinux {
        /// The reason.
        reason: String,
    },
}

impl Error {
    /// What to do about it; `None` when skep knows no more than the message.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NoCompiler { install, .. } => Some(format!("install one with `{install}`")),
            Error::Cache { cause, .. } => match cause.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some("free some space, or set XDG_CACHE_HOME to a folder on another disk".to_owned())
                }
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    Some("set XDG_CACHE_HOME to a folder that you can write to".to_owned())
                }
                _ => None,
            },
            Error::Compile { hint, .. } => hint.clone(),
            _ => None,
        }
    }

    pub(crate) fn cache(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |cause| Error::Cache { path, doing, cause }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoCompiler { refused, .. } => {
                write!(f, "no clang that compiles for BPF was found")?;
                for reason in refused {
                    write!(f, "; {reason}")?;
                }
                Ok(())
            }
            Error::BadCompiler { wanted, reason } => write!(f, "$SKEP_CLANG is `{wanted}`, which {reason}"),
            Error::Source { path, cause } => write!(f, "cannot read {}: {cause}", path.display()),
            Error::Cache { path, doing, cause } => write!(f, "cannot {doing} {}: {cause}", path.display()),
            Error::Start { command, cause } => write!(f, "cannot start `{command}`: {cause}"),
            Error::Compile { path, text, .. } => {
                write!(f, "{} does not compile\n{}", path.display(), text.trim_end())
            }
            Error::Vmlinux { reason } => write!(f, "cannot make vmlinux.h: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Source { cause, .. } | Error::Cache { cause, .. } | Error::Start { cause, .. } => Some(cause),
            _ => None,
        }
    }
}
