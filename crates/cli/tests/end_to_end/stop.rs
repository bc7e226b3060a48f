//! How runs end.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::needs::Need::Root;
use crate::support::{Skep, eventually, example, needs, skep};

/// A process that writes all the time, until it is dropped.
struct Chatter(std::process::Child);

impl Chatter {
    fn new() -> Chatter {
        let child = Command::new("sh")
            .args(["-c", "while :; do echo x; done"])
            .stdout(Stdio::null())
            .spawn()
            .expect("there is a shell");
        Chatter(child)
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_usual_signals_end_a_run_in_good_order() {
    if !needs(&[Root]) {
        return;
    }
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let skep = Skep::run(&[example("minimal")]);
        skep.signal(signal);
        let outcome = skep.end();
        assert!(outcome.status.success(), "{signal:?}: {:?}\n{}", outcome.status, outcome.stderr);
        // There is a summary; a loaded machine may have lost lines.
        outcome.counts();
    }
}

#[test]
fn a_run_under_nohup_outlives_its_terminal() {
    if !needs(&[Root]) {
        return;
    }
    let ignoring = ["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""].map(OsString::from);
    let _chatter = Chatter::new();
    let skep = Skep::run_within(&ignoring, &[example("minimal")]);
    skep.signal(Signal::HUP);
    // More than one read holds.
    let heard = skep.lines().len();
    eventually(|| (skep.lines().len() > heard + 10_000).then_some(())).expect("it goes on");
    skep.stop();
}

#[test]
fn a_run_ends_while_events_pour_in() {
    if !needs(&[Root]) {
        return;
    }
    let _chatter = Chatter::new();
    let skep = Skep::run(&[example("minimal")]);
    skep.line("at all", |line| line.contains("BPF triggered"));
    skep.signal(Signal::INT);
    let outcome = skep.end();
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let (events, _) = outcome.counts();
    assert_eq!(events, outcome.stdout.lines().count() as u64);
}

#[test]
fn killed_outright_nothing_is_left() {
    if !needs(&[Root]) {
        return;
    }
    for name in ["minimal", "execsnoop", "tp_btf_exec"] {
        let skep = Skep::run(&[example(name)]);
        skep.signal(Signal::KILL);
        let outcome = skep.end();
        assert_eq!(outcome.status.code(), None);
    }
}

#[test]
fn a_duration_ends_a_run() {
    if !needs(&[Root]) {
        return;
    }
    let skep = Skep::run(&[example("execsnoop").as_os_str(), "--duration".as_ref(), "300ms".as_ref()]);
    let outcome = skep.end();
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(outcome.summary().contains(" lost, "), "{}", outcome.stderr);
}

#[test]
fn a_number_of_events_ends_a_run_exactly() {
    if !needs(&[Root]) {
        return;
    }
    let _chatter = Chatter::new();
    let skep = Skep::run(&[example("minimal").as_os_str(), "-n".as_ref(), "17".as_ref()]);
    let outcome = skep.end();
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert_eq!(outcome.stdout.lines().count(), 17);
    assert!(outcome.summary().starts_with("17 events, "), "{}", outcome.stderr);
}

/// `skep run ... | head -1`
#[test]
fn a_closed_pipe_ends_a_run_quietly() {
    if !needs(&[Root]) {
        return;
    }
    let _chatter = Chatter::new();
    let program = example("minimal");
    let mut child = skep::command(&[], &["run".as_ref(), program.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("skep starts");
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains("BPF triggered from PID"), "{line}");
    drop(reader);
    let ended = eventually(|| child.try_wait().unwrap());
    let status = ended.unwrap_or_else(|| {
        let _ = child.kill();
        panic!("skep writes on, though nobody reads");
    });
    let out = child.wait_with_output().unwrap();
    let talk = String::from_utf8_lossy(&out.stderr);
    assert!(status.success(), "{status}: {talk}");
    assert!(!talk.contains("error"), "{talk}");
}

#[test]
fn a_command_that_does_not_exist_attaches_nothing() {
    if !needs(&[Root]) {
        return;
    }
    let program = example("minimal");
    let outcome = skep::call(&["run".as_ref(), program.as_os_str(), "-c".as_ref(), "/nonexistent/command".as_ref()]);
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert_eq!(outcome.stderr, "error: cannot start `/nonexistent/command`: no such file or directory\n");
    assert_eq!(outcome.stdout, "");
}

#[test]
fn a_command_without_its_interpreter_begins_no_table() {
    if !needs(&[Root]) {
        return;
    }
    let command = crate::support::scratch("interpreter").join("command");
    std::fs::write(&command, "#!/nonexistent/interpreter\n").unwrap();
    std::fs::set_permissions(&command, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = example("execsnoop");
    let outcome = skep::call(&["run".as_ref(), program.as_os_str(), "-c".as_ref(), command.as_os_str()]);
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    let told = format!("error: cannot start `{}`: no such file or directory\n", command.display());
    assert_eq!((outcome.stdout.as_str(), outcome.stderr), ("", told));
}

#[test]
fn a_commands_own_verdict_is_told() {
    if !needs(&[Root]) {
        return;
    }
    let program = example("execsnoop");
    let outcome = skep::call(&["run".as_ref(), program.as_os_str(), "-c".as_ref(), "sh -c 'exit 3'".as_ref()]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(outcome.summary().ends_with("; the command ended with exit status: 3"), "{}", outcome.stderr);
}
