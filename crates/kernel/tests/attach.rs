//! Attaching whole objects of the corpus: what hand-made programs cannot show, because it needs types of the kernel's.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{kernel, may_load};
use skep_engine::{AttachOptions, ErrorKind, Link, LoadOptions, Record, Session as _, TestRun};
use skep_kernel::{KernelEngine, KernelSession, UserRing, attach, errno_of};
use skep_spec::{AttachPoint, ProgId, Spec};
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
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn named(session: &KernelSession, name: &str) -> ProgId {
    let index = session.spec().programs.iter().position(|program| program.name == name);
    ProgId(index.unwrap_or_else(|| panic!("no program `{name}`")) as u32)
}

#[test]
fn a_function_of_a_loaded_program_is_replaced_while_the_extension_is_attached() {
    // Functions are replaced by a jump that the kernel writes over their first instruction.
    if !may_load() || !kernel(5, 6) {
        return;
    }
    let (Some(target), Some(extension)) = (corpus("subprograms_global"), corpus("freplace_function")) else { return };
    let target = load(target);
    let program = named(&target, "use");
    let answer = || {
        let input = TestRun { data: &common::PACKET, ..TestRun::default() };
        target.test_run(program, &input).unwrap_or_else(|error| panic!("{error}")).retval
    };
    let id = target.program_fd(program).unwrap().info().unwrap().id.0;
    let options = |replace| LoadOptions { replace, ..LoadOptions::default() };
    let refused = |spec: Spec, replace| {
        let session = KernelEngine::new().load(spec, &options(replace))?;
        Err::<(), _>(session.programs()[0].result.as_ref().expect_err("it has no target").clone())
    };

    let error = refused(extension.clone(), None).unwrap_err();
    assert_eq!((error.kind(), errno_of(&error)), (ErrorKind::NeedsOption, Some(Errno::EINVAL)), "{error}");
    let error = refused(extension.clone(), Some(u32::MAX)).unwrap_err();
    assert_eq!(error.to_string(), format!("there is no BPF program with id {}", u32::MAX));
    let mut misspelt = extension.clone();
    misspelt.programs[0].attach = AttachPoint::Freplace { function: "replacable".into() };
    let error = refused(misspelt, Some(id)).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("`replaceable`")), "{error} {:?}", error.hint());

    let extension = KernelEngine::new().load(extension, &options(Some(id))).unwrap_or_else(|error| panic!("{error}"));
    if let Err(error) = &extension.programs()[0].result {
        assert!(matches!(errno_of(error), Some(Errno::EPERM | Errno::ENOTSUPP)), "{error} {:?}", error.log());
        println!("skipped: needs freplace");
        return;
    }
    // `replaceable(1)` is 0, and its replacement makes 42 of it.
    let before = answer();
    let link = match extension.attach(ProgId(0), &AttachOptions::default()) {
        Ok(link) => link,
        Err(error) if matches!(errno_of(&error), Some(Errno::EPERM | Errno::ENOTSUPP)) => {
            println!("skipped: needs freplace");
            return;
        }
        Err(error) => panic!("{error} {:?}", error.hint()),
    };
    assert_eq!(answer(), before + 42);
    link.detach().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(answer(), before);
}

fn attached(session: &KernelSession, program: &str) -> Box<dyn Link> {
    session
        .attach(named(session, program), &AttachOptions::default())
        .unwrap_or_else(|error| panic!("{error} {:?}", error.hint()))
}

#[test]
fn a_program_drains_what_this_process_sends() {
    // The buffer and the helper that drains it came together.
    if !may_load() || !kernel(6, 1) {
        return;
    }
    let Some(mut spec) = corpus("user_ringbuf") else { return };
    // A system call that a test can make.
    spec.programs[0].attach = AttachPoint::Tracepoint { category: "syscalls".into(), name: "sys_enter_getppid".into() };
    let session = load(spec);
    if let Err(error) = &session.programs()[0].result {
        panic!("{error}\n{}", error.log().unwrap_or_default());
    }
    let ring = session.spec().map_named("ring").unwrap();
    let ring = UserRing::new(session.kernel_map(ring).unwrap()).unwrap_or_else(|error| panic!("{error}"));
    let received = || {
        let (map, variable) = session.spec().variable("received").unwrap();
        let data = session.map(map).unwrap().lookup(&0u32.to_ne_bytes()).unwrap().unwrap();
        let at = variable.off_bytes as usize;
        u64::from_ne_bytes(data[at..at + 8].try_into().unwrap())
    };
    for number in 1u64..=9 {
        assert!(ring.send(&number.to_ne_bytes()).unwrap());
    }
    // As any engine sends.
    let map = session.map(session.spec().map_named("ring").unwrap()).unwrap();
    assert!(map.send(&10u64.to_ne_bytes()).unwrap());
    assert!(session.map(session.spec().variable("received").unwrap().0).unwrap().send(&[1]).is_err());
    assert!(ring.pending() > 0);
    assert_eq!(received(), 0);
    let link = attached(&session, "drain");
    let _ = std::os::unix::process::parent_id();
    wait_until("the program to drain", || ring.pending() == 0);
    assert_eq!(received(), 55);
    link.detach().unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_session_reads_its_perf_event_array() {
    if !may_load() {
        return;
    }
    let Some(spec) = corpus("perf_buffer") else { return };
    let session = load(spec);
    let map = session.spec().map_named("output").unwrap();
    let mut records = session.records(&[map], false).unwrap_or_else(|error| panic!("{error}"));
    let _link = attached(&session, "hello");
    let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    // Other processes start programs too. A record is `struct data`: the process first, 40 bytes in all; the buffer rounds
    // up what it holds.
    let (start, mut found) = (Instant::now(), false);
    while !found {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for the record");
        records
            .poll(Some(Duration::from_millis(100)), &mut |record| {
                if let Record::Event { map: from, cpu, data } = record {
                    assert_eq!(from, map);
                    assert!(cpu.is_some() && data.len() >= 40, "{cpu:?} {}", data.len());
                    found |= data[..4] == pid.to_ne_bytes();
                }
                ControlFlow::Continue(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
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
    let id = named(&session, "bare");
    let options = attach::Options {
        binary: Some(Path::new("libstdc++.so.6")),
        target: Some("libstdcxx:throw"),
        ..attach::Options::default()
    };
    let attachment = match session.attach_with(id, options) {
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
    let error = session.attach_with(id, attach::Options { target: Some("libstdcxx:thorw"), ..options });
    assert!(error.unwrap_err().hint().is_some_and(|hint| hint.contains("libstdcxx:throw")));
}
