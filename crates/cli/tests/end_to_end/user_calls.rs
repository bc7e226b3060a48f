//! System calls of a command without any right, which are seen at gates in its code, or by a filter where that cannot be.
#![cfg(target_arch = "x86_64")]

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::needs;
use crate::support::needs::Need::{Program, Root};
use crate::support::skep::{Outcome, finish};
use crate::user::Open;

/// Counts both ends of the calls that `tests/programs/host/called.c` makes.
const SCRIPT: &str = "tracepoint:syscalls:sys_enter_getppid { @starts = count(); } \
    tracepoint:syscalls:sys_exit_getppid { @ends = count(); } \
    tracepoint:syscalls:sys_enter_read { @reads = count(); }";

fn called(open: &Open) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/host/called.c");
    let program = open.file("called");
    let mut cc = Command::new("cc");
    let made = finish(cc.args(["-O1", "-pthread", "-o"]).arg(&program).arg(source));
    assert!(made.status.success(), "{}", made.stderr);
    program
}

/// What the program prints, and what is counted of it.
fn watched(open: &Open, program: &Path, way: &str) -> (Vec<String>, Vec<String>) {
    let command = format!("{} {way}", program.display());
    let Outcome { status, stdout, stderr, .. } =
        open.skep("trace", &["-q", "--engine", "user", SCRIPT, "-c", &command]);
    assert!(status.success() && stderr.is_empty(), "{way}: {stdout}{stderr}");
    stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).partition(|line| !line.starts_with('@'))
}

/// What it prints when nobody looks.
fn alone(program: &Path, way: &str) -> Vec<String> {
    let outcome = finish(Command::new(program).args(way.split(' ')));
    assert!(outcome.status.success(), "{way}: {}", outcome.stdout);
    outcome.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn programs_see_the_same_whether_their_calls_are_seen_or_not() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("calls-same");
    let program = called(&open);
    // A third of the calls without a number in the code are others.
    for (way, starts) in [
        ("registers 3000", Some(5000)),
        ("interrupted", None),
        ("threads 200", Some(1600)),
        ("children 200", Some(3200)),
        ("shared 200", Some(800)),
        ("ruled", Some(10_100)),
        ("faulted", Some(606)),
    ] {
        let (printed, counted) = watched(&open, &program, way);
        assert_eq!(printed, alone(&program, way), "{way}");
        for what in ["starts", "ends"].into_iter().filter(|_| starts.is_some()) {
            let row = format!("@{what}: {}", starts.unwrap_or_default());
            assert!(counted.contains(&row), "{way}: no `{row}` in {counted:?}");
        }
    }
    // Handlers come at any time and jump away, so how many calls there are is chance, and ends may be lost: then that is said.
    let command = format!("{} signals", program.display());
    let outcome = open.skep("trace", &["-q", "--engine", "user", SCRIPT, "-c", &command]);
    let is_said = outcome
        .stderr
        .lines()
        .all(|line| line.contains("the end of a system call") || line.contains("--engine kernel"));
    assert!(outcome.status.success() && is_said, "{}{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stdout.starts_with("signals good"), "{}", outcome.stdout);
}

#[test]
fn a_command_whose_code_is_understood_has_no_filter() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("calls-filter");
    let program = called(&open);
    let (printed, counted) = watched(&open, &program, "many 100");
    assert!(printed.contains(&"Seccomp:\t0".to_owned()), "{printed:?}");
    assert!(counted.contains(&"@starts: 200".to_owned()), "{counted:?}");
    // Code that is made at run time may make any call: its process has one from then on, and nothing is missed.
    let (printed, counted) = watched(&open, &program, "made");
    assert_eq!(printed, ["made good", "Seccomp:\t2"]);
    assert!(counted.contains(&"@starts: 21".to_owned()) && counted.contains(&"@ends: 21".to_owned()), "{counted:?}");
}

/// Shells make a process for each line of a script: looking through the code of all of them would take longer than they live.
#[test]
fn who_starts_many_programs_gets_a_filter_and_nothing_is_missed() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("calls-many");
    let script = open.file("many.sh");
    std::fs::write(
        &script,
        "i=0; while [ $i -lt 20 ]; do /bin/true; i=$((i+1)); done; grep Seccomp: /proc/self/status\n",
    )
    .expect("it can be written");
    let count = "tracepoint:syscalls:sys_enter_execve { @[comm] = count(); } tracepoint:syscalls:sys_exit_execve { @all = count(); }";
    let command = format!("/bin/sh {}", script.display());
    let user = open.skep("trace", &["-q", "--engine", "user", count, "-c", &command]);
    assert!(user.status.success() && user.stdout.contains("Seccomp:\t2"), "{}{}", user.stdout, user.stderr);
    for row in ["@[sh]: 21", "@all: 22"] {
        assert!(user.stdout.contains(row), "no `{row}` in {}", user.stdout);
    }
    if needs(&[Root]) {
        let mut kernel = Command::new(env!("CARGO_BIN_EXE_skep"));
        kernel.args(["trace", "-q", "--engine", "kernel", "--follow", count, "-c", &command]);
        let rows = |text: &str| {
            let mut rows: Vec<String> = text.lines().filter(|line| line.starts_with('@')).map(str::to_owned).collect();
            rows.sort();
            rows
        };
        assert_eq!(rows(&finish(&mut kernel).stdout), rows(&user.stdout));
    }
}

/// A task that was made by a thread which is killed before it can tell of it belongs to nobody.
#[test]
fn a_command_that_is_killed_with_all_it_made_is_over() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("calls-killed");
    let program = called(&open);
    for _ in 0..5 {
        for way in ["killed-threads", "killed-children"] {
            let command = format!("{} {way}", program.display());
            let user = open.skep("trace", &["-q", "--engine", "user", SCRIPT, "-c", &command]);
            assert!(user.stdout.contains("@starts: "), "{way}: {}{}", user.stdout, user.stderr);
        }
    }
}

/// A task stops for its end anyway, which tells of the call; also where something else has told of it before, and where there is a filter.
#[test]
fn each_task_ends_by_one_call() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("calls-ends");
    let program = called(&open);
    let count = "tracepoint:syscalls:sys_enter_exit { @thread = count(); } \
                 tracepoint:syscalls:sys_enter_exit_group { @process = count(); }";
    for (way, rows) in [
        ("ends", &["@process: 1"][..]),
        ("threads 100", &["@thread: 5", "@process: 1"]),
        ("children 10", &["@process: 6"]),
        ("ruled", &["@process: 1"]),
    ] {
        let command = format!("{} {way}", program.display());
        let user = open.skep("trace", &["-q", "--engine", "user", count, "-c", &command]);
        let counted: Vec<&str> = user.stdout.lines().filter(|line| line.starts_with('@')).collect();
        let sorted =
            |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&counted), sorted(rows), "{way}: {}", user.stderr);
    }
}

/// Whenever that is: while gates are made, while a breakpoint is handled, while a filter needs a tracer, while nothing is done.
#[test]
fn a_command_lives_on_whenever_its_tracer_is_killed() {
    if !needs(&[Program("python3")]) {
        return;
    }
    let open = Open::new("calls-orphans");
    let few = "ls / >/dev/null || echo failed; x=$(echo y) || echo failed; ls /proc >/dev/null || echo failed";
    // So many that it gets the filter, with which calls fail while nobody traces it.
    let many = "for i in 1 2 3 4 5 6 7 8; do /bin/true || echo failed; x=$(echo y) || echo failed; done";
    for (script, work) in [
        ("tracepoint:syscalls:sys_exit_openat { @ = count(); }", few),
        ("uprobe:libc:malloc, uretprobe:libc:free { @ = count(); }", few),
        ("tracepoint:syscalls:sys_enter_openat, uprobe:libc:free { @ = count(); }", few),
        ("profile:hz:999 { @ = count(); }", few),
        ("tracepoint:syscalls:sys_enter_execve { @ = count(); }", many),
        ("tracepoint:raw_syscalls:sys_exit { @ = count(); }", few),
    ] {
        orphan(&open, script, work, 60, "worker");
    }
    // What people see and kill, and all that has the name.
    for who in ["front", "both"] {
        orphan(&open, "tracepoint:syscalls:sys_exit_openat { @ = count(); }", few, 60, who);
    }
}

/// The C library ends threads with all signals held back, in which a breakpoint is the end of the process.
#[test]
fn nothing_is_left_in_the_code_when_the_tracer_is_killed() {
    if !needs(&[Program("python3"), Program("cc")]) {
        return;
    }
    let open = Open::new("calls-left");
    let threads = format!("{} later 100 >/dev/null || echo failed", called(&open).display());
    for script in [
        "profile:hz:99 { @ = count(); }",
        "tracepoint:syscalls:sys_exit_getppid { @ = count(); }",
        "tracepoint:syscalls:sys_enter_exit { @ = count(); }",
        "tracepoint:raw_syscalls:sys_enter { @ = count(); }",
    ] {
        orphan(&open, script, &threads, 30, "worker");
    }
}

/// Kills who traces `work` in one millisecond after the other.
fn orphan(open: &Open, script: &str, work: &str, rounds: u32, who: &str) {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/host/orphans.py");
    let mut python = Command::new("python3");
    python.arg(harness).arg(open.file("skep"));
    python.args([script, &format!("sh -c 'echo begins; {work}; echo ends'"), "1", &rounds.to_string(), who]);
    let outcome = finish(&mut python);
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("some ran, some never began\n", ""), "{script} {who}");
}
