//! Keys and job control: a trace without rights is two processes, and shall be one job.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use crate::support::needs::Need::Program;
use crate::support::{needs, patience};

/// A shell that controls jobs, in a terminal of its own.
struct Terminal {
    script: Child,
    keyboard: ChildStdin,
    screen: Receiver<String>,
    seen: Vec<String>,
}

impl Terminal {
    /// `None` on a machine without terminals or such a shell. `$SKEP` is the binary.
    fn new(commands: &str) -> Option<Terminal> {
        if !needs(&[Program("bash"), Program("script")]) {
            return None;
        }
        let mut command = Command::new("script");
        command
            .args(["-q", "-c", "bash --norc -mc \"$COMMANDS\"", "/dev/null"])
            .env("COMMANDS", commands)
            .env("SKEP", env!("CARGO_BIN_EXE_skep"))
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut script = command.spawn().expect("script runs");
        let output = BufReader::new(script.stdout.take().expect("it is piped"));
        let (lines, screen) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Some(Terminal { keyboard: script.stdin.take().expect("it is piped"), script, screen, seen: Vec::new() })
    }

    fn press(&mut self, key: char) {
        self.keyboard.write_all(&[key as u8 & 0x1f]).expect("script reads");
    }

    /// The lines before the next one that is `text`.
    fn until(&mut self, text: &str) -> Vec<String> {
        let before = self.seen.len();
        loop {
            let line = self.screen.recv_timeout(patience());
            let line = line.unwrap_or_else(|_| panic!("no `{text}` in:\n{}", self.seen.join("\n")));
            // The terminal writes `^C` before what comes next.
            let line = line.trim_end().trim_start_matches("^C").to_owned();
            self.seen.push(line);
            if self.seen.last().is_some_and(|line| line == text) {
                return self.seen[before..self.seen.len() - 1].to_vec();
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It hangs up, which ends what runs there.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn count(lines: &[String], wanted: &str) -> usize {
    lines.iter().filter(|line| line.as_str() == wanted).count()
}

#[test]
fn a_signal_to_the_job_reaches_the_trace_once() {
    let script = r#"self:signal:SIGUSR1 { printf("heard\n") } self:signal:SIGUSR2 { printf("the other\n") }"#;
    let Some(mut terminal) = Terminal::new(&format!(
        // The command is of the same job, and sends to all of it.
        "$SKEP trace --engine user '{script}' -c \"bash -c 'trap : USR1 USR2; kill -USR1 0; kill -USR2 0; sleep 1'\"; echo rc $?"
    )) else {
        return;
    };
    let lines = terminal.until("rc 0");
    assert_eq!((count(&lines, "heard"), count(&lines, "the other")), (1, 1), "{lines:?}");
}

#[test]
fn ctrl_c_ends_the_trace_and_its_command_in_good_order() {
    let script = r#"BEGIN { printf("began\n") } interval:s:60 { } END { printf("ended\n") }"#;
    let Some(mut terminal) = Terminal::new(&format!(
        // A trace that ends sends SIGTERM to its command, which shall not be what ends it here.
        "$SKEP trace --engine user '{script}' \\
        -c 'bash -c \"trap : TERM; trap \\\"echo told; exit\\\" INT; read line; echo \\$line; while :; do sleep 0.1; done\"'; echo rc $?; sleep 60"
    )) else {
        return;
    };
    terminal.until("began");
    // The keyboard is the command's.
    terminal.keyboard.write_all(b"typed\n").expect("script reads");
    // The terminal's echo, and the command's.
    terminal.until("typed");
    terminal.until("typed");
    terminal.press('C');
    let lines = terminal.until("rc 0");
    assert_eq!(count(&lines, "ended"), 1, "{lines:?}");
    // Nobody waits for the command.
    if count(&lines, "told") == 0 {
        terminal.until("told");
    }
}

/// A stopped trace writes nothing, but whom it traces goes on.
#[test]
fn ctrl_z_stops_the_output_and_not_the_traced_process() {
    let script = r#"interval:ms:20 { printf("tick\n") } tracepoint:syscalls:sys_enter_write { @calls++ }"#;
    let Some(mut terminal) = Terminal::new(&format!(
        "file=$(mktemp); (for i in $(seq 9000); do echo x >> $file; sleep 0.01; done) & traced=$!
        $SKEP trace --engine user '{script}' -p $traced; echo rc $?
        sleep 0.2; echo quiet; lines=$(wc -l < $file); sleep 0.5
        test $(wc -l < $file) -gt $((lines + 3)) && echo traced goes on
        echo again; fg %2; echo rc $?; kill $traced; rm $file; echo over"
    )) else {
        return;
    };
    terminal.until("tick");
    terminal.press('Z');
    // 128 and SIGTSTP.
    terminal.until("rc 148");
    terminal.until("quiet");
    let lines = terminal.until("again");
    assert_eq!(count(&lines, "tick"), 0, "{lines:?}");
    assert_eq!(count(&lines, "traced goes on"), 1, "{lines:?}");
    terminal.until("tick");
    terminal.press('C');
    let lines = terminal.until("rc 0");
    assert!(lines.iter().any(|line| line.starts_with("@calls: ")), "{lines:?}");
    terminal.until("over");
}
