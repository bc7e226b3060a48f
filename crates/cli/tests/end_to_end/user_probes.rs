//! Functions of programs without any right: breakpoints in place of the kernel's uprobes.
#![cfg(target_arch = "x86_64")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::support::needs::Need::{Clang, Program, Root, Symbol};
use crate::support::skep::{self, finish};
use crate::support::{eventually, example, needs};
use crate::user::Open;

/// Compiles `tests/programs/host/probed.c` into a folder that everybody may use.
fn probed(open: &Open, flags: &[&str], name: &str) -> PathBuf {
    compiled(open, "probed", flags, name)
}

pub(crate) fn compiled(open: &Open, source: &str, flags: &[&str], name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/programs/host/{source}.c"));
    let program = open.file(name);
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-foptimize-sibling-calls", "-pthread"]).args(flags).arg("-o").arg(&program).arg(source);
    let made = finish(cc.arg("-ldl"));
    assert!(made.status.success(), "{}", made.stderr);
    program
}

/// What a script on a file says of a command without rights: its lines, sorted. They are the kernel's, where it may be asked: of a copy of the
/// file, since it takes its own probes out a while after the end.
pub(crate) fn rows(open: &Open, file: &Path, script: &str, command: &str) -> Vec<String> {
    let sorted = |outcome: skep::Outcome| {
        assert!(outcome.status.success(), "{}{}", outcome.stdout, outcome.stderr);
        assert_eq!(outcome.stderr, "", "{}", outcome.stdout);
        let lines = outcome.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned);
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines
    };
    let user = sorted(open.skep("trace", &["-q", "--engine", "user", script, "-c", command]));
    if needs(&[Root]) {
        static COPIES: AtomicU32 = AtomicU32::new(0);
        let copy = open.file(&format!("copy-{}", COPIES.fetch_add(1, Ordering::Relaxed)));
        std::fs::copy(file, &copy).expect("the file can be copied");
        let of_copy = |text: &str| text.replace(&*file.to_string_lossy(), &copy.to_string_lossy());
        let mut kernel = Command::new(env!("CARGO_BIN_EXE_skep"));
        kernel.args(["trace", "-q", "--engine", "kernel", "--follow", &of_copy(script), "-c", &of_copy(command)]);
        assert_eq!(sorted(finish(&mut kernel)), user, "the kernel's, and those without rights");
    }
    user
}

#[test]
fn functions_and_their_returns_are_seen_as_the_kernel_sees_them() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("functions");
    for (name, flags) in
        [("pie", &["-pie", "-fPIE"][..]), ("fixed", &["-no-pie"]), ("static", &["-static", "-DSTATIC"])]
    {
        let program = probed(&open, flags, name);
        let at = program.display();
        // Recursion, a jump out of it, and functions that return together.
        let script = format!(
            "uprobe:{at}:deep {{ @deep = count(); }} uretprobe:{at}:deep {{ printf(\"never\\n\"); }} \
             uretprobe:{at}:factorial {{ @factorial = sum(retval); }} \
             uretprobe:{at}:tail, uretprobe:{at}:doubled {{ printf(\"tail %d\\n\", retval); }} \
             uprobe:{at}:jumps, uprobe:{at}:branches, uprobe:{at}:calls, uprobe:{at}:loads {{ @first = count(); }} \
             uretprobe:{at}:jumps, uretprobe:{at}:branches, uretprobe:{at}:calls, uretprobe:{at}:loads {{ @sum = sum(retval); }}"
        );
        let seen = rows(&open, &program, &script, &format!("{at} ways"));
        for row in ["ways 7 120 8", "first 2 4 3 12 101", "tail 8", "@sum: 122", "@first: 5"] {
            assert!(seen.iter().any(|it| it == row), "{name}: no `{row}` in {seen:?}");
        }
        assert!(!seen.iter().any(|row| row == "never"), "{seen:?}");
        // Four threads at one place, none of which slips through.
        let script = format!("uprobe:{at}:hot {{ @in = count(); }} uretprobe:{at}:hot {{ @out = sum(retval); }}");
        let seen = rows(&open, &program, &script, &format!("{at} threads 500"));
        assert_eq!(seen, ["@in: 2000", "@out: 501000", "sum 501000"]);
        // fork copies what is set, vfork shares it, exec starts anew.
        let script = format!(
            "uprobe:{at}:hot {{ printf(\"hot %d\\n\", arg0); }} uretprobe:{at}:hot {{ printf(\"is %d\\n\", retval); }} \
             uretprobe:{at}:forked {{ printf(\"forked %d\\n\", retval); }}"
        );
        let seen = rows(&open, &program, &script, &format!("{at} children"));
        let mut all: Vec<String> =
            (1..6).flat_map(|number| [format!("hot {number}"), format!("is {}", number + 1)]).collect();
        all.extend(["children 3 8", "forked 0", "forked 3"].map(str::to_owned));
        all.sort();
        assert_eq!(seen, all, "{name}");
    }
}

#[test]
fn libraries_are_seen_whenever_they_are_mapped() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("libraries");
    let program = probed(&open, &["-pie", "-fPIE"], "program");
    let library = open.file("library.so");
    let source = open.write("library.c", b"long hot(long n) { return n * n; }\n");
    assert!(finish(Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source])).status.success());
    let at = library.display();
    let script = format!(
        "uprobe:{at}:hot {{ printf(\"hot %d\\n\", arg0); }} uretprobe:{at}:hot {{ printf(\"is %d\\n\", retval); }}"
    );
    let seen = rows(&open, &library, &script, &format!("{} libraries {at}", program.display()));
    let all = ["hot 3", "hot 4", "hot 5", "is 16", "is 25", "is 9", "library 16", "library 25", "library 9"];
    assert_eq!(seen, all);
    // One that is there from the start.
    let seen =
        rows(&open, Path::new("/bin/echo"), "uprobe:libc:exit { @ = count(); }", "/bin/sh -c 'exec /bin/echo x'");
    assert_eq!(seen, ["@: 1", "x"]);
}

#[test]
fn arguments_of_static_probes_are_read_wherever_they_are() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("marked");
    for (name, flags) in [("pie", &["-pie", "-fPIE"][..]), ("fixed", &["-no-pie", "-fno-pie"])] {
        let program = compiled(&open, "marked", flags, name);
        let at = format!("usdt:{}:demo", program.display());
        let eight = "\"%d %d %d %d %d %d %ld %lu\\n\", arg0, arg1, arg2, arg3, arg4, arg5, arg6, arg7";
        let script = format!(
            "{at}:registers {{ printf({eight}); }} {at}:memory {{ printf({eight}); }}
            {at}:constants {{ printf(\"constants %d %ld %d %d\\n\", arg0, arg1, arg2, arg3); }}
            {at}:indexed {{ printf(\"indexed %d %d\\n\", arg0, arg1); }}
            {at}:variables {{ printf(\"variables %d %d %d\\n\", arg0, arg1, arg2); }}
            {at}:texts {{ printf(\"texts %s, %d %s, %d\\n\", str(arg0), *(int32 *)arg1, str(arg1 + 4), arg2); }}
            {at}:nothing {{ printf(\"nothing\\n\"); }}"
        );
        let seen = rows(&open, &program, &script, &format!("{} 2", program.display()));
        // `%d` of an argument without sign is that of its 32 bits.
        let eight = "-5 250 -300 65000 -70000 -294967296 -5000000000 18000000000000000000";
        let constants = "constants -7 123456789 -1 42";
        let indexed = ["indexed -20 30", "indexed 10 -20"];
        let texts = ["texts a text, 77 a name, 0", "texts a text, 77 a name, 1"];
        let variables = "variables 250 -20 -20";
        let expected = [&[eight; 4][..], &[constants; 2], &indexed, &["nothing"; 2], &texts, &[variables; 2]];
        assert_eq!(seen, expected.concat(), "{name}");
    }
    // What is not there is no zero.
    let program = open.file("pie");
    let refused = |probe: &str, arg: &str| {
        let script = format!("usdt:{}:demo:{probe} {{ print({arg}); }}", program.display());
        let out = open.skep("trace", &["--engine", "user", &script, "-c", "true"]);
        assert_eq!(out.status.code(), Some(1), "{}", out.stderr);
        let first = out.stderr.lines().next().unwrap_or_default();
        first.replace(&*program.to_string_lossy(), "PATH")
    };
    assert_eq!(refused("texts", "arg3"), "error: arg3 is not there: usdt:PATH:demo:texts has arg0 to arg2");
    assert_eq!(refused("nothing", "arg0"), "error: arg0 is not there: usdt:PATH:demo:nothing has no arguments");
}

#[test]
fn static_probes_have_arguments_and_their_semaphore_is_raised() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("usdt");
    let program = probed(&open, &["-pie", "-fPIE"], "program");
    let (at, command) = (program.display(), format!("{} ticks 3", program.display()));
    let script = format!("usdt:{at}:demo:tick {{ printf(\"tick %d\\n\", arg0); }}");
    assert_eq!(rows(&open, &program, &script, &command), ["semaphore 1", "tick 0", "tick 1", "tick 2"]);
    if !needs(&[Clang]) {
        return;
    }
    // A program with the map of usdt.bpf.h, and one on several functions.
    let source = format!(
        "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n#include <bpf/usdt.bpf.h>\n\
         SEC(\"usdt/{at}:demo:tick\")\nint BPF_USDT(tick, int number, const char *text)\n{{\n\tchar copy[8] = {{}};\n\n\
         \tbpf_probe_read_user_str(copy, sizeof(copy), text);\n\tbpf_printk(\"tick %d %s\", number, copy);\n\treturn 0;\n}}\n\
         SEC(\"uprobe.multi/{at}:*ai*\")\nint several(struct pt_regs *ctx)\n{{\n\
         \tbpf_printk(\"several %d\", bpf_get_func_ip(ctx) == PT_REGS_IP(ctx));\n\treturn 0;\n}}\n\
         char LICENSE[] SEC(\"license\") = \"GPL\";\n"
    );
    let file = open.write("ticks.bpf.c", source.as_bytes());
    let outcome = open.run(&[file.as_os_str(), "--engine=user".as_ref(), "-c".as_ref(), command.as_ref()]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    for (number, row) in (0..).zip(outcome.stdout.lines().filter(|line| line.contains("tick "))) {
        assert!(row.ends_with(&format!("tick {number} text")), "{}", outcome.stdout);
    }
    assert!(outcome.stdout.contains("tick 2 text"), "{}{}", outcome.stdout, outcome.stderr);
    assert!(outcome.stdout.contains("several 1"), "{}", outcome.stdout);
}

/// A process of the user whom nothing is allowed, which is killed at the end.
struct Running {
    child: Child,
    program: PathBuf,
}

impl Running {
    fn new(program: &Path, args: &[&str]) -> Running {
        let mut command = Command::new(program);
        command.args(args).stdout(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        Running { child: command.spawn().expect("it was just made"), program: program.to_owned() }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its code, as it is mapped, next to what the file has there.
    fn code(&self) -> (Vec<u8>, Vec<u8>) {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", self.pid())).expect("it runs");
        let name = self.program.to_string_lossy();
        let line = maps.lines().find(|line| line.contains("r-xp") && line.ends_with(&*name)).expect("its code");
        let mut fields = line.split_whitespace();
        let (start, end) = fields.next().and_then(|range| range.split_once('-')).expect("a range");
        let hex = |text: &str| u64::from_str_radix(text, 16).expect("a number");
        let (start, len) = (hex(start), (hex(end) - hex(start)) as usize);
        let off = fields.nth(1).map(hex).expect("an offset");
        let (mut memory, mut file) = (vec![0; len], vec![0; len]);
        let open = |path: &Path| File::open(path).expect("it may be read");
        open(Path::new(&format!("/proc/{}/mem", self.pid()))).read_exact_at(&mut memory, start).expect("it is mapped");
        let read = open(&self.program).read_at(&mut file, off).expect("it is a file");
        memory.truncate(read);
        file.truncate(read);
        (memory, file)
    }

    /// It is as it was, and nobody looks at it.
    fn assert_left_alone(&mut self) {
        let status = || std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let free = eventually(|| status().contains("TracerPid:\t0\n").then_some(()));
        assert!(free.is_some(), "{}", status());
        let same = eventually(|| {
            let (memory, file) = self.code();
            (memory == file).then_some(())
        });
        assert!(same.is_some(), "a breakpoint was left");
        // Long enough for some thousands of calls.
        std::thread::sleep(Duration::from_millis(50));
        assert!(self.child.try_wait().expect("our child").is_none(), "it went on");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether one may trace one's own processes.
fn may_join() -> bool {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    let may = scope.map_or(true, |scope| scope.trim() == "0");
    if !may {
        println!("skipped: needs ptrace of processes of one's own");
    }
    may
}

#[test]
fn a_running_process_is_left_as_it_was() {
    if !needs(&[Program("cc")]) || !may_join() {
        return;
    }
    let open = Open::new("left");
    let program = probed(&open, &["-pie", "-fPIE"], "program");
    let at = program.display();
    let several = format!(
        "uprobe:{at}:hot {{ @ = count(); }} uretprobe:{at}:factorial {{ @ = count(); }} usdt:{at}:demo:tick {{ @ = count(); }} \
         interval:ms:200 {{ exit(); }}"
    );
    // One that is hit very often.
    let one = format!("uprobe:{at}:longer {{ @ = count(); }} interval:ms:200 {{ exit(); }}");
    for (args, script) in
        [(&["loop"][..], &several), (&["loop", "1000"], &several), (&["ticks", "1000000"], &several), (&["loop"], &one)]
    {
        let mut running = Running::new(&program, args);
        let outcome = open.skep("trace", &["-q", "--engine", "user", script, "-p", &running.pid().to_string()]);
        assert!(outcome.status.success(), "{}", outcome.stderr);
        let count = outcome.stdout.lines().find_map(|line| line.strip_prefix("@: "));
        assert!(count.and_then(|count| count.parse().ok()).unwrap_or(0) > 20, "{}{}", outcome.stdout, outcome.stderr);
        running.assert_left_alone();
    }
}

#[test]
fn a_process_outlives_who_looked_at_it() {
    if !needs(&[Program("cc")]) || !may_join() {
        return;
    }
    let open = Open::new("killed");
    let program = probed(&open, &["-pie", "-fPIE"], "program");
    let at = program.display();
    // The one that is seen, and the one that traces.
    for (args, tracer) in
        [(&["loop"][..], false), (&["loop", "300"], false), (&["loop"], true), (&["loop", "300"], true)]
    {
        let mut running = Running::new(&program, args);
        let script = format!("uprobe:{at}:hot {{ @ = count(); }} uretprobe:{at}:factorial {{ @ = count(); }}");
        let mut command = Command::new(open.file("skep"));
        command.args(["trace", "--engine", "user", &script, "-p", &running.pid().to_string()]);
        if rustix::process::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let mut skep = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("skep starts");
        let hit = eventually(|| {
            let (memory, file) = running.code();
            (memory != file).then_some(())
        });
        assert!(hit.is_some(), "a breakpoint is set");
        std::thread::sleep(Duration::from_millis(50));
        if tracer {
            let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid())).expect("it runs");
            let pid = status.lines().find_map(|line| line.strip_prefix("TracerPid:\t")?.parse().ok());
            let pid = pid.and_then(Pid::from_raw).expect("somebody traces it");
            kill_process(pid, Signal::KILL).expect("it runs");
        } else {
            skep.kill().expect("our child");
        }
        skep.wait().expect("our child");
        running.assert_left_alone();
        // What is left behind does not save it from a signal of others.
        kill_process(Pid::from_child(&running.child), Signal::TRAP).expect("it runs");
        let ended = eventually(|| running.child.try_wait().expect("our child"));
        assert_eq!(ended.and_then(|status| status.signal()), Some(Signal::TRAP.as_raw()), "{ended:?}");
    }
}

/// S18: what is typed into bash, of a shell that the user started.
#[test]
fn lines_typed_into_bash_are_shown_without_rights() {
    if !needs(&[Program("bash"), Program("script")]) {
        return;
    }
    let open = Open::new("bash");
    let program = open.copy(&example("bashreadline"));
    let mut command = Command::new(open.file("skep"));
    command
        .arg("run")
        .arg(&program)
        .args(["--engine=user", "-c", "script -q -c 'bash --norc -i' /dev/null"])
        .envs([("PS1", "$ "), ("HISTFILE", ""), ("HOME", "/nonexistent"), ("TERM", "dumb")])
        .env("XDG_CACHE_HOME", open.file("cache"))
        .current_dir("/tmp")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let mut skep = command.spawn().expect("skep runs");
    let mut keyboard = skep.stdin.take().expect("it is piped");
    // The terminal keeps what is typed before anybody reads.
    keyboard.write_all(b"echo hello from bash\nexit\n").expect("script reads");
    let outcome = skep.wait_with_output().expect("our own child can be waited for");
    let (stdout, stderr) = (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    assert!(outcome.status.success(), "{stdout}{stderr}");
    // TIME PID PPID PATH COMMAND
    let row = stdout.lines().find(|line| line.contains("/tmp") && line.trim_end().ends_with("echo hello from bash"));
    let words: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    // bash's prompt may stand before it.
    let words = words.last_chunk::<8>().unwrap_or_else(|| panic!("no row: {stdout}{stderr}"));
    assert!(words[0].matches(':').count() == 2 && words[1].parse::<u32>().is_ok(), "{words:?}");
    assert!(words[2].parse::<u32>().is_ok_and(|parent| parent > 1), "{words:?}");
}

/// S24: numbers and strings as Go passes them, and why the returns of Go's functions are not looked at.
#[test]
fn arguments_in_the_registers_of_go_are_seen() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("go");
    let program = probed(&open, &["-pie", "-fPIE"], "program");
    let at = program.display();
    let script = format!("uprobe:{at}:gofunc {{ printf(\"%d %s\\n\", reg(\"ax\"), str(reg(\"bx\"), reg(\"cx\"))); }}");
    assert_eq!(rows(&open, &program, &script, &format!("{at} go")), ["42 a string"]);
    let mark = open.write("mark.s", b".section .go.buildinfo,\"aw\"\n.quad 1\n");
    let go = probed(&open, &[mark.to_str().expect("a path")], "go");
    let said = open.skep(
        "trace",
        &["--engine", "user", &format!("uretprobe:{}:gofunc {{ @ = count(); }}", go.display()), "-c", "true"],
    );
    assert!(!said.status.success(), "{}", said.stdout);
    assert!(said.stderr.contains("is a Go program") && said.stderr.contains("`FUNCTION+OFFSET`"), "{}", said.stderr);
}

#[test]
fn where_no_breakpoint_can_be_the_bytes_are_named() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("bytes");
    let program = probed(&open, &["-pie", "-fPIE"], "program");
    let at = program.display();
    let said = |script: &str, more: &[&str]| {
        let mut args = vec!["--engine", "user", script];
        args.extend(more);
        let outcome = open.skep("trace", &args);
        assert!(!outcome.status.success(), "{}", outcome.stdout);
        outcome.stderr
    };
    let text = said(&format!("uprobe:{at}:trap {{ @ = count(); }}"), &["-c", "true"]);
    assert!(text.contains("a breakpoint cannot be executed elsewhere (cc c3 "), "{text}");
    let text = said(&format!("uprobe:{at}:hot {{ @ = count(); }}"), &[]);
    assert!(text.contains("`-c COMMAND`, or name one with `-p PID`"), "{text}");
    // The kernel's own words for what the file has not.
    let text = said(&format!("uprobe:{at}:hott {{ @ = count(); }}"), &["-c", "true"]);
    assert!(text.contains("hott"), "{text}");
}

/// What programs do that is easily broken by who watches them.
#[test]
fn programs_do_what_they_do_unwatched() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("fragile");
    let program = compiled(&open, "fragile", &["-pie", "-fPIE"], "fragile");
    let at = program.display();
    let watched = |script: &str, what: &str| {
        let outcome = open.skep("trace", &["-q", "--engine", "user", script, "-c", &format!("{at} {what}")]);
        assert!(outcome.status.success() && outcome.stderr.is_empty(), "{what}: {}{}", outcome.stdout, outcome.stderr);
        let lines = outcome.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned);
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines
    };
    // A function that jumps to one that never comes back: both share a trampoline, which is given back once.
    let script = format!(
        "uretprobe:{at}:enters, uretprobe:{at}:leaves {{ @never = count(); }} uretprobe:{at}:deep {{ @deep = count(); }}"
    );
    assert_eq!(watched(&script, "jumps"), ["@deep: 3001", "deep 3000"]);
    // A fault of the hidden instruction is one of the program's own.
    let script = format!("uprobe:{at}:load {{ @loads = count(); }}");
    assert_eq!(watched(&script, "faults"), ["@loads: 2", "loads 1 7"]);
    // SIGTRAP does what it did, and is held back by whom it was, breakpoints or not; without a handler it ends the process.
    let script = format!("uprobe:{at}:hot {{ @in = count(); }} uretprobe:{at}:hot {{ @out = count(); }}");
    assert_eq!(
        watched(&script, "traps"),
        ["@in: 125", "@out: 125", "ddd+d+dd+dhh+h+hh+hii+i+ii+i 1 1 2 1 1 hh h+ d 1 3"]
    );
    // The first thread has ended: its `/proc` folder says nothing of the memory.
    let script = format!("uprobe:{at}:hot {{ @hot = count(); }}");
    assert_eq!(watched(&script, "thread"), ["@hot: 11", "hot 11"]);
}

/// Code that is moved, copied, thrown away and loaded again.
#[test]
fn code_may_move_and_go_and_come_back() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("moves");
    let program = compiled(&open, "fragile", &["-pie", "-fPIE"], "fragile");
    let at = program.display();
    let library = open.file("square.so");
    let source = open.write("square.c", b"long square(long n) { return n * n; }\n");
    assert!(finish(Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source])).status.success());
    let of_library = library.display();
    let cases = [
        // The first one, those in place, and of the page that went elsewhere the first and three; not those of the copy.
        (
            format!(
                "uprobe:{at}:moved, uprobe:{at}:pushed {{ @in = count(); }} uretprobe:{at}:moved, uretprobe:{at}:pushed {{ @out = sum(retval); }}"
            ),
            "moves".to_owned(),
            &["@in: 9", "@out: 15", "moved 21"][..],
        ),
        (
            format!(
                "uprobe:{of_library}:square {{ @in = count(); }} uretprobe:{of_library}:square {{ @out = sum(retval); }}"
            ),
            format!("reloads {of_library}"),
            &["@in: 200", "@out: 2646700", "reloads 2646700"],
        ),
        // Nobody may trace the first child, the second one has lost who made it.
        (
            format!(
                "uprobe:{at}:moved {{ @moved = count(); }} uprobe:{at}:hot {{ @hot = count(); }} uretprobe:{at}:hot {{ @out = count(); }}"
            ),
            "leaves".to_owned(),
            &["@hot: 1", "@moved: 1", "@out: 1", "daemon 7", "untraced 3"],
        ),
    ];
    for (script, what, all) in cases {
        let outcome = open.skep("trace", &["-q", "--engine", "user", &script, "-c", &format!("{at} {what}")]);
        assert!(outcome.status.success() && outcome.stderr.is_empty(), "{what}: {}{}", outcome.stdout, outcome.stderr);
        let mut lines: Vec<&str> = outcome.stdout.lines().filter(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        assert_eq!(lines, all, "{what}");
    }
}

/// Copies of code that is watched work when nobody watches it any more, and SIGTRAP does what it did.
#[test]
fn processes_with_habits_of_their_own_are_left_as_they_were() {
    if !needs(&[Program("cc")]) || !may_join() {
        return;
    }
    let open = Open::new("habits");
    let program = compiled(&open, "fragile", &["-pie", "-fPIE"], "fragile");
    for args in [&["keeps"][..], &["holds", "handled"], &["holds", "ignored"], &["holds", "blocked"]] {
        let mut running = Running::new(&program, args);
        // Twice: what the first one left is no handler of the process's own.
        for _ in 0..2 {
            let at = program.display();
            let script = format!("uprobe:{at}:moved, uprobe:{at}:hot {{ @++; }} interval:ms:10 /@ > 20/ {{ exit(); }}");
            let outcome = open.skep("trace", &["-q", "--engine", "user", &script, "-p", &running.pid().to_string()]);
            assert!(outcome.status.success() && outcome.stderr.is_empty(), "{args:?}: {}", outcome.stderr);
            let count = outcome.stdout.lines().find_map(|line| line.strip_prefix("@: "));
            assert!(count.and_then(|count| count.parse().ok()).unwrap_or(0) > 20, "{args:?}: {}", outcome.stdout);
            running.assert_left_alone();
        }
    }
}

/// A program that runs at the entry and at the return of a function, on both engines.
#[test]
fn a_session_sees_both_ends_of_a_call() {
    if !needs(&[Program("cc"), Clang]) {
        return;
    }
    let open = Open::new("session");
    let program = probed(&open, &["-pie", "-fPIE"], "program");
    let said = |engine: &str, program: &Path| {
        let at = program.display();
        // Even numbers are of no interest at the return.
        let source = format!(
            "#include \"vmlinux.h\"\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n\
             extern bool bpf_session_is_return(void) __ksym;\nextern __u64 *bpf_session_cookie(void) __ksym;\n\
             SEC(\"uprobe.session/{at}:hot\")\nint both(struct pt_regs *ctx)\n{{\n\
             \t__u64 *word = bpf_session_cookie();\n\n\tif (bpf_session_is_return()) {{\n\
             \t\tbpf_printk(\"returns %d of %d\", (int)PT_REGS_RC(ctx), (int)*word);\n\t\treturn 0;\n\t}}\n\
             \t*word = PT_REGS_PARM1(ctx) + 100;\n\tbpf_printk(\"enters %d\", (int)PT_REGS_PARM1(ctx));\n\
             \treturn PT_REGS_PARM1(ctx) % 2 == 0;\n}}\nchar LICENSE[] SEC(\"license\") = \"GPL\";\n"
        );
        let file = open.write(&format!("{engine}.bpf.c"), source.as_bytes());
        let command = format!("{at} threads 2");
        let args = [file.as_os_str(), "--engine".as_ref(), engine.as_ref(), "-c".as_ref(), command.as_ref()];
        let outcome = if engine == "user" {
            open.run(&args)
        } else {
            finish(Command::new(env!("CARGO_BIN_EXE_skep")).arg("run").args(args))
        };
        assert!(outcome.status.success(), "{engine}: {}", outcome.stderr);
        let rows = outcome
            .stdout
            .lines()
            .filter_map(|line| Some(line.split_once("ters ").or(line.split_once("turns "))?.1.to_owned()));
        let mut rows: Vec<String> = rows.collect();
        rows.sort();
        assert!(!rows.is_empty(), "{engine}: {}{}", outcome.stdout, outcome.stderr);
        rows
    };
    let user = said("user", &program);
    // Four threads, each with 0 and 1.
    assert_eq!(user, [["0"; 4], ["1"; 4], ["2 of 101"; 4]].concat());
    if needs(&[Root, Symbol("bpf_session_cookie")]) {
        let copy = open.file("copy");
        std::fs::copy(&program, &copy).expect("the file can be copied");
        assert_eq!(said("kernel", &copy), user);
    }
}

/// A process or a command that a signal ends.
#[test]
fn who_is_killed_while_it_is_watched_is_told_of() {
    if !needs(&[Program("cc")]) || !may_join() {
        return;
    }
    let open = Open::new("ends");
    let program = probed(&open, &["-pie", "-fPIE"], "program");
    let script = format!(
        "uprobe:{}:hot {{ @ = count(); if (!@hit) {{ @hit = 1; printf(\"hit\\n\"); }} }} END {{ clear(@hit); }}",
        program.display()
    );
    let mut running = Running::new(&program, &["loop"]);
    let pid = running.pid();
    let mut command = Command::new(open.file("skep"));
    command.args(["trace", "-q", "--engine", "user", &script, "-p", &pid.to_string()]);
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let mut skep = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("skep starts");
    let mut lines = BufReader::new(skep.stdout.take().expect("it is piped"));
    let mut first = String::new();
    lines.read_line(&mut first).expect("skep writes text");
    assert_eq!(first, "hit\n");
    kill_process(Pid::from_child(&running.child), Signal::ABORT).expect("it runs");
    let outcome = skep.wait_with_output().expect("our child");
    let (stdout, stderr) = (std::io::read_to_string(lines).expect("text"), String::from_utf8_lossy(&outcome.stderr));
    assert!(outcome.status.success() && stdout.contains("@: "), "{stdout}{stderr}");
    assert!(stderr.starts_with(&format!("process {pid} ended with signal: 6 (SIGABRT)")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert_eq!(running.child.wait().expect("our child").signal(), Some(Signal::ABORT.as_raw()));
    // An end of its own needs no words, a command's by a signal does.
    let outcome = open.skep("trace", &["--engine", "user", &script, "-c", "/bin/sh -c 'kill -SEGV $$'"]);
    assert!(outcome.stderr.contains("warning: the command ended with signal: 11 (SIGSEGV)"), "{}", outcome.stderr);
    let outcome = open.skep("trace", &["--engine", "user", &script, "-c", "/bin/sh -c 'exit 3'"]);
    assert!(!outcome.stderr.contains("ended"), "{}", outcome.stderr);
}

/// What becomes of breakpoints where a command closes its output, and where a shell makes a thousand children.
#[test]
fn faults_of_a_command_are_its_own() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("faults");
    let program = probed(&open, &["-pie", "-fPIE"], "program");
    let at = program.display();
    let script = format!("uprobe:{at}:hot {{ @in = count(); }} uretprobe:{at}:hot {{ @out = count(); }}");
    let seen = |command: &str| {
        let outcome = open.skep("trace", &["-q", "--engine", "user", &script, "-c", command]);
        assert!(outcome.status.success() && outcome.stderr.is_empty(), "{command}: {}", outcome.stderr);
        outcome.stdout.lines().filter(|line| line.starts_with('@')).map(str::to_owned).collect::<Vec<String>>()
    };
    let call = format!("{at} threads 1");
    // It says nothing, as nobody would hear it; we do.
    assert_eq!(seen(&format!("/bin/sh -c 'exec >&-; {call}; {call}'")), ["@in: 8", "@out: 8"]);
    let count =
        seen(&format!("/bin/sh -c 'i=0; while [ $i -lt 1000 ]; do (:); i=$((i+1)); done; {call}; kill -KILL $$'"));
    assert_eq!(count, ["@in: 4", "@out: 4"]);
}

/// Whoever may open hardly any file is told so, whatever it is that needs one more.
#[test]
fn a_limit_of_files_is_named() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("files");
    let program = compiled(&open, "fragile", &["-pie", "-fPIE"], "fragile");
    let script = format!("uprobe:{}:hot {{ @ = count(); }}", program.display());
    let mut limits = Vec::new();
    for limit in 5..64 {
        let mut command = Command::new("/bin/sh");
        let line = format!("ulimit -n {limit}; exec \"$0\" trace -q --engine user \"$1\" -c \"$2 jumps\"");
        command.arg("-c").arg(line).arg(open.file("skep")).args([&script, &*program.to_string_lossy()]);
        let outcome = finish(&mut command);
        if outcome.status.success() {
            assert!(outcome.stdout.contains("deep 3000"), "{limit}: {}{}", outcome.stdout, outcome.stderr);
            break;
        }
        limits.push(limit);
        assert!(outcome.stderr.contains("ulimit -n"), "{limit}: {}", outcome.stderr);
    }
    // Enough for it is not much, but more than nothing.
    assert!((1..40).contains(&limits.len()), "{limits:?}");
}

/// A process whose own rules would kill it for what we let others do.
#[test]
fn a_process_with_rules_of_its_own_lives_on() {
    if !needs(&[Program("cc")]) || !may_join() {
        return;
    }
    let open = Open::new("rules");
    let program = compiled(&open, "fragile", &["-pie", "-fPIE"], "fragile");
    let mut command = Command::new(&program);
    command.arg("rules");
    if rustix::process::geteuid().is_root() {
        command.uid(65534).gid(65534);
    }
    let mut child = command.spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(300));
    let script = format!("uprobe:{}:hot {{ @hot = count(); }}", program.display());
    let pid = child.id().to_string();
    let outcome = open.skep("trace", &["-q", "--engine", "user", "--duration", "300ms", &script, "-p", &pid]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(child.wait().expect("it ends").success(), "{}", outcome.stderr);
    let seen = outcome.stdout.contains("@hot: ");
    if !seen {
        let wanted = format!("`uprobe {}:hot` was not watched: the process has rules of its own", program.display());
        assert_eq!(outcome.stderr.matches(&wanted).count(), 1, "{}", outcome.stderr);
    }
}
