//! Stacks of functions that keep no frame pointers: `dw_ustack`.
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::needs::Need::{Program, Root};
use crate::support::skep::{call, finish};
use crate::support::{needs, scratch};
use crate::user::Open;

/// Compiles `tests/programs/host/frames.c` to `folder`, without frame pointers.
fn frames(folder: &Path, flags: &[&str], name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/host/frames.c");
    let program = folder.join(name);
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls"]).args(flags);
    let made = finish(cc.arg("-o").arg(&program).arg(source));
    assert!(made.status.success(), "{}", made.stderr);
    program
}

/// The stacks that were printed as `<...>`, each as the names of its functions up to `main`, without repeats.
fn chains(text: &str) -> BTreeSet<String> {
    let stacks = text.split('<').skip(1).map(|stack| stack.split('>').next().unwrap_or(stack));
    stacks.map(chain).collect()
}

fn chain(stack: &str) -> String {
    let names = stack.lines().map(|line| line.trim().split('+').next().unwrap_or_default());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    let end = names.iter().position(|name| *name == "main").map_or(names.len(), |at| at + 1);
    names[..end].join(" ")
}

/// The chains from [`frames`]'s `leaf`, but what the C library has between.
fn expected(chains: &BTreeSet<String>) {
    let all = format!("{chains:?}");
    assert_eq!(chains.len(), 3, "{all}");
    assert!(chains.contains("leaf inner middle outer main"), "{all}");
    assert!(chains.contains("leaf aligned main"), "{all}");
    // The handler of a signal, and what the signal has interrupted: in the C library.
    let signal = chains.iter().find(|chain| chain.starts_with("leaf handler ")).unwrap_or_else(|| panic!("{all}"));
    assert!(signal.ends_with(" interrupted main"), "{all}");
}

#[test]
fn functions_without_frame_pointers_have_whole_stacks() {
    if !needs(&[Root, Program("cc")]) {
        return;
    }
    for (name, flags) in [("frames-pie", &["-pie", "-fPIE"][..]), ("frames-static", &["-static"])] {
        let program = frames(&scratch("unwind"), flags, name);
        let script = format!("uprobe:{}:leaf {{ printf(\"<%s>\", dw_ustack); }}", program.display());
        // Everything is named when the process is gone already.
        let out = call(&["trace", "-q", &script, "-c", &format!("{} 2", program.display())]);
        assert!(out.status.success(), "{}", out.stderr);
        expected(&chains(&out.stdout));
        let script = script.replace("dw_ustack", "ustack");
        let out = call(&["trace", "-q", &script, "-c", &format!("{} 2", program.display())]);
        assert!(!chains(&out.stdout).contains("leaf inner middle outer main"), "{}", out.stdout);
    }
}

#[test]
fn the_first_frames_and_every_form_are_those_of_ustack() {
    if !needs(&[Root, Program("cc")]) {
        return;
    }
    let program = frames(&scratch("unwind-forms"), &["-pie", "-fPIE"], "frames-forms");
    let shown = program.display();
    let script = format!(
        "uprobe:{shown}:inner {{ print(dw_ustack(2)); print(dw_ustack(perf, 3)); print(dw_ustack(raw, 1)); print(len(dw_ustack(4))); exit(); }}"
    );
    let out = call(&["trace", "-q", "-f", "json", &script, "-c", &format!("{shown} 1")]);
    let lines: Vec<Value> = out.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 4, "{}{}", out.stdout, out.stderr);
    let data = |index: usize| lines[index]["data"].as_str().unwrap_or_default().to_owned();
    assert_eq!(chain(&data(0)), "inner middle");
    let perf = data(1);
    let perf: Vec<&str> = perf.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(perf.len(), 3, "{perf:?}");
    assert!(perf.iter().all(|line| line.ends_with(&format!("({shown})"))), "{perf:?}");
    assert!(perf[2].contains(" outer+"), "{perf:?}");
    assert!(perf[0].trim().starts_with(data(2).trim()), "{perf:?} and {}", data(2));
    assert_eq!(lines[3]["data"], 4);
}

#[test]
fn callers_are_named_by_their_calls_not_by_what_stands_behind_them() {
    if !needs(&[Root, Program("cc")]) {
        return;
    }
    let folder = scratch("unwind-calls");
    let source = folder.join("calls.c");
    // Each call is the last of its line; behind the call of `over` the next function begins.
    let text = "#include <stdlib.h>
#define OWN __attribute__((noinline, noclone))
OWN void leaf(void) { __asm__ volatile(\"\"); }
OWN __attribute__((noreturn)) void over(void) {
    leaf();
    exit(0);
}
OWN void last(void) {
    over();
}
OWN void next(void) {
    leaf();
    leaf();
}
int main(int argc, char **argv) {
    if (argc > 1)
        next();
    last();
    return 1;
}
";
    std::fs::write(&source, text).expect("the folder is ours");
    let program = folder.join("calls");
    let mut cc = Command::new("cc");
    cc.args(["-g", "-O1", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-reorder-functions"]);
    let made = finish(cc.arg("-o").arg(&program).arg(&source));
    assert!(made.status.success(), "{}", made.stderr);
    let script =
        format!("config = {{ show_debug_info = true }} uprobe:{}:leaf {{ print(dw_ustack(4)); }}", program.display());
    let out = call(&["trace", "-q", &script, "-c", &program.display().to_string()]);
    let frames: Vec<(&str, &str)> = out
        .stdout
        .lines()
        .filter_map(|line| line.trim().split_once('+'))
        .map(|(name, rest)| (name, rest.rsplit(':').next().unwrap_or(rest)))
        .collect();
    assert_eq!(frames, [("leaf", "3"), ("over", "5"), ("last", "9"), ("main", "18")], "{}{}", out.stdout, out.stderr);
}

#[test]
fn equal_stacks_of_samples_are_one_key() {
    if !needs(&[Root, Program("cc")]) {
        return;
    }
    let program = frames(&scratch("unwind-samples"), &["-pie", "-fPIE"], "frames-samples");
    let script = "profile:hz:999 /pid == cpid/ { @[dw_ustack] = count(); @all = count(); }";
    let out = call(&["trace", "-q", script, "-c", &format!("{} 300000", program.display())]);
    assert!(out.status.success(), "{}", out.stderr);
    let count = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    let all = out.stdout.split("@all: ").nth(1).map_or(0, |text| count(text.lines().next().unwrap_or_default()));
    let (mut whole, mut total) = (0, 0);
    for entry in out.stdout.split("@[").skip(1) {
        let (stack, behind) = entry.split_once("]: ").expect("a key ends");
        let times = count(behind.lines().next().unwrap_or_default());
        total += times;
        if chain(stack).ends_with("inner middle outer main") {
            whole += times;
        }
    }
    assert!(all > 50, "{}", out.stdout);
    assert_eq!(total, all, "{}", out.stdout);
    assert!(whole * 10 > all * 7, "{whole} of {all}: {}", out.stdout);
}

/// A process that nobody has named: its files become known when it is met.
#[test]
fn a_process_that_runs_already_is_met() {
    if !needs(&[Root, Program("cc")]) {
        return;
    }
    let program = frames(&scratch("unwind-met"), &["-pie", "-fPIE"], "frames-met");
    let mut running = Command::new(&program).arg("2000000000").stdin(Stdio::null()).spawn().expect("it was compiled");
    let pid = running.id().to_string();
    let script = format!("profile:hz:199 /pid == {pid}/ {{ printf(\"<%s>\", dw_ustack); }}");
    let met = call(&["trace", "-q", &script, "--duration", "2s"]);
    let script = format!("profile:hz:199 /pid == {pid}/ {{ printf(\"<%s>\", dw_ustack); exit(); }}");
    let told = call(&["trace", "-q", &script, "--dwarf-pid", &pid]);
    running.kill().expect("it is ours");
    running.wait().expect("it is ours");
    assert!(chains(&met.stdout).contains("leaf inner middle outer main"), "{}{}", met.stdout, met.stderr);
    let first = chains(&told.stdout);
    assert!(first.iter().all(|chain| chain.ends_with(" main")) && first.len() == 1, "{}{}", told.stdout, told.stderr);
}

#[test]
fn a_script_without_rights_has_the_same_stacks() {
    if !needs(&[Program("cc")]) {
        return;
    }
    let open = Open::new("unwind");
    let program = frames(open.file("frames").parent().expect("a folder"), &["-pie", "-fPIE"], "frames-open");
    let script = format!("uprobe:{}:leaf {{ printf(\"<%s>\", dw_ustack); }}", program.display());
    // Without rights nobody tells of mappings: a process has names while it is there.
    let command = format!("{} 2 2000", program.display());
    let out = open.skep("trace", &["-q", "--engine", "user", &script, "-c", &command]);
    assert!(out.status.success(), "{}", out.stderr);
    expected(&chains(&out.stdout));
}
