//! `skep trace`: scripts and what they print.
//!
//! Most cases are text, in `tests/trace/*.case`:
//!
//! ```text
//! --- what it shows
//! # --format json
//! begin { print(1); }
//! ===
//! {"type": "value", "data": 1}
//! ```
//!
//! The chapter `bpftrace` runs skep under that name: the script goes behind `-e`, `'one word'` may have blanks, and words such as
//! `NAME=value` are for the environment.
//!
//! A first line with `#` holds more words of the command line; `code 3` as the last line is an exit code other than 0, and lines
//! of standard error stand behind `!`. A `*` stands for anything, in a line that begins with `~ `. With `SKEP_BLESS=1` what comes
//! out is written into the files; read the difference.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::support::needs::Need::{Kprobes, Program, Root, Symbol};
use crate::support::skep::{call, finish};
use crate::support::{Skep, needs};

/// The chapters, in the binary: it also runs on machines without these files.
const CHAPTERS: &[(&str, &str)] = &[
    ("actions", include_str!("../trace/actions.case")),
    ("bpftrace", include_str!("../trace/bpftrace.case")),
    ("errors", include_str!("../trace/errors.case")),
    ("formats", include_str!("../trace/formats.case")),
    ("functions", include_str!("../trace/functions.case")),
    ("language", include_str!("../trace/language.case")),
    ("maps", include_str!("../trace/maps.case")),
    ("statements", include_str!("../trace/statements.case")),
    ("values", include_str!("../trace/values.case")),
];

/// What a script printed, in the form of a case.
fn outcome(input: &str) -> String {
    let (options, script) = match input.strip_prefix("# ") {
        Some(rest) => rest.split_once('\n').unwrap_or((rest, "")),
        None => ("", input),
    };
    let mut words: Vec<&str> = vec!["trace", "-q"];
    let options = format!("{options} ");
    let (before, behind) = options.split_once("-- ").unwrap_or((&options, ""));
    let behind: Vec<&str> = behind.split_whitespace().collect();
    let (flags, params): (Vec<&str>, Vec<&str>) = before.split_whitespace().partition(|word| !word.starts_with('$'));
    words.extend(flags);
    words.push(script.trim_end());
    words.extend(params.iter().map(|word| &word[1..]));
    if !behind.is_empty() {
        words.push("--");
        words.extend(behind);
    }
    shown(&call(&words))
}

/// What skep did under the name of bpftrace.
fn outcome_as_bpftrace(input: &str) -> String {
    let (options, script) = match input.strip_prefix("# ") {
        Some(rest) => rest.split_once('\n').unwrap_or((rest, "")),
        None => ("", input),
    };
    let (options, behind) = options.split_once(" -- ").unwrap_or((options, ""));
    let mut words = vec!["bpftrace"];
    let (mut params, mut environment) = (Vec::new(), Vec::new());
    for (index, piece) in options.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(piece);
            continue;
        }
        for word in piece.split_whitespace() {
            match (word.strip_prefix('$'), word.split_once('=')) {
                (Some(param), _) => params.push(param),
                (None, Some((name, value))) if !name.starts_with('-') => environment.push((name, value)),
                (None, _) => words.push(word),
            }
        }
    }
    if !script.trim().is_empty() {
        words.extend(["-e", script.trim_end()]);
    }
    words.extend(params);
    if !behind.is_empty() {
        words.push("--");
        words.extend(behind.split_whitespace());
    }
    let words: Vec<&std::ffi::OsStr> = words.iter().map(|word| word.as_ref()).collect();
    let mut command = crate::support::skep::command(&[], &words);
    shown(&crate::support::skep::finish(command.envs(environment)))
}

fn shown(out: &crate::support::skep::Outcome) -> String {
    let mut text = out.stdout.clone();
    for line in out.stderr.lines() {
        let _ = writeln!(text, "! {line}");
    }
    if out.status.code() != Some(0) {
        let _ = writeln!(text, "code {}", out.status.code().unwrap_or(-1));
    }
    text.trim_end().to_owned()
}

fn agrees(expected: &str, found: &str) -> bool {
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    expected.len() == found.len()
        && expected.iter().zip(&found).all(|(expected, found)| match expected.strip_prefix("~ ") {
            Some(pattern) => like(pattern, found),
            None => expected.trim_end() == found.trim_end(),
        })
}

/// Whether the pieces between stars stand in the line, in order.
fn like(pattern: &str, line: &str) -> bool {
    let mut rest = line;
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(stripped) = rest.strip_prefix(first) else { return false };
    rest = stripped;
    let mut last = "";
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
        last = piece;
    }
    rest.is_empty() || (pattern.contains('*') && last.is_empty())
}

fn chapter(name: &str) {
    if !needs(&[Root]) {
        return;
    }
    let (_, text) = CHAPTERS.iter().find(|(chapter, _)| *chapter == name).expect("it is in the list");
    let bless = std::env::var_os("SKEP_BLESS").is_some();
    let (mut blessed, mut wrong) = (String::new(), String::new());
    for case in format!("\n{text}").split("\n--- ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap_or((case, ""));
        let (input, expected) = rest.split_once("\n===").unwrap_or((rest, ""));
        let expected = expected.trim_start_matches('\n').trim_end();
        let found = if name == "bpftrace" { outcome_as_bpftrace(input) } else { outcome(input) };
        let right = agrees(expected, found.trim_start_matches('\n'));
        let keep = if right { expected } else { found.trim_start_matches('\n') };
        let _ = write!(blessed, "--- {title}\n{}\n===\n{keep}\n\n", input.trim_end());
        if !right {
            let _ = write!(wrong, "\n--- {title}\n{input}\n=== expected\n{expected}\n=== found\n{found}\n");
        }
    }
    if bless {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/trace/{name}.case"));
        std::fs::write(path, blessed.trim_end().to_owned() + "\n").expect("the cases can be written");
    } else {
        assert!(wrong.is_empty(), "{wrong}");
    }
}

#[test]
fn actions() {
    chapter("actions");
}

#[test]
fn bpftrace() {
    chapter("bpftrace");
}

#[test]
fn errors() {
    chapter("errors");
}

#[test]
fn formats() {
    chapter("formats");
}

#[test]
fn language() {
    chapter("language");
}

#[test]
fn maps() {
    chapter("maps");
}

#[test]
fn statements() {
    chapter("statements");
}

#[test]
fn functions() {
    chapter("functions");
}

#[test]
fn values() {
    chapter("values");
}

#[test]
fn a_command_is_seen_from_its_first_instruction_and_ends_the_run() {
    if !needs(&[Root, Program("true")]) {
        return;
    }
    let script =
        "tracepoint:syscalls:sys_enter_execve /pid == cpid/ { printf(\"%s %d\\n\", str(args.filename), pid == cpid); }";
    let out = call(&["trace", "-c", "/bin/true", script]);
    assert_eq!(out.stdout, "/bin/true 1\n", "{}", out.stderr);
    assert_eq!(out.stderr.lines().next(), Some("Attached 1 probe"));
}

#[test]
fn ctrl_c_runs_end_and_prints_the_maps() {
    if !needs(&[Root]) {
        return;
    }
    let skep = Skep::start(&mut crate::support::skep::command(
        &[],
        &["trace", "interval:ms:10 { @ticks = count(); } interval:ms:10 { printf(\"tick\\n\"); } end { printf(\"the end\\n\"); }"]
            .map(std::ffi::OsStr::new),
    ));
    skep.line("a tick", |line| line == "tick");
    skep.signal(rustix::process::Signal::INT);
    let out = skep.end();
    let lines: Vec<&str> = out.stdout.lines().collect();
    let end = lines.iter().position(|line| *line == "the end").expect("END runs");
    assert!(lines[..end].iter().all(|line| *line == "tick"), "{}", out.stdout);
    assert!(lines[end..].iter().any(|line| line.starts_with("@ticks: ")), "{}", out.stdout);
}

#[test]
fn everything_that_was_committed_is_printed_at_a_signal() {
    if !needs(&[Root]) {
        return;
    }
    let script = "self:signal:SIGUSR1 { for ($i : 0..100000) { printf(\"%d\\n\", $i); } }";
    let mut command = crate::support::skep::command(&[], &["trace", script].map(std::ffi::OsStr::new));
    let skep = Skep::start(&mut command);
    skep.signal(rustix::process::Signal::USR1);
    skep.line("the first number", |line| line == "0");
    skep.signal(rustix::process::Signal::INT);
    let out = skep.end();
    assert_eq!(out.stdout.lines().count(), 100_000, "{}", out.stderr);
}

#[test]
fn the_name_bpftrace_has_its_command_line() {
    if !needs(&[Root]) {
        return;
    }
    let out = call(&["bpftrace", "-e", "BEGIN { printf(\"%d %s\\n\", $1, str($2)); exit(); }", "5", "x"]);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("5 x\n\n\n", "Attached 1 probe\n"));
    let out = call(&["bpftrace", "-f", "json", "-e", "BEGIN { print(1); exit(7); }"]);
    assert_eq!(
        out.stdout,
        "{\"type\": \"attached_probes\", \"count\": 1, \"data\": {\"probes\": 1}}\n{\"type\": \"value\", \"data\": 1}\n"
    );
    assert_eq!(out.status.code(), Some(7));
    let mut notified =
        crate::support::skep::command(&[], &["bpftrace", "-q", "-e", "BEGIN { }"].map(std::ffi::OsStr::new));
    notified.env("__BPFTRACE_NOTIFY_PROBES_ATTACHED", "1");
    let out = crate::support::skep::finish(&mut notified);
    assert_eq!(out.stdout.lines().next(), Some("__BPFTRACE_NOTIFY_PROBES_ATTACHED"));
    let out = call(&["bpftrace", "-e", "BEGIN { nonsense(); }"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(out.stderr.starts_with("stdin:1:9-"), "{}", out.stderr);
    let info = call(&["bpftrace", "--info"]).stdout;
    for feature in
        ["btf", "uprobe_multi", "get_func_ip", "jiffies64", "loop", "iter", "dpath", "skboutput", "perf_event_array"]
    {
        let line = |word: &str| info.lines().any(|line| line == format!("  {feature}: {word}"));
        assert!(line("yes") || line("no"), "{feature}: {info}");
    }
    for built in [
        "libdw (DWARF support): yes",
        "dwunwind (DWARF stack unwinding): yes",
        "blazesym (advanced symbolization): yes",
        "Instruction limit: 1000000",
    ] {
        assert!(info.lines().any(|line| line.trim() == built), "{built}: {info}");
    }
}

#[test]
fn the_name_bpftrace_tells_where_an_iterator_is_pinned() {
    // The file system is mounted on some machines only; one of our own is gone with the command, and all pins with it.
    const WITH_BPFFS: &str = "mount -t bpf bpf /sys/fs/bpf && \"$0\" \"$@\" && ls /sys/fs/bpf";
    if !needs(&[Root, Program("unshare")]) {
        return;
    }
    let script = "iter:task:skep_test /ctx.task.pid == 2/ { printf(\"%d\\n\", ctx.task.tgid); }";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", WITH_BPFFS, env!("CARGO_BIN_EXE_skep"), "bpftrace", "-q", "-e", script]);
    let out = finish(&mut command);
    let lines: Vec<&str> = out.stdout.lines().collect();
    assert_eq!(lines.first(), Some(&"Program pinned to /sys/fs/bpf/skep_test"), "{}", out.stderr);
    assert!(lines[1..].contains(&"skep_test"), "{}", out.stdout);
}

#[test]
fn the_name_bpftrace_lists_what_can_be_probed_in_a_process() {
    if !needs(&[Root]) {
        return;
    }
    let pid = std::process::id().to_string();
    for pattern in ["uprobe:*", "uprobe", "uprobe:*:malloc"] {
        let out = call(&["bpftrace", "-l", pattern, "-p", &pid]);
        assert!(out.stdout.lines().any(|line| line.starts_with("uprobe:/")), "{pattern}: {}", out.stderr);
    }
}

#[test]
fn the_name_bpftrace_says_what_scripts_wait_for() {
    if !needs(&[Root]) {
        return;
    }
    let one = |words: &[&str]| call(&[&["bpftrace"], words].concat());
    let out = one(&["no_such_file.bt"]);
    assert_eq!(out.stderr, "ERROR: failed to open file 'no_such_file.bt': No such file or directory\n");
    assert!(one(&["-e", "BEGIN { cat(\"/x\"); }"]).stderr.contains("ERROR: failed to open file '/x': No such file"));
    let out = one(&["--include", "errno.h", "-qe", "BEGIN { print(strerror(EPERM)); }"]);
    assert_eq!(out.stdout.lines().next(), Some("Operation not permitted"), "{}", out.stderr);
    assert_eq!(
        one(&["-q", "-f", "json", "-e", "BEGIN { @ = 1; }"]).stdout,
        "{\"type\": \"map\", \"data\": {\"@\": 1}}\n"
    );
    let out = one(&["-kk", "-e", "BEGIN { $a = @[2]; @[1] = $a; clear(@); }"]);
    assert!(out.stderr.contains("WARNING: Can't lookup map element because it does not exist."), "{}", out.stderr);
    let mut foreign = crate::support::skep::command(&[], &["bpftrace", "-qe", "BEGIN { }"].map(std::ffi::OsStr::new));
    foreign.env("BPFTRACE_SOMEBODYS_OWN", "1");
    assert!(crate::support::skep::finish(&mut foreign).status.success());
    // What cannot be resolved on the command line has no place in a source.
    assert!(!one(&["-l", "uprobe:/no_such_folder/x*:*"]).stderr.contains("panicked"));
}

#[test]
fn commands_behind_a_signal_are_left_out() {
    if !needs(&[Root]) {
        return;
    }
    let script = "interval:us:200 { system(\"sleep 0.02; echo tick\"); } END { system(\"echo the end\"); }";
    let mut command = crate::support::skep::command(&[], &["trace", "--unsafe", script].map(std::ffi::OsStr::new));
    let skep = Skep::start(&mut command);
    // Each command takes a hundred times as long as there is between two of them, so hundreds wait by now.
    let ticks = std::cell::Cell::new(0);
    skep.line("the tenth tick", |line| {
        ticks.set(ticks.get() + u32::from(line == "tick"));
        ticks.get() == 10
    });
    let asked = std::time::Instant::now();
    skep.signal(rustix::process::Signal::INT);
    let out = skep.end();
    assert!(asked.elapsed() < std::time::Duration::from_secs(5), "{:?}", asked.elapsed());
    assert!(out.stdout.ends_with("the end\n"), "{}", out.stdout);
    assert!(out.stderr.contains("commands of system() were not run"), "{}", out.stderr);
}

#[test]
fn a_script_file_runs_by_itself() {
    if !needs(&[Root]) {
        return;
    }
    let file = crate::support::scratch("trace-file").join("hello.bt");
    std::fs::write(&file, "#!/usr/bin/env -S skep\nBEGIN { printf(\"hello %s\\n\", str($1)); }\n").unwrap();
    let out = call(&[file.as_os_str(), "you".as_ref()]);
    assert_eq!(out.stdout, "hello you\n", "{}", out.stderr);
}

#[test]
fn probes_are_listed_with_their_arguments() {
    if !needs(&[Root]) {
        return;
    }
    let out = call(&["list", "tracepoint:sched:sched_switch", "-v"]);
    assert!(out.stdout.starts_with("tracepoint:sched:sched_switch\n"), "{}", out.stdout);
    assert!(out.stdout.contains("\n    pid_t next_pid\n"), "{}", out.stdout);
    assert!(call(&["list", "software:*"]).stdout.contains("software:page-faults:\n"));
    assert!(call(&["list", "*sched_swit*"]).stdout.contains("tracepoint:sched:sched_switch\n"));
    assert!(call(&["list", "struct task_struct"]).stdout.starts_with("struct task_struct {\n"));
    assert_eq!(call(&["list", "struct", "task_struct"]).stdout, call(&["list", "struct task_struct"]).stdout);
    assert_eq!(call(&["list", "tracepoint:no:such"]).status.code(), Some(1));
    let types = call(&["list", "enum pid_t*"]).stdout;
    assert!(types.lines().any(|line| line == "enum pid_type"), "{types}");
    let types = call(&["list", "-v", "struct list_h*"]).stdout;
    assert!(types.contains("struct list_head {\n\tstruct list_head *next;\n"), "{types}");
    let out = call(&["list", "struct task_struc"]);
    assert!(out.stderr.contains("`task_struct`"), "{}", out.stderr);
}

#[test]
fn what_the_machine_does_not_take_is_listed_with_the_reason() {
    if !needs(&[Root]) {
        return;
    }
    // Each is marked, and the reason told once.
    let listed = call(&["list", "kprobe:vfs_read,kprobe:vfs_write"]);
    let marked = "kprobe:vfs_read  # not on this machine\nkprobe:vfs_write  # not on this machine\n";
    let reason = "not on this machine: kprobe: this kernel has no kprobes (CONFIG_KPROBES is not set)\n";
    let plain = ("kprobe:vfs_read\nkprobe:vfs_write\n", "");
    let wanted = if Kprobes.is_met() { plain } else { (marked, reason) };
    assert_eq!((listed.stdout.as_str(), listed.stderr.as_str()), wanted);
    // Whoever reads bpftrace's list wants names alone.
    assert_eq!(call(&["bpftrace", "-l", "kprobe:vfs_read"]).stdout, "kprobe:vfs_read\n");
    let listed = call(&["list", "hardware:*"]);
    let reasons: Vec<(&str, &str)> = listed
        .stderr
        .lines()
        .map(|line| line.strip_prefix("not on this machine: hardware:").expect("a reason"))
        .map(|line| line.split_once(": ").expect("events and a reason"))
        .collect();
    for line in listed.stdout.lines() {
        let (name, marked) = match line.strip_suffix("  # not on this machine") {
            Some(name) => (name, true),
            None => (line, false),
        };
        let script = format!("{name}1000000 {{ exit(); }}");
        let refused = call(&["trace", &script, "--duration", "1ms"]);
        assert_eq!(refused.status.success(), !marked, "{line}\n{}", refused.stderr);
        let event = name.trim_start_matches("hardware:").trim_end_matches(':');
        let own = |events: &str| events.split(", ").any(|it| it.trim_start_matches("hardware:") == event);
        let told = reasons.iter().find(|(events, _)| own(events));
        assert_eq!(told.is_some(), marked, "{name}\n{}", listed.stderr);
        assert!(told.is_none_or(|(_, reason)| refused.stderr.contains(reason)), "{line}\n{}", refused.stderr);
    }
}

#[test]
fn a_variable_may_hold_addresses_of_the_kernel_and_of_processes() {
    if !needs(&[Root, Program("bash")]) {
        return;
    }
    let script = "uprobe:/bin/bash:main /pid == cpid/ {
        $own = (int32 *)kptr((uint64)curtask + offsetof(struct task_struct, pid));
        $argv = *(int32 *)arg1;
        $p = (int32 *)arg1;
        printf(\"%d \", *$p == $argv);
        $p = $own;
        printf(\"%d \", *$p == tid);
        @p = (int32 *)arg1;
        printf(\"%d \", *@p == $argv);
        @p = $own;
        printf(\"%d \", *@p == tid);
        $q = arg0 > 0 ? $own : (int32 *)arg1;
        printf(\"%d\\n\", *$q == tid);
        clear(@p);
    }";
    let out = call(&["trace", "-q", "-k", "-c", "/bin/bash -c true", script]);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("1 1 1 1 1\n", ""));
}

#[test]
fn packets_are_written_as_long_as_they_are_at_the_time_when_they_were_seen() {
    if !needs(&[Root, Program("ping")]) {
        return;
    }
    let file = crate::support::scratch("packets").join("packets.pcap");
    // Behind the frame's header, where the kernel is when it looks for who takes the packet.
    let script = format!(
        "rawtracepoint:netif_receive_skb {{
            if (args.skb->len == 84 && args.skb->protocol == bswap((uint16)0x800)) {{
                if (skboutput(\"{}\", args.skb, 1500, 0) == 0) {{ @ = count(); }}
            }}
        }}",
        file.display()
    );
    let before = std::time::SystemTime::now();
    let out = call(&["trace", "-q", &script, "-c", "ping -c 2 -i 0.2 127.0.0.1"]);
    let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{error}: {}{}", out.stdout, out.stderr));
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    // Nanoseconds, and packets that begin with the IP header.
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 101));
    let since = std::time::UNIX_EPOCH + std::time::Duration::new(word(24).into(), word(28));
    let ago = since.duration_since(before).expect("not before");
    assert!(ago < std::time::Duration::from_secs(60), "{ago:?}");
    let count = (bytes.len() - 24) / 100;
    assert!(count >= 4, "requests and replies: {count}");
    for at in (0..count).map(|number| 24 + number * 100) {
        assert_eq!((word(at + 8), word(at + 12), bytes[at + 16]), (84, 84, 0x45));
    }
    assert!(out.stdout.contains(&format!("@: {count}")), "{}{}", out.stdout, out.stderr);
}

#[test]
fn what_is_loaded_is_told_by_the_kernels_numbers() {
    if !needs(&[Root]) {
        return;
    }
    let words =
        ["trace", "-v", "interval:ms:1 { printf(\"tick\\n\"); } tracepoint:sched:sched_process_exit { @ = count(); }"];
    let skep = Skep::start(&mut crate::support::skep::command(&[], &words.map(std::ffi::OsStr::new)));
    skep.line("an event", |line| line == "tick");
    let told: Vec<String> = skep.talk().into_iter().filter(|line| line.starts_with("loaded `")).collect();
    assert_eq!(told.len(), 2, "{:?}", skep.talk());
    for line in &told {
        let (name, identity) = line["loaded `".len()..].split_once("`: id ").expect("a number");
        let (id, rest) = identity.split_once(", name ").expect("a name");
        assert!(skep.held().programs.contains(&id.parse().expect("digits")), "{line}: {:?}", skep.held().programs);
        // The kernel keeps 15 bytes of a name.
        assert!(rest.starts_with(&name[..name.len().min(15)]), "{line}");
        let kind = if name.starts_with("interval") { ", type perf_event, " } else { ", type tracepoint, " };
        assert!(rest.contains(kind) && rest.contains(" instructions ("), "{line}");
    }
    skep.signal(rustix::process::Signal::INT);
    assert!(skep.end().status.success());
    let quiet = call(&["trace", "--duration", "1ms", "interval:s:1 { }"]);
    assert_eq!(quiet.stderr, "Attached 1 probe\n");
    // Where another machine than the kernel runs it, there is no number.
    let out = call(&["trace", "-v", "--engine", "user", "--duration", "1ms", "interval:s:1 { }"]);
    assert!(out.stderr.contains("loaded `interval_s_1`: type perf_event, "), "{}", out.stderr);
}

#[test]
fn addresses_of_a_process_that_has_ended_have_names() {
    if !needs(&[Root, Program("bash")]) {
        return;
    }
    // bash is position independent, and gone before anything is printed.
    let script = "uprobe:/bin/bash:main /pid == cpid/ { printf(\"%s, %s\\n\", uaddr(\"main\") == reg(\"ip\") ? \"here\" : \"elsewhere\", usym(reg(\"ip\"))); }";
    let out = call(&["trace", "-c", "/bin/bash -c true", script]);
    assert_eq!(out.stdout, "here, main\n", "{}", out.stderr);
    // Stacks in a map are named at the very end.
    let script = "uprobe:/bin/bash:main /pid == cpid/ { @[ustack(1)] = count(); }";
    let out = call(&["trace", "-c", "/bin/bash -c true", script]);
    assert!(out.stdout.contains("main+0\n]: 1\n"), "{}\n{}", out.stdout, out.stderr);
}

#[test]
fn a_processors_own_variable_is_found_by_its_symbol() {
    if !needs(&[Root, Symbol("runqueues"), Symbol("__per_cpu_offset")]) {
        return;
    }
    let script =
        "begin { $queue = (struct rq *)percpu_kaddr(\"runqueues\", 0); printf(\"%s\\n\", $queue.idle.comm); exit(); }";
    let out = call(&["trace", script]);
    assert_eq!(out.stdout, "swapper/0\n", "{}", out.stderr);
}

#[test]
fn every_task_has_a_name() {
    if !needs(&[Root]) {
        return;
    }
    let mut sleeper = std::process::Command::new("/bin/sleep").arg("60").spawn().expect("there is sleep");
    let pid = sleeper.id();
    let script = format!(
        "interval:ms:1 {{ printf(\"%s, %s, [%s]\\n\", comm((uint32){pid}), comm((uint32)1), comm((uint32)4194303)); exit(); }}"
    );
    let out = call(&["trace", &script]);
    sleeper.kill().expect("it is ours");
    sleeper.wait().expect("it is ours");
    let first = std::fs::read_to_string("/proc/1/comm").expect("there is a first process");
    assert_eq!(out.stdout, format!("sleep, {}, []\n", first.trim_end()), "{}", out.stderr);
}

#[test]
fn a_script_is_written_in_its_usual_form() {
    let out = call(&["trace", "--fmt", "BEGIN{exit( );}"]);
    assert!(out.status.success(), "{}", out.stderr);
    assert!(out.stdout.contains("exit();"), "{}", out.stdout);
}

#[test]
fn values_do_not_command_a_terminal() {
    if !needs(&[Root, Program("script")]) {
        return;
    }
    let path = crate::support::scratch("terminal").join("hostile.bt");
    let text = r#"begin { $x = "\x1b[7m\r"; printf("\x1b[1m%s|%c\n", $x, 7); print($x); @[$x] = "\x1b[8m"; exit(); }"#;
    std::fs::write(&path, text).expect("the folder is ours");
    let path = path.to_str().expect("it is UTF-8");
    let piped = call(&["trace", "-q", path]);
    assert_eq!(piped.stdout, "\x1b[1m\x1b[7m\r|\x07\n\x1b[7m\r\n\n\n@[\x1b[7m\r]: \x1b[8m\n", "{}", piped.stderr);
    // `script` makes a terminal, which ends lines with a carriage return.
    let words = format!("{} trace -q {path}", env!("CARGO_BIN_EXE_skep"));
    let mut command = std::process::Command::new("script");
    let shown = crate::support::skep::finish(command.args(["-q", "-c", &words, "/dev/null"]));
    let lines = shown.stdout.replace("\r\n", "\n");
    assert_eq!(
        lines, "\x1b[1m\\x1b[7m\\x0d|\\x07\n\\x1b[7m\\x0d\n\n\n@[\\x1b[7m\\x0d]: \\x1b[8m\n",
        "{}",
        shown.stderr
    );
}
