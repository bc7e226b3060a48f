//! The first process of a test machine: mounts, loads modules, runs every test of the plan, powers off.
//!
//! `/plan` says what to do, one thing a line:
//!
//! ```text
//! env NAME=VALUE         for every test
//! module PATH            load this module; they stand in the order of their dependencies
//! filter TEXT            only tests whose name holds this
//! suite NAME DIR PATH    a test binary and the folder that it expects to start in
//! program NAME PATH ARGS a program whose output is wanted as it is
//! ready                  the modules and the environment are complete
//! ```
//!
//! What happened goes to the second serial port (the first belongs to the kernel's messages), one thing a line:
//!
//! ```text
//! kernel RELEASE
//! note TEXT
//! test SUITE NAME        starts
//! out TEXT               a line that the test printed, only if it failed
//! passed | failed REASON | skipped NEEDS
//! end
//! ```
//!
//! Each test runs in a process of its own: one that crashes, or hangs beyond [`LIMIT`], takes no other with it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};

/// How long one test may take. Emulation is some ten times slower than the host.
const LIMIT: Duration = Duration::from_secs(120);
/// How much of a test's output is kept.
const OUTPUT_LIMIT_BYTES: usize = 256 * 1024;

fn main() {
    let mut port = prepare();
    let done = run_plan(&mut port);
    if let Err(error) = done {
        say(&mut port, &format!("note the plan failed: {error}"));
    }
    say(&mut port, "end");
    rustix::fs::sync();
    // The bytes are still in the port's buffer.
    std::thread::sleep(Duration::from_millis(200));
    let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
}

/// Mounts what a Debian machine has mounted, and opens the port.
fn prepare() -> File {
    let mounts = [
        ("devtmpfs", "/dev"),
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("securityfs", "/sys/kernel/security"),
        ("tracefs", "/sys/kernel/tracing"),
        ("debugfs", "/sys/kernel/debug"),
        ("bpf", "/sys/fs/bpf"),
    ];
    for (kind, path) in mounts {
        let _ = fs::create_dir_all(path);
        if let Err(error) = mount(kind, path, kind, MountFlags::empty(), None) {
            println!("cannot mount {path}: {error}");
        }
    }
    File::options().write(true).open("/dev/ttyS1").expect("the machine has a second serial port")
}

fn say(port: &mut File, line: &str) {
    // Nobody is left to tell if the port fails.
    let _ = port.write_all(format!("{line}\n").as_bytes());
}

fn run_plan(port: &mut File) -> std::io::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    say(port, &format!("kernel {}", release.trim()));
    let plan = fs::read_to_string("/plan")?;
    let mut env: Vec<(&str, &str)> = Vec::new();
    let mut filter = "";
    for line in plan.lines() {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "env" => env.extend(rest.split_once('=')),
            "module" => load_module(port, rest),
            "filter" => filter = rest,
            "ready" => network(port, &env),
            "suite" => {
                let mut parts = rest.splitn(3, ' ');
                if let (Some(name), Some(dir), Some(path)) = (parts.next(), parts.next(), parts.next()) {
                    suite(port, name, dir, path, filter, &env);
                }
            }
            "program" => {
                let words: Vec<&str> = rest.split(' ').collect();
                if let [name, path, args @ ..] = words.as_slice() {
                    program(port, name, path, args, &env);
                }
            }
            _ => say(port, &format!("note the plan has a line that nobody understands: {line}")),
        }
    }
    Ok(())
}

fn load_module(port: &mut File, path: &str) {
    let result = File::open(path)
        .map_err(|error| error.to_string())
        .and_then(|file| rustix::system::finit_module(file, c"", 0).map_err(|error| error.to_string()));
    if let Err(error) = result {
        say(port, &format!("note module {path}: {error}"));
    }
}

/// Brings up the loopback interface.
fn network(port: &mut File, env: &[(&str, &str)]) {
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).envs(env.iter().copied()).status();
    if !up.is_ok_and(|status| status.success()) {
        say(port, "note the loopback interface is down");
    }
}

/// Lists the tests of a binary and runs each.
fn suite(port: &mut File, suite: &str, dir: &str, path: &str, filter: &str, env: &[(&str, &str)]) {
    let mut list = Command::new(path);
    list.args(["--list", "--format", "terse"]).envs(env.iter().copied()).current_dir(dir);
    let names = match list_output(&mut list) {
        Ok(text) => text,
        Err(error) => {
            say(port, &format!("test {suite} --list"));
            say(port, &format!("failed {error}"));
            return;
        }
    };
    for name in names.lines().filter_map(|line| line.strip_suffix(": test")) {
        if !name.contains(filter) {
            continue;
        }
        say(port, &format!("test {suite} {name}"));
        let mut command = Command::new(path);
        command.args(["--exact", name, "--test-threads=1", "--show-output"]).envs(env.iter().copied()).current_dir(dir);
        let (text, outcome) = limited(&mut command);
        let skipped = text.lines().find_map(|line| line.split_once("skipped: needs ").map(|(_, needs)| needs.trim()));
        let ignored = text.lines().any(|line| line.starts_with("test ") && line.contains(" ... ignored"));
        match outcome {
            Ok(()) if ignored => say(port, "skipped ignored"),
            Ok(()) => match skipped {
                Some(needs) => say(port, &format!("skipped {needs}")),
                None => say(port, "passed"),
            },
            Err(reason) => {
                for line in text.lines() {
                    say(port, &format!("out {line}"));
                }
                say(port, &format!("failed {reason}"));
            }
        }
    }
}

fn list_output(command: &mut Command) -> Result<String, String> {
    let out = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !out.status.success() {
        return Err(format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr)));
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// Runs a program for its output.
fn program(port: &mut File, name: &str, path: &str, args: &[&str], env: &[(&str, &str)]) {
    say(port, &format!("test program {name}"));
    let mut command = Command::new(path);
    command.args(args).envs(env.iter().copied());
    let (text, outcome) = limited(&mut command);
    for line in text.lines() {
        say(port, &format!("out {line}"));
    }
    match outcome {
        Ok(()) => say(port, "passed"),
        Err(reason) => say(port, &format!("failed {reason}")),
    }
}

/// Runs a command in a process group of its own and kills the group when time is up. Stdout and stderr come back as one
/// text, its middle left out beyond [`OUTPUT_LIMIT_BYTES`].
fn limited(command: &mut Command) -> (String, Result<(), String>) {
    let (mut reader, writer) = match std::io::pipe() {
        Ok(pipe) => pipe,
        Err(error) => return (String::new(), Err(error.to_string())),
    };
    let Ok(errors) = writer.try_clone() else { return (String::new(), Err("no descriptors left".into())) };
    let spawned = command.stdin(Stdio::null()).stdout(writer).stderr(errors).process_group(0).spawn();
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return (String::new(), Err(error.to_string())),
    };
    let group = rustix::process::Pid::from_child(&child);
    // A grandchild may keep the pipe open after the test is gone, so the reader is left behind rather than joined.
    let text = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = text.clone();
    let reading = std::thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(n @ 1..) = reader.read(&mut chunk) {
            let mut sink = sink.lock().expect("no reader panics");
            if sink.len() < OUTPUT_LIMIT_BYTES {
                sink.extend_from_slice(&chunk[..n]);
            }
        }
    });
    let start = Instant::now();
    let outcome = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break Ok(()),
            Ok(Some(status)) => break Err(status.to_string()),
            Ok(None) if start.elapsed() > LIMIT => {
                let stack = kernel_stack(group);
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                let _ = child.wait();
                break Err(format!("no end after {} seconds{stack}", LIMIT.as_secs()));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => break Err(error.to_string()),
        }
    };
    // What the test left running dies with it.
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    let end = Instant::now() + Duration::from_secs(2);
    while !reading.is_finished() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
    }
    reap();
    let text = text.lock().expect("no reader panics");
    (String::from_utf8_lossy(&text).into_owned(), outcome)
}

/// Where a stuck process waits in the kernel.
fn kernel_stack(pid: rustix::process::Pid) -> String {
    let path = format!("/proc/{}/stack", pid.as_raw_nonzero());
    let stack = fs::read_to_string(Path::new(&path)).unwrap_or_default();
    let frames: Vec<&str> = stack.lines().filter_map(|line| line.split_whitespace().nth(1)).take(4).collect();
    if frames.is_empty() { String::new() } else { format!(", waiting in {}", frames.join(" < ")) }
}

/// Collects orphans, as the first process must.
fn reap() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}
