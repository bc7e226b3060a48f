//! What goes wrong, and what skep says about it: exit code 1, one message, nothing attached.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::needs::Need::{Clang, Kprobes, Program, Root, Veth};
use crate::support::network::{Cable, INTERFACE};
use crate::support::programs::{case, corpus};
use crate::support::{Outcome, Skep, example, needs, scratch, skep, writer};

/// Runs `skep run` with a file, which must fail; what it said, with `FILE` for the file's path.
fn refused(file: &Path, args: &[&str]) -> String {
    let mut all = vec![OsStr::new("run"), file.as_os_str()];
    all.extend(args.iter().map(OsStr::new));
    message(&skep::call(&all), file)
}

fn message(outcome: &Outcome, file: &Path) -> String {
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{}", outcome.stderr);
    outcome.stderr.replace(&file.display().to_string(), "FILE")
}

/// A file with these bytes, in a folder of its own that goes with the value.
struct Scratch {
    dir: PathBuf,
    file: PathBuf,
}

impl Scratch {
    fn new(name: &str, bytes: &[u8]) -> Scratch {
        let dir = scratch(name);
        let file = dir.join(name);
        std::fs::write(&file, bytes).expect("the target folder can be written to");
        Scratch { dir, file }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn files_that_are_no_programs() {
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty.bpf.o", b"", "error: `FILE` is empty\n"),
        (
            "notes.txt",
            b"remember the milk\n",
            "error: `FILE` is text without a `SEC(...)` program, which skep does not run\n  = help: give skep a `.bpf.c` or a `.bpf.o` file\n",
        ),
        (
            "noise.bin",
            b"\xff\xfe\x00\x01",
            "error: `FILE` is neither a BPF object nor text\n  = help: give skep a `.bpf.c` or a `.bpf.o` file\n",
        ),
        ("short.bpf.o", b"\x7fELF\x02\x01", "error: `FILE` ends inside its ELF header\n"),
    ];
    for (name, bytes, expected) in cases {
        let scratch = Scratch::new(name, bytes);
        assert_eq!(refused(&scratch.file, &[]), expected);
    }
    let missing = Path::new("/nonexistent/x.bpf.c");
    assert_eq!(refused(missing, &[]), "error: cannot read `FILE`: no such file or directory\n");
}

#[test]
fn habits_of_other_programs_are_understood() {
    let help = skep::call(&["help", "list"]);
    assert!(
        help.status.success() && help.stdout == skep::call(&["list", "--help"]).stdout,
        "{}{}",
        help.stdout,
        help.stderr
    );
    let formatted = "BEGIN {\n  exit();\n}\n";
    for words in [&["trace", "--fmt", "BEGIN{exit()}"][..], &["trace", "--fmt", "-e", "BEGIN{exit()}"]] {
        assert_eq!(skep::call(words).stdout, formatted, "{words:?}");
    }
    // A file of this name there is, but text was meant.
    let out = skep::call(&["trace", "--fmt", "-e", "/dev/null"]);
    assert!(!out.status.success(), "{}", out.stdout);
}

#[test]
fn a_file_for_another_machine() {
    let ours = std::fs::read(env!("CARGO_BIN_EXE_skep")).unwrap();
    let scratch = Scratch::new("program", &ours[..4096]);
    assert_eq!(
        refused(&scratch.file, &[]).replace(machine(), "MACHINE"),
        "error: `FILE` is an ELF file, but not for BPF (machine MACHINE)\n  = help: compile it with `clang -g -O2 -target bpf -c`, or give skep the C file\n"
    );
}

/// `e_machine` of this machine.
fn machine() -> &'static str {
    if cfg!(target_arch = "x86_64") { "62" } else { "183" }
}

#[test]
fn a_truncated_object() {
    let whole = std::fs::read(corpus("clang19-el", "tp_minimal")).unwrap();
    for len in [40, 64, 700, whole.len() - 1] {
        let scratch = Scratch::new("truncated.bpf.o", &whole[..len]);
        let said = refused(&scratch.file, &[]);
        assert!(said.contains("cut short") || said.contains("ends inside"), "{len} bytes: {said}");
        assert_eq!(said.lines().count(), 1, "{len} bytes: {said}");
    }
}

#[test]
fn an_object_for_the_other_byte_order() {
    if !needs(&[Root]) {
        return;
    }
    let said = refused(&corpus("clang19-eb", "tp_minimal"), &[]);
    assert!(
        said.starts_with("error: the object is for big-endian machines, and this one is little-endian\n"),
        "{said}"
    );
    assert!(said.contains("compile it with `-target bpf`"), "{said}");
}

/// Without types there are no rows, but the program runs: only CO-RE needs them.
#[test]
fn an_object_without_types_still_runs() {
    if !needs(&[Root]) {
        return;
    }
    let object = corpus("clang19-el", "no_btf");
    // It also holds a program for an interface, which nobody named.
    let said = refused(&object, &[]);
    assert!(said.contains("--iface"), "{said}");
    if !needs(&[Veth]) {
        return;
    }
    let cable = Cable::new();
    let args = [object.as_os_str(), "--iface".as_ref(), INTERFACE.as_ref()];
    let skep = Skep::run_within(&cable.near.enter(), &args);
    assert_eq!(skep.held().programs.len(), 2);
    let pid = writer();
    skep.line("of a write", |line| line.ends_with(&format!("write by {pid}")));
    skep.stop();
}

#[test]
fn a_helper_for_gpl_programs_without_a_licence() {
    if !needs(&[Root]) {
        return;
    }
    let said = refused(&case("no_licence"), &[]);
    assert!(said.contains("program `bad_no_licence` (tp/syscalls/sys_enter_getpgid) at no_licence.bpf.c:8"), "{said}");
    assert!(said.ends_with("add `char LICENSE[] SEC(\"license\") = \"GPL\";`\n"), "{said}");
}

#[test]
fn a_map_that_no_machine_has_room_for() {
    if !needs(&[Root]) {
        return;
    }
    let said = refused(&case("map_too_large"), &[]);
    assert!(
        said.contains("cannot create map `enormous` (hash") || said.contains("cannot create map `enormous` (array"),
        "{said}"
    );
    assert!(said.contains("too large"), "{said}");
    assert!(!said.contains("EINVAL"), "{said}");
}

#[test]
fn a_section_that_nobody_knows() {
    if !needs(&[Root]) {
        return;
    }
    let said = refused(&case("unknown_section"), &[]);
    assert!(said.contains("section name `tracepiont/syscalls/sys_enter_getpgid` says no program type"), "{said}");
    assert!(said.contains("did you mean SEC(\"tracepoint/syscalls/sys_enter_getpgid\")?"), "{said}");
    assert!(said.contains("error: `FILE` has no program to attach\n"), "{said}");
}

#[test]
fn names_that_this_kernel_does_not_have_come_with_the_nearest() {
    if !needs(&[Root]) {
        return;
    }
    let said = refused(&case("missing_function"), &[]);
    assert!(said.contains("this kernel has no function `do_unlinkit`") && said.contains("do_unlinkat"), "{said}");
    let said = refused(&case("missing_tracepoint"), &[]);
    assert!(said.contains("this kernel has no tracepoint syscalls:sys_enter_getpigd"), "{said}");
    assert!(said.contains("sys_enter_getpgid"), "{said}");
}

#[test]
fn a_kprobe_on_a_missing_function_comes_with_the_nearest() {
    if !needs(&[Root, Kprobes]) {
        return;
    }
    let said = refused(&case("missing_kprobe"), &[]);
    assert!(said.contains("`do_unlinkit`") && said.contains("do_unlinkat"), "{said}");
}

#[test]
fn a_program_that_the_verifier_refuses() {
    if !needs(&[Root]) {
        return;
    }
    let said = refused(&case("unsafe_access"), &[]);
    assert!(said.contains("the verifier refuses program `bad_access`"), "{said}");
    assert!(said.contains("unsafe_access.bpf.c:18 `return *number;`"), "{said}");
    assert!(said.contains("a lookup may find nothing: compare its result with NULL before using it"), "{said}");
}

#[test]
fn an_interface_that_does_not_exist() {
    if !needs(&[Root]) {
        return;
    }
    let said = refused(&example("xdp"), &["--iface", "nosuch0"]);
    assert!(said.contains("there is no network interface `nosuch0`"), "{said}");
    assert!(said.contains("up: ") && said.contains("lo"), "{said}");
}

#[test]
fn c_that_does_not_compile_keeps_the_compilers_words() {
    if !needs(&[Clang]) {
        return;
    }
    let text = "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\nSEC(\"xdp\")\nint f(void *ctx)\n{\n\treturn nosuch;\n}\n";
    let scratch = Scratch::new("broken.bpf.c", text.as_bytes());
    let said = refused(&scratch.file, &[]);
    assert!(said.contains("FILE:6:9: error: use of undeclared identifier 'nosuch'"), "{said}");
    assert!(!said.contains("/skep/headers"), "{said}");
}

/// `nobody` runs a program: the message names the right that is missing.
#[test]
fn without_rights() {
    if !needs(&[Root]) {
        return;
    }
    // Folders of root's are closed to others.
    let dir = std::env::temp_dir().join(format!("skep-nobody-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (binary, object) = (dir.join("skep"), dir.join("tp_minimal.bpf.o"));
    std::fs::copy(env!("CARGO_BIN_EXE_skep"), &binary).unwrap();
    std::fs::copy(corpus("clang19-el", "tp_minimal"), &object).unwrap();
    let mut command = Command::new(&binary);
    let outcome = skep::finish(
        command.args(["run", "--engine=kernel"]).arg(&object).uid(65534).gid(65534).env("HOME", "/nonexistent"),
    );
    let said = message(&outcome, &object);
    std::fs::remove_dir_all(dir).unwrap();
    assert!(said.contains("operation not permitted (EPERM)"), "{said}");
    assert!(said.contains("CAP_BPF is missing") && said.contains("run it with sudo"), "{said}");
}

/// No compiler anywhere: the one command that installs one.
#[test]
fn without_a_compiler() {
    if !needs(&[Root, Program("unshare")]) {
        return;
    }
    let dir = scratch("no-compiler");
    let source = dir.join("some.bpf.c");
    std::fs::write(&source, "#include <bpf/bpf_helpers.h>\nSEC(\"xdp\") int f(void *ctx) { return 2; }\n").unwrap();
    // Where skep also looks, hidden from this process alone.
    let script =
        "for dir in /usr/lib/llvm-*; do [ -d $dir ] && mount -t tmpfs tmpfs $dir; done; PATH=/nonexistent; exec \"$@\"";
    let run = |environment: (&str, &str)| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_skep"), "run"]).arg(&source);
        command.env("XDG_CACHE_HOME", &dir).env_remove("SKEP_CLANG").env(environment.0, environment.1);
        message(&skep::finish(&mut command), &source)
    };
    let said = run(("LANG", "C"));
    assert!(said.contains("clang"), "{said}");
    assert!(said.contains("install"), "{said}");
    let said = run(("SKEP_CLANG", "/nonexistent/clang"));
    assert_eq!(said, "error: $SKEP_CLANG is `/nonexistent/clang`, which is not a program that can be run\n");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn with_a_full_disk_under_the_cache() {
    if !needs(&[Root, Clang, Program("unshare")]) {
        return;
    }
    let dir = scratch("full-disk");
    let program = example("minimal");
    let script = "mount -t tmpfs -o size=32k tmpfs \"$XDG_CACHE_HOME\"; exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_skep"), "run"]).arg(&program);
    command.env("XDG_CACHE_HOME", &dir).env_remove("SKEP_CLANG");
    let said = message(&skep::finish(&mut command), &program);
    assert!(said.contains(&dir.display().to_string()), "{said}");
    assert!(said.to_lowercase().contains("no space left on device"), "{said}");
    assert!(said.contains("XDG_CACHE_HOME"), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
}

/// A tracepoint has room for both; an interface for one.
#[test]
fn two_runs_at_once() {
    if !needs(&[Root, Veth]) {
        return;
    }
    let (one, other) = (Skep::run(&[example("hello")]), Skep::run(&[example("hello")]));
    let mut child = Command::new("/bin/true").spawn().unwrap();
    let wanted = format!("Process[{}]: return: 0", child.id());
    child.wait().unwrap();
    one.line_ending(&wanted);
    other.line_ending(&wanted);
    one.stop();
    other.stop();

    let cable = Cable::new();
    let program = example("xdp");
    let args = [program.as_os_str(), "--iface".as_ref(), INTERFACE.as_ref()];
    let first = Skep::run_within(&cable.near.enter(), &args);
    let second = [OsStr::new("run"), program.as_os_str(), "--iface".as_ref(), INTERFACE.as_ref()];
    let said = message(&skep::finish(&mut skep::command(&cable.near.enter(), &second)), &program);
    assert!(said.contains("another XDP program") || said.contains("already"), "{said}");
    assert!(said.contains(INTERFACE), "{said}");
    first.stop();
}
