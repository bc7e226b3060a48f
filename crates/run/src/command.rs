//! The command that runs while programs are attached.

use std::process::Command;

use skep_engine::{Engine, HeldCommand};

use crate::{Error, input};

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
    engine.hold(child).map_err(|error| error.about(format_args!("cannot start `{program}`")))
}

/// Names the command's program.
pub(crate) fn cannot_start(command: &str, cause: &std::io::Error) -> Error {
    let words = split_command(command).unwrap_or_default();
    let program = words.first().map_or(command, String::as_str);
    Error::new(format!("cannot start `{program}`: {}", input::io_text(cause)))
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
    fn commands_split_as_a_shell_would() {
        let words = |text| split_command(text).unwrap();
        assert_eq!(words("ls -l /tmp"), ["ls", "-l", "/tmp"]);
        assert_eq!(words(r#"sh -c 'echo "a b"' c\ d """#), ["sh", "-c", "echo \"a b\"", "c d", ""]);
        assert!(split_command("echo 'a").is_err());
        assert!(split_command("  ").is_err());
    }
}
