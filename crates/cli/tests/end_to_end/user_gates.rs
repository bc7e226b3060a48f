//! Functions that are called so often that their breakpoints become gates: nobody notices, and nothing is lost.
#![cfg(target_arch = "x86_64")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::needs::Need::{Program, Root};
use crate::support::skep::{self, finish};
use crate::support::{eventually, needs};
use crate::user::Open;
use crate::user_probes::{compiled, rows};

/// How often a function is called: some thousand times as often as it takes to become a gate.
const CALLS: u64 = 200_000;

fn gated(open: &Open) -> PathBuf {
    compiled(open, "gated", &["-pie", "-fPIE"], "gated")
}

/// The sum of all numbers below.
fn below(count: u64) -> u64 {
    count * (count - 1) / 2
}

fn trace(open: &Open, script: &str, command: &str) -> skep::Outcome {
    open.skep("trace", &["-q", "--engine", "user", script, "-c", command])
}

/// Without rights, and for the user whom nothing is allowed.
fn started(open: &Open, words: &[&str]) -> Child {
    let mut command = Command::new(open.file("skep"));
    command.args(["trace", "-q", "--engine", "user"]).args(words);
    if rustix::process::geteuid().is_root() {
        use std::os::unix::process::CommandExt;
        command.uid(65534).gid(65534);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("skep starts")
}

/// The process that executes a program of ours, which nobody else has.
fn runs(program: &Path) -> Option<Pid> {
    let is_it = |pid: &i32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
    let all = std::fs::read_dir("/proc").expect("/proc is there").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_it).and_then(Pid::from_raw)
}

fn status(pid: Pid, key: &str) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    status.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

fn has_board(pid: Pid) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", pid.as_raw_nonzero()));
    maps.is_ok_and(|maps| maps.contains("/memfd:"))
}

fn has_processors() -> bool {
    rustix::thread::sched_getaffinity(None).is_ok_and(|cpus| cpus.count() > 1)
}

/// Whether more wants to run than there are processors.
fn is_busy() -> bool {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse::<f64>().ok());
    let cpus = rustix::thread::sched_getaffinity(None).map_or(1, |cpus| cpus.count());
    load.is_some_and(|load| load > f64::from(cpus))
}

#[test]
fn a_task_at_a_gate_keeps_all_that_it_has() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("kept");
    let program = gated(&open);
    let at = program.display();
    let place = finish(Command::new(&program).args(["place", "1"])).stdout;
    let script = format!("uprobe:{at}:leaf+{} {{ @ = count(); @sum = sum(arg0); }}", place.trim());
    let seen = rows(&open, &program, &script, &format!("{at} registers {CALLS}"));
    assert_eq!(seen, [format!("@: {CALLS}"), format!("@sum: {}", below(CALLS)), format!("registers {CALLS}")]);
}

#[test]
fn every_task_of_every_process_is_counted_at_gates() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("tasks");
    let program = gated(&open);
    let at = program.display();
    let script = format!("uprobe:{at}:hot {{ @ = count(); @sum = sum(arg0); }}");
    let (each, sum) = (CALLS / 4, below(CALLS / 4));
    let all = [format!("@: {CALLS}"), format!("@sum: {}", 4 * sum)];
    let with = |line: String| [&all[..], &[line]].concat();
    let seen = rows(&open, &program, &script, &format!("{at} threads {each}"));
    assert_eq!(seen, with(format!("sum {}", 4 * sum)));
    let seen = rows(&open, &program, &script, &format!("{at} forks {each}"));
    assert_eq!(seen, with(format!("forks {sum} 0")));
}

#[test]
fn signals_find_tasks_at_gates() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("handlers");
    let program = gated(&open);
    let at = program.display();
    let script = format!("uprobe:{at}:hot {{ @ = count(); }}");
    for what in ["signals", "jumps"] {
        let outcome = trace(&open, &script, &format!("{at} {what} {CALLS}"));
        assert!(outcome.status.success() && outcome.stderr.is_empty(), "{}{}", outcome.stdout, outcome.stderr);
        let number = |key: &str| -> u64 {
            let rest = outcome.stdout.split_once(key).unwrap_or_else(|| panic!("no {key}: {}", outcome.stdout)).1;
            rest.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
        };
        let (calls, jumps, seen) = (number("calls "), number("jumps "), number("@: "));
        assert!(calls > CALLS && (jumps > 0) == (what == "jumps"), "{}", outcome.stdout);
        // Who jumps out of a handler may leave a call that was counted, but did not begin, or the other way round.
        assert!(seen.abs_diff(calls) <= jumps, "{}", outcome.stdout);
    }
}

#[test]
fn faults_behind_a_gate_are_those_of_the_code() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("behind");
    let program = gated(&open);
    let at = program.display();
    let command = format!("{at} faults 10000");
    let unwatched = finish(Command::new(&program).args(["faults", "10000"]));
    assert!(unwatched.status.success(), "{}", unwatched.stdout);
    let script = format!("uprobe:{at}:first {{ @first = count(); }} uprobe:{at}:second {{ @second = count(); }}");
    let seen = rows(&open, &program, &script, &command);
    let mut all: Vec<&str> = unwatched.stdout.lines().chain(["@first: 30003", "@second: 30003"]).collect();
    all.sort_unstable();
    assert_eq!(seen, all);
}

#[test]
fn a_script_knows_who_is_at_a_gate() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("who");
    let program = gated(&open);
    let at = program.display();
    let script = format!(
        "uprobe:{at}:named {{ @++; if (@ % 20000 == 5) {{ printf(\"it is %d %d %s %s\\n\", pid, tid, comm, str(arg0)); \
         printf(\"%s\\n\", ustack); }} }}"
    );
    let outcome = trace(&open, &script, &format!("{at} named {CALLS}"));
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{}{}", outcome.stdout, outcome.stderr);
    let own = outcome.stdout.lines().find_map(|line| line.strip_prefix("i am ")).expect("it says so");
    let (said, frames) = (format!("it is {own} gated-name a name"), ["named+0", "main+", "_start+"]);
    let count = |wanted: &str| outcome.stdout.lines().filter(|line| line.trim_start().starts_with(wanted)).count();
    // At the breakpoint, and at the gate, by way of the board or not.
    assert_eq!(frames.map(count), [10; 3], "{}", outcome.stdout);
    assert_eq!(count(&said), 10, "{}", outcome.stdout);
    assert!(outcome.stdout.contains(&format!("@: {CALLS}\n")), "{}", outcome.stdout);
}

/// Where a task is at a probe, and its callers: not the breakpoint's own code.
#[test]
fn stacks_at_probes_begin_where_the_probe_is() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("at-probes");
    let program = gated(&open);
    let at = program.display();
    let script = format!(
        "uprobe:{at}:named {{ printf(\"in %s\", ustack(2)); }} uretprobe:{at}:named {{ printf(\"out %s\", ustack(1)); }}"
    );
    let outcome = open.skep("trace", &["-q", "--engine", "user", &script, "-c", &format!("{at} named 1")]);
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{}{}", outcome.stdout, outcome.stderr);
    let [input, named, input_main, output, output_main] =
        outcome.stdout.split_whitespace().take(5).collect::<Vec<_>>()[..]
    else {
        panic!("{}", outcome.stdout)
    };
    assert_eq!((input, named, output), ("in", "named+0", "out"), "{}", outcome.stdout);
    assert!(input_main.starts_with("main+"), "{}", outcome.stdout);
    assert_eq!(output_main, input_main);
}

#[test]
fn calls_at_a_gate_stop_nobody() {
    if !needs(&[Program("cc")]) || !has_processors() {
        return;
    }
    let open = Open::new("switches");
    let program = gated(&open);
    let at = program.display();
    let script = format!("uprobe:{at}:hot {{ @ = count(); }}");
    // Short runs: whoever else needs the other processor keeps many tasks from being met.
    let calls = CALLS / 10;
    let command = format!("{at} switches {calls}");
    let counted = format!("@: {}\n", calls + 1000);
    let mut seen = Vec::new();
    let met = eventually(|| {
        let outcome = trace(&open, &script, &command);
        assert!(outcome.stdout.contains(&counted), "{}{}", outcome.stdout, outcome.stderr);
        // A jump.
        assert!(outcome.stdout.contains("begins with e9\n"), "{}", outcome.stdout);
        let switches = outcome.stdout.lines().find_map(|line| line.strip_prefix("switches ")?.parse::<u64>().ok());
        // Each stop is one.
        seen.push(switches.expect("it counts them"));
        seen.last().filter(|count| **count < calls).copied()
    });
    if met.is_none() && is_busy() {
        println!("skipped: needs a processor that has nothing else to do");
    } else {
        assert!(met.is_some(), "every call is a stop: {seen:?}");
    }
    // Where there is one only, all of them stop: nobody waits for who cannot come.
    if needs(&[Program("taskset")]) {
        let cpus = rustix::thread::sched_getaffinity(None).expect("it can be asked for");
        let cpu = (0..).find(|cpu| cpus.is_set(*cpu)).expect("we run");
        let mut command_line = Command::new("taskset");
        command_line.args(["-c", &cpu.to_string()]).arg(open.file("skep"));
        command_line.args(["trace", "-q", "--engine", "user", &script, "-c", &command]);
        let outcome = finish(&mut command_line);
        assert!(outcome.status.success() && outcome.stdout.contains(&counted), "{}{}", outcome.stdout, outcome.stderr);
        assert!(outcome.stdout.contains("begins with cc\n"), "{}", outcome.stdout);
    }
}

#[test]
fn who_is_at_a_gate_outlives_who_looks() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("outlives");
    let program = gated(&open);
    let at = program.display();
    let mut skep = started(&open, &[&format!("uprobe:{at}:hot {{ @ = count(); }}"), "-c", &format!("{at} loop 7")]);
    let pid = eventually(|| runs(&program)).expect("it starts");
    assert!(!has_processors() || eventually(|| has_board(pid).then_some(())).is_some(), "it has a gate");
    std::thread::sleep(Duration::from_millis(50));
    let tracer = status(pid, "TracerPid:").and_then(Pid::from_raw).expect("somebody traces it");
    kill_process(tracer, Signal::KILL).expect("it runs");
    skep.wait().expect("our child");
    // It goes on, and nobody stops it.
    let switches = || status(pid, "voluntary_ctxt_switches:").expect("it runs");
    let quiet = eventually(|| {
        let before = switches();
        std::thread::sleep(Duration::from_millis(50));
        (switches() < before + 10).then_some(())
    });
    assert!(quiet.is_some(), "it is stopped again and again");
    kill_process(pid, Signal::TERM).expect("it runs");
    let is_over = || status(pid, "Threads:").is_none() || is_zombie(pid);
    assert!(eventually(|| is_over().then_some(())).is_some(), "it comes to its end");
}

fn is_zombie(pid: Pid) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    status.is_ok_and(|status| status.contains("State:\tZ"))
}

#[test]
fn a_script_that_ends_lets_the_command_go_on() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("goes-on");
    let program = gated(&open);
    let at = program.display();
    let script = format!("uprobe:{at}:hot {{ @++; if (@ == 5000) {{ exit(); }} }}");
    let outcome = trace(&open, &script, &format!("{at} threads {}", CALLS / 4));
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{}{}", outcome.stdout, outcome.stderr);
    let count = outcome.stdout.lines().find_map(|line| line.strip_prefix("@: ")?.parse::<u64>().ok());
    assert!(count.is_some_and(|count| count >= 5000), "{}", outcome.stdout);
    let sum = eventually(|| runs(&program).is_none().then_some(()));
    assert!(sum.is_some(), "it comes to its end");
}

/// Code that others come to behind a first instruction has a breakpoint, however often it is called.
#[test]
fn a_jump_is_in_nobodys_way() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("ways");
    let program = gated(&open);
    let at = program.display();
    let script = format!("uprobe:{at}:inner {{ @inner = count(); }} uprobe:{at}:table+8 {{ @table = count(); }}");
    let seen = rows(&open, &program, &script, &format!("{at} ways 10000"));
    assert_eq!(seen, ["@inner: 10000", "@table: 10000", "ways 6 8"]);
}

/// By which a task says who it is: no call of the program's own.
#[test]
fn calls_of_gates_are_not_heard_of() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("unheard");
    let program = gated(&open);
    let at = program.display();
    let hot = format!("uprobe:{at}:hot {{ @hot = count(); }}");
    for calls in ["tracepoint:raw_syscalls:sys_enter", "tracepoint:syscalls:sys_enter_gettid"] {
        let said =
            trace(&open, &format!("{hot} {calls} {{ @calls = count(); }}"), &format!("{at} threads {}", CALLS / 4));
        assert!(said.status.success() && said.stderr.is_empty(), "{}{}", said.stdout, said.stderr);
        let count = |name: &str| said.stdout.lines().find_map(|line| line.strip_prefix(name)?.parse::<u64>().ok());
        assert_eq!(count("@hot: "), Some(CALLS), "{calls}: {}", said.stdout);
        assert!(count("@calls: ").unwrap_or(0) < 500, "{calls}: {}", said.stdout);
    }
}

/// A library that is gone has no gate, and has one when it is there again.
#[test]
fn libraries_have_gates_whenever_they_are_mapped() {
    if !needs(&[Program("cc")]) || !has_processors() {
        return;
    }
    let open = Open::new("reloads");
    let program = gated(&open);
    let library = open.file("square.so");
    let source = open.write("square.c", b"long square(long n) { return n * n + n; }\n");
    let made = finish(Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o"]).args([&library, &source]));
    assert!(made.status.success(), "{}", made.stderr);
    let script = format!("uprobe:{}:square {{ @ = count(); }}", library.display());
    let outcome = trace(&open, &script, &format!("{} loads 100 {}", program.display(), library.display()));
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(
        outcome.stdout.split_whitespace().collect::<Vec<_>>(),
        ["begins", "with", "e9", "grew", "0", "@:", "200000"]
    );
}

/// What is written on a board is the target's own, whatever it is.
#[test]
fn a_board_may_have_anything_on_it() {
    if !needs(&[Program("cc"), Root]) || !has_processors() {
        return;
    }
    let open = Open::new("vandals");
    let program = gated(&open);
    let at = program.display();
    let script = format!(
        "uprobe:{at}:hot {{ @ = count(); @text = str(arg0); @stack[ustack] = count(); }} END {{ clear(@stack); clear(@text); }}"
    );
    for kind in 0..4 {
        let outcome = trace(&open, &script, &format!("timeout -s KILL 5 {at} vandal{kind} 20000"));
        assert!(outcome.stdout.contains("@: "), "{kind}: {}{}", outcome.stdout, outcome.stderr);
    }
}
