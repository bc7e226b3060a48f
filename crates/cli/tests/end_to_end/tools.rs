//! The tools: each script of `tools/`, and each that Debian's bpftrace installs in `/usr/sbin` where it is at hand, runs while
//! something happens that it must show.
//!
//! Some look at functions that the kernels at hand do not let anybody probe: `blk_account_io_start` and
//! `blk_account_io_done` are declared `inline`, so the compiler takes the first in and the second is marked `notrace`
//! (block/blk-mq.c, 6.1 and 6.12), and the C library's threads have moved out of libpthread (glibc 2.34). Those tools run with
//! another function, or library, put in by name, and are unchanged otherwise.
//!
//! A row is a test: the tool, what it needs, what provokes it, and a line that must be in what it prints. In a line, words
//! stand for words; `*` in a word stands for anything, `#` for a number, and `...` for any words.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::disk::{Array, Swap, Xfs};
use crate::support::needs::Need;
use crate::support::needs::Need::{BlockDevice, Kprobes, Member, Program, Root, Symbol, Tracepoint, Zram};
use crate::support::network::Cable;
use crate::support::skep::{self, call};
use crate::support::{Skep, eventually, needs, patience, scratch};

/// Names, each with what is put in for it.
type With = &'static [(&'static str, &'static str)];

/// A tool and its case.
struct Tool {
    name: &'static str,
    needs: &'static [Need],
    /// Makes happen what the tool shows; called until the row is there.
    provoke: fn(),
    /// The row, as ours prints it.
    row: &'static str,
    /// Names in it for which others are put in.
    with: With,
    /// As Debian's prints it, with what only that one needs; `None` where it is not shipped.
    debian: Option<(&'static str, &'static [Need], With)>,
    /// Printed at the end only.
    at_end: bool,
}

impl Tool {
    fn check(&self) {
        if !needs(&[Root]) || !needs(self.needs) {
            return;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies in crates/");
        self.shows(&root.join(format!("tools/{}.bt", self.name)), self.row, self.with);
        let Some((row, more, with)) = self.debian else { return };
        let file = PathBuf::from(format!("/usr/sbin/{}.bt", self.name));
        if !file.is_file() || !more.iter().all(|need| need.is_met()) {
            println!("without Debian's {}", self.name);
            return;
        }
        self.shows(&file, row, with);
    }

    fn shows(&self, file: &Path, row: &str, with: With) {
        let mut file = file.to_string_lossy().into_owned();
        if !with.is_empty() {
            let mut text = std::fs::read_to_string(&file).expect("tools are text");
            for (from, to) in with {
                assert!(text.contains(from), "{file} has no `{from}`");
                text = text.replace(from, to);
            }
            let copy = scratch(self.name).join("tool.bt");
            std::fs::write(&copy, text).expect("there is room");
            file = copy.to_string_lossy().into_owned();
        }
        let skep = Skep::start(&mut skep::command(&[], &["trace".as_ref(), file.as_ref()]));
        let found = |text: &str| text.lines().any(|line| matches(row, line));
        (self.provoke)();
        if !self.at_end {
            let mut again = Instant::now() + Duration::from_secs(2);
            let seen = eventually(|| {
                if Instant::now() > again {
                    (self.provoke)();
                    again = Instant::now() + Duration::from_secs(2);
                }
                skep.lines().iter().any(|line| matches(row, line)).then_some(())
            });
            if seen.is_none() {
                println!("no row within {:?}", patience());
            }
        }
        skep.signal(rustix::process::Signal::INT);
        let out = skep.end();
        assert!(out.status.success(), "{file}: {:?}\n{}", out.status, out.stderr);
        assert!(found(&out.stdout), "{file}: no line like `{row}` in\n{}\n{}", out.stdout, out.stderr);
    }
}

/// Whether a line has these words.
fn matches(pattern: &str, line: &str) -> bool {
    fn words(pattern: &[&str], line: &[&str]) -> bool {
        match pattern.split_first() {
            None => line.is_empty(),
            Some((&"...", rest)) => (0..=line.len()).any(|skip| words(rest, &line[skip..])),
            Some((first, rest)) => {
                line.split_first().is_some_and(|(word, more)| like(first, word) && words(rest, more))
            }
        }
    }
    let me = std::process::id().to_string();
    let pattern = pattern.replace("{me}", &me);
    let pattern: Vec<&str> = pattern.split_whitespace().collect();
    let line: Vec<&str> = line.split_whitespace().collect();
    words(&pattern, &line)
}

/// Whether a word is like a pattern with `*` and `#`.
fn like(pattern: &str, word: &str) -> bool {
    let Some(first) = pattern.chars().next() else { return word.is_empty() };
    let rest = &pattern[first.len_utf8()..];
    match first {
        '*' => word.char_indices().map(|(at, _)| at).chain([word.len()]).any(|at| like(rest, &word[at..])),
        '#' => {
            let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            (1..=digits).any(|count| like(rest, &word[count..]))
        }
        _ => word.strip_prefix(first).is_some_and(|word| like(rest, word)),
    }
}

#[test]
fn a_pattern_stands_for_lines() {
    assert!(matches("* # cat -1 2 *nosuch", "12:00:01 77 cat  -1 2 /tmp/nosuch"));
    assert!(matches("... @[vfs_*]: #", "@[vfs_read]: 12") && matches("[#* ... |*", "[4, 8) 3 |@@ |"));
    assert!(!matches("# cat", "x cat") && !matches("a ... b", "a c") && !matches("#", "12x"));
}

macro_rules! tools {
    ($($name:ident $file:literal [$($need:expr),*] $when:ident $provoke:expr => $row:literal $(with {$($from:literal => $to:literal),*})?
        $(, debian [$($more:expr),*] $debian:literal $(with {$($old:literal => $new:literal),*})?)?;)*) => {
        $(#[test]
        fn $name() {
            #[allow(unused_mut, unused_assignments, reason = "only where Debian has it")]
            let mut debian: Option<(&'static str, &'static [Need], With)> = None;
            $(debian = Some(($debian, &[$($more),*], &[$($(($old, $new)),*)?]));)?
            let at_end = stringify!($when) == "at_end";
            let with: With = &[$($(($from, $to)),*)?];
            Tool { name: $file, needs: &[$($need),*], provoke: $provoke, row: $row, with, debian, at_end }.check();
        })*
    };
}

tools! {
    // Processes.
    bashreadline "bashreadline" [Program("bash"), Program("script")] live type_into_bash
        => "#:#:# # echo skep-row", debian [] "#:#:# # echo skep-row";
    execsnoop "execsnoop" [] live || run("true", &["skep-row"])
        => "#:#:#.# # {me} true skep-row", debian [] "# # true skep-row";
    killsnoop "killsnoop" [] live || run("sh", &["-c", "sleep 5 & kill -TERM $!"])
        => "#:#:# # sh SIGTERM # 0", debian [] "#:#:# # sh 15 # 0";
    naptime "naptime" [] live nap
        => "#:#:# # ... 0.053", debian [] "#:#:# # ... 0.053";
    pidpersec "pidpersec" [] live || run("true", &[])
        => "#:#:# PIDs/sec: @: #", debian [] "#:#:# PIDs/sec: @: #";
    setuids "setuids" [] live set_user
        => "... 0 setuid uid=65534 (0)", debian [] "... 0 setuid uid=65534 (0)";
    syscount "syscount" [] at_end || run("true", &[])
        => "@syscall[*]: #", debian [] "@syscall[#]: #";
    threadsnoop "threadsnoop" [Need::Glibc] live || std::thread::spawn(|| ()).join().expect("the thread does nothing")
        => "#:#:#.# {me} ...", debian [] "# {me} ..." with { "libpthread" => "libc" };

    // Processors.
    cpuwalk "cpuwalk" [] at_end work => "[#, #) # ...", debian [] "[#, #) # ...";
    runqlat "runqlat" [] at_end work => "[#* ... |*", debian [] "[#* ... |*";
    runqlen "runqlen" [] at_end work => "[#, #) # ...", debian [Member("cfs_rq", "nr_running")] "[#, #) # ...";
    loads "loads" [Symbol("avenrun")] live || ()
        => "#:#:# load averages: #.# #.# #.#", debian [] "#:#:# load averages: #.# #.# #.#";

    // Files.
    opensnoop "opensnoop" [] live || run("cat", &["/skep-nosuch"])
        => "# cat -1 2 /skep-nosuch", debian [] "# cat -1 2 /skep-nosuch";
    statsnoop "statsnoop" [] live || run("stat", &["/skep-nosuch"])
        => "# stat 2 /skep-nosuch", debian [Need::Glibc] "# stat 2 /skep-nosuch";
    syncsnoop "syncsnoop" [] live write_to_disk
        => "... tracepoint:syscalls:sys_enter_fsync", debian [] "... tracepoint:syscalls:sys_enter_fsync";
    dcsnoop "dcsnoop" [Kprobes, Symbol("d_lookup")] live || run("cat", &["/tmp/skep-nosuch"])
        => "# # cat M skep-nosuch", debian [] "# # cat M skep-nosuch";
    vfscount "vfscount" [Kprobes] at_end write_to_disk => "@[vfs_write]: #", debian [] "@[vfs_write]: #";
    vfsstat "vfsstat" [Kprobes] live write_to_disk => "@[vfs_write]: #", debian [] "@[vfs_write]: #";

    // Block devices.
    biolatency "biolatency" [BlockDevice, Tracepoint("block/block_io_start")] at_end write_to_disk => "[#* ... |*",
        debian [Kprobes] "[#* ... |*" with {
            "__blk_account_io_" => "no_such_", "blk_account_io_start" => "blk_mq_start_request",
            "blk_account_io_done" => "blk_mq_end_request"
        };
    biosnoop "biosnoop" [BlockDevice, Tracepoint("block/block_io_start")] live write_to_disk => "# #,# ... # #",
        debian [Kprobes] "# nullb0 ... # #" with {
            "__blk_account_io_" => "no_such_", "blk_account_io_start" => "blk_mq_start_request",
            "blk_account_io_done" => "blk_mq_end_request"
        };
    // The scheduler of the disk gets a request before its driver does.
    biostacks "biostacks" [BlockDevice, Tracepoint("block/block_io_start")] at_end write_by_deadline => "@usecs[",
        debian [Kprobes, Symbol("dd_prepare_request")] "@usecs[" with { "blk_account_io_start" => "dd_prepare_request" };
    bitesize "bitesize" [BlockDevice] at_end write_to_disk => "[#* ... |*", debian [] "[#* ... |*";
    writeback "writeback" [BlockDevice] live write_back => "#:#:# * # * #.#", debian [] "#:#:# * # * #.#";
    mdflush "mdflush" [Kprobes, Zram, Symbol("md_flush_request")] live flush_array
        => "#:#:# {me} ... md_skep", debian [] "#:#:# {me} ... md_skep";
    xfsdist "xfsdist" [Kprobes, Zram, Program("mkfs.xfs"), Symbol("xfs_file_open")] at_end write_to_xfs
        => "@us[xfs_file_fsync]:", debian [] "@us[xfs_file_fsync]:";
    biolatency_kp "biolatency-kp" [Kprobes, BlockDevice] at_end write_to_disk => "[#* ... |*" with {
        "__blk_account_io_" => "no_such_", "blk_account_io_start" => "blk_mq_start_request",
        "blk_account_io_done" => "blk_mq_end_request"
    };

    // Rights and memory.
    capable "capable" [Kprobes] live || run("chroot", &["/", "true"])
        => "#:#:# 0 # chroot 18 CAP_SYS_CHROOT #", debian [] "#:#:# 0 # chroot 18 CAP_SYS_CHROOT #";
    oomkill "oomkill" [Kprobes, Need::Cgroup] live exhaust_memory
        => "#:#:# Triggered by PID # (\"dd\"), OOM kill of PID # (\"dd\"), # pages, loadavg: ...",
        debian [] "#:#:# Triggered by PID # (\"dd\"), OOM kill of PID # (\"dd\"), # pages, loadavg: ...";
    // The function has this name since 6.6.
    swapin "swapin" [Kprobes, Zram, Need::Cgroup, Program("swapon")] live swap => "@[dd, #]: #",
        debian [Symbol("swap_readpage")] "@[dd, #]: #";

    // Network.
    tcpaccept "tcpaccept" [Kprobes] live converse
        => "#:#:# # * 127.0.0.1 # 127.0.0.1 5577 #/#", debian [] "#:#:# # * 127.0.0.1 # 127.0.0.1 5577 #/#";
    tcpconnect "tcpconnect" [Kprobes] live converse
        => "#:#:# # ... 127.0.0.1 # 127.0.0.1 5577", debian [] "#:#:# # ... 127.0.0.1 # 127.0.0.1 5577";
    tcplife "tcplife" [Kprobes] live converse
        => "# ... 127.0.0.1 # 127.0.0.1 5577 0 0 #", debian [] "# ... 127.0.0.1 # 127.0.0.1 5577 0 0 #";
    tcpsynbl "tcpsynbl" [Kprobes] at_end converse => "@backlog[#]:", debian [] "@backlog[#]:";
    tcpretrans "tcpretrans" [Kprobes, Need::Veth] live call_nobody
        => "#:#:# # 10.207.0.1:# 10.207.0.77:9 SYN_SENT", debian [] "#:#:# # 10.207.0.1:# 10.207.0.77:9 SYN_SENT";
    tcpdrop "tcpdrop" [Need::Veth] live call_nobody
        => "#:#:# ... 10.207.0.1:# 10.207.0.77:9 SYN_SENT #", debian [] "#:#:# ... 10.207.0.1:# 10.207.0.77:9 SYN_SENT";
    undump "undump" [Kprobes] live pass_bytes => "#:#:# ... 8 skep-row", debian [] "#:#:# ... 8 skep-row";
    gethostlatency "gethostlatency" [Program("getent")] live || run("getent", &["ahosts", "localhost"])
        => "#:#:# # getent # localhost", debian [] "#:#:# # getent # localhost";
    sslsnoop "sslsnoop" [Program("openssl"), Need::Glibc] live sign => "# # openssl # 1 RSA_sign",
        debian [] "# # openssl # 1 RSA_sign";
    ssllatency "ssllatency" [Program("openssl"), Need::Glibc] at_end sign => "@hist[*]:", debian [] "@hist[RSA_sign]:";
}

/// Runs a command to its end; its verdict does not matter.
fn run(program: &str, args: &[&str]) {
    let _ = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}

/// An interactive bash gets a line.
fn type_into_bash() {
    let mut command = Command::new("script");
    command.args(["-qec", "bash --norc -i", "/dev/null"]).env("HISTFILE", "").env("TERM", "dumb");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("script is there");
    let mut keyboard = child.stdin.take().expect("its input is ours");
    std::thread::sleep(Duration::from_millis(300));
    let _ = keyboard.write_all(b"echo skep-row\nexit\n");
    let _ = keyboard.flush();
    std::thread::sleep(Duration::from_millis(300));
    drop(keyboard);
    let _ = child.wait();
}

fn nap() {
    let time = rustix::thread::Timespec { tv_sec: 0, tv_nsec: 53_000_000 };
    let _ = rustix::thread::nanosleep(&time);
}

fn set_user() {
    let _ = Command::new("true").uid(65534).status();
}

/// Two threads that run, yield and sleep.
fn work() {
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let end = Instant::now() + Duration::from_millis(400);
                let mut number = 1_u64;
                while Instant::now() < end {
                    for _ in 0..100_000 {
                        number = std::hint::black_box(number.wrapping_mul(3));
                    }
                    std::thread::sleep(Duration::from_micros(10));
                }
            });
        }
    });
}

/// A file of a disk, or the disk that holds nothing, is written and made to last.
fn write_to_disk() {
    let null = Path::new("/dev/nullb0");
    let file = if null.exists() { null.to_owned() } else { scratch("disk").join("file") };
    let mut file =
        std::fs::OpenOptions::new().write(true).create(!null.exists()).open(file).expect("root can write there");
    let now = Instant::now();
    file.write_all(format!("{now:?}").repeat(1000).as_bytes()).expect("there is room");
    file.sync_all().expect("the disk takes it");
}

/// As above, but the kernel is asked to write everything.
fn write_back() {
    let null = Path::new("/dev/nullb0");
    if null.exists() {
        std::fs::write(null, vec![7; 65536]).expect("root can write there");
        rustix::fs::sync();
    } else {
        let file = scratch("disk").join("file");
        std::fs::write(&file, vec![7; 65536]).expect("there is room");
        let _ = rustix::fs::syncfs(std::fs::File::open(&file).expect("it is there"));
    }
}

/// As [`write_to_disk`], with a scheduler between the file system and the disk.
fn write_by_deadline() {
    let scheduler = Path::new("/sys/block/nullb0/queue/scheduler");
    let before = std::fs::read_to_string(scheduler).unwrap_or_default();
    let before = before.split(['[', ']']).nth(1).unwrap_or("none").to_owned();
    if scheduler.exists() {
        std::fs::write(scheduler, "mq-deadline").expect("it is built in");
    }
    write_to_disk();
    if scheduler.exists() {
        std::fs::write(scheduler, before).expect("it was in use");
    }
}

/// An array is written and made to last.
fn flush_array() {
    let array = Array::new();
    let file = std::fs::OpenOptions::new().write(true).open(array.path());
    let mut file = file.expect("the array is a device");
    file.write_all(&[7; 4096]).expect("there is room");
    file.sync_all().expect("the array takes it");
}

fn write_to_xfs() {
    let xfs = Xfs::new();
    let mut file = std::fs::File::create(xfs.path().join("file")).expect("root can write there");
    file.write_all(&[7; 4096]).expect("there is room");
    file.sync_all().expect("the disk takes it");
}

/// A process uses more memory than its cgroup may have, twice, and may swap.
fn swap() {
    let _swap = Swap::new();
    within_memory("16M", "bs=24M count=3");
}

/// A process wants more memory than its cgroup may have.
fn exhaust_memory() {
    within_memory("8M", "bs=64M count=1");
}

/// Copies nothing to nowhere, in blocks in memory, within a limit of it.
fn within_memory(limit: &str, blocks: &str) {
    let Some(mount) = crate::support::cgroup::mount() else { return };
    let _ = std::fs::write(mount.join("cgroup.subtree_control"), "+memory");
    let group = crate::support::cgroup::Cgroup::new(&format!("skep-memory-{}", std::process::id()));
    std::fs::write(group.path().join("memory.max"), limit).expect("the memory controller is there");
    let procs = group.path().join("cgroup.procs");
    run("sh", &["-c", &format!("echo $$ > {}; exec dd if=/dev/zero of=/dev/null {blocks}", procs.display())]);
}

/// A connection over the loopback interface, from its opening to its end.
fn converse() {
    let listener = TcpListener::bind(("127.0.0.1", 5577)).expect("nobody else listens here");
    let mut client = TcpStream::connect(("127.0.0.1", 5577)).expect("we listen");
    let (mut server, _) = listener.accept().expect("we are connected");
    client.write_all(b"x").expect("the connection stands");
    let mut byte = [0];
    server.read_exact(&mut byte).expect("it was sent");
    drop(client);
    // The client's end comes first.
    let _ = server.read(&mut byte);
}

/// A connection to an address of a cable that nobody has: repeated, then given up.
fn call_nobody() {
    let cable = Cable::new();
    let address = SocketAddr::from((Ipv4Addr::new(10, 207, 0, 77), 9));
    cable.near.within(|| {
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(6));
    });
}

fn pass_bytes() {
    let (mut one, mut other) = UnixStream::pair().expect("there are sockets");
    one.write_all(b"skep-row").expect("there is room");
    let mut bytes = [0; 8];
    other.read_exact(&mut bytes).expect("it was sent");
}

/// OpenSSL makes a key and signs with it.
fn sign() {
    // Two tools are shown this at the same time.
    static KEYS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = KEYS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = scratch(&format!("sign-{number}"));
    let key = dir.join("key");
    let key = key.to_string_lossy();
    run("openssl", &["genrsa", "-out", &key, "2048"]);
    run("openssl", &["dgst", "-sha256", "-sign", &key, "-out", "/dev/null", &key]);
}

/// The document's program as it stands.
#[test]
fn the_documents_tool_shows_every_state_of_a_connection() {
    if !needs(&[Root, Kprobes]) {
        return;
    }
    let Some(file) = crate::support::programs::script("06-tcpstates/tcpstates") else { return };
    let skep = Skep::start(&mut skep::command(&[], &["trace".as_ref(), file.as_ref()]));
    converse();
    skep.line("is the head", |line| matches("LADDR LPORT RADDR RPORT OLD -> NEW", line));
    for states in [
        "CLOSE -> SYN_SENT",
        "SYN_SENT -> ESTABLISHED",
        "SYN_RECV -> ESTABLISHED",
        "ESTABLISHED -> FIN_WAIT1",
        "ESTABLISHED -> CLOSE_WAIT",
        "FIN_WAIT1 -> FIN_WAIT2",
        "FIN_WAIT2 -> CLOSE",
        "CLOSE_WAIT -> LAST_ACK",
        "LAST_ACK -> CLOSE",
    ] {
        skep.line(states, |line| {
            matches(&format!("127.0.0.1 # 127.0.0.1 # {states}"), line) && line.contains(" 5577 ")
        });
    }
    let six = TcpListener::bind(("::1", 5578)).expect("nobody else listens here");
    drop(TcpStream::connect(("::1", 5578)).expect("we listen"));
    drop(six);
    skep.line("of IPv6", |line| matches("::1 # ::1 5578 SYN_SENT -> ESTABLISHED", line));
    skep.signal(rustix::process::Signal::INT);
    assert!(skep.end().status.success());
}

#[test]
fn listings_name_probes_and_their_fields() {
    if !needs(&[Root]) {
        return;
    }
    let everything = call(&["list"]).stdout;
    assert!(everything.lines().any(|line| line == "tracepoint:syscalls:sys_enter_execve"), "{everything:.500}");
    let calls = call(&["list", "tracepoint:syscalls:*"]).stdout;
    assert!(calls.lines().count() > 500 && calls.lines().all(|line| line.starts_with("tracepoint:syscalls:sys_e")));
    let exec = call(&["list", "*execve*"]).stdout;
    assert!(exec.lines().any(|line| line == "tracepoint:syscalls:sys_exit_execveat"), "{exec}");
    assert!(exec.lines().all(|line| line.contains("execve")), "{exec}");
    let fields = call(&["list", "-v", "tracepoint:syscalls:sys_enter_execve"]).stdout;
    let fields: Vec<String> =
        fields.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert!(fields.iter().any(|line| line.ends_with("argv")), "{fields:?}");
}

#[test]
fn a_line_shows_every_command_with_its_words() {
    if !needs(&[Root]) {
        return;
    }
    let script = "tracepoint:syscalls:sys_enter_execve { printf(\"%-10d %-5s   \", pid, comm); join(args->argv); }";
    let skep = Skep::start(&mut skep::command(&[], &["trace".as_ref(), script.as_ref()]));
    run("true", &["skep", "--row"]);
    skep.line("is the command", |line| matches("# ... true skep --row", line));
    skep.signal(rustix::process::Signal::INT);
    assert!(skep.end().status.success());
}
