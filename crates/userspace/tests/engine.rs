//! Objects in the machine: what loads, what is refused and why, maps, and what programs tell.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skep_engine::{AttachOptions, BatchCursor, ErrorKind, LoadOptions, Record, RecordSource, Session, Source, TestRun};
use skep_insn::{InsnIdx, text};
use skep_kernel::LiveTarget;
use skep_spec::function::{RefTarget, Reference};
use skep_spec::map::{MapContents, MapOrigin, Slot};
use skep_spec::section::SectionTable;
use skep_spec::{FuncId, Function, Map, MapId, MapType, ProgId, ProgType, Program, Spec};
use skep_userspace::{Payload, RawArg, UserEngine, UserSession};

fn empty() -> Spec {
    Spec { license: Some("GPL".into()), ..Spec::new("hand_made") }
}

fn add_map(spec: &mut Spec, name: &str, map_type: MapType, sizes: [u32; 3]) -> MapId {
    let [key_size, value_size, max_entries] = sizes;
    spec.maps.push(Map { origin: MapOrigin::Btf, ..Map::new(name, map_type, key_size, value_size, max_entries) });
    MapId(spec.maps.len() as u32 - 1)
}

/// Adds a program in the kernel's spelling; `map[id:N]` is map N of the object.
fn add(spec: &mut Spec, name: &str, section: &str, code: &str) -> ProgId {
    let insns = text::assemble(code).unwrap_or_else(|errors| panic!("{name}: {errors:?}")).code;
    let references = (0u32..)
        .zip(&insns)
        .filter(|(_, insn)| insn.code == 0x18 && insn.src_reg == 1)
        .map(|(at, insn)| Reference { insn: InsnIdx(at), target: RefTarget::Map(MapId(insn.imm as u32)) })
        .collect();
    spec.functions.push(Function { references, ..Function::new(name, section, insns) });
    let entry = FuncId(spec.functions.len() as u32 - 1);
    let meaning = SectionTable::new().lookup(section);
    let program = Program::new(name, entry, section, meaning.prog_type);
    spec.programs.push(Program { attach: meaning.attach, attach_type: meaning.attach_type, ..program });
    ProgId(spec.programs.len() as u32 - 1)
}

fn load(spec: Spec) -> UserSession {
    let session = UserEngine::new(LiveTarget::shared()).with_processes().load(spec, &LoadOptions::default());
    session.unwrap_or_else(|error| panic!("{error}"))
}

fn run(session: &UserSession, id: ProgId, ctx: &[u8]) -> Result<u32, String> {
    let run = session.test_run(id, &TestRun { ctx, ..TestRun::default() });
    run.map(|out| out.retval).map_err(|error| error.to_string())
}

/// Everything that is there, in words.
fn told(records: &mut dyn RecordSource) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let polled = records.poll(Some(Duration::ZERO), &mut |record| {
        all.push(match record {
            Record::Event { map, cpu, data } => format!("{} {cpu:?} {data:?}", map.0),
            Record::Text { text, .. } => text.to_owned(),
            Record::Lost { source, count, .. } => format!("{source:?} lost {count}"),
        });
        ControlFlow::Continue(())
    });
    polled.map(|_| all).map_err(|error| error.to_string())
}

#[test]
fn maps_are_shared_by_programs_and_user_space() {
    let mut spec = empty();
    let counts = add_map(&mut spec, "counts", MapType::HASH, [4, 8, 4]);
    let code = "*(u32 *)(r10 - 4) = 7\n*(u64 *)(r10 - 16) = 1\nr1 = map[id:0]\nr2 = r10\nr2 += -4\n\
                call bpf_map_lookup_elem#1\nif r0 == 0 goto +5\nr1 = *(u64 *)(r0 + 0)\nr1 += 1\n*(u64 *)(r0 + 0) = r1\n\
                r0 = r1\nexit\nr1 = map[id:0]\nr2 = r10\nr2 += -4\nr3 = r10\nr3 += -16\nr4 = 0\n\
                call bpf_map_update_elem#2\nr0 = 1\nexit";
    let id = add(&mut spec, "count", "syscall", code);
    let session = load(spec);
    assert_eq!([1, 2, 3].map(|_| run(&session, id, &[]).unwrap()), [1, 2, 3]);
    let map = session.map(counts).unwrap();
    let (seven, three) = (7u32.to_ne_bytes(), 3u64.to_ne_bytes());
    assert_eq!(map.entries().unwrap(), [(seven.to_vec(), three.to_vec())]);
    map.update(&seven, &40u64.to_ne_bytes(), 0).unwrap();
    assert_eq!(run(&session, id, &[]), Ok(41));
    assert_eq!(map.take(&seven).unwrap(), Some(41u64.to_ne_bytes().to_vec()));
    assert_eq!((map.lookup(&seven).unwrap(), map.delete(&seven).unwrap()), (None, false));
    assert_eq!(run(&session, id, &[]), Ok(1));
}

#[test]
fn slots_hold_programs_and_maps() {
    let mut spec = empty();
    let jumps = add_map(&mut spec, "jumps", MapType::PROG_ARRAY, [4, 4, 2]);
    let outer = add_map(&mut spec, "outer", MapType::ARRAY_OF_MAPS, [4, 4, 2]);
    let inner = add_map(&mut spec, "inner", MapType::ARRAY, [4, 4, 1]);
    spec.maps[1].inner = Some(Box::new(Map::new("template", MapType::ARRAY, 4, 4, 1)));
    spec.maps[1].contents = MapContents::Slots(vec![(1, Slot::Map(inner))]);
    let first = add(&mut spec, "first", "syscall", "r2 = map[id:0]\nr3 = 1\ncall bpf_tail_call#12\nr0 = 1\nexit");
    let second = add(&mut spec, "second", "syscall", "r0 = 2\nexit");
    let look = add(
        &mut spec,
        "look",
        "syscall",
        "*(u32 *)(r10 - 4) = 1\n*(u32 *)(r10 - 8) = 0\nr1 = map[id:1]\nr2 = r10\nr2 += -4\ncall bpf_map_lookup_elem#1\n\
         if r0 == 0 goto +6\nr1 = r0\nr2 = r10\nr2 += -8\ncall bpf_map_lookup_elem#1\nif r0 == 0 goto +1\n\
         r0 = *(u32 *)(r0 + 0)\nexit",
    );
    spec.maps[0].contents = MapContents::Slots(vec![(1, Slot::Program(second))]);
    let session = load(spec);
    assert!(session.warnings().is_empty(), "{:?}", session.warnings());
    assert_eq!(run(&session, first, &[]), Ok(2));
    session.map(jumps).unwrap().delete(&1u32.to_ne_bytes()).unwrap();
    assert_eq!(run(&session, first, &[]), Ok(1));
    session.map(inner).unwrap().update(&[0; 4], &9u32.to_ne_bytes(), 0).unwrap();
    assert_eq!(run(&session, look, &[]), Ok(9));
    session.set_slot(outer, 0, Slot::Map(inner)).unwrap();
    assert!(session.set_slot(outer, 5, Slot::Map(inner)).is_err());
}

#[test]
fn what_programs_tell_is_read_and_what_does_not_fit_is_counted() {
    let mut spec = empty();
    let ring = add_map(&mut spec, "ring", MapType::RINGBUF, [0, 0, 4096]);
    let perf = add_map(&mut spec, "perf", MapType::PERF_EVENT_ARRAY, [4, 4, 0]);
    let code = "r6 = r1\n*(u64 *)(r10 - 8) = 7\nr1 = map[id:0]\nr2 = r10\nr2 += -8\nr3 = 8\nr4 = 0\n\
                call bpf_ringbuf_output#130\nr1 = r6\nr2 = map[id:1]\nr3 = 0xffffffff ll\nr4 = r10\nr4 += -8\nr5 = 4\n\
                call bpf_perf_event_output#25\n*(u64 *)(r10 - 16) = 0x0a6968\nr1 = r10\nr1 += -16\nr2 = 4\n\
                call bpf_trace_printk#6\nr0 = 0\nexit";
    let id = add(&mut spec, "tell", "tracepoint/syscalls/sys_enter_write", code);
    let options = LoadOptions { perf_buffer_bytes: 64, ..LoadOptions::default() };
    let session = UserEngine::new(LiveTarget::shared()).load(spec, &options).unwrap();
    let mut records = session.records(&[ring, perf], true).unwrap();
    let mut runner = session.runner().unwrap();
    let mut fire = |times| (0..times).all(|_| runner.run(id, Payload::Record(&[0; 64])).is_ok());
    assert!(fire(1));
    let cpu = |text: &str| text.replace("CPU", "0");
    let first = told(&mut *records).unwrap();
    let number = first[1].split(['(', ')']).nth(1).unwrap().to_owned();
    assert_eq!(first, ["0 None [7, 0, 0, 0, 0, 0, 0, 0]", &format!("1 Some({number}) [7, 0, 0, 0]"), "hi"].map(cpu));
    // A buffer of 64 bytes has room for four records of 16.
    assert!(fire(6));
    let told_now = told(&mut *records).unwrap();
    assert_eq!(told_now.iter().filter(|line| line.starts_with("0 None")).count(), 6);
    assert_eq!(told_now.iter().filter(|line| line.starts_with("1 Some")).count(), 4);
    assert_eq!(told_now.iter().filter(|line| **line == format!("{:?} lost 2", Source::Map(perf))).count(), 1);
    assert!(told(&mut *records).unwrap().is_empty());
    // Who waits is woken from another thread, and one that breaks off loses nothing but the record that it had.
    let waiting = std::thread::spawn(move || {
        let mut seen = 0;
        records.poll(Some(Duration::from_secs(60)), &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        })?;
        // Who was woken by the first record may come before the next one is there.
        let mut rest = 0;
        while rest == 0 {
            rest = records.poll(Some(Duration::from_secs(60)), &mut |_| ControlFlow::Continue(()))?;
        }
        Ok::<_, skep_engine::Error>((seen, rest))
    });
    std::thread::sleep(Duration::from_millis(20));
    assert!(fire(1));
    let (seen, rest) = waiting.join().unwrap().unwrap();
    assert_eq!((seen, rest >= 1), (1, true));
}

#[test]
fn a_program_that_does_wrong_ends_with_its_place() {
    let mut spec = empty();
    let wild = add(&mut spec, "wild", "raw_tracepoint/sys_enter", "r1 = *(u64 *)(r1 + 64)\nr0 = 0\nexit");
    let endless = add(&mut spec, "endless", "syscall", "goto -1");
    let deep = add(&mut spec, "deep", "syscall", "call -1\nexit");
    let session = load(spec);
    let mut records = session.records(&[], true).unwrap();
    let mut runner = session.runner().unwrap();
    let error = runner.run(wild, Payload::Raw(&[RawArg::Value(1)])).unwrap_err().to_string();
    assert!(error.contains("program `wild`, instruction 0: read of 8 byte(s) at 0x"), "{error}");
    assert!(run(&session, endless, &[]).unwrap_err().contains("does a loop never end?"));
    if session.programs()[2].result.is_ok() {
        assert!(run(&session, deep, &[]).unwrap_err().contains("functions inside of each other"));
    }
    // Where it ran for an event, whoever reads records is told.
    assert!(told(&mut *records).unwrap().is_empty());
    let attach = session.attach(wild, &AttachOptions { pid: Some(1), ..AttachOptions::default() }).unwrap();
    let attached = session.hooks().all();
    assert_eq!((attached.len(), attach.describe().as_str()), (1, "raw tracepoint sys_enter"));
    assert_eq!(runner.fire(&attached[0], Payload::Raw(&[])), None);
    assert!(told(&mut *records).unwrap_err().contains("program `wild`, instruction 0"));
    drop(attach);
    assert!(session.hooks().all().is_empty());
}

#[test]
fn arguments_of_raw_tracepoints_may_be_structures() {
    let mut spec = empty();
    let code = "r6 = *(u64 *)(r1 + 8)\nr3 = *(u64 *)(r1 + 0)\nr3 += 16\nr1 = r10\nr1 += -8\nr2 = 8\n\
                call bpf_probe_read_kernel#113\nif r0 != 0 goto +2\nr0 = *(u64 *)(r10 - 8)\nr0 += r6\nexit";
    let id = add(&mut spec, "registers", "raw_tracepoint/sys_enter", code);
    let session = load(spec);
    let registers: Vec<u8> = (0u64..21).flat_map(u64::to_ne_bytes).collect();
    let mut runner = session.runner().unwrap();
    let args = [RawArg::Memory(&registers), RawArg::Value(40)];
    assert_eq!(runner.run(id, Payload::Raw(&args)).unwrap(), 42);
}

#[test]
fn records_are_sent_to_programs() {
    let mut spec = empty();
    let ring = add_map(&mut spec, "commands", MapType::USER_RINGBUF, [0, 0, 4096]);
    let plain = add_map(&mut spec, "plain", MapType::ARRAY, [4, 4, 1]);
    let code =
        "r1 = map[id:0]\nr2 = subprog[f]\nr3 = 0\nr4 = 0\ncall bpf_user_ringbuf_drain#209\nexit\nf:\nr0 = 0\nexit";
    let drain = add(&mut spec, "drain", "syscall", code);
    let session = load(spec);
    let map = session.map(ring).unwrap();
    assert_eq!(run(&session, drain, &[]), Ok(0));
    assert!(map.send(&[1; 8]).unwrap() && map.send(&[2; 5]).unwrap());
    assert_eq!(run(&session, drain, &[]), Ok(2));
    let room = (0..100).take_while(|_| map.send(&[0; 1000]).unwrap()).count();
    assert_eq!((room, run(&session, drain, &[])), (4, Ok(4)));
    let error = map.send(&[0; 5000]).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("`max_entries`")), "{error}");
    let error = session.map(plain).unwrap().send(&[1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("map `plain` is of type array, not user_ringbuf"), "{error}");
}

#[test]
fn what_user_space_has_not_is_refused_alone() {
    let mut spec = empty();
    add_map(&mut spec, "groups", MapType::CGROUP_ARRAY, [4, 4, 8]);
    add(&mut spec, "good", "syscall", "r0 = 0\nexit");
    let under = "r1 = map[id:0]\nr2 = 0\ncall bpf_current_task_under_cgroup#37\nexit";
    add(&mut spec, "under", "perf_event", under);
    add(&mut spec, "socket", "xdp", "r2 = 0\nr3 = 0\nr4 = 0\nr5 = 0\ncall bpf_sk_lookup_tcp#84\nexit");
    add(&mut spec, "kernel", "kprobe/vfs_read", "r0 = 0\nexit");
    add(&mut spec, "hook", "lsm/file_open", "r0 = 0\nexit");
    let session = load(spec);
    let result = |at: usize| session.programs()[at].result.as_ref().map_err(|error| (error.kind(), error.to_string()));
    assert_eq!(result(0), Ok(&2));
    let (kind, text) = result(1).unwrap_err();
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(text.contains("map `groups` is of type cgroup_array, which is not to be had in user space"), "{text}");
    let (kind, text) = result(2).unwrap_err();
    assert_eq!(kind, ErrorKind::Unsupported);
    assert!(
        text.contains("calls `bpf_sk_lookup_tcp`, which is not to be had in user space: it needs a socket"),
        "{text}"
    );
    let refused = |at: u32| session.attach(ProgId(at), &AttachOptions::default()).unwrap_err();
    let error = refused(3);
    assert!(error.to_string().contains("functions of the kernel are not seen in user space"), "{error}");
    assert_eq!((error.kind(), error.hint().is_some()), (ErrorKind::Unsupported, true));
}

#[test]
fn tracepoints_that_are_not_seen_say_what_is() {
    let mut spec = empty();
    let sections = [
        "tp/syscalls/sys_enter_wirte",
        "tp/block/block_rq_issue",
        "tp/syscalls/sys_enter_write",
        "tp_btf/sched_switch",
    ];
    for section in sections {
        add(&mut spec, "it", section, "r0 = 0\nexit");
    }
    spec.programs[3].prog_type = ProgType::TRACING;
    let session = load(spec);
    let refused = |at: u32| session.attach(ProgId(at), &AttachOptions::default()).unwrap_err();
    let error = refused(0);
    assert_eq!(error.kind(), ErrorKind::Absent);
    assert!(error.hint().is_some_and(|hint| hint.contains("sys_enter_write")), "{error:?}");
    assert!(refused(1).hint().is_some_and(|hint| hint.contains("sched_process_fork")));
    let link = session.attach(ProgId(2), &AttachOptions::default()).unwrap();
    assert_eq!(link.describe(), "tracepoint syscalls:sys_enter_write");
    let mut alone = empty();
    add(&mut alone, "it", sections[2], "r0 = 0\nexit");
    let session = UserEngine::new(LiveTarget::shared()).load(alone, &LoadOptions::default()).unwrap();
    let error = session.attach(ProgId(0), &AttachOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NeedsOption);
}

/// Every object of the corpus loads as a whole, and what is refused names what it needs.
#[test]
fn objects_of_the_corpus_load_or_say_what_they_need() {
    let dir = std::env::var_os("SKEP_TEST_OBJECTS").map(PathBuf::from).unwrap_or_default().join("clang19-el");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "o"))
        .collect();
    names.sort();
    if names.is_empty() {
        println!("skipped: needs the compiled corpus");
        return;
    }
    let (mut loaded, mut refused) = (0, 0);
    for path in names {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(spec) = Spec::parse(&std::fs::read(&path).unwrap(), &name) else { continue };
        let session = match UserEngine::new(LiveTarget::shared()).load(spec, &LoadOptions::default()) {
            Ok(session) => session,
            Err(error) => panic!("{name}: {error}"),
        };
        for program in session.programs() {
            match &program.result {
                Ok(_) => loaded += 1,
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains('`'), "{name}: {error}");
                }
            }
        }
    }
    println!("{loaded} programs load, {refused} are refused");
    assert!(loaded > 3 * refused, "{loaded} programs load, {refused} are refused");
}

#[test]
fn maps_are_read_in_batches_and_the_kernels_are_not_taken() {
    let mut spec = empty();
    let counts = add_map(&mut spec, "counts", MapType::HASH, [4, 8, 64]);
    let id = add(&mut spec, "nothing", "syscall", "r0 = 0\nexit");
    let session = load(spec.clone());
    let map = session.map(counts).unwrap();
    for key in 0..50u32 {
        map.update(&key.to_ne_bytes(), &u64::from(key).to_ne_bytes(), 0).unwrap();
    }
    for take in [false, true] {
        let (mut cursor, mut keys) = (BatchCursor::default(), BTreeSet::new());
        while !cursor.done {
            let batch = map.batch(&mut cursor, 8, take).unwrap();
            assert!(batch.len() <= 8);
            keys.extend(batch.into_iter().map(|(key, _)| key));
        }
        assert_eq!(keys.len(), 50);
    }
    assert!(map.entries().unwrap().is_empty());
    let on_cpu = session.test_run(id, &TestRun { cpu: Some(0), ..TestRun::default() }).unwrap_err();
    assert_eq!(on_cpu.kind(), ErrorKind::Unsupported);
    let file = std::fs::File::open("/proc/self/status").unwrap();
    let existing_maps = [("counts".to_owned(), Arc::new(file.into()))].into();
    let options = LoadOptions { existing_maps, ..LoadOptions::default() };
    let refused = UserEngine::new(LiveTarget::shared()).load(spec, &options).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
}

/// Programs that the kernel would refuse, each with a part of what stops it; the others of the object go on.
#[test]
fn hostile_programs_are_stopped_and_harm_nobody() {
    let mut spec = empty();
    add_map(&mut spec, "small", MapType::HASH, [8, 8, 2]);
    add_map(&mut spec, "jumps", MapType::PROG_ARRAY, [4, 4, 1]);
    let hostile = [
        ("endless", "goto -1", "does a loop never end?"),
        ("pointer", "r1 = 0x123456789 ll\nr0 = *(u64 *)(r1 + 0)\nexit", "read of 8 byte(s) at 0x123456789"),
        ("null", "r1 = 0\n*(u64 *)(r1 + 0) = 1\nexit", "write of 8 byte(s) through a null pointer"),
        ("above", "r0 = *(u64 *)(r10 + 0)\nexit", "outside of the program's memory"),
        ("below", "*(u64 *)(r10 - 520) = 1\nr0 = 0\nexit", "outside of the program's memory"),
        ("deep", "f:\ncall f\nexit", "more than 8 functions inside of each other"),
        (
            "copy",
            "r1 = r10\nr1 += -512\nr2 = 0x7fffffff\nr3 = r10\ncall bpf_probe_read_kernel#113\nexit",
            "outside of the program's memory",
        ),
        ("format", "r1 = r10\nr2 = 0x7fffffff\ncall bpf_trace_printk#6\nexit", "outside of the program's memory"),
        ("no_map", "r1 = r10\nr2 = r10\ncall bpf_map_lookup_elem#1\nexit", "is no map of this machine"),
    ];
    let ids: Vec<ProgId> = hostile.iter().map(|(name, code, _)| add(&mut spec, name, "syscall", code)).collect();
    let again = "r2 = map[id:1]\nr3 = 0\ncall bpf_tail_call#12\nr0 = 33\nexit";
    let tail = add(&mut spec, "tail", "syscall", again);
    // As many elements as fit, then E2BIG, as in the kernel.
    let fill = "r6 = 0\nagain:\n*(u64 *)(r10 - 8) = r6\nr1 = map[id:0]\nr2 = r10\nr2 += -8\nr3 = r10\nr3 += -8\nr4 = 0\n\
                call bpf_map_update_elem#2\nif r0 != 0 goto full\nr6 += 1\ngoto again\nfull:\nexit";
    let full = add(&mut spec, "full", "syscall", fill);
    let good = add(&mut spec, "good", "syscall", "r0 = 7\nexit");
    spec.maps[1].contents = MapContents::Slots(vec![(0, Slot::Program(tail))]);
    let session = load(spec);
    for (id, (name, _, words)) in ids.into_iter().zip(hostile) {
        let told = run(&session, id, &[]).unwrap_err();
        assert!(told.contains(words) && told.contains(&format!("program `{name}`, instruction ")), "{name}: {told}");
        assert_eq!(run(&session, good, &[]), Ok(7), "behind {name}");
    }
    // A chain of tail calls ends by itself.
    assert_eq!(run(&session, tail, &[]), Ok(33));
    assert_eq!(run(&session, full, &[]), Ok(-7i32 as u32));
    assert_eq!(run(&session, full, &[]), Ok(-7i32 as u32));
    assert_eq!(run(&session, good, &[]), Ok(7));
}
