//! `skep doctor`: what this machine can do.

use serde_json::Value;

use crate::support::needs::Need::{self, Root};
use crate::support::{needs, skep};

fn examine() -> Value {
    let outcome = skep::call(&["doctor", "--json"]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.stdout))
}

fn works(report: &Value, kind: &str) -> bool {
    let kinds = report["kinds"].as_array().expect("there are kinds");
    let found = kinds.iter().find(|finding| finding["kind"] == kind);
    found.unwrap_or_else(|| panic!("nothing about {kind}"))["works"] == true
}

#[test]
fn what_every_kernel_at_hand_can_do() {
    if !needs(&[Root]) {
        return;
    }
    let report = examine();
    for kind in ["tracepoint", "raw_tp", "tp_btf", "uprobe", "perf_event", "iter", "xdp", "tc", "cgroup", "socket"] {
        assert!(works(&report, kind), "{kind}: {report}");
    }
    assert!(report["btf_bytes"].as_u64().is_some_and(|bytes| bytes > 1_000_000), "{report}");
    assert_eq!(report["missing_capabilities"], Value::Array(vec![]));
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(report["kernel"].as_str().is_some_and(|kernel| kernel.starts_with(release.trim())), "{report}");
}

#[test]
fn what_works_agrees_with_the_configuration() {
    if !needs(&[Root]) {
        return;
    }
    let report = examine();
    assert_eq!(works(&report, "kprobe"), Need::Kprobes.is_met(), "{report}");
    assert_eq!(works(&report, "fentry"), Need::Fentry.is_met(), "{report}");
}

#[test]
fn text_names_what_is_missing_and_what_to_do() {
    if !needs(&[Root]) {
        return;
    }
    let outcome = skep::call(&["doctor"]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert!(lines[0].starts_with("kernel ") && lines[0].contains("BTF yes"), "{}", outcome.stdout);
    assert!(lines.iter().any(|line| line.starts_with("ok   tracepoint raw_tp tp_btf")), "{}", outcome.stdout);
    if !Need::Kprobes.is_met() {
        assert!(
            lines.iter().any(|line| line.starts_with("no   kprobe") && line.contains(" -> ")),
            "{}",
            outcome.stdout
        );
    }
}

/// A person without rights is told which, and nothing crashes.
#[test]
fn without_rights_it_says_which_are_missing() {
    if !needs(&[Root]) {
        return;
    }
    use std::os::unix::process::CommandExt;
    let dir = std::env::temp_dir().join(format!("skep-doctor-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let binary = dir.join("skep");
    std::fs::copy(env!("CARGO_BIN_EXE_skep"), &binary).unwrap();
    let mut command = std::process::Command::new(&binary);
    let outcome = skep::finish(command.arg("doctor").uid(65534).gid(65534).env("HOME", "/nonexistent"));
    std::fs::remove_dir_all(dir).unwrap();
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("CAP_BPF") && outcome.stdout.contains("sudo"), "{}", outcome.stdout);
    // What could not be tried is not called absent, nor is anybody sent to a newer kernel for it.
    let unknown = outcome.stdout.lines().find(|line| line.starts_with("?    ")).unwrap_or_default();
    assert!(unknown.contains(" tcx ") && unknown.ends_with("(not known without the rights)"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("6.6"), "{}", outcome.stdout);
    // What works all the same is told, and the command to try does.
    assert!(outcome.stdout.contains("\nok   commands (`-c`)"), "{}", outcome.stdout);
    assert!(outcome.stdout.ends_with("\ntry: skep run examples/execsnoop.bpf.c -c ls\n"), "{}", outcome.stdout);
}
