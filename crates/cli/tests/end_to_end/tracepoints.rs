//! Programs on tracepoints.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use crate::support::needs::Need::{Cgroup, Clang, Program, Root};
use crate::support::programs::{both, corpus};
use crate::support::{Skep, cgroup, document, example, needs, scratch, skep, writer};

/// Runs a program to its end; its process id.
fn start(path: &str, args: &[&str]) -> u32 {
    let mut child =
        Command::new(path).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let pid = child.id();
    child.wait().expect("our own child can be waited for");
    pid
}

#[test]
fn every_write_of_every_process_but_skep_is_told() {
    if !needs(&[Root]) {
        return;
    }
    for program in both("minimal", "01-tracepoint-write/minimal") {
        let skep = Skep::run(&[program]);
        let pids = [writer(), writer()];
        for pid in pids {
            skep.line_ending(&format!("BPF triggered from PID {pid}."));
        }
        // Printing is a write too: without the exception each line would make another one.
        let own = format!("BPF triggered from PID {}.", skep.pid());
        let outcome = skep.stop();
        assert!(!outcome.stdout.contains(&own), "skep feeds itself");
        let (events, _) = outcome.counts();
        assert_eq!(events, outcome.stdout.lines().count() as u64);
    }
}

#[test]
fn a_const_volatile_global_is_a_flag() {
    if !needs(&[Root]) {
        return;
    }
    // The process exists before skep starts, and writes when it is told to.
    let mut wanted = Command::new("/bin/sh")
        .args(["-c", "read line; echo x"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("there is a shell");
    let pid = wanted.id().to_string();
    let skep = Skep::run(&[example("minimal").as_os_str(), "--pid_filter".as_ref(), pid.as_ref()]);
    writer();
    drop(wanted.stdin.take());
    wanted.wait().expect("our own child can be waited for");
    skep.line_ending(&format!("BPF triggered from PID {pid}."));
    let outcome = skep.stop();
    assert!(outcome.stdout.lines().all(|line| line.ends_with(&format!("PID {pid}."))), "{}", outcome.stdout);
}

/// The document says to write the process's id into the source.
#[test]
fn the_documents_filter_by_a_constant_sees_one_process() {
    if !needs(&[Root, Clang]) {
        return;
    }
    let Some(source) = document("02-tracepoint-write-pid/test") else { return };
    let mut wanted = Command::new("/bin/sh")
        .args(["-c", "read line; echo x"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("there is a shell");
    let pid = wanted.id().to_string();
    let text = std::fs::read_to_string(source).unwrap();
    let dir = scratch("constant-pid");
    let edited = dir.join("test.bpf.c");
    std::fs::write(&edited, text.replace("39228", &pid)).unwrap();
    let skep = Skep::run(&[&edited]);
    writer();
    drop(wanted.stdin.take());
    wanted.wait().expect("our own child can be waited for");
    skep.line_ending(&format!("triggered from PID {pid}."));
    let outcome = skep.stop();
    assert!(outcome.stdout.lines().all(|line| line.ends_with(&format!("PID {pid}."))), "{}", outcome.stdout);
    std::fs::remove_dir_all(dir).unwrap();
}

/// A plain `const` is folded into the code: no flag can change it any more.
#[test]
fn a_plain_constant_given_as_a_flag_is_refused_with_advice() {
    if !needs(&[Clang]) {
        return;
    }
    let dir = scratch("plain-constant");
    let source = dir.join("plain.bpf.c");
    let text = std::fs::read_to_string(example("minimal")).unwrap();
    std::fs::write(&source, text.replace("const volatile int pid_filter = 0", "const int pid_filter = 1")).unwrap();
    let outcome = skep::call(&["run".as_ref(), source.as_os_str(), "--pid_filter=5".as_ref()]);
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("`pid_filter`") && outcome.stderr.contains("const volatile"), "{}", outcome.stderr);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_context_written_by_hand_gives_the_file_name() {
    if !needs(&[Root]) {
        return;
    }
    let skep = Skep::run(&[example("execve_args")]);
    start("/bin/true", &[]);
    skep.line_ending("execve /bin/true");
    skep.stop();
}

#[test]
fn a_program_start_and_its_result_are_told() {
    if !needs(&[Root]) {
        return;
    }
    let skep = Skep::run(&[example("hello")]);
    let pid = start("/bin/true", &[]);
    skep.line_ending(&format!("Process[{pid}]: /bin/true"));
    skep.line_ending(&format!("Process[{pid}]: return: 0"));
    skep.stop();
}

#[test]
fn execsnoop_shows_arguments_parents_and_failures() {
    if !needs(&[Root]) {
        return;
    }
    let skep = Skep::run(&[example("execsnoop")]);
    let us = std::process::id().to_string();
    let header = skep.line("with column names", |line| line.contains("ARGS"));
    let columns: Vec<&str> = header.split_whitespace().collect();
    assert_eq!(columns, ["TIME", "COMM", "PID", "PPID", "RET", "ARGS"]);

    let pid = start("/bin/true", &["one", "two words"]).to_string();
    skep.row(&["true", &pid, &us, "0", "/bin/true", "one", "two", "words"]);

    let many: Vec<String> = (1..100).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let pid = start("/bin/true", &many).to_string();
    let row = skep.line("with many arguments", |line| line.split_whitespace().any(|word| word == pid));
    // The path and 59 arguments make 60.
    assert!(row.ends_with(" 57 58 59 ..."), "{row}");

    // A start that fails: the process is the shell's child, which execve leaves as it was.
    let shell = Command::new("/bin/sh")
        .args(["-c", "exec /nonexistent/program word"])
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell");
    let pid = shell.id().to_string();
    let out = shell.wait_with_output().expect("our own child can be waited for");
    assert!(!out.status.success());
    let row = skep.line("with the failure", |line| line.contains("-ENOENT") && line.contains("/nonexistent/program"));
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[1..5], ["sh", pid.as_str(), us.as_str(), "-ENOENT"], "{row}");
    skep.stop();
}

#[test]
fn execsnoop_names_the_parent() {
    if !needs(&[Root]) {
        return;
    }
    let skep = Skep::run(&[example("execsnoop_ppid")]);
    let us = std::process::id().to_string();
    // The parent is the thread that started it.
    let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
    let pid = start("/bin/true", &["one"]).to_string();
    let row = skep.line("of our process", |line| line.split_whitespace().any(|word| word == pid));
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[1..5], ["true", pid.as_str(), us.as_str(), name.trim()], "{row}");
    assert!(row.ends_with("/bin/true one"), "{row}");
    skep.stop();
}

#[test]
fn execsnoop_speaks_json() {
    if !needs(&[Root]) {
        return;
    }
    let skep = Skep::run(&[example("execsnoop").as_os_str(), "--json".as_ref()]);
    let pid = start("/bin/true", &["a\"b\\c"]);
    let line = skep.line("of our process", |line| line.contains(&format!("\"pid\":{pid},")));
    let value: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(value["source"], "events");
    assert_eq!(value["comm"], "true");
    assert_eq!(value["ret"], 0);
    assert_eq!(value["args"], "/bin/true a\"b\\c");
    assert!(value["time"].is_string());
    skep.stop();
}

#[test]
fn container_execsnoop_shows_namespace_and_container() {
    if !needs(&[Root, Cgroup, Program("unshare")]) {
        return;
    }
    let id = format!("3f9c0a1b{:056x}", std::process::id());
    let cgroup = cgroup::Cgroup::new(&format!("docker-{id}.scope"));
    let skep = Skep::run(&[example("container_execsnoop_ppid")]);
    // The shell moves into the cgroup and then into namespaces of its own, as a container's first process does.
    let script = format!(
        "echo $$ > {}/cgroup.procs; exec unshare --net sh -c 'readlink /proc/self/ns/net; exec /bin/true in-container'",
        cgroup.path().display()
    );
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).process_group(0);
    let child = command.stdout(Stdio::piped()).spawn().expect("there is a shell");
    let pid = child.id().to_string();
    let out = child.wait_with_output().expect("our own child can be waited for");
    let namespace = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    let inode = namespace.trim_start_matches("net:[").trim_end_matches(']').to_owned();
    let us = std::process::id().to_string();
    let name = format!("docker-{id}.scope");
    skep.row(&[&inode, &id[..12], &name, "true", &pid, &us, "0", "/bin/true", "in-container"]);
    let header = skep.lines()[0].clone();
    let columns: Vec<&str> = header.split_whitespace().collect();
    assert_eq!(columns, ["TIME", "NET_NS", "CONTAINER_ID", "CONTAINER_NAME", "COMM", "PID", "PPID", "RET", "ARGS"]);
    skep.stop();
}

#[test]
fn a_typed_tracepoint_gives_its_arguments() {
    if !needs(&[Root]) {
        return;
    }
    let skep = Skep::run(&[example("tp_btf_exec")]);
    let pid = start("/bin/true", &[]).to_string();
    skep.row(&[&pid, &pid, "true", "/bin/true"]);
    skep.stop();
}

/// `-c CMD`: started when everything is attached, and the run ends with it.
#[test]
fn a_command_is_seen_from_its_start_to_its_end() {
    if !needs(&[Root]) {
        return;
    }
    let outcome = skep::call(&[
        "run".as_ref(),
        example("hello").as_os_str(),
        "-c".as_ref(),
        "/bin/sh -c '/bin/true; exit 3'".as_ref(),
    ]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(outcome.stdout.contains(": /bin/sh"), "{}", outcome.stdout);
    assert!(outcome.summary().ends_with("the command ended with exit status: 3"), "{}", outcome.stderr);
}

/// An object from elsewhere: nothing names the type of its events, which lie in a map of their own, and a map's size is its
/// application's business.
#[test]
fn an_object_without_hints_shows_its_events_and_gets_its_sizes() {
    if !needs(&[Root]) {
        return;
    }
    let object = corpus("clang19-el", "event_in_map");
    let skep = Skep::run(&[object]);
    let nobody = "/nonexistent/skep-event-in-map";
    let _ = Command::new(nobody).status();
    skep.line("with the path", |line| line.trim_end().ends_with(nobody));
    let header = skep.line("with the names", |line| line.starts_with("TIME"));
    assert_eq!(header.split_whitespace().collect::<Vec<_>>(), ["TIME", "PID", "UID", "LENGTH", "COMM", "PATH"]);
    let outcome = skep.stop();
    let note = "map `begun` has no size in the object: it gets 10240 entries";
    assert!(outcome.stderr.lines().any(|line| line == note), "{}", outcome.stderr);
}
