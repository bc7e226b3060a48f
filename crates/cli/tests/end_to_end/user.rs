//! Programs without any right: a user whom nothing is allowed, packets of files, and given input.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::needs::Need::{Clang, Program, Root, Symbol, Tracepoint};
use crate::support::programs::{both, corpus};
use crate::support::skep::{self, Outcome};
use crate::support::{example, needs};

/// At which ports [`helper_that_answers`] does.
const PORTS: &str = "SKEP_TEST_PORTS";

/// A folder that everybody may use, with skep in it: folders of root's are closed to others.
pub(crate) struct Open {
    dir: PathBuf,
}

impl Open {
    pub(crate) fn new(name: &str) -> Open {
        let dir = std::env::temp_dir().join(format!("skep-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("there is a place for files");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o777)).expect("it is ours");
        std::fs::copy(env!("CARGO_BIN_EXE_skep"), dir.join("skep")).expect("skep can be copied");
        Open { dir }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A copy of a file that everybody may read.
    pub(crate) fn copy(&self, file: &Path) -> PathBuf {
        let to = self.file(&file.file_name().expect("a file").to_string_lossy());
        std::fs::copy(file, &to).expect("the file can be copied");
        to
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let to = self.file(name);
        std::fs::write(&to, bytes).expect("the file can be written");
        to
    }

    /// `skep run ARGS` as a user whom nothing is allowed; as ourselves where we are nobody special.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        self.skep("run", args)
    }

    /// As [`Open::run`], as root; `None` where we are not.
    fn run_as_root<S: AsRef<OsStr>>(&self, args: &[S]) -> Option<Outcome> {
        if !needs(&[Root]) {
            return None;
        }
        let mut command = Command::new(self.file("skep"));
        Some(skep::finish(
            command.arg("run").args(args).env("XDG_CACHE_HOME", self.file("root-cache")).env(PORTS, "80,8080"),
        ))
    }

    /// Sends the packets of a file through a program; those that pass go to another file.
    fn play(&self, program: &Path, packets: &Path, out: &Path) -> Outcome {
        let args: [&OsStr; 6] = [
            program.as_ref(),
            "--engine=user".as_ref(),
            "--pcap".as_ref(),
            packets.as_ref(),
            "--pcap-out".as_ref(),
            out.as_ref(),
        ];
        self.run(&args)
    }

    /// As [`Open::run`], for any verb.
    pub(crate) fn skep<S: AsRef<OsStr>>(&self, verb: &str, args: &[S]) -> Outcome {
        self.within(&[], verb, args)
    }

    /// As [`Open::skep`], with words in front that end in an exec.
    fn within<S: AsRef<OsStr>>(&self, words: &[&str], verb: &str, args: &[S]) -> Outcome {
        let skep = self.file("skep").into_os_string();
        let mut command = Command::new(words.first().map_or(skep.as_os_str(), |word| word.as_ref()));
        command
            .args(words.iter().skip(1))
            .args(words.first().map(|_| &skep))
            .arg(verb)
            .args(args)
            .env("HOME", "/nonexistent")
            .env("XDG_CACHE_HOME", self.file("cache"))
            .env(PORTS, "80,8080")
            .env("TZ", "UTC");
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        skep::finish(&mut command)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len() as u16).to_be_bytes();
    let ethernet = [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 8, 0];
    let header = [0x45, 0, len[0], len[1], 0, 1, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    [ethernet.as_slice(), &header, payload].concat()
}

/// A SYN to a port, 74 bytes long as that of Linux, of a ping.
fn syn(port: u16) -> Vec<u8> {
    let mut segment = vec![0; 40];
    segment[2..4].copy_from_slice(&port.to_be_bytes());
    (segment[12], segment[13]) = (0xa0, 2);
    ipv4(6, &segment)
}

fn ping() -> Vec<u8> {
    ipv4(1, &[[8, 0].as_slice(), &[0; 62]].concat())
}

/// A file of packets, with microseconds.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (at, packet) in (0u32..).zip(packets) {
        let len = packet.len() as u32;
        for word in [1_700_000_000, at, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}

/// The frames of a file that skep has written.
fn frames(file: &[u8]) -> Vec<Vec<u8>> {
    let word = |at: usize| u32::from_ne_bytes(file[at..at + 4].try_into().expect("four bytes"));
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 1), "nanoseconds, Ethernet");
    let (mut at, mut found) = (24, Vec::new());
    while at < file.len() {
        let len = word(at + 8) as usize;
        found.push(file[at + 16..at + 16 + len].to_vec());
        at += 16 + len;
    }
    found
}

#[test]
fn pings_of_a_file_are_dropped_and_tcp_passes() {
    let open = Open::new("pings");
    let packets = open.write("in.pcap", &pcap(&[ping(), syn(80), ping(), syn(8080)]));
    for program in both("xdp_drop_icmp", "04-xdp-drop-icmp/xdp") {
        let (program, out) = (open.copy(&program), open.file("out.pcap"));
        let outcome = open.play(&program, &packets, &out);
        assert!(outcome.status.success(), "{}", outcome.stderr);
        let rows: Vec<&str> = outcome.stdout.lines().filter(|line| line.contains("Drop ICMP packets")).collect();
        assert_eq!(rows.len(), 2, "{}", outcome.stdout);
        let passed = outcome.stdout.lines().filter(|line| line.ends_with("output:Packet size is 74, protocol is 6"));
        assert_eq!(passed.count(), 2, "{}", outcome.stdout);
        assert!(outcome.stderr.contains("(xdp): 2 DROP, 2 PASS\n"), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("4 packets, 344 bytes, 2 written, "), "{}", outcome.stderr);
        assert_eq!(outcome.counts().1, 0, "{}", outcome.stderr);
        let written = std::fs::read(&out).expect("it was written");
        assert_eq!(frames(&written), [syn(80), syn(8080)]);
    }
}

#[test]
fn packets_of_a_file_are_counted_in_a_global() {
    let open = Open::new("counter");
    let packets = open.write("in.pcap", &pcap(&vec![syn(80); 40]));
    for program in both("xdp_counter", "10-xdp-counter/hello") {
        let program = open.copy(&program);
        let args: [&OsStr; 6] = [
            program.as_ref(),
            "--engine=user".as_ref(),
            "--pcap".as_ref(),
            packets.as_ref(),
            "--maps".as_ref(),
            "exit".as_ref(),
        ];
        let outcome = open.run(&args);
        assert!(outcome.status.success(), "{}", outcome.stderr);
        let said: Vec<String> = (0..40).map(|number| format!("Hello World {number}")).collect();
        let found: Vec<&str> =
            outcome.stdout.lines().filter_map(|line| line.find("Hello").map(|at| &line[at..])).collect();
        assert_eq!(found, said);
        // The global is there at the end.
        assert!(
            outcome.stdout.lines().any(|line| line.contains("counter") && line.contains("40")),
            "{}",
            outcome.stdout
        );
    }
}

#[test]
fn a_tc_program_lets_through_what_it_lets_through() {
    let open = Open::new("tc");
    let packets = open.write("in.pcap", &pcap(&[syn(80), syn(8080), ping()]));
    let (program, out) = (open.copy(&example("traffic_controller")), open.file("out.pcap"));
    let args: [&OsStr; 5] =
        [program.as_ref(), "--pcap".as_ref(), packets.as_ref(), "--pcap-out".as_ref(), out.as_ref()];
    let outcome = open.run(&args);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(outcome.stderr.starts_with("engine: user, since packets come from a file\n"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("1 SHOT"), "{}", outcome.stderr);
    assert_eq!(frames(&std::fs::read(&out).expect("it was written")), [syn(8080), ping()]);
}

#[test]
fn files_of_packets_that_are_wrong_say_where() {
    let open = Open::new("wrong");
    let whole = pcap(&[syn(80), syn(81)]);
    let program = open.copy(&corpus("clang19-el", "xdp"));
    let said = |file: &Path, more: &[&str]| {
        let mut args: Vec<&OsStr> =
            vec![program.as_ref(), "--prog=drop_icmp".as_ref(), "--pcap".as_ref(), file.as_ref()];
        args.extend(more.iter().map(OsStr::new));
        let outcome = open.run(&args);
        assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
        outcome.stderr
    };
    let cut = open.write("cut.pcap", &whole[..whole.len() - 5]);
    let text = said(&cut, &[]);
    assert!(text.contains("cut.pcap`: behind packet 1, at byte 130: the file ends in a packet's bytes"), "{text}");
    // What came before had its verdict.
    assert!(text.contains("`drop_icmp` (xdp): 1 PASS"), "{text}");
    let text = said(&open.write("no.pcap", b"#!/bin/sh"), &[]);
    assert!(text.contains("no.pcap`: this is no file of packets"), "{text}");
    let text = said(&open.file("missing.pcap"), &[]);
    assert!(text.contains("missing.pcap`: no such file or directory"), "{text}");
    let text = said(&cut, &["--engine=kernel"]);
    assert!(text.contains("the kernel takes packets from interfaces, not from files"), "{text}");
}

#[test]
fn a_program_runs_on_given_input_the_same_on_both_engines() {
    let open = Open::new("vectors");
    let object = open.copy(&corpus("clang19-el", "xdp"));
    let packet = open.write("packet", &ping());
    let hex: String = syn(80).iter().map(|byte| format!("{byte:02x}")).collect();
    let mut engines = vec!["user"];
    if needs(&[Root]) {
        engines.push("kernel");
    }
    for (data, retval) in [(packet.to_string_lossy().into_owned(), 1), (hex, 2)] {
        let answers: Vec<serde_json::Value> = engines
            .iter()
            .map(|engine| {
                let args = ["--program", "drop_icmp", "--data", &data, "--repeat", "10", "--json", "--engine", engine];
                let mut all: Vec<&OsStr> = vec![object.as_ref()];
                all.extend(args.iter().map(OsStr::new));
                let outcome = if *engine == "user" {
                    open.run(&all)
                } else {
                    all.insert(0, "run".as_ref());
                    skep::call(&all)
                };
                assert!(outcome.status.success(), "{}", outcome.stderr);
                let mut answer: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
                assert!(answer["duration"].is_u64(), "{answer}");
                answer["duration"] = 0.into();
                answer
            })
            .collect();
        assert_eq!(answers[0]["retval"], retval, "{}", answers[0]);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    let outcome = open.run(&[object.as_os_str(), "--program=drop_icmp".as_ref(), "--data=00".as_ref()]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(
        outcome.stderr.contains("the packet has 1 bytes, and an Ethernet header alone has 14"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn what_needs_the_kernel_is_refused_with_what_comes_nearest() {
    let open = Open::new("refused");
    let said = |object: &str, more: &str| {
        let object = open.copy(&corpus("clang19-el", object));
        let outcome = open.run(&[object.as_os_str(), "--engine=user".as_ref(), more.as_ref()]);
        assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
        outcome.stderr
    };
    let text = said("kprobe", "--maps=auto");
    assert!(text.contains("functions of the kernel are not seen in user space"), "{text}");
    assert!(text.contains("= help: what comes nearest is a tracepoint"), "{text}");
    let text = said("xdp", "--prog=drop_icmp");
    assert!(
        text.contains("packets come from a file or a network of one's own in user space, and none was given"),
        "{text}"
    );
    assert!(text.contains("--pcap FILE") && text.contains("--tap -c COMMAND"), "{text}");
    let text = said("struct_ops", "--maps=auto");
    assert!(text.contains("need a structure of the kernel that calls them"), "{text}");
}

/// Words in front of a command for which `/sys` is empty, whom no capability and no user but itself belongs to: what a container has at least.
/// `None` where that cannot be made.
fn in_a_bare_container() -> Option<[&'static str; 8]> {
    const INSIDE: &str = "mount -t tmpfs none /sys && exec unshare --user --map-user=65534 --map-group=65534 -- \"$@\"";
    let words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", INSIDE, "sh"];
    let mut test = Command::new(words[0]);
    test.args(&words[1..]).args([
        "sh",
        "-c",
        "! grep -q 'CapEff.*[1-9a-f]' /proc/self/status && ! test -e /sys/kernel",
    ]);
    if rustix::process::geteuid().is_root() {
        test.uid(65534).gid(65534);
    }
    let made = test.output().is_ok_and(|output| output.status.success());
    if !made {
        println!("skipped: needs user namespaces for everybody, and unshare(1)");
    }
    made.then_some(words)
}

/// The README's first command, where the kernel gives neither rights nor types nor the formats of its tracepoints.
#[test]
fn a_bare_container_sees_the_same() {
    let Some(words) = in_a_bare_container() else { return };
    let open = Open::new("bare");
    let program = open.copy(&example("execsnoop"));
    let marker = format!("marker-bare-{}", std::process::id());
    let command = format!("sh -c \"sh -c true {marker}; cat {marker}\"");
    let args: [&OsStr; 3] = [program.as_ref(), "-c".as_ref(), command.as_ref()];
    let first = open.within(&words, "run", &args);
    assert!(first.status.success(), "{}", first.stderr);
    let why = "engine: user, since the kernel gives no right to load programs of type tracepoint";
    assert!(first.stderr.starts_with(why), "{}", first.stderr);
    let seen = columns(&first, &marker);
    assert_eq!(seen.len(), 3, "{}", first.stdout);
    // What is made up of a task is where the program looks for it.
    let ids = |row: &str| row.split_whitespace().skip(2).take(2).map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<Vec<String>> = first.stdout.lines().filter(|line| line.contains(&marker)).map(ids).collect();
    assert!(rows[1][1] == rows[0][0] && rows[2][1] == rows[0][0], "{}", first.stdout);
    // With types of the kernel, which the container next door has, all is the same.
    let outcome = open.run(&[program.as_os_str(), "--engine=user".as_ref(), "-c".as_ref(), command.as_ref()]);
    assert_eq!(columns(&outcome, &marker), seen, "{}{}", outcome.stdout, outcome.stderr);
    // Scripts ask for formats, which are known by heart.
    let script = "tracepoint:syscalls:sys_enter_execve { printf(\"%d %s\\n\", pid, str(args.filename)); } \
                  tracepoint:sched:sched_process_exit { @[comm] = count(); }";
    let outcome = open.within(&words, "trace", &["-q", script, "-c", "/bin/sh -c '/bin/true; /bin/true'"]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert_eq!(outcome.stdout.lines().filter(|line| line.ends_with(" /bin/true")).count(), 2, "{}", outcome.stdout);
    assert!(outcome.stdout.contains("@[true]: 2"), "{}", outcome.stdout);
}

/// The columns of the rows with `marker`, without the times and the ids that differ from run to run.
fn columns(outcome: &Outcome, marker: &str) -> Vec<Vec<String>> {
    let rows = outcome.stdout.lines().filter(|line| line.contains(marker));
    let is_id = |word: &str| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_digit());
    rows.map(|row| row.split_whitespace().skip(1).filter(|word| !is_id(word)).map(str::to_owned).collect()).collect()
}

/// S15, S16: rows of the user-space engine are those of the kernel.
#[test]
fn execs_of_a_command_are_seen_without_rights() {
    let open = Open::new("execs");
    let kernel = needs(&[Root, Tracepoint("syscalls/sys_enter_execve")]);
    for name in ["execsnoop", "execsnoop_ppid"] {
        // The header of the examples lies beside them.
        let header = example(name).with_file_name("exec_args.h");
        if header.is_file() {
            open.copy(&header);
        }
        let program = open.copy(&example(name));
        let marker = format!("marker-{name}-{}", std::process::id());
        let command = format!("/bin/sh -c '/bin/sh -c \"exit 3\" {marker} two; /nonexistent-{marker}; exit 4'");
        let args: [&OsStr; 4] = [program.as_ref(), "--engine=user".as_ref(), "-c".as_ref(), command.as_ref()];
        let outcome = open.run(&args);
        assert!(outcome.status.success(), "{}", outcome.stderr);
        assert!(outcome.summary().ends_with("; the command ended with exit status: 4"), "{}", outcome.stderr);
        let seen = columns(&outcome, &marker);
        let found = |words: &[&str]| seen.iter().any(|row| words.iter().all(|word| row.iter().any(|it| it == word)));
        assert!(found(&["sh", "0", "/bin/sh", "two"]), "{}", outcome.stdout);
        assert!(found(&["-ENOENT"]), "{}", outcome.stdout);
        if name == "execsnoop_ppid" {
            let child = outcome.stdout.lines().find(|line| line.contains("two") && !line.contains("exit 4"));
            let words: Vec<&str> = child.expect("the inner shell").split_whitespace().collect();
            // PID, PPID and who that is: the outer shell.
            assert!(words[2] != words[3] && words[3] != "0" && words[4] == "sh", "{words:?}");
        }
        if kernel {
            let args: [&OsStr; 5] =
                ["run".as_ref(), program.as_ref(), "--engine=kernel".as_ref(), "-c".as_ref(), command.as_ref()];
            let outcome = skep::call(&args);
            assert!(outcome.status.success(), "{}", outcome.stderr);
            assert_eq!(columns(&outcome, &marker), seen, "{}", outcome.stdout);
        }
    }
}

/// S1, S9, S14: printed text, of all that the command starts.
#[test]
fn calls_of_a_command_are_seen_without_rights() {
    let open = Open::new("calls");
    let texts = |name: &str, command: &str| {
        let program = open.copy(&example(name));
        let args: [&OsStr; 4] = [program.as_ref(), "--engine=user".as_ref(), "-c".as_ref(), command.as_ref()];
        let outcome = open.run(&args);
        assert!(outcome.status.success(), "{}", outcome.stderr);
        assert_eq!(outcome.counts().1, 0, "{}", outcome.stderr);
        outcome.stdout
    };
    let said = texts("minimal", "/bin/sh -c 'echo one; echo two'");
    let triggered: Vec<&str> =
        said.lines().filter_map(|line| line.split_once("BPF triggered from PID ")).map(|it| it.1).collect();
    assert_eq!(triggered.len(), 2, "{said}");
    assert_eq!(triggered[0], triggered[1], "{said}");
    // What the command itself says comes through as ever.
    assert!(said.lines().any(|line| line == "one") && said.lines().any(|line| line == "two"), "{said}");
    let said = texts("execve_args", "/bin/sh -c '/bin/sh -c true'");
    assert_eq!(said.lines().filter(|line| line.contains("execve /bin/sh")).count(), 2, "{said}");
    let said = texts("hello", "/bin/sh -c '/bin/sh -c true'");
    assert_eq!(said.lines().filter(|line| line.ends_with("]: /bin/sh")).count(), 2, "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with("]: return: 0")).count(), 2, "{said}");
}

/// A shell of the user whom nothing is allowed that writes again and again.
struct Busy {
    child: std::process::Child,
}

impl Busy {
    fn new() -> Busy {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "while :; do echo x; sleep 0.05; done"]).stdout(std::process::Stdio::null());
        if rustix::process::geteuid().is_root() {
            shell.uid(65534).gid(65534);
        }
        Busy { child: shell.spawn().expect("there is a shell") }
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that runs already, and what is said when none is named.
#[test]
fn a_running_process_is_seen_without_rights() {
    let open = Open::new("running");
    let program = open.copy(&example("minimal"));
    let mut shell = Busy::new();
    let pid = shell.child.id().to_string();
    let args: [&OsStr; 7] = [
        program.as_ref(),
        "--engine=user".as_ref(),
        "-p".as_ref(),
        pid.as_ref(),
        "-n".as_ref(),
        "3".as_ref(),
        "--duration=30s".as_ref(),
    ];
    let outcome = open.run(&args);
    assert!(outcome.status.success() || outcome.stderr.contains("ptrace_scope"), "{}", outcome.stderr);
    if outcome.status.success() {
        assert_eq!(outcome.counts(), (3, 0), "{}", outcome.stderr);
        assert!(outcome.stdout.lines().all(|line| line.ends_with(&format!("from PID {pid}."))), "{}", outcome.stdout);
        // It goes on as if nobody had looked.
        assert!(shell.is_alive());
    } else {
        println!("skipped: needs ptrace of processes of one's own");
    }
    let outcome = open.run(&[program.as_os_str(), "--engine=user".as_ref()]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("start one with `-c COMMAND`, or name one with `-p PID`"), "{}", outcome.stderr);
}

/// Nothing is said of an engine: the one that may.
#[test]
fn without_rights_the_machine_in_user_space_is_taken_and_named() {
    if !needs(&[Root]) {
        return;
    }
    let open = Open::new("auto");
    let program = open.copy(&example("minimal"));
    let outcome = open.run(&[program.as_os_str(), "-c".as_ref(), "/bin/sh -c 'echo x'".as_ref()]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let first = outcome.stderr.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("engine: user, since the kernel gives no right to load programs of type tracepoint"),
        "{first}"
    );
    assert_eq!(outcome.counts(), (1, 0), "{}", outcome.stderr);
}

/// S19: each packet has its line, and all of them pass.
#[test]
fn packets_of_a_file_are_measured() {
    let open = Open::new("measured");
    let packets = open.write("in.pcap", &pcap(&[ping(), syn(80)]));
    let (program, out) = (open.copy(&example("xdp")), open.file("out.pcap"));
    let outcome = open.play(&program, &packets, &out);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let sizes: Vec<&str> =
        outcome.stdout.lines().filter_map(|line| line.rsplit_once("packet size: ")).map(|it| it.1).collect();
    assert_eq!(sizes, ["98", "74"], "{}", outcome.stdout);
    assert_eq!(frames(&std::fs::read(&out).expect("it was written")), [ping(), syn(80)]);
}

/// S2: only the process whose id was set.
#[test]
fn a_program_for_one_process_sees_that_one() {
    if !needs(&[Clang]) {
        return;
    }
    let open = Open::new("one");
    let source = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n\
                  const volatile int wanted = 0;\n\
                  SEC(\"tp/syscalls/sys_enter_write\")\n\
                  int f(void *ctx)\n{\n\tint pid = bpf_get_current_pid_tgid() >> 32;\n\
                  \tif (pid == wanted)\n\t\tbpf_printk(\"write of %d\", pid);\n\treturn 0;\n}\n\
                  char LICENSE[] SEC(\"license\") = \"GPL\";\n";
    let program = open.write("one.bpf.c", source.as_bytes());
    // Nobody can know a command's id before: two shells run already, and one of them is named to the program.
    let (mut one, mut other) = (Busy::new(), Busy::new());
    let run = |wanted: u32| {
        let (pid, wanted) = (one.child.id().to_string(), wanted.to_string());
        let args: [&OsStr; 7] = [
            program.as_ref(),
            "--engine=user".as_ref(),
            "--wanted".as_ref(),
            wanted.as_ref(),
            "-p".as_ref(),
            pid.as_ref(),
            "--duration=1s".as_ref(),
        ];
        open.run(&args)
    };
    let seen = run(one.child.id());
    if seen.stderr.contains("ptrace_scope") {
        println!("skipped: needs ptrace of processes of one's own");
        return;
    }
    assert!(seen.status.success() && seen.counts().0 > 0, "{}", seen.stderr);
    assert_eq!(run(other.child.id()).counts(), (0, 0));
    assert!(one.is_alive() && other.is_alive());
}

/// A program that the kernel would not take ends with its line, and harms nobody.
#[test]
fn a_program_that_reads_behind_a_packet_is_stopped_at_its_line() {
    if !needs(&[Clang]) {
        return;
    }
    let open = Open::new("wild");
    let source = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n\
                  SEC(\"xdp\")\nint wild(struct xdp_md *ctx)\n{\n\tchar *end = (void *)(long)ctx->data_end;\n\n\
                  \treturn *(volatile char *)end;\n}\n";
    let program = open.write("wild.bpf.c", source.as_bytes());
    let packets = open.write("in.pcap", &pcap(&[ping()]));
    let outcome = open.run(&[program.as_os_str(), "--pcap".as_ref(), packets.as_ref()]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("packet 1: program `wild`, instruction "), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("which is outside of the program's memory (wild.bpf.c:8: `return"),
        "{}",
        outcome.stderr
    );
}

/// What a program does wrong is told with its line, however deep it is.
#[test]
fn hostile_programs_end_with_their_line() {
    if !needs(&[Clang]) {
        return;
    }
    let open = Open::new("hostile");
    let packets = open.write("in.pcap", &pcap(&[ping()]));
    for (name, above, body, words) in [
        ("endless", "", "while (1) barrier();", "does a loop never end?"),
        (
            "deep",
            "static __noinline int f(volatile int *more) { int depth = *more ? f(more) : 0; barrier_var(depth); return depth + 1; }",
            "volatile int more = 1; return f(&more);",
            "more than 8 functions",
        ),
        ("wild", "", "return *(volatile int *)0x1234567890;", "read of 4 byte(s) at 0x1234567890"),
        (
            "stack",
            "",
            "volatile long off = -4096; volatile char here[8]; return here[off];",
            "outside of the program's memory",
        ),
        (
            "callback",
            "static int f(int i, void *at) { while (1) barrier(); }",
            "return bpf_loop(9, f, 0, 0);",
            "does a loop never end?",
        ),
        ("itself", "", "asm volatile(\"1: goto 1b\"); return 0;", "does a loop never end?"),
        (
            "full",
            "struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, int); __type(value, long); } few SEC(\".maps\");",
            "int last = 99; long one = 1; for (int i = 0; i <= last; i++) bpf_map_update_elem(&few, &i, &one, 0); \
             return *(volatile long *)bpf_map_lookup_elem(&few, &last);",
            "read of 8 byte(s) through a null pointer",
        ),
    ] {
        let source = format!(
            "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n{above}\nSEC(\"xdp\")\nint {name}(struct xdp_md *ctx)\n{{\n\t{body}\n}}\n\
             char LICENSE[] SEC(\"license\") = \"GPL\";\n"
        );
        let program = open.write(&format!("{name}.bpf.c"), source.as_bytes());
        let outcome = open.run(&[program.as_os_str(), "--pcap".as_ref(), packets.as_ref()]);
        assert_eq!(outcome.status.code(), Some(1), "{name}: {}", outcome.stderr);
        let place = format!("({name}.bpf.c:");
        assert!(outcome.stderr.contains(words) && outcome.stderr.contains(&place), "{name}: {}", outcome.stderr);
    }
}

/// Locks, loops over numbers, texts, an arena with its globals: the same program on both engines.
#[test]
fn functions_of_the_kernel_do_the_same_on_both_engines() {
    if !needs(&[Clang]) {
        return;
    }
    let open = Open::new("kfuncs");
    let source = r#"#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
struct { __uint(type, BPF_MAP_TYPE_ARENA); __uint(map_flags, BPF_F_MMAPABLE); __uint(max_entries, 8); } arena SEC(".maps");
struct value { struct bpf_spin_lock lock; int count; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, struct value); } locked SEC(".maps");
struct item { struct item __arena *next; long number; };
struct item __arena_global first = { .number = 1000 };
void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, __u32 count, int node, __u64 flags) __ksym __weak;
void bpf_arena_free_pages(void *map, void __arena *addr, __u32 count) __ksym __weak;

SEC("syscall")
int everything(void *ctx)
{
	struct item __arena *page = bpf_arena_alloc_pages(&arena, 0, 1, -1, 0), *at;
	struct value *value;
	int zero = 0, i;
	long sum = 0;

	if (!page)
		return 1;
	first.next = page;
	bpf_for(i, 0, 10) {
		page[i].number = i;
		page[i].next = i < 9 ? &page[i + 1] : 0;
	}
	for (at = &first, i = 0; at && i < 20; at = at->next, i++)
		sum += at->number;
	value = bpf_map_lookup_elem(&locked, &zero);
	if (!value)
		return 2;
	bpf_spin_lock(&value->lock);
	value->count += 5;
	sum += value->count;
	bpf_spin_unlock(&value->lock);
	first.next = 0;
	bpf_arena_free_pages(&arena, page, 1);
	return sum;
}
char LICENSE[] SEC("license") = "GPL";
"#;
    let program = open.write("all.bpf.c", source.as_bytes());
    let run = |engine: &str| {
        let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
        let outcome = skep::finish(skep.arg("run").arg(&program).args(["--engine", engine, "--ctx", "00", "--json"]));
        assert!(outcome.status.success(), "{engine}: {}", outcome.stderr);
        outcome.stdout
    };
    let user = run("user");
    assert!(user.contains("1050"), "{user}");
    if needs(&[Root, Symbol("bpf_arena_alloc_pages")]) {
        let kernel = run("kernel");
        assert!(kernel.contains("1050"), "{kernel}");
    }
}

/// The rows of a run with `--json` that have a member.
fn rows<'o>(outcome: &'o Outcome, member: &str) -> Vec<&'o str> {
    let has = format!("\"{member}\":");
    outcome.stdout.lines().filter_map(|line| line.find(&has).map(|at| &line[at..])).collect()
}

/// The kernel gives timers to no tracepoint but those of its types, which user space has not; all but the section is the same.
#[test]
fn timers_of_programs_tick_the_same_on_both_engines() {
    if !needs(&[Clang]) {
        return;
    }
    let open = Open::new("timers");
    let source = r#"#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct element { int count; struct bpf_timer timer; };
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, int); __type(value, struct element); } elements SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");
struct tick { int count, key, own, first, second; };
int started;

static int on_tick(void *map, int *key, struct element *element)
{
	struct tick tick = { .count = ++element->count, .key = *key, .own = bpf_timer_cancel(&element->timer) };

	if (element->count < 5)
		tick.first = bpf_timer_start(&element->timer, 10000000, 0);
	else
		tick.second = bpf_map_delete_elem(map, key);
	bpf_ringbuf_output(&events, &tick, sizeof(tick), 0);
	return 0;
}

SEC("SECTION")
int on_exec(void *ctx)
{
	struct element zero = {}, *element;
	struct tick tick = { .count = 0 };
	int key = 7;

	/* The kernel sees other processes, too. */
	if (__sync_fetch_and_add(&started, 1))
		return 0;
	if (bpf_map_update_elem(&elements, &key, &zero, BPF_NOEXIST))
		return 0;
	element = bpf_map_lookup_elem(&elements, &key);
	if (!element)
		return 0;
	tick.key = bpf_timer_start(&element->timer, 0, 0);
	tick.own = bpf_timer_init(&element->timer, &elements, 1);
	tick.first = bpf_timer_init(&element->timer, &elements, 1);
	bpf_timer_set_callback(&element->timer, on_tick);
	bpf_timer_start(&element->timer, 3600000000000, 0);
	tick.second = bpf_timer_cancel(&element->timer);
	bpf_ringbuf_output(&events, &tick, sizeof(tick), 0);
	bpf_timer_set_callback(&element->timer, on_tick);
	bpf_timer_start(&element->timer, 1000000, 0);
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;
    let write = |name: &str, section: &str| open.write(name, source.replace("SECTION", section).as_bytes());
    let user = write("user.bpf.c", "tp/sched/sched_process_exec");
    let options = |engine: &'static str, program: &Path| -> Vec<std::ffi::OsString> {
        [
            program.as_os_str(),
            "--engine".as_ref(),
            engine.as_ref(),
            "--json".as_ref(),
            "-c".as_ref(),
            "/bin/sleep 0.5".as_ref(),
        ]
        .map(OsStr::to_owned)
        .to_vec()
    };
    let outcome = open.run(&options("user", &user));
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let user = rows(&outcome, "count");
    assert_eq!(user.len(), 6, "{}", outcome.stdout);
    let first = "\"count\":0,\"key\":-22,\"own\":0,\"first\":-16,\"second\":1";
    assert!(user[0].contains(first), "{}", outcome.stdout);
    for (count, row) in (1..).zip(&user[1..]) {
        let tick = format!("\"count\":{count},\"key\":7,\"own\":-35,\"first\":0,\"second\":0");
        assert!(row.contains(&tick), "{}", outcome.stdout);
    }
    if needs(&[Root, Symbol("bpf_timer_cancel_and_free")]) {
        let kernel = write("kernel.bpf.c", "tp_btf/sched_process_exec");
        let Some(outcome) = open.run_as_root(&options("kernel", &kernel)) else { return };
        assert!(outcome.status.success(), "{}", outcome.stderr);
        assert_eq!(user, rows(&outcome, "count"), "{}", outcome.stdout);
    }
}

#[test]
fn a_callback_of_a_timer_that_does_wrong_ends_the_run_with_its_line() {
    if !needs(&[Clang]) {
        return;
    }
    let open = Open::new("wild-timer");
    let source = r#"#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
struct element { struct bpf_timer timer; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, struct element); } elements SEC(".maps");
static int on_tick(void *map, int *key, struct element *element)
{
	return *(volatile int *)0x1234567890;
}
SEC("tp/sched/sched_process_exec")
int on_exec(void *ctx)
{
	int key = 0;
	struct element *element = bpf_map_lookup_elem(&elements, &key);
	if (!element)
		return 0;
	bpf_timer_init(&element->timer, &elements, 1);
	bpf_timer_set_callback(&element->timer, on_tick);
	return bpf_timer_start(&element->timer, 1000000, 0);
}
char LICENSE[] SEC("license") = "GPL";
"#;
    let program = open.write("wild.bpf.c", source.as_bytes());
    let outcome = open.run(&[program.as_os_str(), "--engine=user".as_ref(), "-c".as_ref(), "/bin/sleep 5".as_ref()]);
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("program `on_exec`, instruction "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("(wild.bpf.c:7"), "{}", outcome.stderr);
}

#[test]
fn a_program_sends_a_signal_to_the_command_that_it_sees_on_both_engines() {
    if !needs(&[Clang]) {
        return;
    }
    let open = Open::new("signal");
    let source = r#"#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
SEC("tp/syscalls/sys_enter_chdir")
int on_chdir(void *ctx)
{
	char to[sizeof(OURS)] = {};

	/* The kernel sees other processes, too. */
	bpf_probe_read_user_str(to, sizeof(to), *(void **)(ctx + 16));
	if (bpf_strncmp(to, sizeof(to), OURS))
		return 0;
	bpf_printk("none: %d, too large: %d, sent: %d", bpf_send_signal(0), bpf_send_signal(65), bpf_send_signal(10));
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"#;
    let ours = open.dir.display();
    let program = open.write("signal.bpf.c", format!("#define OURS \"{ours}\"\n{source}").as_bytes());
    let command = format!("/bin/sh -c 'trap \"echo caught\" USR1; cd {ours}; /bin/true; echo alive'");
    let args = |engine: &'static str| {
        [program.as_os_str(), "--engine".as_ref(), engine.as_ref(), "-c".as_ref(), command.as_ref()]
    };
    let check = |outcome: &Outcome| {
        assert!(outcome.status.success(), "{}", outcome.stderr);
        for line in ["caught", "alive", "none: 0, too large: -22, sent: 0"] {
            assert!(outcome.stdout.contains(line), "`{line}`: {}{}", outcome.stdout, outcome.stderr);
        }
        assert!(outcome.stdout.find("caught") < outcome.stdout.find("alive"), "{}", outcome.stdout);
    };
    check(&open.run(&args("user")));
    if needs(&[Root, Tracepoint("syscalls/sys_enter_chdir")])
        && let Some(outcome) = open.run_as_root(&args("kernel"))
    {
        check(&outcome);
    }
}

#[test]
fn scripts_see_a_command_without_rights() {
    let open = Open::new("script");
    // The one-liner of everybody's first minute.
    let script = "tracepoint:syscalls:sys_enter_execve { printf(\"%s: \", comm); join(args->argv); }";
    let outcome = open.skep("trace", &["--engine", "user", script, "-c", "/bin/sh -c '/bin/true one; /bin/true two'"]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let rows: Vec<&str> = outcome.stdout.lines().filter(|line| line.contains("/bin/true")).collect();
    assert_eq!(rows, ["skep: /bin/sh -c /bin/true one; /bin/true two", "sh: /bin/true one", "sh: /bin/true two"]);
}

#[test]
fn a_script_without_rights_has_its_begin_its_clock_its_maps_and_its_end() {
    let open = Open::new("clock");
    let script = "BEGIN { printf(\"first\\n\"); } interval:ms:10 /@execs == 2 && @ticks < 3/ { @ticks++; if (@ticks == 3) { exit(); } } \
                  tracepoint:sched:sched_process_exec { printf(\"%s\\n\", str(args.filename)); @execs++; } \
                  tracepoint:signal:signal_deliver /args.sig == 15/ { printf(\"%s gets %d\\n\", comm, args.sig); } \
                  END { printf(\"last\\n\"); }";
    let outcome = open.skep("trace", &["--engine", "user", "-q", script, "-c", "/bin/sh -c 'exec /bin/sleep 30'"]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    // The command ends with its trace.
    assert_eq!(outcome.stdout, "first\n/bin/sh\n/bin/sleep\nlast\n\n\n@execs: 2\n@ticks: 3\n");
}

#[test]
fn a_script_without_rights_has_stacks_of_the_command_but_not_of_the_kernel() {
    let open = Open::new("stacks");
    let script =
        "tracepoint:syscalls:sys_enter_write /comm == \"bash\"/ { printf(\"<%s><%s>\", ustack, kstack); exit(); }";
    let outcome = open.skep("trace", &["--engine", "user", "-q", script, "-c", "/bin/bash -c 'echo hello'"]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let (_, shown) = outcome.stdout.split_once('<').expect("the call was seen");
    let (user, kernel) = shown.split_once("><").expect("two stacks");
    // The C library has no frame pointers: what is outside of it is found by its tables.
    assert!(user.lines().filter(|line| !line.trim().is_empty()).count() >= 4, "{user}");
    assert_eq!(kernel.trim_start_matches('\n').trim().chars().next(), Some('>'), "{kernel}");
}

/// Resident memory of a process and its children, in KiB.
fn resident(pid: u32) -> u64 {
    let read = |file: String| std::fs::read_to_string(file).unwrap_or_default();
    let status = read(format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let own: u64 = line.and_then(|kib| kib.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0);
    // Of the children only those that are skep: the command is not to be counted.
    let children = read(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    own + children.filter(|pid| read(format!("/proc/{pid}/comm")).trim() == "skep").map(resident).sum::<u64>()
}

#[test]
fn memory_does_not_grow_with_processes_that_come_and_go() {
    let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
    let script = "tracepoint:sched:sched_process_exec { @execs[comm] = count(); } \
                  tracepoint:syscalls:sys_enter_openat { @opens[comm] = count(); }";
    let command = "/bin/sh -c 'while :; do /bin/true; (exit 1); done'";
    skep.args(["trace", "--engine", "user", "-q", script, "-c", command]);
    skep.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut skep = skep.spawn().expect("skep starts");
    std::thread::sleep(std::time::Duration::from_secs(4));
    let warm = resident(skep.id());
    std::thread::sleep(std::time::Duration::from_secs(5));
    let later = resident(skep.id());
    let pid = rustix::process::Pid::from_child(&skep);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    skep.wait().expect("it ends");
    assert!(warm > 1024, "it runs: {warm} KiB");
    // Thousands of processes: a kilobyte for each would show.
    assert!(later < warm + 3072, "{warm} KiB, and five seconds later {later} KiB");
}

#[test]
fn what_scripts_cannot_see_without_rights_says_what_can_be_seen() {
    let open = Open::new("unseen");
    for (script, words) in [
        ("kprobe:do_unlinkat { @ = count(); }", "a tracepoint of the system call behind it"),
        ("profile:hz:99 { @ = count(); }", "`-c COMMAND`"),
        ("tracepoint:syscalls:sys_enter_openat { @ = count(); }", "`-c COMMAND`"),
        ("tracepoint:sched:no_such { @ = count(); }", "only root may"),
    ] {
        let outcome = open.skep("trace", &["--engine", "user", script]);
        assert!(!outcome.status.success() && outcome.stderr.contains(words), "{script}: {}", outcome.stderr);
    }
}

/// A shell that computes, a child of it, and another program in its place.
const COMPUTES: &str = "/bin/sh -c 'f() { i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; }; f; (f); exec /bin/bash -c \"i=0; while [ \\$i -lt 50000 ]; do i=\\$((i+1)); done\"'";

/// Whether the kernel lets nobody without rights count events; Debian's own kernels do not.
fn counts_nothing(outcome: &Outcome) -> bool {
    let forbidden = outcome.stderr.contains("/proc/sys/kernel/perf_event_paranoid is ");
    if forbidden {
        assert_eq!(outcome.status.code(), Some(1));
        println!("skipped: needs perf_event_paranoid of 2 or less");
    }
    forbidden
}

#[test]
fn clocks_and_counters_sample_a_command_without_rights() {
    let open = Open::new("sampled");
    let script = "profile:hz:499 { @[comm] = count(); @tasks[tid] = 1; } software:page-faults:1 { @faults[comm] = count(); } \
                  END { printf(\"%d tasks\\n\", len(@tasks)); clear(@tasks); }";
    let outcome = open.skep("trace", &["--engine", "user", "-q", script, "-c", COMPUTES]);
    if counts_nothing(&outcome) {
        return;
    }
    assert!(outcome.status.success(), "{}", outcome.stderr);
    // The shell and its child; another program is the same task.
    assert!(outcome.stdout.contains("2 tasks\n"), "{}", outcome.stdout);
    for wanted in ["@[sh]: ", "@[bash]: ", "@faults[sh]: ", "@faults[bash]: "] {
        let row = outcome.stdout.lines().find_map(|line| line.strip_prefix(wanted));
        assert!(row.is_some_and(|count| count.parse::<u32>().is_ok_and(|count| count > 3)), "{}", outcome.stdout);
    }
}

#[test]
fn samples_tell_the_processor_that_they_were_taken_on() {
    if !needs(&[Program("taskset")]) {
        return;
    }
    let open = Open::new("processor");
    let script = "profile:hz:499 /comm != \"taskset\"/ { @[cpu] = count(); }";
    let allowed = rustix::thread::sched_getaffinity(None).expect("our own processors");
    let all: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    for cpu in [all[0], all[all.len() - 1]] {
        let command = format!("taskset -c {cpu} {COMPUTES}");
        let outcome = open.skep("trace", &["--engine", "user", "-q", script, "-c", &command]);
        if counts_nothing(&outcome) {
            return;
        }
        assert!(outcome.status.success(), "{}", outcome.stderr);
        let rows: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with("@[")).collect();
        assert!(rows.len() == 1 && rows[0].starts_with(&format!("@[{cpu}]: ")), "{cpu}: {}", outcome.stdout);
    }
}

#[test]
fn a_program_at_a_sample_has_the_registers_of_then() {
    if !needs(&[Clang]) {
        return;
    }
    let open = Open::new("registers");
    let source = "#include <linux/bpf.h>\n#include <linux/bpf_perf_event.h>\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n\
                  SEC(\"perf_event\")\nint at(struct bpf_perf_event_data *ctx)\n{\n\
                  \tbpf_printk(\"%d at %llx with %llx\", ctx->sample_period > 0, PT_REGS_IP(&ctx->regs), PT_REGS_SP(&ctx->regs));\n\
                  \treturn 0;\n}\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n";
    let program = open.write("at.bpf.c", source.as_bytes());
    let outcome = open.run(&[program.as_os_str(), "--engine=user".as_ref(), "-c".as_ref(), COMPUTES.as_ref()]);
    if counts_nothing(&outcome) {
        return;
    }
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let texts: Vec<&str> = outcome.stdout.lines().filter_map(|line| Some(line.split_once("1 at ")?.1)).collect();
    assert!(texts.len() > 3, "{}", outcome.stdout);
    for text in texts {
        let (ip, sp) = text.split_once(" with ").expect("two registers");
        let parse = |hex: &str| u64::from_str_radix(hex, 16).expect("an address");
        // Code is mapped below the stack, and both are addresses of user space.
        assert!((0x1000..parse(sp)).contains(&parse(ip)) && parse(sp) < 1 << 47, "{text}");
    }
}

#[test]
fn both_engines_see_the_same_of_a_command() {
    if !needs(&[Root, Tracepoint("syscalls/sys_enter_openat")]) {
        return;
    }
    let script = "tracepoint:syscalls:sys_enter_openat { @[comm] = count(); } \
                  tracepoint:syscalls:sys_exit_openat /args.ret < 0/ { @errors[comm] = count(); } \
                  tracepoint:sched:sched_process_exec { printf(\"%s %s\\n\", comm, str(args.filename)); } \
                  tracepoint:sched:sched_process_exit { printf(\"exit %s\\n\", comm); } \
                  tracepoint:raw_syscalls:sys_exit /comm == \"cat\"/ { @raw[args.id, args.ret < 0] = count(); } \
                  rawtracepoint:sys_enter /comm == \"cat\"/ { @enter[arg1] = count(); }";
    let seen = |engine: &str| {
        let command = "/bin/sh -c '/bin/ls / > /dev/null; /bin/cat /nonexistent 2> /dev/null; exit 3'";
        let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
        let outcome = skep::finish(skep.args(["trace", "-q", "--engine", engine, "--follow", script, "-c", command]));
        assert!(outcome.status.success(), "{}", outcome.stderr);
        outcome.stdout
    };
    let (kernel, user) = (seen("kernel"), seen("user"));
    assert!(kernel.contains("cat /bin/cat\n"), "{kernel}");
    assert_eq!(user, kernel);
}

/// Runs as another process: a server that answers one line to everybody, at these ports.
#[test]
fn helper_that_answers() {
    let Ok(ports) = std::env::var(PORTS) else { return };
    let answer = |port: &str| {
        use std::io::Write as _;

        let listener = std::net::TcpListener::bind(format!("0.0.0.0:{port}")).expect("nobody else is there");
        for mut client in listener.incoming().flatten() {
            let _ = client.write_all(b"welcome\n");
        }
    };
    std::thread::scope(|scope| ports.split(',').for_each(|port| drop(scope.spawn(move || answer(port)))));
}

/// Runs a program between a command and a server without rights; `None` where nobody but root may make a network.
fn between(open: &Open, program: &Path, command: &str) -> Option<Outcome> {
    let server = open.copy(&std::env::current_exe().expect("a file"));
    let far = format!("{} --exact user::helper_that_answers", server.display());
    let command = format!("/bin/bash -c '{command}'");
    let args: [&OsStr; 6] =
        [program.as_ref(), "--tap".as_ref(), "-c".as_ref(), command.as_ref(), "--far".as_ref(), far.as_ref()];
    let outcome = open.run(&args);
    if outcome.stderr.contains("cannot make a ") || outcome.stderr.contains("cannot open /dev/net/tun") {
        // Root may: it is not the rights that are looked at here.
        assert!(outcome.stderr.contains("= help: "), "{}", outcome.stderr);
        let outcome = open.run_as_root(&args)?;
        if outcome.stderr.contains("cannot open /dev/net/tun") {
            println!("skipped: needs /dev/net/tun");
            return None;
        }
        return Some(outcome);
    }
    Some(outcome)
}

/// Says `port: yes` when the server answers at a port within a second, waiting for its start.
const ASKS: &str = "ask() { for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do \
    if timeout 2 bash -c \"exec 3<>/dev/tcp/192.0.2.1/$1 && read -t 1 line <&3 && [ \\$line = welcome ]\" 2> /dev/null; then echo $1: yes; return; fi; \
    [ $1 = 80 ] && [ -n \"$sure\" ] && break; sleep 0.2; done; echo $1: no; }; ";

/// S4 on live packets.
#[test]
fn a_command_has_a_network_whose_packets_pass_a_program() {
    let open = Open::new("tap");
    let program = open.copy(&example("xdp_drop_icmp"));
    let command = format!("{ASKS} ask 8080; ping -c 2 -i 0.2 -W 1 192.0.2.1 > /dev/null && echo pong; true");
    let Some(outcome) = between(&open, &program, &command) else { return };
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("8080: yes\n"), "{}\n{}", outcome.stdout, outcome.stderr);
    assert!(!outcome.stdout.contains("pong") && outcome.stdout.contains("Drop ICMP packets"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("(xdp): 2 DROP, "), "{}", outcome.stderr);
}

/// S20 on live packets.
#[test]
fn what_a_command_sends_passes_a_program_too() {
    let open = Open::new("tap-egress");
    let program = open.copy(&example("traffic_controller"));
    let command = format!("{ASKS} ask 8080; sure=1 ask 80; ping -c 1 -W 5 192.0.2.1 > /dev/null && echo pong; true");
    let Some(outcome) = between(&open, &program, &command) else { return };
    assert!(outcome.status.success(), "{}", outcome.stderr);
    for line in ["8080: yes", "80: no", "pong"] {
        assert!(outcome.stdout.lines().any(|it| it == line), "{line}: {}\n{}", outcome.stdout, outcome.stderr);
    }
    assert!(outcome.stderr.contains("(tc egress): ") && outcome.stderr.contains(" SHOT"), "{}", outcome.stderr);
}
