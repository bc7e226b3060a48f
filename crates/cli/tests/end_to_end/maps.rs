//! What maps hold when a run ends, and a run that ends with the process it watches.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::needs::Need::{Root, Symbol};
use crate::support::programs::case;
use crate::support::{Outcome, Skep, needs, skep};

/// A process that reads when told to: `cat`.
struct Reader(Child);

impl Reader {
    fn new() -> Reader {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("there is a cat");
        Reader(child)
    }

    /// One line through it, so that it has read at least once, and its end.
    fn work(mut self) {
        let mut input = self.0.stdin.take().expect("it is piped");
        let mut output = BufReader::new(self.0.stdout.take().expect("it is piped"));
        input.write_all(b"x\n").expect("cat reads");
        output.read_line(&mut String::new()).expect("cat writes");
        drop(input);
        self.0.wait().expect("our own child can be waited for");
    }
}

/// Runs the counting program for one process until that one ends.
fn count(args: &[&str]) -> (u32, Outcome) {
    let reader = Reader::new();
    let pid = reader.0.id();
    let program = case("count_reads");
    let number = pid.to_string();
    let mut all = vec![program.as_os_str(), "--pid".as_ref(), number.as_ref()];
    all.extend(args.iter().map(|arg| std::ffi::OsStr::new(*arg)));
    let skep = Skep::run(&all);
    reader.work();
    let outcome = skep.end();
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(outcome.summary().ends_with(&format!("; process {pid} has ended")), "{}", outcome.stderr);
    (pid, outcome)
}

#[test]
fn a_run_of_one_process_ends_with_it_and_shows_what_it_counted() {
    if !needs(&[Root]) {
        return;
    }
    let (pid, outcome) = count(&[]);
    let rows: Vec<Vec<&str>> = outcome.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let entry = rows.iter().find(|row| row.first() == Some(&pid.to_string().as_str()));
    // It stood in its first read when the run began; the next one ends its input.
    assert!(entry.is_some_and(|row| row[1].parse::<u64>().is_ok_and(|count| count >= 1)), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("(15 more are zero)"), "{}", outcome.stdout);
    // A variable that is an array of structs is a table as a map of them would be.
    let (_, sizes) =
        outcome.stdout.split_once("\nsizes:\n1\n  [4, 8) ").unwrap_or_else(|| panic!("{}", outcome.stdout));
    assert!(sizes.ends_with("@|\n(1 more is zero)\n"), "{}", outcome.stdout);
}

#[test]
fn maps_in_json_are_plain_values_and_zeros_are_counted() {
    if !needs(&[Root]) {
        return;
    }
    let (pid, outcome) = count(&["--json"]);
    let parse = |line: &str| -> Value { serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")) };
    let lines: Vec<Value> = outcome.stdout.lines().map(parse).collect();
    let of = |map: &str| -> Vec<&Value> { lines.iter().filter(|line| line["map"] == map).collect() };
    let [process] = of("by_process")[..] else { panic!("{}", outcome.stdout) };
    assert_eq!(process["key"], u64::from(pid));
    assert!(process["value"].as_u64().is_some_and(|count| count >= 1), "{process}");
    let [total, zeros] = of("totals")[..] else { panic!("{}", outcome.stdout) };
    assert_eq!((&total["key"], &total["value"]), (&Value::from(1), &process["value"]));
    assert_eq!(zeros["zeros"], 15);
    let sizes = lines.iter().find(|line| line["variable"] == "sizes").unwrap_or_else(|| panic!("{}", outcome.stdout));
    assert_eq!(sizes["value"][1]["slots"][2], process["value"]);
}

#[test]
fn options_that_no_program_takes_are_named() {
    if !needs(&[Root]) {
        return;
    }
    let program = case("count_reads");
    let args =
        ["--duration".as_ref(), "10ms".as_ref(), "--iface".as_ref(), "eth9".as_ref(), "--hz".as_ref(), "9".as_ref()];
    let outcome = Skep::run(&[&[program.as_os_str()][..], &args].concat()).end();
    assert!(outcome.status.success(), "{}", outcome.stderr);
    let warnings: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert_eq!(
        warnings,
        [
            "warning: `--iface` does nothing here: it is for xdp, tc, netkit and socket programs, and the object has none",
            "warning: `--hz` does nothing here: it is for perf_event programs, and the object has none",
        ]
    );
}

/// The members of a struct_ops map are attached with it, and not called left out.
#[test]
fn a_congestion_control_is_registered_as_a_whole() {
    if !needs(&[Root, Symbol("bpf_struct_ops_link_create")]) {
        return;
    }
    let object = crate::support::programs::corpus("clang19-el", "struct_ops");
    // The kernel frees such programs after a grace period for tasks, which a loaded machine takes long to reach, so nobody waits.
    let words = ["run".as_ref(), "--verbose".as_ref(), object.as_os_str(), "--duration".as_ref(), "10ms".as_ref()];
    let outcome = skep::call(&words);
    assert!(outcome.status.success(), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("attached `skep_link`: struct_ops skep_link"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("not attached"), "{}", outcome.stderr);
}
