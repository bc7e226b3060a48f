//! What programs write to their own streams is shown.

use skep_sys::version::KernelVersion;

use crate::support::needs::Need::Root;
use crate::support::programs::case;
use crate::support::{Skep, needs};

#[test]
fn streams_of_programs_are_shown_with_their_names() {
    if !needs(&[Root]) {
        return;
    }
    let pid = std::process::id().to_string();
    let program = case("streams");
    let words = ["--maps".as_ref(), "exit".as_ref(), "--caller".as_ref(), std::ffi::OsStr::new(&pid)];
    let skep = Skep::run(&[&[program.as_os_str()][..], &words].concat());
    let _ = rustix::process::getpgid(None);
    skep.signal(rustix::process::Signal::INT);
    let outcome = skep.end();
    let talk = &outcome.stderr;
    if KernelVersion::running() < KernelVersion::new(6, 17, 0) {
        assert!(!talk.contains("to stdout"), "{talk}");
        println!("skipped: needs kernel 6.17");
        return;
    }
    // -ENOMEM: a kernel that is still setting up its memory has no pages for streams.
    if outcome.stdout.contains("-12") {
        println!("the kernel had no memory for what was written: {}", outcome.stdout);
        return;
    }
    assert!(talk.contains("tells: to stdout: 3 of 4\n"), "{talk}");
    // Without an end it is shown when the run is over, and what it would do to a terminal it does not.
    assert!(talk.contains("tells: to stderr: no end, ") && !talk.contains('\x1b'), "{talk}");
}
