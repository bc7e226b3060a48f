//! Ends of traces, and what is told of what went wrong on the way.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::Signal;

use crate::support::needs::Need::Root;
use crate::support::skep::{self, call};
use crate::support::{Skep, eventually, needs, scratch};

fn start(args: &[&str]) -> Skep {
    let all: Vec<&std::ffi::OsStr> = ["trace"].iter().chain(args).map(std::ffi::OsStr::new).collect();
    Skep::start(&mut skep::command(&[], &all))
}

#[test]
fn each_signal_to_stop_prints_what_was_committed_and_the_maps() {
    if !needs(&[Root]) {
        return;
    }
    let script = "self:signal:SIGUSR2 { for ($i : 0..20000) { printf(\"%d\\n\", $i); } @done = 1; }";
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let skep = start(&[script]);
        skep.signal(Signal::USR2);
        skep.line("the first number", |line| line == "0");
        skep.signal(signal);
        let out = skep.end();
        assert!(out.status.success(), "{signal:?}: {:?}\n{}", out.status, out.stderr);
        let numbers: Vec<u32> = out.stdout.lines().map_while(|line| line.parse().ok()).collect();
        assert_eq!(numbers, (0..20000).collect::<Vec<_>>(), "{signal:?}");
        assert!(out.stdout.ends_with("@done: 1\n\n") || out.stdout.ends_with("@done: 1\n"), "{signal:?}");
    }
}

#[test]
fn the_prompt_is_back_before_the_kernel_has_let_go_of_hundreds_of_tracepoints() {
    if !needs(&[Root]) {
        return;
    }
    // Closing one takes 50 to 140 ms on a quiet machine: some 20 s together, which somebody else has to spend.
    let skep = start(&["tracepoint:syscalls:sys_enter_* { @ = count(); }"]);
    skep.signal(Signal::INT);
    skep.line("is the map's", |line| line.starts_with("@: "));
    let out = skep.end();
    assert!(out.status.success(), "{}", out.stderr);
    assert!(still_closing(), "the kernel has let go already");
}

/// Whether a child of an ended skep has tracepoints still to close.
fn still_closing() -> bool {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let mut guards = processes
        .filter(|entry| std::fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name == "undo-guard\n"));
    // One that waits for its owner has a few descriptors; a process that is exiting shows none at all.
    guards.any(|entry| {
        let open = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().count();
        let state = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        open > 100 || (open == 0 && !state.contains(") Z "))
    })
}

#[test]
fn a_trace_ends_quietly_when_nobody_reads() {
    if !needs(&[Root]) {
        return;
    }
    let script = "interval:ms:1 { printf(\"tick\\n\"); }";
    let mut child = skep::command(&[], &["trace".as_ref(), script.as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("skep starts");
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("it is text");
    assert_eq!(line, "tick\n");
    drop(reader);
    let ended = eventually(|| child.try_wait().expect("it is ours"));
    let status = ended.unwrap_or_else(|| {
        let _ = child.kill();
        panic!("skep goes on, though nobody reads");
    });
    let out = child.wait_with_output().expect("it is ours");
    assert!(status.success(), "{status}");
    assert_eq!(String::from_utf8_lossy(&out.stderr), "Attached 1 probe\n");
}

#[test]
fn a_command_ends_with_its_trace() {
    if !needs(&[Root]) {
        return;
    }
    let out = call(&["trace", "-c", "sleep 1000", "interval:ms:1 { printf(\"%d\\n\", cpid); exit(); }"]);
    let pid = out.stdout.trim();
    assert!(pid.parse::<u32>().is_ok(), "{}\n{}", out.stdout, out.stderr);
    let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z ").then_some(()),
        Err(_) => Some(()),
    };
    assert!(eventually(gone).is_some(), "process {pid} is still there");
}

#[test]
fn a_duration_and_a_file_for_the_output() {
    if !needs(&[Root]) {
        return;
    }
    let file = scratch("output").join("out.csv");
    let path = file.to_string_lossy();
    let script = "begin { @a[1, \"x,y\"] = 5; @n = 3; printf(\"text\\n\"); } interval:s:1000 { }";
    let out = call(&["trace", script, "--duration", "10ms", "-f", "csv", "-o", &path]);
    assert!(out.status.success() && out.stdout.is_empty(), "{}\n{}", out.stdout, out.stderr);
    let written = std::fs::read_to_string(&file).expect("skep made it");
    let lines: Vec<&str> = written.lines().collect();
    assert!(lines.contains(&"text") && lines.contains(&"@a,1,\"x,y\",5") && lines.contains(&"@n,3"), "{written}");
    let file = file.with_file_name("absent").join("file");
    let out = call(&["trace", script, "--duration", "10ms", "-o", &file.to_string_lossy()]);
    assert!(out.stderr.starts_with(&format!("error: cannot write `{}`", file.display())), "{}", out.stderr);
}

#[test]
fn a_full_map_names_its_line_and_probe() {
    if !needs(&[Root]) {
        return;
    }
    let script = "begin { }\nend {\n  for ($i : 0..9) { @a[$i] = 1; }\n}";
    let out = call(&["trace", "--config", "max_map_keys=2", script]);
    for wanted in ["Map full; can't update element", " --> stdin:3:", "@a[$i] = 1;", "probe: end"] {
        assert!(out.stderr.contains(wanted), "`{wanted}` in\n{}", out.stderr);
    }
    assert!(out.stdout.contains("@a[1]: 1\n") && !out.stdout.contains("@a[2]"), "{}", out.stdout);
}

#[test]
fn a_helper_that_fails_names_its_line_and_probe() {
    if !needs(&[Root]) {
        return;
    }
    let script = "begin {\n  print(str(uptr(7)));\n}";
    let out = call(&["trace", "-k", script]);
    for wanted in ["Bad address", " --> stdin:2:", "str(uptr(7))", "helper: probe_read_user_str", "probe: begin"] {
        assert!(out.stderr.contains(wanted), "`{wanted}` in\n{}", out.stderr);
    }
    assert_eq!(call(&["trace", script]).stderr, "Attached 1 probe\n", "without -k it is no news");
}

#[test]
fn what_did_not_fit_is_counted_for_each_probe() {
    if !needs(&[Root]) {
        return;
    }
    const OFFERED: usize = 400_000;
    let burst = format!("for ($i : 0..{OFFERED}) {{ printf(\"%s\\n\", \"some text\"); }}");
    let script = format!("begin {{ {burst} }} self:signal:SIGUSR2 {{ printf(\"rare\\n\"); }}");
    // Nobody reads while BEGIN runs, so its records fill the ring buffer.
    let skep = start(&[&script]);
    skep.signal(Signal::USR2);
    skep.line("of the second probe", |line| line == "rare");
    skep.signal(Signal::INT);
    let out = skep.end();
    let told = |probe: &str| -> usize {
        let end = format!(" events of {probe}: the ring buffer was full");
        let lines = out.stderr.lines().filter_map(|line| line.strip_prefix("lost ")?.strip_suffix(&end));
        lines.map(|count| count.parse::<usize>().expect("a number")).sum()
    };
    let delivered = out.stdout.lines().filter(|line| *line == "some text").count();
    assert!(told("begin") > 0, "{}", out.stderr);
    assert_eq!(delivered + told("begin"), OFFERED, "{}", out.stderr);
    assert_eq!(told("self:signal:SIGUSR2"), 0, "{}", out.stderr);
}

/// Whoever else writes there, the command above all, does not come between the lines of one record.
#[test]
fn a_record_goes_out_in_one_piece() {
    // Each write is a packet of its own, and so is each read.
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::DIRECT).expect("there are pipes");
    let script = r#"BEGIN { printf("one\ntwo\nthree"); }"#;
    let mut skep = std::process::Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(["trace", "-q", "--engine", "user", script])
        .stdout(theirs)
        .spawn()
        .expect("skep starts");
    assert!(skep.wait().expect("it is ours").success());
    let mut bytes = [0; 64];
    let len = rustix::io::read(&ours, &mut bytes).expect("it can be read");
    assert_eq!(String::from_utf8_lossy(&bytes[..len]), "one\ntwo\nthree");
}
