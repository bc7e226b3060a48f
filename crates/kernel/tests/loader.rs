//! Objects that the kernel loads by itself, through loader programs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::os::fd::AsRawFd as _;

use common::*;
use skep_engine::{LoadOptions, MapHandle as _, Session as _, TestRun};
use skep_insn::InsnIdx;
use skep_kernel::{KernelEngine, KernelSession, LoaderEngine};
use skep_spec::external::KconfigType;
use skep_spec::function::{RefTarget, Reference};
use skep_spec::loader::{Seal, attach, detach, generate, seal};
use skep_spec::map::{DataKind, DataSection, MapContents, MapOrigin, Pinning, Slot};
use skep_spec::{AttachPoint, Extern, ExternId, ExternKind, Map, MapId, MapType, ProgId, ProgType, Spec};
use skep_sys::bpf::ProgLoad;

const CLS: ProgType = ProgType::SCHED_CLS;

fn load_by_loader(spec: Spec) -> Result<KernelSession, skep_engine::Error> {
    let loader = generate(&spec).unwrap_or_else(|error| panic!("{error}"));
    LoaderEngine::new(loader).load(spec, &LoadOptions::default())
}

fn whole(spec: Spec) -> KernelSession {
    load_by_loader(spec).unwrap_or_else(|error| panic!("{error}\n{}", error.log().unwrap_or_default()))
}

fn with_packet() -> TestRun<'static> {
    TestRun { data: &PACKET, ..TestRun::default() }
}

#[test]
fn maps_constants_and_slots_are_made_by_the_kernel() {
    if !may_load() || !kernel(5, 14) {
        return;
    }
    let mut spec = empty();
    let constants = DataSection { kind: DataKind::Rodata, align_bytes: 4, datasec: None, variables: Vec::new() };
    spec.maps.push(Map {
        origin: MapOrigin::Data(constants),
        contents: MapContents::Data(77u32.to_ne_bytes().to_vec()),
        flags: skep_sys::bpf::flags::F_RDONLY_PROG,
        ..Map::new(".rodata", MapType::ARRAY, 4, 4, 1)
    });
    let ring = add_map(&mut spec, "ring", MapType::RINGBUF, 0, 0, 5000);
    let jumps = add_map(&mut spec, "jumps", MapType::PROG_ARRAY, 4, 4, 2);
    let read = "*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr1 = map[id:0]\ncall bpf_map_lookup_elem#1\n\
                if r0 == 0x0 goto out\nr0 = *(u32 *)(r0 +0)\nexit\nout:\nr0 = 99\nexit";
    let id = add_program(&mut spec, "reads", CLS, read);
    let jump = "r2 = map[id:2]\nr3 = 1\ncall bpf_tail_call#12\nr0 = 98\nexit";
    let jumper = add_program(&mut spec, "jumper", CLS, jump);
    spec.maps[jumps.0 as usize].contents = MapContents::Slots(vec![(1, Slot::Program(id))]);
    let session = whole(spec);
    assert_eq!(session.test_run(id, &with_packet()).unwrap().retval, 77);
    assert_eq!(session.test_run(jumper, &with_packet()).unwrap().retval, 77);
    // The size of a ring depends on the machine's pages.
    assert!(session.kernel_map(ring).unwrap().facts().max_entries >= 8192);
    assert!(session.kernel_map(MapId(0)).unwrap().update(&[0; 4], &[0; 4], 0).is_err(), "constants are frozen");
    assert_eq!(session.kernel_map(MapId(0)).unwrap().facts().name, ".rodata");
}

/// More than one message between threads carries, and more than wait for a reader at once.
#[test]
fn hundreds_of_descriptors_come_over_in_their_places() {
    if !may_load() || !kernel(5, 14) {
        return;
    }
    let mut spec = empty();
    for number in 0..300 {
        add_map(&mut spec, &format!("map_{number}"), MapType::ARRAY, 4, 4, 1 + number);
    }
    let session = whole(spec);
    for number in 0..300 {
        let facts = session.kernel_map(MapId(number)).unwrap().facts();
        assert_eq!((facts.max_entries, facts.name.as_str()), (1 + number, format!("map_{number}").as_str()));
    }
}

#[test]
fn the_step_that_fails_is_named_and_nothing_is_left() {
    if !may_load() || !kernel(5, 14) {
        return;
    }
    let open = || {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter(|it| {
                let path = it.as_ref().unwrap().path();
                std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("only_here"))
            })
            .count()
    };
    let mut spec = empty();
    add_map(&mut spec, "only_here", MapType::HASH, 4, 4, 4);
    add_program(&mut spec, "good", CLS, "r0 = 0\nexit");
    add_program(&mut spec, "bad", CLS, "r1 = 1\nr0 = *(u32 *)(r1 +0)\nexit");
    let error = load_by_loader(spec).unwrap_err();
    assert!(error.to_string().contains("`bad`") && error.to_string().contains("invalid mem access"), "{error}");
    assert_eq!(open(), 0);
    let mut spec = empty();
    add_map(&mut spec, "huge_key", MapType::HASH, 0, 4, 4);
    let error = load_by_loader(spec).unwrap_err().to_string();
    assert!(error.starts_with("cannot create map `huge_key`"), "{error}");
}

#[test]
fn what_cannot_be_written_down_is_refused_by_name() {
    let globals = DataSection { kind: DataKind::Data, align_bytes: 4, datasec: None, variables: Vec::new() };
    type Change = Box<dyn Fn(&mut Map)>;
    let changes: [(&str, &str, Change); 5] = [
        ("struct_ops", "load the object", Box::new(|map| map.origin = MapOrigin::StructOps)),
        ("arena", "allocate", Box::new(move |map| map.origin = MapOrigin::Arena(globals.clone()))),
        ("jump tables", "-fno-jump-tables", Box::new(|map| map.origin = MapOrigin::JumpTable)),
        ("pinned", "`pinning`", Box::new(|map| map.pinning = Pinning::ByName)),
        ("one program", "share", Box::new(|map| map.exclusive_to = Some("reads".into()))),
    ];
    let check = |spec: &Spec, name: &str, what: &str, way_out: &str| {
        let error = generate(spec).unwrap_err();
        let (text, hint) = (error.to_string(), error.hint.unwrap_or_default());
        assert!(text.contains(name) && text.contains(what), "{text}");
        assert!(hint.contains(way_out) && hint.ends_with("load the object itself"), "{text}: {hint}");
    };
    for (what, way_out, change) in changes {
        let mut spec = empty();
        let id = add_map(&mut spec, "odd_one", MapType::ARRAY, 4, 4, 1);
        generate(&spec).unwrap_or_else(|error| panic!("{error}"));
        change(&mut spec.maps[id.0 as usize]);
        check(&spec, "odd_one", what, way_out);
        // What is not made needs nothing.
        spec.maps[id.0 as usize].autocreate = false;
        generate(&spec).unwrap_or_else(|error| panic!("{error}"));
    }
    let mut spec = empty();
    let id = add_program(&mut spec, "replacement", ProgType::EXT, "r0 = 0\nexit");
    spec.programs[id.0 as usize].attach = AttachPoint::Freplace { function: "old".into() };
    check(&spec, "replacement", "replace a function", "load the object");
}

/// An object with a program that returns the configuration's value of this name.
fn asks_for(name: &str) -> (Spec, ProgId) {
    let mut spec = empty();
    spec.maps.push(Map {
        origin: MapOrigin::Kconfig,
        flags: skep_sys::bpf::flags::F_RDONLY_PROG,
        ..Map::new(".kconfig", MapType::ARRAY, 4, 8, 1)
    });
    let kind = ExternKind::Kconfig { off_bytes: 4, size_bytes: 4, value: KconfigType::Int { signed: false } };
    spec.externs.push(Extern { name: name.into(), weak: false, btf_id: None, kind });
    let id = add_program(&mut spec, "reads", CLS, "r1 = 0x0 ll\nr0 = *(u32 *)(r1 +0)\nexit");
    let reference = Reference { insn: InsnIdx(0), target: RefTarget::Extern(ExternId(0)) };
    spec.functions.last_mut().unwrap().references.push(reference);
    (spec, id)
}

#[test]
fn values_of_the_configuration_are_those_of_the_machine_that_runs_the_loader() {
    if !may_load() || !kernel(5, 14) {
        return;
    }
    let (spec, id) = asks_for("LINUX_KERNEL_VERSION");
    let session = whole(spec);
    let version = skep_sys::version::KernelVersion::running().code();
    assert_eq!(session.test_run(id, &with_packet()).unwrap().retval, version);
    assert!(session.kernel_map(MapId(0)).unwrap().update(&[0; 4], &[0; 8], 0).is_err(), "they are frozen");
    // Without the value nothing is loaded.
    let error = load_by_loader(asks_for("CONFIG_NO_SUCH_OPTION").0).unwrap_err();
    assert!(error.to_string().contains("CONFIG_NO_SUCH_OPTION"), "{error}");
}

/// A program that comes from anybody names what this process has open: it can neither close nor take it.
#[test]
fn a_loader_program_reaches_no_descriptor_of_the_process() {
    if !may_load() || !kernel(5, 14) {
        return;
    }
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    // bpf_sys_close of the number at 0, which also stands as one that was made.
    let code =
        "r6 = r1\nr1 = *(u32 *)(r6 +0)\nr2 = *(u32 *)(r6 +0)\n*(u32 *)(r6 +24) = r2\ncall bpf_sys_close#168\nexit";
    let insns = skep_insn::text::assemble(code).unwrap_or_else(|errors| panic!("{errors:?}")).code;
    let insns = skep_insn::slots_to_bytes(&insns, skep_insn::Endian::NATIVE);
    let mut load = ProgLoad {
        prog_type: ProgType::SYSCALL.0,
        insns: &insns,
        license: c"GPL",
        prog_flags: 1 << 4,
        ..ProgLoad::default()
    };
    let program = load.load().0.unwrap();
    let mut ctx = [0; 32];
    ctx[..4].copy_from_slice(&file.as_raw_fd().to_ne_bytes());
    let run = program.run_loader(&mut ctx, 8, 24, None).unwrap();
    assert_eq!(run.retval, 0, "it closed its own copy");
    assert!(run.fds.iter().all(Option::is_none), "{run:?}");
    assert!(file.metadata().is_ok(), "the file is open here");
}

/// Every object of the corpus that loads from user space and that a loader program can hold loads by it, too.
#[test]
fn compiled_objects_load_as_from_user_space() {
    if !may_load() || !kernel(5, 17) {
        return;
    }
    let Some(folder) = std::env::var_os("SKEP_TEST_OBJECTS") else {
        println!("skipped: needs the compiled objects");
        return;
    };
    let folder = std::path::PathBuf::from(folder).join("clang19-el");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    let (mut by_loader, mut refused) = (0, Vec::new());
    let mut wrong = Vec::new();
    for path in files.iter().filter(|path| path.extension().is_some_and(|it| it == "o")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(path).unwrap();
        let Ok(spec) = Spec::parse(&bytes, &name) else { continue };
        // Nothing is pinned by a test.
        if spec.maps.iter().any(|map| map.pinning != skep_spec::map::Pinning::None) {
            continue;
        }
        let Ok(session) = KernelEngine::new().load(spec.clone(), &LoadOptions::default()) else { continue };
        if session.programs().is_empty() || session.programs().iter().any(|it| it.result.is_err()) {
            continue;
        }
        drop(session);
        let loader = match generate(&spec) {
            Ok(loader) => loader,
            Err(error) => {
                refused.push(format!("{name}: {error}"));
                continue;
            }
        };
        let loader = detach(&attach(&bytes, &loader)).unwrap().unwrap();
        match LoaderEngine::new(loader).load(spec, &LoadOptions::default()) {
            Ok(session) => {
                assert!(session.programs().iter().all(|it| it.result.is_ok()));
                by_loader += 1;
            }
            // The kernel's own comparison of types ends at a depth that `task_struct` goes beyond.
            Err(error) if error.log().is_some_and(|log| log.contains("error matching candidate")) => {
                refused.push(format!("{name}: {error}"));
            }
            Err(error) => wrong.push(format!("{name}: {error}\n{}", error.log().unwrap_or_default())),
        }
    }
    println!(
        "{by_loader} loaded by their loader programs; {} cannot be written down:\n{}",
        refused.len(),
        refused.join("\n")
    );
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), by_loader + wrong.len(), wrong.join("\n"));
    assert!(by_loader > 10, "{by_loader}");
}

/// A sealed loader program runs on its own data, and on no other.
#[test]
fn what_was_sealed_loads_only_as_it_was() {
    if !may_load() || !kernel(6, 18) {
        return;
    }
    let mut spec = empty();
    let constants = DataSection { kind: DataKind::Rodata, align_bytes: 4, datasec: None, variables: Vec::new() };
    spec.maps.push(Map {
        origin: MapOrigin::Data(constants),
        contents: MapContents::Data(77u32.to_ne_bytes().to_vec()),
        flags: skep_sys::bpf::flags::F_RDONLY_PROG,
        ..Map::new(".rodata", MapType::ARRAY, 4, 4, 1)
    });
    let ring = add_map(&mut spec, "ring", MapType::RINGBUF, 0, 0, 5000);
    let read = "*(u32 *)(r10 -4) = 0\nr2 = r10\nr2 += -4\nr1 = map[id:0]\ncall bpf_map_lookup_elem#1\n\
                if r0 == 0x0 goto out\nr0 = *(u32 *)(r0 +0)\nexit\nout:\nr0 = 99\nexit";
    let id = add_program(&mut spec, "reads", CLS, read);
    let loader = seal(&spec).unwrap();
    assert_eq!(loader.insns, seal(&spec).unwrap().insns, "who builds it again has the same to sign");
    let load = |loader, spec| LoaderEngine::new(loader).load(spec, &LoadOptions::default());
    let session = load(loader.clone(), spec.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(session.test_run(id, &with_packet()).unwrap().retval, 77);
    assert!(session.kernel_map(ring).unwrap().facts().max_entries >= 8192);

    // One byte of the data, at several places.
    for at in [0, loader.data.len() / 2, loader.data.len() - 1] {
        let mut other = loader.clone();
        other.data[at] ^= 1;
        let error = load(other, spec.clone()).map(drop).unwrap_err().to_string();
        assert!(
            error.starts_with("the loader program is sealed, and its data is not what it was")
                || error.starts_with("the loader program is sealed: values of `.rodata` cannot be set"),
            "{at}: {error}"
        );
    }
    let mut set = spec.clone();
    set.maps[0].contents = MapContents::Data(78u32.to_ne_bytes().to_vec());
    let error = load(loader.clone(), set).map(drop).unwrap_err().to_string();
    assert_eq!(error, "the loader program is sealed: values of `.rodata` cannot be set");
    let mut longer = spec.clone();
    add_map(&mut longer, "more", MapType::ARRAY, 4, 4, 1);
    let error = load(loader.clone(), longer).map(drop).unwrap_err().to_string();
    assert_eq!(error, "the loader program was made of another object");

    // A signature that is none: refused, whatever the kernel was built with.
    let mut signed = loader;
    signed.seal = Some(Seal { signature: vec![0x30, 3, 2, 1, 7] });
    let error = load(signed, spec).map(drop).unwrap_err().to_string();
    assert!(error.contains("loader program"), "{error}");
}
