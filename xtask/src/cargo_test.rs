//! Runs `cargo test` and reads the verdicts out of what it prints.
//!
//! libtest keeps the output of a passing test to itself, and with it the line `skipped: needs …`; `--show-output` brings it
//! back, under `---- name stdout ----`. The reader takes the verdicts and prints the rest in short: headings, failures and
//! the closing `test result:` lines.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::verdicts::{Tally, Verdict};

/// Runs a `cargo test` command, prints it in short, and adds its verdicts to `tally`. A crash of a test binary or a
/// compile error comes back as an error, after the verdicts that were seen.
pub(crate) fn run(command: &mut Command, machine: &str, tally: &mut Tally) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot run `{}`", crate::sh::line(command)))?;
    // The command keeps the writing ends open; without this the reader would never see the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut parser = Parser::default();
    let before = tally.cases.iter().filter(|case| matches!(case.verdict, Verdict::Failed(_))).count();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        if parser.line(&line) {
            println!("{line}");
        }
    }
    parser.finish(machine, tally);
    let status = child.wait()?;
    let after = tally.cases.iter().filter(|case| matches!(case.verdict, Verdict::Failed(_))).count();
    if !status.success() && after == before {
        bail!("`{}` failed: {status}", crate::sh::line(command));
    }
    Ok(())
}

/// Reads libtest's output line by line.
#[derive(Default)]
pub(crate) struct Parser {
    suite: String,
    cases: Vec<(String, String, Verdict)>,
    /// In the block of captured output of this test.
    captured: Option<String>,
    /// In the `successes:` part, which nobody wants to read.
    successes: bool,
}

impl Parser {
    /// Takes one line; true if a person should see it.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if let Some(suite) = suite_name(line) {
            self.suite = suite;
            self.end_of_suite();
            return true;
        }
        if let Some((name, verdict)) = verdict(line) {
            let failed = matches!(verdict, Verdict::Failed(_));
            self.cases.push((self.suite.clone(), name, verdict));
            return failed;
        }
        if line.starts_with("test result:") || line.starts_with("error:") {
            self.end_of_suite();
            return true;
        }
        if line == "successes:" || line == "failures:" {
            self.successes = line == "successes:";
            self.captured = None;
            return !self.successes;
        }
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.captured = Some(name.to_owned());
            return !self.successes;
        }
        if let Some(needs) = line.strip_prefix("skipped: needs ") {
            let name = self.captured.clone().unwrap_or_else(|| "(a test that prints directly)".into());
            let found = self.cases.iter_mut().rev().find(|(suite, case, _)| *suite == self.suite && *case == name);
            match found {
                Some((_, _, verdict @ Verdict::Passed)) => *verdict = Verdict::Skipped(needs.trim().to_owned()),
                Some(_) => {}
                None => self.cases.push((self.suite.clone(), name, Verdict::Skipped(needs.trim().to_owned()))),
            }
            return false;
        }
        let boring = line.is_empty() || (line.starts_with("running ") && line.contains(" test"));
        !self.successes && (self.captured.is_some() || !boring)
    }

    fn end_of_suite(&mut self) {
        self.captured = None;
        self.successes = false;
    }

    /// Hands the verdicts over.
    pub(crate) fn finish(self, machine: &str, tally: &mut Tally) {
        for (suite, name, verdict) in self.cases {
            tally.add(machine, &suite, &name, verdict);
        }
    }
}

/// The test binary that cargo announces: `     Running tests/a.rs (target/debug/deps/a-0123456789abcdef)` gives `a`, and
/// `   Doc-tests skep_insn` gives `skep_insn docs`.
fn suite_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} docs"));
    }
    let file = line.strip_prefix("Running ")?.rsplit_once('(')?.1.strip_suffix(')')?;
    let stem = file.rsplit('/').next()?;
    Some(stem.rsplit_once('-').map_or(stem, |(name, _)| name).to_owned())
}

/// Reads `test some::name ... ok`.
pub(crate) fn verdict(line: &str) -> Option<(String, Verdict)> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let verdict = match outcome {
        "ok" => Verdict::Passed,
        "FAILED" => Verdict::Failed(String::new()),
        other => Verdict::Skipped(other.strip_prefix("ignored")?.trim_start_matches(", ").to_owned()),
    };
    // `test name - should panic ... ok` names the expectation too.
    Some((name.trim_end_matches(" - should panic").trim().to_owned(), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (Vec<(String, String, Verdict)>, String) {
        let mut parser = Parser::default();
        let shown: Vec<&str> = text.lines().filter(|line| parser.line(line)).collect();
        (parser.cases, shown.join("\n"))
    }

    #[test]
    fn verdicts_and_skips_are_read_and_successes_hidden() {
        let text = "     Running unittests src/lib.rs (target/debug/deps/skep_sys-0123456789abcdef)

running 3 tests
test a ... ok
test b::c ... ok
test d ... FAILED

successes:

---- b::c stdout ----
skipped: needs kprobes

successes:
    a
    b::c

failures:

---- d stdout ----
boom

failures:
    d

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
";
        let (cases, shown) = parse(text);
        let suite = "skep_sys".to_owned();
        assert_eq!(
            cases,
            [
                (suite.clone(), "a".into(), Verdict::Passed),
                (suite.clone(), "b::c".into(), Verdict::Skipped("kprobes".into())),
                (suite, "d".into(), Verdict::Failed(String::new())),
            ]
        );
        assert!(shown.contains("boom") && shown.contains("test result: FAILED"), "{shown}");
        assert!(!shown.contains("kprobes") && !shown.contains("test a"), "{shown}");
    }

    #[test]
    fn a_doc_test_and_an_ignored_test_are_read() {
        let (cases, _) =
            parse("   Doc-tests skep_insn\ntest src/lib.rs - (line 3) ... ok\ntest x ... ignored, needs a clock\n");
        assert_eq!(cases[0], ("skep_insn docs".into(), "src/lib.rs - (line 3)".into(), Verdict::Passed));
        assert_eq!(cases[1].2, Verdict::Skipped("needs a clock".into()));
    }
}
