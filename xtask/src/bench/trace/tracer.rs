//! A tracer that is measured from outside.

use std::io::{BufRead, BufReader, PipeReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::bench::running;
use crate::{paths, sh};

/// What both print once everything is attached, when it is in their environment: skep to stdout, bpftrace 0.17 to stderr.
const ATTACHED: &str = "__BPFTRACE_NOTIFY_PROBES_ATTACHED";

/// A program that answers to the name `bpftrace`.
#[derive(Clone, Debug)]
pub(super) struct Tracer {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
}

/// The distribution's bpftrace, then skep.
pub(super) fn both() -> Result<[Tracer; 2]> {
    let theirs = sh::find("bpftrace").context("`cargo xtask setup` installs bpftrace, but it is not there")?;
    let skep = running::skep()?;
    let ours = paths::build_cache().join("oracle/bpftrace");
    std::fs::create_dir_all(ours.parent().context("it lies in a folder")?)?;
    let _ = std::fs::remove_file(&ours);
    std::os::unix::fs::symlink(&skep, &ours).with_context(|| format!("cannot make {}", ours.display()))?;
    Ok([Tracer { name: "bpftrace", program: theirs }, Tracer { name: "skep", program: ours }])
}

/// A script as the command line takes it.
pub(super) enum Script<'a> {
    Text(&'a str),
    File(&'a Path),
}

impl Tracer {
    /// The command for a script.
    pub(super) fn command(&self, script: &Script<'_>) -> Command {
        let mut command = Command::new(&self.program);
        match script {
            Script::Text(text) => command.args(["-e", text]),
            Script::File(file) => command.arg(file),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).env(ATTACHED, "1");
        command
    }

    /// Starts a script and waits until it is attached.
    pub(super) fn start(&self, script: &Script<'_>) -> Result<Tracing> {
        self.start_command(self.command(script))
    }

    /// As [`Tracer::start`], for a command that was changed. Both of its outputs go to one pipe.
    pub(super) fn start_command(&self, mut command: Command) -> Result<Tracing> {
        let (output, end) = std::io::pipe()?;
        command.stdout(end.try_clone()?).stderr(end);
        let line = sh::line(&command);
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot run `{line}`"))?;
        // It holds our ends for writing, which would keep the pipe open.
        drop(command);
        let mut output = BufReader::new(output);
        let mut said = String::new();
        loop {
            let mut text = String::new();
            if output.read_line(&mut text)? == 0 {
                child.wait()?;
                bail!("`{line}` ended before it was attached:\n{}", said.trim_end());
            }
            if text.trim_end() == ATTACHED {
                break;
            }
            said.push_str(&text);
        }
        Ok(Tracing { child, output: Some(output), attached_after: start.elapsed() })
    }
}

/// A script whose probes are attached.
pub(super) struct Tracing {
    child: Child,
    output: Option<BufReader<PipeReader>>,
    /// From the start of the process.
    pub(super) attached_after: Duration,
}

impl Tracing {
    /// Processor time of the process so far, user and system, in clock ticks of 10 ms at worst; all threads.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let folder = format!("/proc/{}/task", self.child.id());
        let mut sum = 0u64;
        for task in std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            sum += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Greatest resident memory so far.
    pub(super) fn peak_kb(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("status tells VmHWM")?;
        line.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).context("VmHWM is a number")
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it prints from now on, once.
    pub(super) fn take_output(&mut self) -> Option<BufReader<PipeReader>> {
        self.output.take()
    }

    /// Waits until it has ended.
    pub(super) fn wait(mut self) -> Result<()> {
        self.child.wait()?;
        Ok(())
    }

    /// Ctrl-C, until that has come.
    ///
    /// bpftrace 0.17 loses a signal that comes between its last look at the flag and its wait for events, and then waits for ever;
    /// so it gets the signal again until it is gone.
    pub(super) fn interrupt_until(&self, gone: impl FnMut() -> bool) -> Result<()> {
        interrupt_until(rustix::process::Pid::from_child(&self.child), gone)
    }

    /// Ctrl-C, and the end of it.
    pub(super) fn stop(mut self) -> Result<()> {
        // Nobody reads any more: a tracer that prints its maps must not wait for room in the pipe.
        self.output = None;
        let pid = rustix::process::Pid::from_child(&self.child);
        interrupt_until(pid, || !matches!(self.child.try_wait(), Ok(None)))
    }
}

fn interrupt_until(pid: rustix::process::Pid, mut gone: impl FnMut() -> bool) -> Result<()> {
    loop {
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let again = Instant::now() + Duration::from_millis(500);
        while Instant::now() < again {
            if gone() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A program in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) id: u64,
    pub(super) run_ns: u64,
    pub(super) runs: u64,
}

impl Program {
    /// The program among those that a process holds that ran most often while the kernel counted.
    pub(super) fn busiest(pid: u32) -> Result<Program> {
        let folder = format!("/proc/{pid}/fdinfo");
        let mut busiest: Option<Program> = None;
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))? {
            // A descriptor may be closed in the meantime.
            let text = std::fs::read_to_string(entry?.path()).unwrap_or_default();
            if let Some(program) = Program::parse(&text)
                && busiest.is_none_or(|other| program.runs > other.runs)
            {
                busiest = Some(program);
            }
        }
        busiest.context("the tracer holds no program")
    }

    /// From what `/proc/PID/fdinfo` tells of a descriptor; `None` if that is not of a program.
    fn parse(text: &str) -> Option<Program> {
        let number = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse().ok())
        };
        Some(Program { id: number("prog_id")?, run_ns: number("run_time_ns")?, runs: number("run_cnt")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_from_other_descriptors() {
        let text = "pos:\t0\nprog_type:\t5\nprog_id:\t42\nrun_time_ns:\t900\nrun_cnt:\t3\n";
        assert_eq!(Program::parse(text), Some(Program { id: 42, run_ns: 900, runs: 3 }));
        // A link names its program, too.
        assert_eq!(Program::parse("pos:\t0\nlink_type:\tperf\nlink_id:\t7\nprog_id:\t42\n"), None);
    }
}
