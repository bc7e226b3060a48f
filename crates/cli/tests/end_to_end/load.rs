//! `skep load`: every program's verdict, with nothing attached.

use serde_json::Value;

use crate::support::needs::Need::{Clang, Root};
use crate::support::programs::{case, corpus};
use crate::support::{Outcome, needs, scratch, skep};

fn load(args: &[&str], names: &[&str]) -> Outcome {
    let objects: Vec<_> = names.iter().map(|name| corpus("clang19-el", name)).collect();
    let mut all = vec!["load".into()];
    all.extend(args.iter().map(std::ffi::OsString::from));
    all.extend(objects.iter().map(|path| path.as_os_str().to_owned()));
    skep::call(&all)
}

fn lines(outcome: &Outcome) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    outcome.stdout.lines().map(parse).collect()
}

#[test]
fn one_json_line_per_program() {
    if !needs(&[Root]) {
        return;
    }
    let outcome = load(&["--json"], &["tp_minimal", "no_btf"]);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let lines = lines(&outcome);
    let programs: Vec<&str> = lines.iter().filter_map(|line| line["program"].as_str()).collect();
    assert_eq!(programs, ["handle_tp", "pass", "handle"]);
    let first = lines[0].as_object().unwrap();
    let keys: Vec<&str> = first.keys().map(String::as_str).collect();
    let mut expected = ["object", "program", "section", "type", "loads", "errno", "reason", "insns", "hash"];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(first["section"], "tp/syscalls/sys_enter_write");
    assert_eq!(first["type"], "tracepoint");
    assert_eq!(first["loads"], true);
    assert_eq!((&first["errno"], &first["reason"]), (&Value::Null, &Value::Null));
    assert!(first["object"].as_str().is_some_and(|object| object.ends_with("clang19-el/tp_minimal.bpf.o")));
    assert!(first["insns"].as_u64().is_some_and(|insns| insns > 4));
    let hash = first["hash"].as_str().unwrap();
    assert!(hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()), "{hash}");
}

/// With `--each` the good programs of an object load although others do not.
#[test]
fn each_program_is_judged_alone() {
    if !needs(&[Root]) {
        return;
    }
    let outcome = load(&["--json", "--each"], &["rejected"]);
    assert_eq!(outcome.status.code(), Some(1), "{}", outcome.stderr);
    let lines = lines(&outcome);
    let verdict = |name: &str| lines.iter().find(|line| line["program"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(lines.len(), 5);
    assert_eq!(verdict("good")["loads"], true);
    for (name, errno) in [("no_null_check", "EACCES"), ("no_bounds_check", "EACCES")] {
        let verdict = verdict(name);
        assert_eq!((&verdict["loads"], &verdict["errno"]), (&Value::Bool(false), &Value::from(errno)), "{verdict}");
        assert!(verdict["reason"].as_str().is_some_and(|reason| !reason.contains('\n')), "{verdict}");
    }
    assert!(verdict("no_null_check")["reason"].as_str().unwrap().contains("map_value_or_null"));
}

#[test]
fn maps_without_a_size_get_one_when_asked() {
    if !needs(&[Root]) {
        return;
    }
    let without = load(&["--json", "--each"], &["maps_unsized"]);
    assert_eq!(without.status.code(), Some(1), "{}", without.stdout);
    let with = load(&["--json", "--each", "--fix-sizes"], &["maps_unsized", "map_in_map_bare"]);
    assert!(with.status.success(), "{}{}", with.stdout, with.stderr);
    assert_eq!(lines(&with).len(), 3);
}

/// What the kernel said of a map is why its program does not load.
#[test]
fn a_map_that_is_refused_gives_its_number() {
    if !needs(&[Root, Clang]) {
        return;
    }
    let folder = scratch("load-map-refused");
    let object = folder.join("map_too_large.bpf.o");
    let source = case("map_too_large");
    let built = skep::call(&["build".as_ref(), source.as_os_str(), "-o".as_ref(), object.as_os_str()]);
    assert!(built.status.success(), "{}", built.stderr);
    let outcome = skep::call(&["load".as_ref(), "--json".as_ref(), object.as_os_str()]);
    assert_eq!(outcome.status.code(), Some(1));
    let verdict = &lines(&outcome)[0];
    let reason = verdict["reason"].as_str().unwrap();
    assert!(reason.contains("cannot create map `enormous`"), "{reason}");
    let errno = verdict["errno"].as_str().unwrap();
    assert!(["E2BIG", "ENOMEM"].contains(&errno) && reason.contains(&format!("({errno})")), "{verdict}");
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn a_file_that_is_no_object_is_one_line_too() {
    let missing = skep::call(&["load", "--json", "/nonexistent/x.bpf.o"]);
    assert_eq!(missing.status.code(), Some(1));
    let lines = lines(&missing);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["loads"], false);
    assert_eq!(lines[0]["reason"], "cannot read `/nonexistent/x.bpf.o`: no such file or directory");
}

#[test]
fn text_says_yes_or_no_first() {
    if !needs(&[Root]) {
        return;
    }
    let outcome = load(&[], &["tp_minimal"]);
    assert!(outcome.status.success());
    assert!(outcome.stdout.starts_with("ok   "), "{}", outcome.stdout);
    assert!(outcome.stdout.contains(" handle_tp (tp/syscalls/sys_enter_write): "), "{}", outcome.stdout);
    assert_eq!(outcome.stdout.lines().count(), 1);
}
