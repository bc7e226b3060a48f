//! A `skep` process: started, watched line by line, stopped, and looked at afterwards.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::kernel_objects::KernelObjects;
use super::{eventually, patience};

/// The binary under test, with a cache folder that no user has.
///
/// `within` are words to put in front of the command, such as `nsenter --net=...`; they must end in an exec.
pub(crate) fn command(within: &[OsString], args: &[&OsStr]) -> Command {
    let binary = OsString::from(env!("CARGO_BIN_EXE_skep"));
    // The tests themselves may run under nohup(1), which is not what they are about.
    let hearing = ["env", "--default-signal=HUP"].map(OsString::from);
    let hearing = if ignores_hangups() { &hearing[..] } else { &[] };
    let words: Vec<&OsStr> =
        hearing.iter().chain(within).map(OsString::as_os_str).chain([binary.as_os_str()]).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(args);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    std::fs::create_dir_all(&cache).expect("the target folder can be written to");
    command.env("XDG_CACHE_HOME", cache).env_remove("SKEP_CLANG").env("TZ", "UTC");
    command
}

/// Whether this process ignores SIGHUP (proc(5)).
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("it has signals");
    u64::from_str_radix(ignored.trim(), 16).expect("a mask") & 1 != 0
}

/// Runs `skep ARGS` to its end.
pub(crate) fn call<S: AsRef<OsStr>>(args: &[S]) -> Outcome {
    let args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
    finish(&mut command(&[], &args))
}

/// Runs a prepared command to its end.
pub(crate) fn finish(command: &mut Command) -> Outcome {
    command.stdin(Stdio::null());
    let out = loop {
        match command.output() {
            // A program that was just written: another thread's child had it open for writing until its execve(2).
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
            out => break out.expect("skep starts"),
        }
    };
    Outcome {
        status: out.status,
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// A command that ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    /// The last line on standard error: events, losses, seconds.
    pub(crate) fn summary(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }

    /// Events and losses of the summary.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let mut parts = self.summary().split(", ");
        let mut number = |unit: &[&str]| {
            let (number, rest) = parts.next()?.split_once(' ')?;
            unit.contains(&rest).then(|| number.parse::<u64>().ok())?
        };
        let counts = number(&["event", "events"]).zip(number(&["lost"]));
        counts.unwrap_or_else(|| panic!("no summary in:\n{}", self.stderr))
    }
}

/// Lines of a stream, as they come.
#[derive(Clone, Default)]
struct Lines {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    fn read(stream: impl Read + Send + 'static) -> Lines {
        let lines = Lines::default();
        let sink = lines.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                sink.state().lines.push(text);
                sink.shared.changed.notify_all();
                line.clear();
            }
            sink.state().ended = true;
            sink.shared.changed.notify_all();
        });
        lines
    }

    /// The lines of a stream that goes elsewhere.
    fn ended() -> Lines {
        Lines::read(std::io::empty())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no reader panics")
    }

    fn all(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// The first line that `wanted` takes; `None` when the stream ends or patience does.
    fn wait(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let end = Instant::now() + patience();
        let mut seen = 0;
        let mut state = self.state();
        loop {
            if let Some(line) = state.lines[seen..].iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = end.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                return None;
            }
            state = self.shared.changed.wait_timeout(state, left).expect("no reader panics").0;
        }
    }

    /// Everything, once the stream has ended.
    fn finish(&self) -> String {
        let _ = self.wait(|_| false);
        let mut text = self.all().join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// `skep run --verbose ...`, attached.
pub(crate) struct Skep {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    /// What it holds in the kernel.
    held: KernelObjects,
}

impl Skep {
    /// Starts a run and waits until everything is attached.
    ///
    /// # Panics
    ///
    /// When it ends before, with what it said.
    pub(crate) fn run<S: AsRef<OsStr>>(args: &[S]) -> Skep {
        Skep::run_within(&[], args)
    }

    /// The same behind another command, such as `nsenter`.
    pub(crate) fn run_within<S: AsRef<OsStr>>(within: &[OsString], args: &[S]) -> Skep {
        let mut all = vec![OsStr::new("run"), OsStr::new("--verbose")];
        all.extend(args.iter().map(AsRef::as_ref));
        Skep::start(&mut command(within, &all))
    }

    /// The same from a prepared command.
    pub(crate) fn start(command: &mut Command) -> Skep {
        Skep::start_with(command, Stdio::piped())
    }

    /// The same with the output in a file, for very much of it.
    pub(crate) fn start_into(command: &mut Command, file: std::fs::File) -> Skep {
        Skep::start_with(command, file.into())
    }

    fn start_with(command: &mut Command, output: Stdio) -> Skep {
        let spawned = command.stdin(Stdio::null()).stdout(output).stderr(Stdio::piped()).spawn();
        // The command keeps its ends open; a reader would never see the end.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawned.expect("skep starts");
        let stdout = child.stdout.take().map(Lines::read).unwrap_or_else(Lines::ended);
        let stderr = Lines::read(child.stderr.take().expect("standard error is piped"));
        let mut skep = Skep { child, stdout, stderr, held: KernelObjects::default() };
        // A run says the first, a trace the second.
        if skep.stderr.wait(|line| line == "^C to stop" || line.starts_with("Attached ")).is_none() {
            let status = skep.child.try_wait().ok().flatten();
            panic!("skep is not attached (status {status:?}); it said:\n{}", skep.stderr.all().join("\n"));
        }
        skep.held = KernelObjects::of(skep.pid());
        assert!(!skep.held.programs.is_empty(), "an attached skep holds programs");
        skep
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it holds in the kernel.
    pub(crate) fn held(&self) -> &KernelObjects {
        &self.held
    }

    /// The first line of output, so far or soon, that `wanted` takes.
    ///
    /// # Panics
    ///
    /// When none comes, with everything that did.
    pub(crate) fn line(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.stdout.wait(wanted).unwrap_or_else(|| {
            panic!(
                "no line {what}; standard output:\n{}\nstandard error:\n{}",
                tail(&self.stdout.all()),
                tail(&self.stderr.all())
            )
        })
    }

    /// The first line that ends with `text`.
    pub(crate) fn line_ending(&self, text: &str) -> String {
        self.line(&format!("ends with `{text}`"), |line| line.trim_end().ends_with(text))
    }

    /// The first line that consists of these words, whatever columns they stand in and whatever stands before them.
    pub(crate) fn row(&self, words: &[&str]) -> String {
        self.line(&format!("ends with the words {words:?}"), |line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            columns.ends_with(words)
        })
    }

    /// Every line of output so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.stdout.all()
    }

    /// Every line of talk so far.
    pub(crate) fn talk(&self) -> Vec<String> {
        self.stderr.all()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("our own child takes our signals");
    }

    /// Ctrl-C, and the end with everything in order: exit code 0, a summary, nothing left in the kernel.
    pub(crate) fn stop(self) -> Outcome {
        self.signal(Signal::INT);
        let outcome = self.end();
        assert!(outcome.status.success(), "{:?}; it said:\n{}", outcome.status, outcome.stderr);
        outcome.counts();
        outcome
    }

    /// Waits for the end, whatever brings it, and checks that nothing is left in the kernel.
    pub(crate) fn end(mut self) -> Outcome {
        let status = eventually(|| self.child.try_wait().expect("our own child can be waited for"));
        let Some(status) = status else {
            panic!("skep does not end; it said:\n{}", tail(&self.stderr.all()));
        };
        self.held.assert_gone();
        Outcome { status, stdout: self.stdout.finish(), stderr: self.stderr.finish() }
    }
}

impl Drop for Skep {
    fn drop(&mut self) {
        // After a panic; a child that ended is not there any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tail(lines: &[String]) -> String {
    lines[lines.len().saturating_sub(40)..].join("\n")
}
