//! Loading on the running kernel: what loads, what does not and why, and what is left afterwards.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::*;
use skep_engine::{LoadOptions, MapHandle as _, Session as _, TestRun};
use skep_kernel::KernelEngine;
use skep_spec::map::{DataKind, DataSection, MapContents, MapOrigin, Pinning, Slot};
use skep_spec::{MapType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{self, flags};

const CLS: ProgType = ProgType::SCHED_CLS;

#[test]
fn a_program_runs_and_is_gone_with_its_session() {
    if !may_load() {
        return;
    }
    let mut spec = empty();
    let id = add_program(&mut spec, "answer", CLS, "r0 = 42\nexit");
    let session = load(spec);
    let output = session.test_run(id, &TestRun { data: &PACKET, ..TestRun::default() }).unwrap();
    assert_eq!(output.retval, 42);
    assert_eq!(output.data, PACKET);
    let info = session.program_fd(id).unwrap().info().unwrap();
    assert_eq!(info.name, "answer");
    assert!(bpf::ProgId::all().any(|id| id == Ok(info.id)));
    drop(session);
    // The kernel frees it after a grace period; its id is gone at once.
    assert!(!bpf::ProgId::all().any(|id| id == Ok(info.id)));
}

#[test]
fn one_refused_program_leaves_the_others() {
    if !may_load() {
        return;
    }
    let mut spec = empty();
    let bad = add_program(&mut spec, "bad", CLS, "r1 = 1\nr0 = *(u32 *)(r1 +0)\nexit");
    let good = add_program(&mut spec, "good", CLS, "r0 = 7\nexit");
    let session = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap();
    let (message, hint, errno) = refusal(&session);
    assert!(message.contains("`bad` (tc)") && message.contains("R1 invalid mem access"), "{message}");
    assert!(message.contains("(instruction 1: r0 = *(u32 *)(r1 +0))"), "{message}");
    assert!(hint.unwrap().contains("bpf_probe_read_kernel"));
    assert_eq!(errno, Some(Errno::EACCES));
    assert!(session.program_fd(bad).is_none());
    let error = session.test_run(bad, &TestRun::default()).unwrap_err().to_string();
    assert!(error.starts_with("program `bad` is not loaded: the verifier refuses"), "{error}");
    assert_eq!(session.test_run(good, &TestRun { data: &PACKET, ..TestRun::default() }).unwrap().retval, 7);
}

#[test]
fn a_helper_under_the_gpl_asks_for_a_licence() {
    if !may_load() {
        return;
    }
    let mut spec = empty();
    spec.license = None;
    add_program(
        &mut spec,
        "p",
        CLS,
        "*(u64 *)(r10 -8) = 0\nr1 = r10\nr1 += -8\nr2 = 8\ncall bpf_trace_printk#6\nr0 = 0\nexit",
    );
    let session = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap();
    let (message, hint, _) = refusal(&session);
    assert!(message.contains("GPL"), "{message}");
    assert!(hint.unwrap().contains("SEC(\"license\")"));
}

#[test]
fn a_map_that_cannot_be_made_is_named_with_its_program() {
    if !may_load() {
        return;
    }
    let mut spec = empty();
    add_map(&mut spec, "sizeless", MapType::HASH, 4, 8, 0);
    add_program(&mut spec, "uses", CLS, "r1 = map[id:0]\nr0 = 0\nexit");
    add_program(&mut spec, "free", CLS, "r0 = 0\nexit");
    let session = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap();
    let (message, _, errno) = refusal(&session);
    assert!(message.contains("`uses`") && message.contains("map `sizeless` (hash, 4-byte keys"), "{message}");
    assert!(message.contains("its `max_entries` is 0"), "{message}");
    assert_eq!(errno, Some(Errno::EINVAL));
    assert!(session.programs()[1].result.is_ok());
    assert_eq!(session.warnings().len(), 1);
}

#[test]
fn a_log_longer_than_the_first_buffer_is_read_whole() {
    if !may_load() {
        return;
    }
    let mut code = String::new();
    for n in 0..4000 {
        code.push_str(&format!("r{} = {n}\n", 1 + n % 5));
    }
    code.push_str("r0 = *(u64 *)(r1 +0)\nexit");
    let mut spec = empty();
    add_program(&mut spec, "long", CLS, &code);
    let session = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap();
    let error = session.programs()[0].result.as_ref().unwrap_err();
    let log = error.log().unwrap();
    assert!(log.len() > 64 << 10, "{} bytes", log.len());
    assert!(log.contains("0: (b7) r1 = 0") && log.contains("processed "), "start and end are there");
    assert!(error.to_string().contains("invalid mem access"), "{error}");
}

#[test]
fn logs_of_loaded_programs_are_kept_on_request() {
    if !may_load() {
        return;
    }
    let mut spec = empty();
    add_program(&mut spec, "p", CLS, "r0 = 0\nexit");
    let options = LoadOptions { keep_logs: true, ..LoadOptions::default() };
    let session = KernelEngine::new().load(spec, &options).unwrap();
    let loaded = &session.programs()[0];
    assert_eq!(*loaded.result.as_ref().unwrap(), 2);
    assert!(loaded.log.as_ref().unwrap().contains("processed 2 insns"), "{:?}", loaded.log);
}

#[test]
fn many_large_programs_load_side_by_side_in_order() {
    if !may_load() {
        return;
    }
    let mut spec = empty();
    for program in 0..12 {
        let mut code = String::new();
        for n in 0..1000 {
            code.push_str(&format!("r{} = {n}\n", 1 + n % 5));
        }
        code.push_str(&format!("r0 = {program}\nexit"));
        add_program(&mut spec, &format!("p{program}"), CLS, &code);
    }
    let session = load(spec);
    for loaded in session.programs() {
        let output = session.test_run(loaded.program, &TestRun { data: &PACKET, ..TestRun::default() }).unwrap();
        assert_eq!(output.retval, loaded.program.0);
    }
}

#[test]
fn constants_are_frozen_and_known_to_the_verifier() {
    if !may_load() {
        return;
    }
    let mut spec = empty();
    let data = add_map(&mut spec, ".rodata", MapType::ARRAY, 4, 8, 1);
    let map = &mut spec.maps[data.0 as usize];
    map.flags = flags::F_RDONLY_PROG;
    map.contents = MapContents::Data(vec![3, 0, 0, 0, 0, 0, 0, 0]);
    map.origin =
        MapOrigin::Data(DataSection { kind: DataKind::Rodata, align_bytes: 8, datasec: None, variables: Vec::new() });
    // Reads a constant and jumps into nonsense unless it is 3: only a verifier that knows the value takes it.
    let code = "r1 = map[id:0][0]+0\nr1 = *(u32 *)(r1 +0)\nif r1 == 3 goto +1\nr0 = *(u64 *)(r1 +0)\nr0 = 5\nexit";
    let id = add_program(&mut spec, "known", CLS, code);
    let function = &mut spec.functions[0];
    function.references = vec![skep_spec::function::Reference {
        insn: skep_insn::InsnIdx(0),
        target: skep_spec::function::RefTarget::MapValue { map: data, off_bytes: 0 },
    }];
    let session = load(spec);
    assert_eq!(session.test_run(id, &TestRun { data: &PACKET, ..TestRun::default() }).unwrap().retval, 5);
    let map = session.kernel_map(data).unwrap();
    assert_eq!(map.info().unwrap().name, "hand_mad.rodata");
    let error = map.update(&[0; 4], &[0; 8], 0).unwrap_err();
    assert!(error.to_string().contains("not permitted"), "{error}");
}

#[test]
fn slots_hold_programs_and_maps_after_the_load() {
    if !may_load() {
        return;
    }
    let mut spec = empty();
    let table = add_map(&mut spec, "table", MapType::PROG_ARRAY, 4, 4, 2);
    let inner = add_map(&mut spec, "inner", MapType::ARRAY, 4, 8, 1);
    let outer = add_map(&mut spec, "outer", MapType::ARRAY_OF_MAPS, 4, 4, 2);
    spec.maps[outer.0 as usize].inner = Some(Box::new(spec.maps[inner.0 as usize].clone()));
    let jump = "r2 = map[id:0]\nr3 = 1\ncall bpf_tail_call#12\nr0 = 1\nexit";
    let first = add_program(&mut spec, "first", CLS, jump);
    let second = add_program(&mut spec, "second", CLS, "r0 = 2\nexit");
    spec.maps[table.0 as usize].contents = MapContents::Slots(vec![(1, Slot::Program(second))]);
    spec.maps[outer.0 as usize].contents = MapContents::Slots(vec![(0, Slot::Map(inner))]);
    let session = load(spec);
    let run = || session.test_run(first, &TestRun { data: &PACKET, ..TestRun::default() }).unwrap().retval;
    assert_eq!(run(), 2);
    let held = session.kernel_map(outer).unwrap().lookup(&0u32.to_ne_bytes()).unwrap().unwrap();
    assert_eq!(held, session.kernel_map(inner).unwrap().facts().id.to_ne_bytes());
    assert_eq!(session.kernel_map(outer).unwrap().lookup(&1u32.to_ne_bytes()).unwrap(), None);
    // And from outside.
    session.kernel_map(table).unwrap().delete(&1u32.to_ne_bytes()).unwrap();
    assert_eq!(run(), 1);
    session.set_slot(table, 1, Slot::Program(second)).unwrap();
    assert_eq!(run(), 2);
}

#[test]
fn sizes_that_depend_on_the_machine_are_settled() {
    if !may_load() || !kernel(5, 8) {
        return;
    }
    let mut spec = empty();
    let perf = add_map(&mut spec, "perf", MapType::PERF_EVENT_ARRAY, 4, 4, 0);
    let ring = add_map(&mut spec, "ring", MapType::RINGBUF, 0, 24, 5000);
    let session = load(spec);
    let cpus = skep_sys::cpu::possible_count() as u32;
    assert_eq!(session.kernel_map(perf).unwrap().facts().max_entries, cpus);
    let size = session.kernel_map(ring).unwrap().facts().max_entries;
    assert!(size >= 5000 && size.is_power_of_two() && (size as usize).is_multiple_of(skep_sys::page_size()), "{size}");
    assert_eq!(session.kernel_map(ring).unwrap().facts().value_size, 0);
}

#[test]
fn a_pinned_map_is_shared_or_compared() {
    if !may_load() || !kernel(5, 2) {
        return;
    }
    // A bpffs of our own that nobody else sees, reached by a path through its descriptor.
    let fs = match skep_sys::bpffs::Bpffs::detached() {
        Ok(fs) => fs,
        Err(errno) => {
            println!("skipped: needs CAP_SYS_ADMIN ({errno})");
            return;
        }
    };
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let folder = std::path::PathBuf::from(format!("/proc/self/fd/{}", fs.as_fd().as_raw_fd()));
    let options = LoadOptions { pin_dir: Some(folder.clone()), ..LoadOptions::default() };
    let object = |max_entries| {
        let mut spec = empty();
        add_map(&mut spec, "shared", MapType::HASH, 4, 8, max_entries);
        spec.maps[0].pinning = Pinning::ByName;
        spec
    };
    let engine = KernelEngine::new();
    let first = engine.load(object(16), &options).unwrap();
    assert!(first.warnings().is_empty(), "{}", first.warnings()[0]);
    let map = first.kernel_map(skep_spec::MapId(0)).unwrap();
    map.update(&[1, 0, 0, 0], &[9; 8], 0).unwrap();
    let id = map.facts().id;
    drop(first);
    let second = engine.load(object(16), &options).unwrap();
    let map = second.kernel_map(skep_spec::MapId(0)).unwrap();
    assert_eq!(map.facts().id, id);
    assert_eq!(map.lookup(&[1, 0, 0, 0]).unwrap(), Some(vec![9; 8]));
    let other = engine.load(object(32), &options).unwrap();
    assert!(other.kernel_map(skep_spec::MapId(0)).is_none());
    let message = other.warnings()[0].to_string();
    assert!(message.ends_with("max_entries is 32 here and 16 there"), "{message}");
    let replacing = LoadOptions { replace_pinned: true, ..options };
    let replaced = engine.load(object(32), &replacing).unwrap();
    assert_eq!(replaced.kernel_map(skep_spec::MapId(0)).unwrap().facts().max_entries, 32);
    let opened = skep_kernel::KernelMap::from_pinned(&folder.join("shared")).unwrap();
    assert_eq!(opened.facts().max_entries, 32);
}

#[test]
fn another_byte_order_is_refused_in_words() {
    let mut spec = empty();
    spec.endian = match skep_insn::Endian::NATIVE {
        skep_insn::Endian::Little => skep_insn::Endian::Big,
        skep_insn::Endian::Big => skep_insn::Endian::Little,
    };
    let error = KernelEngine::new().load(spec, &LoadOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("the object is for big-endian machines"), "{error}");
    assert!(error.hint().is_some());
}

/// Every compiled test object, when there are any: nothing panics, and what does not load says why.
#[test]
fn compiled_objects_load_or_say_why() {
    let folder = std::env::var_os("SKEP_TEST_OBJECTS").map(std::path::PathBuf::from).filter(|folder| folder.exists());
    let Some(folder) = folder else {
        println!("skipped: needs SKEP_TEST_OBJECTS, which `cargo xtask test` makes");
        return;
    };
    if !may_load() {
        return;
    }
    let mut loaded = 0;
    for compiler in ["clang14-el", "clang19-el"] {
        let Ok(files) = std::fs::read_dir(folder.join(compiler)) else { continue };
        for file in files {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "o") {
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let Ok(spec) = skep_spec::Spec::parse(&std::fs::read(&path).unwrap(), &name) else { continue };
            let session = match KernelEngine::new().load(spec, &LoadOptions::default()) {
                Ok(session) => session,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            for program in session.programs() {
                match &program.result {
                    Ok(slots) => {
                        assert!(*slots > 0);
                        loaded += 1;
                    }
                    Err(error) => {
                        let message = error.to_string();
                        assert!(message.contains('`') && !message.contains('\n'), "{}: {message}", path.display());
                    }
                }
            }
        }
    }
    assert!(loaded > 100, "only {loaded} programs load");
}
