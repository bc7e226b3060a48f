//! Objects that are prepared before they are loaded, and single programs that are loaded again.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::os::fd::AsFd as _;

use common::*;
use skep_engine::{LoadOptions, MapHandle as _, ProgramStream, Session as _, TestRun};
use skep_kernel::{CloneOptions, KernelEngine, PreparedObject};
use skep_spec::{MapType, ProgType, Spec};
use skep_sys::bpf;

const CLS: ProgType = ProgType::SCHED_CLS;

/// Returns what stands in slot 0 of map 0.
const READ: &str = "
    *(u32 *)(r10 -4) = 0
    r2 = r10
    r2 += -4
    r1 = map[id:0]
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto out
    r0 = *(u32 *)(r0 +0)
    exit
out:
    r0 = 99
    exit
";

fn object() -> Spec {
    let mut spec = empty();
    add_map(&mut spec, "value", MapType::ARRAY, 4, 4, 1);
    add_program(&mut spec, "reads_first", CLS, READ);
    add_program(&mut spec, "answers", CLS, "r0 = 42\nexit");
    spec
}

fn prepare(spec: Spec) -> PreparedObject {
    KernelEngine::new().prepare(spec, &LoadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn with_packet() -> TestRun<'static> {
    TestRun { data: &PACKET, ..TestRun::default() }
}

/// Programs of this process by this name.
fn programs_called(name: &str) -> usize {
    let named = |id| bpf::ProgFd::from_id(id).and_then(|fd| fd.info()).is_ok_and(|info| info.name == name);
    bpf::ProgId::all().filter(|id| id.is_ok_and(named)).count()
}

#[test]
fn a_prepared_object_has_maps_to_fill_and_no_program() {
    if !may_load() {
        return;
    }
    let mut spec = object();
    spec.programs[0].name = "prepared_only".into();
    let reads = spec.program_named("prepared_only").unwrap();
    let map = spec.map_named("value").unwrap();
    let prepared = prepare(spec);
    assert_eq!(programs_called("prepared_only"), 0);
    assert!(prepared.resolved().programs.iter().all(|(_, program)| program.is_ok()));
    prepared.kernel_map(map).unwrap().update(&0u32.to_ne_bytes(), &17u32.to_ne_bytes(), 0).unwrap();
    let session = prepared.load().unwrap();
    assert_eq!(programs_called("prepared_only"), 1);
    assert_eq!(session.test_run(reads, &with_packet()).unwrap().retval, 17);
}

#[test]
fn what_was_off_while_preparing_cannot_be_taken_in_and_what_was_on_can_be_left_out() {
    if !may_load() {
        return;
    }
    let mut spec = object();
    let (reads, answers) = (spec.program_named("reads_first").unwrap(), spec.program_named("answers").unwrap());
    spec.programs[answers.0 as usize].autoload = false;
    let mut prepared = prepare(spec);
    for error in [
        prepared.set_autoload(answers, true).unwrap_err(),
        prepared.load_clone(answers, &CloneOptions::default()).unwrap_err(),
    ] {
        assert_eq!(error.to_string(), "program `answers` was switched off when the object was prepared");
        assert!(error.hint().unwrap().contains("autoload"));
    }
    prepared.set_autoload(reads, false).unwrap();
    let session = prepared.load().unwrap();
    assert!(session.programs().is_empty());
}

#[test]
fn a_clone_has_its_own_name_and_instructions_and_shares_the_maps() {
    if !may_load() {
        return;
    }
    let spec = object();
    let (reads, answers) = (spec.program_named("reads_first").unwrap(), spec.program_named("answers").unwrap());
    let map = spec.map_named("value").unwrap();
    let prepared = prepare(spec);
    let second = prepared.load_clone(reads, &CloneOptions { name: Some("reads_too"), ..Default::default() }).unwrap();
    let edit = |insns: &mut Vec<skep_insn::RawInsn>| insns[0].imm = 43;
    let other = CloneOptions { name: Some("answers_more"), edit: Some(&edit), ..Default::default() };
    let other = prepared.load_clone(answers, &other).unwrap();
    let longer = |insns: &mut Vec<skep_insn::RawInsn>| insns.insert(0, insns[0]);
    prepared.load_clone(answers, &CloneOptions { edit: Some(&longer), ..Default::default() }).unwrap();
    let session = prepared.load().unwrap();
    assert_eq!((second.name(), other.name()), ("reads_too", "answers_more"));
    session.kernel_map(map).unwrap().update(&0u32.to_ne_bytes(), &5u32.to_ne_bytes(), 0).unwrap();
    assert_eq!(second.test_run(&with_packet()).unwrap().retval, 5);
    assert_eq!(session.test_run(reads, &with_packet()).unwrap().retval, 5);
    assert_eq!(other.test_run(&with_packet()).unwrap().retval, 43);
    assert_eq!(session.test_run(answers, &with_packet()).unwrap().retval, 42);
}

#[test]
fn a_clone_that_the_verifier_refuses_says_why() {
    if !may_load() {
        return;
    }
    let spec = object();
    let answers = spec.program_named("answers").unwrap();
    let prepared = prepare(spec);
    let edit = |insns: &mut Vec<skep_insn::RawInsn>| {
        insns.remove(0);
    };
    let options = CloneOptions { name: Some("wrong"), edit: Some(&edit), ..Default::default() };
    let error = prepared.load_clone(answers, &options).unwrap_err().to_string();
    assert!(error.contains("`wrong`") && error.contains("R0 !read_ok"), "{error}");
    assert!(prepared.load_clone(answers, &CloneOptions::default()).is_ok());
}

#[test]
fn an_exclusive_map_is_for_its_program_alone() {
    if !may_load() || !kernel(6, 18) {
        return;
    }
    let mut spec = object();
    spec.make_exclusive("value", "reads_first").unwrap();
    let other = add_program(&mut spec, "reads_it_too", CLS, &format!("r6 = r1\n{READ}"));
    assert!(spec.make_exclusive("valu", "reads_first").unwrap_err().to_string().contains("valu"));
    assert!(spec.make_exclusive("value", "nobody").is_err());
    let reads = spec.program_named("reads_first").unwrap();
    let session = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap();
    assert_eq!(session.test_run(reads, &with_packet()).unwrap().retval, 0);
    let refused = session.test_run(other, &with_packet()).unwrap_err().to_string();
    assert!(refused.contains("hash"), "{refused}");
}

#[test]
fn an_exclusive_map_says_why_it_cannot_be() {
    if !may_load() {
        return;
    }
    let mut spec = object();
    spec.make_exclusive("value", "reads_first").unwrap();
    spec.programs[0].autoload = false;
    let prepared = prepare(spec);
    let warning = &prepared.warnings()[0];
    assert_eq!(
        warning.to_string(),
        "map `value` cannot be for program `reads_first` alone: the program is switched off"
    );
    if skep_sys::version::KernelVersion::running() < skep_sys::version::KernelVersion::new(6, 18, 0) {
        let mut spec = object();
        spec.make_exclusive("value", "reads_first").unwrap();
        let prepared = prepare(spec);
        assert!(prepared.warnings()[0].hint().unwrap().contains("6.18"), "{:?}", prepared.warnings());
    }
}

#[test]
fn associating_with_struct_ops_says_what_it_needs() {
    if !may_load() {
        return;
    }
    let spec = object();
    let (answers, map) = (spec.program_named("answers").unwrap(), spec.map_named("value").unwrap());
    let session = load(spec);
    let error = session.associate_struct_ops(answers, map).unwrap_err();
    assert_eq!(error.to_string(), "map `value` is of type array, not struct_ops");
    // The command itself, which the kernel refuses for the same reason, or because it does not know it.
    let (program, map) = (session.program_fd(answers).unwrap(), session.kernel_map(map).unwrap());
    assert_eq!(program.associate_struct_ops(map.as_fd()), Err(skep_sys::Errno::EINVAL));
}

#[test]
fn attach_types_that_came_later_are_named() {
    if !may_load() {
        return;
    }
    for (section, instead) in [("fentry.multi/vfs_*", "kprobe.multi"), ("fsession/vfs_read", "kprobe.session")] {
        let mut spec = object();
        let meaning = skep_spec::section::SectionTable::new().lookup(section);
        let program = &mut spec.programs[1];
        section.clone_into(&mut program.section);
        (program.prog_type, program.attach, program.attach_type) =
            (meaning.prog_type, meaning.attach, meaning.attach_type);
        let session = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap();
        let Err(error) = &session.programs()[1].result else { continue };
        assert!(error.to_string().ends_with("came after kernel 6.18"), "{error}");
        assert!(error.hint().unwrap().contains(instead));
    }
}

/// The kernel reports a loop that does not end in the stream of errors of its program.
#[test]
fn what_the_kernel_reports_about_a_program_is_read_from_its_stream() {
    if !may_load() || !kernel(6, 17) || !cfg!(target_arch = "x86_64") {
        return;
    }
    let mut spec = empty();
    let id = add_program(&mut spec, "for_ever", CLS, "again:\nmay_goto +1\ngoto again\nr0 = 3\nexit");
    let session = load(spec);
    assert_eq!(session.read_stream(id, ProgramStream::Stderr).unwrap(), b"");
    session.test_run(id, &with_packet()).unwrap();
    let text = String::from_utf8(session.read_stream(id, ProgramStream::Stderr).unwrap()).unwrap();
    // The kernel keeps the report in pages that it must get without waiting. A kernel that is still setting up its memory
    // (`deferred_pages_enabled` in alloc_pages_nolock, mm/page_alloc.c) has none to give, and forgets the report.
    if text.is_empty() {
        println!("the kernel had no memory for the report");
    } else {
        assert!(text.contains("Timeout detected for may_goto instruction"), "{text}");
    }
    assert_eq!(session.read_stream(id, ProgramStream::Stderr).unwrap(), b"");
    assert_eq!(session.read_stream(id, ProgramStream::Stdout).unwrap(), b"");
}

#[test]
fn kernels_without_streams_are_told_by_kind() {
    if !may_load() || skep_sys::version::KernelVersion::running() >= skep_sys::version::KernelVersion::new(6, 17, 0) {
        return;
    }
    let mut spec = empty();
    let id = add_program(&mut spec, "quiet", CLS, "r0 = 0\nexit");
    let error = load(spec).read_stream(id, ProgramStream::Stdout).unwrap_err();
    assert_eq!(error.hint(), Some("streams of programs need kernel 6.17"));
}
