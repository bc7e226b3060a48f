//! The command that runs while programs are attached.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::Command;

use skep_engine::{Engine, HeldCommand};

use crate::Error;

/// A command of a line: blanks separate words, quotes and backslashes keep together. No shell is involved.
///
/// # Errors
///
/// When a quote is not closed or there is no word at all.
pub fn command(line: &str) -> Result<Command, Error> {
    let words = split_command(line).map_err(Error::new)?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    Ok(command)
}

/// Starts the command of a line, which waits until it is released.
pub(crate) fn hold(engine: &dyn Engine, line: &str) -> Result<Box<dyn HeldCommand>, Error> {
    let child = command(line)?;
    let program = child.get_program().to_string_lossy().into_owned();
    startable(child.get_program()).map_err(|cause| cannot_start(line, &cause))?;
    engine.hold(child).map_err(|error| error.about(format_args!("cannot start `{program}`")))
}

/// Whether there is a program to start: a held child would find out only after everything was attached.
fn startable(program: &OsStr) -> io::Result<()> {
    let runs = |path: &Path| {
        if std::fs::metadata(path)?.is_dir() {
            return Err(rustix::io::Errno::ACCESS.into());
        }
        Ok(rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?)
    };
    if program.as_encoded_bytes().contains(&b'/') {
        return runs(Path::new(program));
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut refused = rustix::io::Errno::NOENT.into();
    for folder in std::env::split_paths(&folders) {
        match runs(&folder.join(program)) {
            Ok(()) => return Ok(()),
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => refused = cause,
            Err(_) => {}
        }
    }
    Err(refused)
}

/// Names the command's program.
pub(crate) fn cannot_start(command: &str, cause: &std::io::Error) -> Error {
    let words = split_command(command).unwrap_or_default();
    let program = words.first().map_or(command, String::as_str);
    let error = Error::new(format!("cannot start `{program}`: {}", skep_sys::io_text(cause)));
    match cause.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        // An engine's own.
        Some(inner) => error.with_source(inner.clone()),
        None => error,
    }
}

/// Splits a command into words: blanks separate, quotes and backslashes keep together.
///
/// # Errors
///
/// Text for people when a quote is not closed or there is no word at all.
pub(crate) fn split_command(command: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut rest = command.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('"') | None, '\\') => word.get_or_insert_default().extend(rest.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(quote) = quote {
        return Err(format!("the command `{command}` ends inside a {quote} quote"));
    }
    words.extend(word);
    if words.is_empty() { Err("the command is empty".into()) } else { Ok(words) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_started_is_known_before() {
        let answer = |program: &str| startable(OsStr::new(program)).map_err(|cause| cause.kind());
        assert_eq!(answer("sh"), Ok(()));
        assert_eq!(answer("/bin/sh"), Ok(()));
        assert_eq!(answer("no-such-program"), Err(io::ErrorKind::NotFound));
        assert_eq!(answer("./no-such-program"), Err(io::ErrorKind::NotFound));
        assert_eq!(answer("/tmp"), Err(io::ErrorKind::PermissionDenied));
    }

    #[test]
    fn commands_split_as_a_shell_would() {
        let words = |text| split_command(text).unwrap();
        assert_eq!(words("ls -l /tmp"), ["ls", "-l", "/tmp"]);
        assert_eq!(words(r#"sh -c 'echo "a b"' c\ d """#), ["sh", "-c", "echo \"a b\"", "c d", ""]);
        assert!(split_command("echo 'a").is_err());
        assert!(split_command("  ").is_err());
    }
}
