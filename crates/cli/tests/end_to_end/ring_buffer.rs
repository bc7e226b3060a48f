//! Nothing is lost without being counted.

use std::time::Instant;

use crate::support::needs::Need::Root;
use crate::support::programs::case;
use crate::support::{Skep, needs, patience, scratch, skep};

/// Events offered in one burst: two million where a processor is real.
fn burst_len() -> u64 {
    if patience().as_secs() > 30 { 100_000 } else { 2_000_000 }
}

#[test]
fn delivered_and_lost_make_what_was_offered() {
    if !needs(&[Root]) {
        return;
    }
    let dir = scratch("burst");
    let output = dir.join("lines");
    let program = case("burst");
    let pid = std::process::id().to_string();
    let args = ["run".as_ref(), "--verbose".as_ref(), program.as_os_str(), "--caller".as_ref(), pid.as_ref()];
    let mut command = skep::command(&[], &args);
    let skep = Skep::start_into(&mut command, std::fs::File::create(&output).unwrap());
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
    let text = std::fs::read_to_string(&output).unwrap();
    // One line is the header.
    assert_eq!(text.lines().count() as u64, events + 1);
    // What was delivered is whole and in order, since one thread offered it.
    let mut last = None;
    for line in text.lines().skip(1) {
        let number: u64 =
            line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        assert!(last.is_none_or(|last| number > last), "{number} after {last:?}");
        last = Some(number);
    }
    println!("{offered} offered in {burst:.2?}: {events} delivered, {lost} lost");
    std::fs::remove_dir_all(dir).unwrap();
}
