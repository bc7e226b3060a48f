//! Attaching whole objects of the corpus: what hand-made programs cannot show, because it needs types of the kernel's.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{kernel, may_load};
use skep_engine::{LoadOptions, Session as _};
use skep_kernel::{KernelEngine, KernelSession, attach, errno_of};
use skep_spec::{ProgId, Spec};
use skep_sys::Errno;

/// Opens an object of the corpus; the test is skipped where it has not been compiled.
fn corpus(name: &str) -> Option<Spec> {
    let folder = std::env::var_os("SKEP_TEST_OBJECTS").map(PathBuf::from).filter(|folder| folder.exists());
    let Some(folder) = folder else {
        println!("skipped: needs SKEP_TEST_OBJECTS, which `cargo xtask test` makes");
        return None;
    };
    let path = folder.join("clang19-el").join(format!("{name}.bpf.o"));
    Some(Spec::parse(&std::fs::read(&path).unwrap(), name).unwrap_or_else(|error| panic!("{error}")))
}

fn load(spec: Spec) -> KernelSession {
    KernelEngine::new().load(spec, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn has_congestion_control(name: &str) -> bool {
    let path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    std::fs::read_to_string(path).unwrap().split_whitespace().any(|other| other == name)
}

#[test]
fn a_congestion_control_is_registered_while_it_is_attached() {
    if !may_load() {
        return;
    }
    // The object has a map for a link, which an older kernel does not make.
    if !kernel(6, 4) {
        return;
    }
    let Some(spec) = corpus("struct_ops") else { return };
    let session = load(spec);
    for loaded in session.programs() {
        if let Err(error) = &loaded.result {
            // Where trampolines are forbidden, or not built in.
            assert!(matches!(errno_of(error), Some(Errno::EPERM | Errno::ENOTSUPP)), "{error} {:?}", error.log());
            println!("skipped: needs struct_ops");
            return;
        }
    }
    for name in ["skep_plain", "skep_link"] {
        let id = session.spec().map_named(name).unwrap();
        assert!(!has_congestion_control(name));
        let link = session.attach_map(id).unwrap_or_else(|error| panic!("{error} {:?}", error.hint()));
        assert!(has_congestion_control(name), "{name}");
        assert!(session.attach_map(id).is_err() || name == "skep_link", "{name} twice");
        link.detach().unwrap_or_else(|error| panic!("{error}"));
        wait_until("the end of the congestion control", || !has_congestion_control(name));
    }
}

#[test]
fn a_librarys_own_probes_are_found_with_their_arguments() {
    if !may_load() {
        return;
    }
    let Some(spec) = corpus("usdt") else { return };
    let session = load(spec);
    let index = session.spec().programs.iter().position(|program| program.name == "bare").unwrap();
    let options = attach::Options {
        binary: Some(Path::new("libstdc++.so.6")),
        target: Some("libstdcxx:throw"),
        ..attach::Options::default()
    };
    let attachment = match session.attach_with(ProgId(index as u32), options) {
        Ok(attachment) => attachment,
        Err(error) if error.to_string().contains("no binary or library") => {
            println!("skipped: needs libstdc++.so.6");
            return;
        }
        Err(error) => panic!("{error} {:?}", error.hint()),
    };
    assert!(attachment.notes().is_empty(), "{:?}", attachment.notes());
    assert!(attachment.links().count() > 0);
    // `usdt.bpf.h`: the number of arguments stands behind twelve of them and the cookie.
    let map = session.map(session.spec().map_named("__bpf_usdt_specs").unwrap()).unwrap();
    let value = map.lookup(&0u32.to_ne_bytes()).unwrap().unwrap();
    assert_eq!(value[200..202], 2i16.to_ne_bytes());
    let error =
        session.attach_with(ProgId(index as u32), attach::Options { target: Some("libstdcxx:thorw"), ..options });
    assert!(error.unwrap_err().hint().is_some_and(|hint| hint.contains("libstdcxx:throw")));
}
