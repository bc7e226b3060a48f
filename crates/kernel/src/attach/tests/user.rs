//! Uprobes on a function of this very test program.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use skep_spec::program::MultiWhen;
use skep_spec::{AttachPoint, AttachType, ProgType};
use skep_sys::tracefs::Tracefs;
use skep_sys::version::KernelVersion;

use super::super::attachment::{Attachment, Hold};
use super::super::request::Request;
use super::super::uprobe::{self as probe, Spot};
use super::super::{Options, perf_link};
use super::{Recipe, root, skip, words};
use crate::uprobe::elf::{Binary, Place};

const EXE: &str = "/proc/self/exe";

#[inline(never)]
fn the_function_that_is_probed(n: u64) -> u64 {
    std::hint::black_box(n) + 1
}

fn provoke() {
    std::hint::black_box(the_function_that_is_probed(std::hint::black_box(1)));
}

/// The right to probe the function; `None` without root. Every test here runs it, and some count how often: one at a time.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static PROBED: Mutex<()> = Mutex::new(());
    root().then(|| PROBED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The function's mangled name and place.
fn place() -> Place {
    let places = Binary::open(Path::new(EXE)).unwrap().matching("*the_function_that_is_probed*").unwrap();
    assert_eq!(places.len(), 1, "{places:?}");
    places.into_iter().next().unwrap()
}

fn uprobe(function: String, off_bytes: u64, ret: bool) -> Recipe {
    let point = AttachPoint::Uprobe { path: EXE.to_owned(), function, off_bytes, ret };
    Recipe::new("uprobe/x", ProgType::KPROBE, point)
}

#[test]
fn a_uprobe_runs_at_a_function() {
    let Some(_alone) = alone() else { return };
    let counter = uprobe(place().name, 0, false).reading_cookie().load();
    counter.runs_while_attached(&Options { cookie: 9, ..Options::default() }, provoke);
    assert_eq!(counter.cookie(), 9);
}

#[test]
fn a_uprobe_runs_at_an_offset_of_the_file() {
    let Some(_alone) = alone() else { return };
    uprobe(String::new(), place().off_bytes, false).load().runs_while_attached(&Options::default(), provoke);
}

#[test]
fn a_uretprobe_runs_at_the_return() {
    let Some(_alone) = alone() else { return };
    uprobe(place().name, 0, true).load().runs_while_attached(&Options::default(), provoke);
}

#[test]
fn a_uprobe_can_be_limited_to_a_process() {
    let Some(_alone) = alone() else { return };
    let counter = uprobe(place().name, 0, false).load();
    counter.runs_while_attached(&Options { pid: Some(std::process::id()), ..Options::default() }, provoke);
    // Process 1 has this file mapped as little as it runs this function.
    let counter = uprobe(place().name, 0, false).load();
    let binary = std::env::current_exe().unwrap();
    let attachment = counter.attached(&Options { pid: Some(1), binary: Some(&binary), ..Options::default() });
    provoke();
    assert_eq!(counter.runs(), 0);
    super::detached(attachment);
}

#[test]
fn an_absent_function_names_its_neighbours() {
    let Some(_alone) = alone() else { return };
    let misspelt = place().name.replace("probed", "porbed");
    let error = uprobe(misspelt, 0, false).load().refused(&Options::default());
    assert!(error.hint().is_some_and(|hint| hint.contains(&place().name)), "{}", words(&error));
    let missing = Options { binary: Some(Path::new("/no/such/binary")), ..Options::default() };
    let error = uprobe("main".to_owned(), 0, false).load().refused(&missing);
    assert!(error.to_string().contains("/no/such/binary"), "{}", words(&error));
    let error =
        uprobe(place().name, 0, false).load().refused(&Options { pid: Some(0x7fff_fff0), ..Options::default() });
    assert!(error.to_string().contains("0x7fff") || error.to_string().contains("2147483632"), "{}", words(&error));
}

#[test]
fn a_place_outside_the_code_is_refused_with_a_reason() {
    let Some(_alone) = alone() else { return };
    let error = uprobe(String::new(), 1 << 40, false).load().refused(&Options::default());
    assert!(error.hint().is_some_and(|hint| hint.contains("offset")), "{}", words(&error));
}

#[test]
fn a_uprobe_of_an_old_kernels_kind_is_written_away() {
    let Some(_alone) = alone() else { return };
    let tracefs = Tracefs::open().unwrap();
    let Ok(before) = tracefs.read("uprobe_events") else { return skip("uprobe events (CONFIG_UPROBE_EVENTS)") };
    assert!(!before.contains(&format!("u{}_", std::process::id())));
    let counter = uprobe(place().name, 0, false).load();
    let exe = std::env::current_exe().unwrap();
    let spot = Spot { off_bytes: place().off_bytes, semaphore_off_bytes: None, cookie: 0 };
    let (event, undo) = probe::legacy(&exe, false, spot).unwrap();
    let options = Options::default();
    let request = Request { program: &counter.program, fd: counter.fd.as_fd(), options: &options };
    let hold = perf_link::attach(&request, event, 0, "uprobe").unwrap();
    let attachment = Attachment::of("uprobe", std::iter::once(hold).chain(undo.map(Hold::Legacy)).collect());
    assert!(tracefs.read("uprobe_events").unwrap().contains(&format!("u{}_", std::process::id())));
    provoke();
    assert_eq!(counter.runs(), 1);
    super::detached(attachment);
    assert!(!tracefs.read("uprobe_events").unwrap().contains(&format!("u{}_", std::process::id())));
}

fn multi(when: MultiWhen, attach_type: AttachType) -> Recipe {
    let pattern = "*the_function_that_is_probed*".to_owned();
    let point = AttachPoint::UprobeMulti { path: EXE.to_owned(), pattern, when };
    Recipe::new("uprobe.multi/x", ProgType::KPROBE, point).attach_type(attach_type)
}

#[test]
fn uprobe_multi_runs_at_what_matches() {
    let Some(_alone) = alone() else { return };
    for when in [MultiWhen::Entry, MultiWhen::Return] {
        let counter = multi(when, AttachType::TRACE_UPROBE_MULTI).reading_cookie().load();
        counter.runs_while_attached(&Options { cookie: 3, ..Options::default() }, provoke);
        assert_eq!(counter.cookie(), 3);
    }
}

#[test]
fn a_uprobe_session_runs_at_entry_and_return() {
    let Some(_alone) = alone() else { return };
    if KernelVersion::running() < KernelVersion::new(6, 13, 0) {
        return skip("kernel 6.13 (uprobe.session)");
    }
    let counter = multi(MultiWhen::Session, AttachType::TRACE_UPROBE_SESSION).load();
    let attachment = counter.attached(&Options::default());
    provoke();
    assert_eq!(counter.runs(), 2);
    super::detached(attachment);
}
