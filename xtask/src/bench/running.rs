//! A `skep run` that is measured from outside.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{paths, setup, sh};

/// Builds the static release binary.
pub(super) fn skep() -> Result<PathBuf> {
    let mut command = sh::cargo();
    command.args(["build", "--quiet", "--release", "--target", setup::MUSL, "--package", "skep-cli"]);
    sh::run(&mut command)?;
    Ok(paths::target().join(setup::MUSL).join("release/skep"))
}

/// A run whose programs are attached.
pub(super) struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it prints; taken by who reads it.
    pub(super) stdout: Option<ChildStdout>,
    /// From the start of the process to its line that everything is attached.
    pub(super) attached_after: Duration,
}

impl Running {
    /// Starts `skep run --verbose` and waits until it is attached.
    pub(super) fn start(command: &mut Command) -> Result<Running> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot run `{}`", sh::line(command)))?;
        let mut stderr = BufReader::new(child.stderr.take().context("stderr is a pipe")?);
        let mut said = String::new();
        loop {
            let mut line = String::new();
            if stderr.read_line(&mut line)? == 0 {
                child.wait()?;
                bail!("`{}` ended before it was attached:\n{}", sh::line(command), said.trim_end());
            }
            if line.starts_with("^C") {
                break;
            }
            said.push_str(&line);
        }
        let attached_after = start.elapsed();
        let stdout = child.stdout.take();
        Ok(Running { child, stderr, stdout, attached_after })
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of its main thread so far, user and system: the loop of a run has no other.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let file = format!("/proc/{}/schedstat", self.child.id());
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        let ns = text.split(' ').next().and_then(|word| word.parse().ok()).context("schedstat begins with a number")?;
        Ok(Duration::from_nanos(ns))
    }

    /// Resident memory now.
    pub(super) fn rss_kb(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status tells VmRSS")?;
        line.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).context("VmRSS is a number")
    }

    /// Ctrl-C; gives back what it said at the end and how long its exit took.
    pub(super) fn stop(mut self) -> Result<(String, Duration)> {
        let start = Instant::now();
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::INT)?;
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        let took = start.elapsed();
        if !status.success() {
            bail!("skep ended with {status}:\n{}", said.trim_end());
        }
        Ok((said, took))
    }
}

/// The middle of some measurements.
pub(super) fn median<T: Ord + Copy>(values: &mut [T]) -> Option<T> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
