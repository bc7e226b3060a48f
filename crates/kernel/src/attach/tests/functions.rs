//! Kernel functions: kprobes, system calls, fentry and its kind, lsm. Not every kernel has them.

use std::os::fd::AsFd;

use skep_btf::Kind;
use skep_spec::program::MultiWhen;
use skep_spec::{AttachPoint, AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::TestRun;
use skep_sys::perf_event::ProbePmu;
use skep_sys::tracefs::Tracefs;
use skep_sys::version::KernelVersion;

use super::super::attachment::{Attachment, Hold};
use super::super::kprobe as probe;
use super::super::request::Request;
use super::super::{Options, perf_link};
use super::{Recipe, root, skip, words};

fn kprobe(function: &str, off_bytes: u64, ret: bool) -> Recipe {
    let point = AttachPoint::Kprobe { function: function.to_owned(), off_bytes, ret };
    Recipe::new("kprobe/x", ProgType::KPROBE, point)
}

/// Whether this kernel has kprobes; a test that needs them is skipped otherwise.
fn kprobes() -> bool {
    let found = ProbePmu::find("kprobe").is_ok();
    if !found {
        skip("kprobes (CONFIG_KPROBES)");
    }
    root() && found
}

/// Opens a file that does not exist, which goes through `do_sys_openat2` and `security_file_open` not at all, but through
/// the former's entry and return.
fn provoke() {
    let _ = std::fs::File::open("/no/such/file");
}

#[test]
fn without_kprobes_the_kernels_configuration_is_named() {
    if !root() {
        return;
    }
    if ProbePmu::find("kprobe").is_ok() {
        return skip("a kernel without kprobes");
    }
    let error = kprobe("do_sys_openat2", 0, false).load().refused(&Options::default());
    assert!(error.to_string().contains("no kprobes"), "{}", words(&error));
}

#[test]
fn a_kprobe_and_a_kretprobe_run() {
    if !kprobes() {
        return;
    }
    for ret in [false, true] {
        let counter = kprobe("do_sys_openat2", 0, ret).reading_cookie().load();
        counter.runs_while_attached(&Options { cookie: 4, ..Options::default() }, provoke);
        assert_eq!(counter.cookie(), 4);
    }
}

#[test]
fn a_kprobe_of_an_old_kernels_kind_is_written_away() {
    if !kprobes() {
        return;
    }
    let tracefs = Tracefs::open().unwrap();
    let Ok(control) = tracefs.open_append("kprobe_events") else { return skip("kprobe events (CONFIG_KPROBE_EVENTS)") };
    let counter = kprobe("do_sys_openat2", 0, false).load();
    let (event, undo) = probe::open_legacy(&tracefs, control, 'p', "do_sys_openat2+0").unwrap();
    let options = Options::default();
    let request = Request { program: &counter.program, fd: counter.fd.as_fd(), options: &options };
    let hold = perf_link::attach(&request, event, 0, "kprobe").unwrap();
    let attachment = Attachment::of("kprobe", std::iter::once(hold).chain(undo.map(Hold::Legacy)).collect());
    let ours = format!("skep/p{}_", std::process::id());
    assert!(tracefs.read("kprobe_events").unwrap().contains(&ours));
    provoke();
    super::wait_until("the program to run", || counter.runs() > 0);
    super::detached(attachment);
    assert!(!tracefs.read("kprobe_events").unwrap().contains(&ours));
}

#[test]
fn an_absent_kernel_function_names_its_neighbours() {
    if !kprobes() {
        return;
    }
    let error = kprobe("do_sys_opneat2", 0, false).load().refused(&Options::default());
    assert!(error.to_string().contains("no kernel function `do_sys_opneat2`"), "{}", words(&error));
    assert!(error.hint().is_some_and(|hint| hint.contains("`do_sys_openat2`")), "{}", words(&error));
    let error = kprobe("do_sys_openat2", 8, true).load().refused(&Options::default());
    assert!(error.to_string().contains("a return has no offset"), "{}", words(&error));
}

#[test]
fn a_system_call_is_found_by_its_name() {
    if !kprobes() {
        return;
    }
    for ret in [false, true] {
        let point = AttachPoint::Ksyscall { name: "getppid".to_owned(), ret };
        let counter = Recipe::new("ksyscall/getppid", ProgType::KPROBE, point).load();
        counter.runs_while_attached(&Options::default(), || {
            let _ = std::os::unix::process::parent_id();
        });
    }
    let point = AttachPoint::Ksyscall { name: "opneat".to_owned(), ret: false };
    let error = Recipe::new("ksyscall/opneat", ProgType::KPROBE, point).load().refused(&Options::default());
    assert!(error.hint().is_some_and(|hint| hint.contains("openat")), "{}", words(&error));
}

#[test]
fn kprobe_multi_runs_at_what_matches() {
    if !root() {
        return;
    }
    let traceable = Tracefs::open().is_ok_and(|tracefs| tracefs.open_file("available_filter_functions").is_ok());
    if !traceable || KernelVersion::running() < KernelVersion::new(5, 18, 0) {
        return skip("kprobe.multi (CONFIG_FPROBE, kernel 5.18)");
    }
    for (pattern, when) in [
        ("do_sys_open*", MultiWhen::Entry),
        ("do_sys_openat2", MultiWhen::Entry),
        ("do_sys_openat?", MultiWhen::Return),
    ] {
        let point = AttachPoint::KprobeMulti { pattern: pattern.to_owned(), when };
        let recipe = Recipe::new("kprobe.multi/x", ProgType::KPROBE, point)
            .attach_type(AttachType::TRACE_KPROBE_MULTI)
            .reading_cookie();
        let counter = recipe.load();
        let attachment = match counter.attach(&Options { cookie: 6, ..Options::default() }) {
            Ok(attachment) => attachment,
            Err(error) if words(&error).contains("CONFIG_FPROBE") => return skip("kprobe.multi (CONFIG_FPROBE)"),
            Err(error) => panic!("{}", words(&error)),
        };
        provoke();
        super::wait_until("the program to run", || counter.runs() > 0);
        assert_eq!(counter.cookie(), 6);
        super::detached(attachment);
    }
    let point = AttachPoint::KprobeMulti { pattern: "no_such_function_*".to_owned(), when: MultiWhen::Entry };
    let recipe = Recipe::new("kprobe.multi/x", ProgType::KPROBE, point).attach_type(AttachType::TRACE_KPROBE_MULTI);
    assert!(recipe.load().refused(&Options::default()).to_string().contains("no_such_function_*"));
}

#[test]
fn a_kprobe_session_runs_at_entry_and_return() {
    if !kprobes() {
        return;
    }
    if KernelVersion::running() < KernelVersion::new(6, 10, 0) {
        return skip("kernel 6.10 (kprobe.session)");
    }
    let path = "/sys/kernel/skep_no_such_file";
    let point = AttachPoint::KprobeMulti { pattern: "do_sys_openat2".to_owned(), when: MultiWhen::Session };
    let recipe = Recipe::new("kprobe.session/x", ProgType::KPROBE, point).attach_type(AttachType::TRACE_KPROBE_SESSION);
    let counter = recipe.load();
    let attachment = match counter.attach(&Options::default()) {
        Ok(attachment) => attachment,
        Err(error) if words(&error).contains("CONFIG_FPROBE") => return skip("kprobe.session (CONFIG_FPROBE)"),
        Err(error) => panic!("{}", words(&error)),
    };
    // Every call counts twice. Other processes open files as well, so one of many calls must be undisturbed.
    let twice = (0..200).any(|_| {
        let before = counter.runs();
        let _ = std::fs::File::open(path);
        counter.runs() == before + 2
    });
    assert!(twice, "{} runs", counter.runs());
    super::detached(attachment);
}

#[test]
fn fmod_ret_takes_the_place_of_a_function() {
    if !root() {
        return;
    }
    // `bpf_modify_return_test` (net/bpf/test_run.c) exists to be modified, and the kernel calls it in test runs of tracing
    // programs: with 1 and a pointer to 2 it leaves 3 behind the pointer and returns 4. A program that returns anything but
    // zero keeps it from being called.
    let point = AttachPoint::Function { module: None, function: "bpf_modify_return_test".to_owned() };
    let recipe = Recipe::new("fmod_ret/x", ProgType::TRACING, point)
        .attach_type(AttachType::MODIFY_RETURN)
        .against("bpf_modify_return_test", Kind::FUNC)
        .returning(77);
    let counter = match recipe.try_load() {
        Ok(counter) => counter,
        // Debian's 6.1 says that the function is not modifiable.
        Err(Errno::EPERM | Errno::ENOTSUPP | Errno::EINVAL) => return skip("fmod_ret"),
        Err(errno) => panic!("{errno}"),
    };
    let run = || counter.fd.test_run(&mut TestRun::default()).unwrap().retval;
    let (side_effect, returned) = (|of: u32| of >> 16, |of: u32| of & 0xffff);
    let before = run();
    let attachment = counter.attached(&Options::default());
    let during = run();
    assert_eq!(counter.runs(), 1);
    assert_eq!(side_effect(during), side_effect(before) - 1);
    // 77 instead of 4. Later kernels add what a second function makes of the number behind the pointer, one less now.
    assert!([73, 72].contains(&(returned(during) - returned(before))), "{before:#x} {during:#x}");
    super::detached(attachment);
    assert_eq!(run(), before);
    assert_eq!(counter.runs(), 1);
}

#[test]
fn fentry_and_its_kind_run() {
    if !root() {
        return;
    }
    for (attach_type, section) in [(AttachType::TRACE_FENTRY, "fentry/x"), (AttachType::TRACE_FEXIT, "fexit/x")] {
        let point = AttachPoint::Function { module: None, function: "do_sys_openat2".to_owned() };
        let recipe = Recipe::new(section, ProgType::TRACING, point)
            .attach_type(attach_type)
            .against("do_sys_openat2", Kind::FUNC)
            .reading_cookie();
        match recipe.try_load() {
            Ok(counter) => {
                counter.runs_while_attached(&Options { cookie: 8, ..Options::default() }, provoke);
                assert_eq!(counter.cookie(), 8);
            }
            // Where the kernel was built without direct calls, or a sandbox forbids it.
            Err(Errno::EPERM | Errno::ENOTSUPP) => return skip("fentry"),
            Err(errno) => panic!("{section}: {errno}"),
        }
    }
}

#[test]
fn an_lsm_hook_runs() {
    if !root() {
        return;
    }
    let point = AttachPoint::Lsm { hook: "file_open".to_owned() };
    let recipe = Recipe::new("lsm/file_open", ProgType::LSM, point)
        .attach_type(AttachType::LSM_MAC)
        .against("bpf_lsm_file_open", Kind::FUNC);
    match recipe.try_load() {
        Ok(counter) => {
            let attachment = match counter.attach(&Options::default()) {
                Ok(attachment) => attachment,
                Err(error) if words(&error).contains("ENOTSUPP") => return skip("lsm (trampolines)"),
                Err(error) => panic!("{}", words(&error)),
            };
            // Without `bpf` in the list of active modules the hook is attached and never called.
            let active = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
            if active.split(',').any(|module| module == "bpf") {
                let _ = std::fs::File::open(std::env::current_exe().unwrap());
                super::wait_until("the hook to run", || counter.runs() > 0);
            }
            super::detached(attachment);
        }
        Err(Errno::EPERM | Errno::ENOTSUPP | Errno::EINVAL) => skip("lsm (CONFIG_BPF_LSM)"),
        Err(errno) => panic!("{errno}"),
    }
}
