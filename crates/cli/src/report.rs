//! Messages on standard error.

use std::error::Error as _;
use std::io::{IsTerminal, Write};

use skep_engine::Error;
use skep_sys::Errno;

/// Prints an error with its causes and its hint.
pub(crate) fn error(error: &Error) {
    label("error", "\x1b[1;31m", &error.to_string());
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        if current.is::<Errno>() {
            // The message has said it, or something that people understand better.
            break;
        }
        let text = current.to_string();
        // A message that already quotes its cause needs no second line.
        if !said.contains(&text) {
            line(&format!("  = because: {text}"));
            said = text;
        }
        cause = current.source();
    }
    if let Some(hint) = error.hint().or_else(|| limit(error)) {
        line(&format!("  = help: {hint}"));
    }
}

/// What to do where a limit of files was reached, whoever met it.
fn limit(error: &Error) -> Option<&'static str> {
    let mut cause = error.source();
    while let Some(current) = cause {
        let io = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error).map(Errno::from_raw);
        match current.downcast_ref::<Errno>().copied().or(io) {
            Some(Errno::EMFILE) => {
                return Some("this process may open no more files: raise the limit with `ulimit -n`");
            }
            Some(Errno::ENFILE) => {
                return Some("all processes together may open no more files: raise /proc/sys/fs/file-max");
            }
            _ => cause = current.source(),
        }
    }
    None
}

/// Prints a warning and what to do about it.
pub(crate) fn warning(message: &str, hint: Option<&str>) {
    label("warning", "\x1b[1;33m", message);
    if let Some(hint) = hint {
        line(&format!("  = help: {hint}"));
    }
}

/// Prints a line of talk.
pub(crate) fn line(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Whether messages may have colours.
pub(crate) fn has_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn label(word: &str, color: &str, message: &str) {
    if has_colour() {
        line(&format!("{color}{word}\x1b[0m: {message}"));
    } else {
        line(&format!("{word}: {message}"));
    }
}

/// What a failure to write standard output means: a closed pipe is the end of the work and no error.
pub(crate) fn cannot_write(cause: std::io::Error) -> Result<(), Error> {
    match cause.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Error::new("cannot write the output").with_source(cause)),
    }
}
