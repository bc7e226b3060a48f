//! Nothing is lost without being counted.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use skep_sys::version::KernelVersion;

use crate::support::needs::Need::Root;
use crate::support::programs::case;
use crate::support::{Skep, needs, patience, scratch, skep};

/// Events offered in one burst: two million where a processor is real.
fn burst_len() -> u64 {
    if patience().as_secs() > 30 { 100_000 } else { 2_000_000 }
}

#[test]
fn ring_buffer_delivered_and_lost_make_what_was_offered() {
    if needs(&[Root]) {
        check("burst", &[]);
    }
}

/// One page for each CPU, so that most of the burst is lost, and nothing comes after it that could tell.
#[test]
fn perf_buffer_delivered_and_lost_make_what_was_offered() {
    if needs(&[Root]) && kernel_6_0() {
        check("burst_perf", &["--perf-buffer", "4K"]);
    }
}

/// Before 6.0 the kernel tells of losses only with the next event of the same CPU.
fn kernel_6_0() -> bool {
    let enough = KernelVersion::running() >= KernelVersion::new(6, 0, 0);
    if !enough {
        println!("skipped: needs kernel 6.0");
    }
    enough
}

/// Runs a program while this process makes the calls that it watches, and compares what came with what it offered.
fn check(name: &str, more: &[&str]) {
    // The programs watch this process's calls, whichever case makes them.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let per_cpu = name == "burst_perf";
    let dir = scratch(&format!("{name}{}", more.len()));
    let output = dir.join("lines");
    let program = case(name);
    let pid = std::process::id().to_string();
    let mut args = vec!["run".as_ref(), "--verbose".as_ref(), program.as_os_str(), "--caller".as_ref(), pid.as_ref()];
    args.extend(more.iter().map(|word| std::ffi::OsStr::new(*word)));
    let mut command = skep::command(&[], &args);
    let skep =
        Skep::start_into(&mut command, std::fs::File::create(&output).expect("the target folder can be written to"));
    let offered = burst_len();
    let start = Instant::now();
    for _ in 0..offered {
        // The call that the program watches; its answer does not matter.
        let _ = rustix::process::getpgid(None);
    }
    let burst = start.elapsed();
    let outcome = skep.stop();
    let (events, lost) = outcome.counts();
    assert_eq!(events + lost, offered, "{}", outcome.stderr);
    let text = std::fs::read_to_string(&output).expect("skep wrote it");
    // One line is the header.
    assert_eq!(text.lines().count() as u64, events + 1);
    // What was delivered is whole and in order, since one thread offered it (to the buffer of each CPU that it ran on).
    let mut last = std::collections::HashMap::new();
    for line in text.lines().skip(1) {
        let number: u64 =
            line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        let cpu = line.split_whitespace().nth(3).unwrap_or_default().to_owned();
        let last = last.entry(if per_cpu { cpu } else { String::new() }).or_insert(number);
        assert!(number >= *last, "{number} after {last}");
        *last = number;
    }
    println!("{offered} offered in {burst:.2?}: {events} delivered, {lost} lost");
    std::fs::remove_dir_all(dir).expect("it is ours");
}
