//! Where the time of a short command goes: in which system calls, and what is left for the command itself.
//!
//! `tests/bench/syscall_times.bpf.c` adds up the times, run by `skep run`. That costs something at every system call, so these
//! runs are others than those whose processor time is judged.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::running::{Running, median};
use crate::paths;

/// Median times in system calls, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    /// `execve`: the kernel's share of starting a program.
    pub(super) exec_us: u64,
    /// `BPF_PROG_LOAD`: the verifier and the kernel's JIT.
    pub(super) verify_us: u64,
    /// Other commands of bpf(2).
    pub(super) bpf_us: u64,
    /// All other system calls.
    pub(super) other_us: u64,
}

/// Watches what `runs` starts through `measure`; gives the split of each program, in the order of `programs`.
pub(super) fn split<const N: usize>(
    skep: &Path,
    programs: [&Path; N],
    runs: impl FnOnce() -> Result<()>,
) -> Result<[Split; N]> {
    let mut command = Command::new(skep);
    command.args(["run", "--verbose", "--json"]).arg(paths::root().join("tests/bench/syscall_times.bpf.c"));
    let mut running = Running::start(&mut command)?;
    let mut stdout = running.stdout.take().context("stdout is a pipe")?;
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).map(|_| text)
    });
    runs()?;
    // The last process was waited for before its event was read.
    std::thread::sleep(Duration::from_millis(200));
    running.stop()?;
    let text = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let mut splits = [Split { exec_us: 0, verify_us: 0, bpf_us: 0, other_us: 0 }; N];
    for (split, program) in splits.iter_mut().zip(programs) {
        let name = program.file_name().context("a program has a name")?.to_string_lossy();
        *split = medians(&text, &name).with_context(|| format!("no event tells of `{name}`:\n{text}"))?;
    }
    Ok(splits)
}

/// The medians of one program; none if there is no line about it.
fn medians(text: &str, name: &str) -> Option<Split> {
    let rows = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let rows: Vec<_> = rows.filter(|row| row["comm"] == name).collect();
    let middle = |field: &str| {
        let mut values: Vec<u64> = rows.iter().filter_map(|row| row[field].as_u64()).collect();
        Some(median(&mut values)? / 1000)
    };
    Some(Split {
        exec_us: middle("exec_ns")?,
        verify_us: middle("verify_ns")?,
        bpf_us: middle("bpf_ns")?,
        other_us: middle("other_ns")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_per_program() {
        let line = |comm: &str, ns: u64| {
            format!(r#"{{"comm":"{comm}","exec_ns":{ns},"verify_ns":{ns},"bpf_ns":2000,"other_ns":3999}}"#) + "\n"
        };
        let text = [line("a", 9000), line("b", 1), line("a", 7000), line("a", 8000)].concat();
        let expected = Split { exec_us: 8, verify_us: 8, bpf_us: 2, other_us: 3 };
        assert_eq!(medians(&text, "a"), Some(expected));
        assert_eq!(medians(&text, "c"), None);
    }
}
