//! `--NAME VALUE` for the globals of a program: flags that only the program knows.

use std::ffi::OsString;

use clap::CommandFactory;

use crate::args::Args;

/// A global and its value, as typed.
pub(crate) type Global = (String, String);

/// Takes the flags that `skep run` does not know out of a command line.
///
/// `--NAME=VALUE` and `--NAME VALUE` are the same; `--NAME` before another flag, or at the end, means 1. A `-` in the name
/// stands for `_`, as C has no `-`. Other subcommands know all of their flags: theirs stay, for clap to refuse.
pub(crate) fn split(typed: Vec<OsString>) -> (Vec<OsString>, Vec<Global>) {
    if typed.get(1).is_none_or(|command| command != "run") {
        return (typed, Vec::new());
    }
    let root = Args::command();
    let Some(run) = root.find_subcommand("run") else { return (typed, Vec::new()) };
    let takes_value = |arg: &clap::Arg| arg.get_action().takes_values();
    let mut kept = Vec::new();
    let mut globals = Vec::new();
    let mut rest = typed.into_iter().peekable();
    while let Some(word) = rest.next() {
        let text = word.to_string_lossy().into_owned();
        let Some(long) = text.strip_prefix("--").filter(|name| !name.is_empty()) else {
            // A short flag's value may begin with dashes: `-c '--help'`.
            let short = text.strip_prefix('-').filter(|rest| rest.chars().count() == 1);
            let known = short.and_then(|c| run.get_arguments().find(|arg| arg.get_short() == c.chars().next()));
            kept.push(word);
            if known.is_some_and(takes_value) {
                kept.extend(rest.next());
            }
            continue;
        };
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        let is = |arg: &clap::Arg| {
            arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        };
        let known = run.get_arguments().find(|arg| is(arg));
        if known.is_some() || matches!(name, "help" | "version") {
            kept.push(word);
            if value.is_none() && known.is_some_and(takes_value) {
                kept.extend(rest.next());
            }
            continue;
        }
        let value = value.unwrap_or_else(|| {
            let next = rest.next_if(|next| {
                let next = next.to_string_lossy();
                // A negative number is a value.
                !next.starts_with('-') || next[1..].starts_with(|c: char| c.is_ascii_digit())
            });
            next.map_or_else(|| "1".into(), |next| next.to_string_lossy().into_owned())
        });
        globals.push((name.replace('-', "_"), value));
    }
    (kept, globals)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &str, kept: &str, globals: &[(&str, &str)]) {
        let (rest, found) = split(typed.split(' ').map(OsString::from).collect());
        let rest: Vec<_> = rest.iter().map(|word| word.to_string_lossy()).collect();
        assert_eq!(rest.join(" "), kept);
        let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(found, globals);
    }

    #[test]
    fn flags_of_the_program_are_taken_out() {
        check(
            "skep run x.bpf.c --myappid 39228 --iface veth0 --min-us=5 --debug --json",
            "skep run x.bpf.c --iface veth0 --json",
            &[("myappid", "39228"), ("min_us", "5"), ("debug", "1")],
        );
        check("skep run --offset -3 x.bpf.c", "skep run x.bpf.c", &[("offset", "-3")]);
    }

    #[test]
    fn known_flags_keep_their_values_and_other_commands_theirs() {
        check("skep run x.o -c --help --duration 5s", "skep run x.o -c --help --duration 5s", &[]);
        check("skep run x.o --program it", "skep run x.o --program it", &[]);
        check("skep load --nonsense x.o", "skep load --nonsense x.o", &[]);
    }
}
