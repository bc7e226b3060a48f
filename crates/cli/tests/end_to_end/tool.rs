//! `skep build` and `skep trace --emit`: scripts that leave this machine.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::needs::Need::{Program, Root};
use crate::support::skep::{Outcome, call, finish};
use crate::support::{needs, scratch};

/// Members of structs, `curtask`, a parameter, options, a header and an import: what needs the machine, and what does not.
const SCRIPT: &str = "#!/usr/bin/env -S skep
// What the task is called, in many ways.
//
// Nothing else.
#include \"name.h\"
import \"more.bt\";

begin {
  $task = (struct task_struct *)curtask;
  if ($task->pid == tid) { printf(\"a task\\n\"); }
  printf(\"%s %d %d %d\\n\", str($1), getopt(\"count\", 3, \"how many\"), more(NUMBER), $#);
  if (getopt(\"loud\")) { printf(\"loud\\n\"); }
  exit();
}
";

/// A folder with a tool that was built where the script is, which is there no more.
fn tool(name: &str) -> PathBuf {
    let folder = scratch(name);
    let sources = folder.join("sources");
    std::fs::create_dir_all(&sources).expect("the scratch folder can be written to");
    std::fs::write(sources.join("many.bt"), SCRIPT).expect("the scratch folder can be written to");
    std::fs::write(sources.join("name.h"), "#define NUMBER 40\n").expect("the scratch folder can be written to");
    std::fs::write(sources.join("more.bt"), "macro more(n) { n + 2 }\n").expect("the scratch folder can be written to");
    let output = folder.join("many");
    let script = sources.join("many.bt");
    let words: [&OsStr; 6] =
        ["build".as_ref(), script.as_ref(), "-I".as_ref(), sources.as_ref(), "-o".as_ref(), output.as_ref()];
    let out = call(&words);
    assert!(out.status.success(), "{}", out.stderr);
    std::fs::remove_dir_all(sources).expect("the scratch folder can be written to");
    output
}

fn start(tool: &Path, words: &[&str]) -> Outcome {
    finish(Command::new(tool).args(words).current_dir("/"))
}

#[test]
fn a_tool_needs_nothing_but_itself() {
    if !needs(&[Root]) {
        return;
    }
    let tool = tool("tool-alone");
    let out = start(&tool, &["-q", "you", "--loud", "--count=7"]);
    assert_eq!(out.stdout, "a task\nyou 7 42 1\nloud\n", "{}", out.stderr);
    // The file's name and place are of no importance, nor is the name `bpftrace`.
    let copy = tool.with_file_name("bpftrace");
    std::fs::copy(&tool, &copy).unwrap();
    let out = start(&copy, &["you", "me", "-f", "json", "--", "--count=8"]);
    assert!(out.stdout.contains("{\"type\": \"printf\", \"data\": \"you 8 42 2\\n\"}"), "{}{}", out.stdout, out.stderr);
}

#[test]
fn a_tool_knows_the_arguments_of_functions() {
    if !needs(&[Root, Program("cc")]) {
        return;
    }
    let folder = scratch("tool-arguments");
    let (source, program, script, tool) =
        (folder.join("a.c"), folder.join("a"), folder.join("a.bt"), folder.join("tool"));
    let text = "struct point { int x, y; };
__attribute__((noinline)) int added(struct point *to, int more) {
  return to->x + more;
}
int main(void) { struct point at = { 30, 4 }; return added(&at, 12) != 42; }
";
    std::fs::write(&source, text).unwrap();
    let made = finish(Command::new("cc").args(["-g", "-O0", "-o"]).args([&program, &source]));
    assert!(made.status.success(), "{}", made.stderr);
    let at = program.display();
    // A name and a type of an argument, a struct of the program, and a line of its source.
    let text = format!(
        "uprobe:{at}:added {{ printf(\"%d %d\\n\", args.more, args.to->y); }}
uprobe:{at}@a.c:3 {{ printf(\"the line\\n\"); exit(); }}
"
    );
    std::fs::write(&script, text).unwrap();
    let out = call(&["build".as_ref(), script.as_os_str(), "-o".as_ref(), tool.as_os_str()]);
    assert!(out.status.success(), "{}", out.stderr);
    let out = start(&tool, &["-q", "-c", &program.display().to_string()]);
    assert_eq!(out.stdout, "12 4\nthe line\n", "{}", out.stderr);
}

#[test]
fn a_tool_explains_itself() {
    if !needs(&[Root]) {
        return;
    }
    let tool = tool("tool-help");
    let out = start(&tool, &["--help"]);
    assert!(out.status.success(), "{}", out.stderr);
    assert!(
        out.stdout.starts_with("What the task is called, in many ways.\n\nNothing else.\n\nUsage: many "),
        "{}",
        out.stdout
    );
    for line in ["--count <VALUE>", "how many [default: 3]", "--loud", "--duration <T>"] {
        assert!(out.stdout.contains(line), "{line} in {}", out.stdout);
    }
    let out = start(&tool, &["--cuont=1"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(out.stderr.contains("--count"), "{}", out.stderr);
    let out = start(&tool, &["you", "--count=many"]);
    assert_eq!(out.status.code(), Some(1), "{}", out.stdout);
}

#[test]
fn a_damaged_tool_refuses() {
    if !needs(&[Root]) {
        return;
    }
    let tool = tool("tool-damaged");
    let bytes = std::fs::read(&tool).unwrap();
    let refused = |bytes: &[u8], reason: &str| {
        std::fs::write(&tool, bytes).unwrap();
        let out = start(&tool, &["you"]);
        assert_eq!((out.status.code(), out.stdout.as_str()), (Some(1), ""), "{}", out.stderr);
        assert!(out.stderr.starts_with(&format!("error: this tool is damaged: {reason}")), "{}", out.stderr);
    };
    refused(&bytes[..bytes.len() - 1], "its end is missing");
    refused(&bytes[..bytes.len() - 100], "its end is missing");
    let mut changed = bytes.clone();
    let in_script = bytes.len() - 200;
    changed[in_script] ^= 1;
    refused(&changed, "its script has another checksum");
}

#[test]
fn what_does_not_compile_is_not_built() {
    if !needs(&[Root]) {
        return;
    }
    let folder = scratch("tool-wrong");
    let (script, output) = (folder.join("a.bt"), folder.join("a"));
    let build = |text: &str, more: &[&str]| {
        std::fs::write(&script, text).unwrap();
        let mut words: Vec<&OsStr> = vec!["build".as_ref(), script.as_os_str(), "-o".as_ref(), output.as_os_str()];
        words.extend(more.iter().map(OsStr::new));
        call(&words)
    };
    let out = build("tracepoint:no:such { exit(); }", &[]);
    assert_eq!(out.status.code(), Some(1));
    assert!(out.stderr.contains("--elsewhere") && !output.exists(), "{}", out.stderr);
    assert!(build("tracepoint:no:such { exit(); }", &["--elsewhere"]).status.success() && output.exists());
    std::fs::remove_file(&output).unwrap();
    assert_eq!(build("begin { exit(; }", &["--elsewhere"]).status.code(), Some(1));
    assert_eq!(build("begin { system(\"true\"); }", &[]).status.code(), Some(1));
    assert!(!output.exists());
    assert!(build("begin { system(\"echo done\"); exit(); }", &["--unsafe"]).status.success());
    assert_eq!(start(&output, &["-q"]).stdout, "done\n");
}

#[test]
fn an_emitted_object_is_one_like_others() {
    if !needs(&[Root, Program("llvm-objdump")]) {
        return;
    }
    let object = scratch("emit").join("script.bpf.o");
    let script = "tracepoint:sched:sched_switch { @[comm] = hist(args.next_pid); }
        tracepoint:syscalls:sys_enter_openat { printf(\"%s %s\\n\", comm, str(args.filename)); }
        tracepoint:sched:sched_process_exit { @stack[kstack] = count(); for ($e : @stack) { print($e.1); } }";
    for name in [&["trace", "--emit"][..], &["bpftrace", "--emit-elf"], &["trace", "--emit-elf"]] {
        let mut words: Vec<&OsStr> = name.iter().map(OsStr::new).collect();
        words.push(object.as_os_str());
        words.extend(if name[0] == "bpftrace" { vec![OsStr::new("-e")] } else { Vec::new() });
        words.push(script.as_ref());
        let out = call(&words);
        assert!(out.status.success() && out.stdout.is_empty(), "{}", out.stderr);
        let out = call(&["load".as_ref(), object.as_os_str()]);
        assert!(out.status.success(), "{}{}", out.stdout, out.stderr);
        assert_eq!(out.stdout.lines().filter(|line| line.starts_with("ok ")).count(), 3, "{}", out.stdout);
        let dump = finish(Command::new("llvm-objdump").args(["-d", "--no-show-raw-insn"]).arg(&object));
        assert!(dump.status.success() && dump.stdout.contains("exit"), "{}{}", dump.stdout, dump.stderr);
        std::fs::remove_file(&object).unwrap();
    }
}

#[test]
fn an_emitted_object_without_its_tables_of_callers_is_told_so() {
    if !needs(&[Root]) {
        return;
    }
    let object = scratch("emit-callers").join("script.bpf.o");
    let emit = |script: &str, more: &[&str]| {
        let words = ["trace".as_ref(), "--emit".as_ref(), object.as_os_str(), script.as_ref()];
        let out = call(&words.into_iter().chain(more.iter().map(OsStr::new)).collect::<Vec<_>>());
        assert!(out.status.success() && object.exists(), "{}", out.stderr);
        std::fs::remove_file(&object).unwrap();
        out.stderr
    };
    let script = "interval:s:1 { @[dw_ustack] = count(); }";
    let told = emit(script, &[]);
    assert!(told.starts_with("warning: stacks of `dw_ustack` end at their first address in `"), "{told}");
    assert!(told.contains("`unwind_files`") && told.contains("= help: `skep build "), "{told}");
    assert_eq!(emit(script, &["--no-warnings"]), "");
    assert_eq!(emit("interval:s:1 { @[ustack] = count(); }", &[]), "");
}
