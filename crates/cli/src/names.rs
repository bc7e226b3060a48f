//! The names that this program answers to, and the words that stand for others.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::trace;

/// Runs as the program by whose name it was called: `bpftrace`, or `skep bpftrace`.
pub(crate) fn other_program(typed: &[OsString]) -> Option<ExitCode> {
    let called = |word: Option<&OsString>| word.and_then(|word| Path::new(word).file_name()).map(OsString::from);
    let behind = if called(typed.first())? == "bpftrace" {
        1
    } else if typed.get(1)? == "bpftrace" {
        2
    } else {
        return None;
    };
    let words = typed[behind..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
    Some(trace::bpftrace::main(words))
}

/// `skep FILE.bt` is `skep trace FILE.bt`, so that a script can name skep in its first line.
pub(crate) fn script_first(typed: &mut Vec<OsString>) {
    if typed.get(1).is_some_and(|word| trace::source::is_script(word)) {
        typed.insert(1, "trace".into());
    }
}
