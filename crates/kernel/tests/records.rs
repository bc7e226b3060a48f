//! Buffers of the running kernel, under load: what is offered is delivered or counted.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::*;
use skep_engine::{LoadOptions, MapHandle as _, Record, RecordSource, Session as _, Source, TestRun};
use skep_kernel::{KernelEngine, KernelSession, Records, UserRing};
use skep_spec::{MapId, MapType, ProgId, ProgType};

const CLS: ProgType = ProgType::SCHED_CLS;

fn run(session: &KernelSession, program: ProgId, times: u32) {
    let input = TestRun { data: &PACKET, repeat: times, ..TestRun::default() };
    session.test_run(program, &input).unwrap_or_else(|error| panic!("{error}"));
}

/// Puts a number that grows with every run into ring 0; what does not fit is counted in map 2.
const RING: &str = "
    *(u32 *)(r10 -4) = 0
    r2 = r10
    r2 += -4
    r1 = map[id:1]
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto out
    r1 = 1
    r1 = atomic64_fetch_add((u64 *)(r0 +0), r1)
    *(u64 *)(r10 -16) = r1
    r1 = map[id:0]
    r2 = r10
    r2 += -16
    r3 = 8
    r4 = 0
    call bpf_ringbuf_output#130
    if r0 == 0x0 goto out
    *(u32 *)(r10 -4) = 0
    r2 = r10
    r2 += -4
    r1 = map[id:2]
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto out
    r1 = 1
    lock *(u64 *)(r0 +0) += r1
out:
    r0 = 0
    exit
";

fn ring_object(bytes: u32) -> (skep_spec::Spec, ProgId) {
    let mut spec = empty();
    add_map(&mut spec, "ring", MapType::RINGBUF, 0, 0, bytes);
    add_map(&mut spec, "offered", MapType::ARRAY, 4, 8, 1);
    add_map(&mut spec, "lost", MapType::ARRAY, 4, 8, 1);
    let id = add_program(&mut spec, "offer", CLS, RING);
    (spec, id)
}

/// An object whose program sends 12 bytes, of which the first is 6, into a perf event array.
fn perf_object() -> (skep_spec::Spec, MapId, ProgId) {
    let mut spec = empty();
    let map = add_map(&mut spec, "perf", MapType::PERF_EVENT_ARRAY, 4, 4, 0);
    let code = "*(u64 *)(r10 -8) = 5\n*(u64 *)(r10 -16) = 6\nr2 = map[id:0]\nr3 = 0xffffffff ll\nr4 = r10\nr4 += -16\n\
                r5 = 12\ncall bpf_perf_event_output#25\nr0 = 0\nexit";
    let id = add_program(&mut spec, "offer", CLS, code);
    (spec, map, id)
}

/// A reader of a perf event array, with a page for each CPU.
fn page_reader(session: &KernelSession, map: MapId) -> Records {
    let mut records = Records::new().unwrap();
    records.set_perf_bytes(4096);
    records.add_map(map, session.kernel_map(map).unwrap()).unwrap();
    records
}

/// Keeps the calling thread on the CPU that it is on: the kernel tells of a loss with the next event of the same CPU.
fn stay_on_this_cpu() {
    let mut here = rustix::thread::CpuSet::new();
    here.set(rustix::thread::sched_getcpu());
    rustix::thread::sched_setaffinity(None, &here).unwrap();
}

fn count(session: &KernelSession, map: u32) -> u64 {
    let value = session.kernel_map(MapId(map)).unwrap().lookup(&[0; 4]).unwrap().unwrap();
    u64::from_ne_bytes(value[..].try_into().unwrap())
}

#[test]
fn a_burst_of_two_million_events_is_delivered_or_counted() {
    if !may_load() || !kernel(5, 12) {
        return;
    }
    // Emulated machines are a hundred times slower.
    let (rounds, each): (u32, u32) = if std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|info| info.contains("QEMU"))
    {
        (4, 5_000)
    } else {
        (20, 100_000)
    };
    let (spec, id) = ring_object(256 << 10);
    let session = load(spec);
    let mut records = Records::new().unwrap();
    records.add_map(MapId(0), session.kernel_map(MapId(0)).unwrap()).unwrap();
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    let (delivered, ordered) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut delivered, mut last, mut ordered) = (0u64, None, true);
            loop {
                let stopping = stop.load(Ordering::SeqCst);
                let got = records
                    .poll(Some(Duration::from_millis(5)), &mut |record| {
                        let Record::Event { map: MapId(0), cpu: None, data } = record else { panic!("{record:?}") };
                        let number = u64::from_ne_bytes(data.try_into().unwrap());
                        ordered &= last.is_none_or(|last| last < number);
                        last = Some(number);
                        delivered += 1;
                        ControlFlow::Continue(())
                    })
                    .unwrap();
                if stopping && got == 0 {
                    return (delivered, ordered);
                }
            }
        });
        for _ in 0..rounds {
            run(&session, id, each);
        }
        stop.store(true, Ordering::SeqCst);
        reader.join().unwrap()
    });
    let (offered, lost) = (count(&session, 1), count(&session, 2));
    println!("{offered} offered, {delivered} delivered, {lost} lost, in {:?}", started.elapsed());
    assert_eq!(offered, u64::from(rounds) * u64::from(each));
    assert_eq!(delivered + lost, offered);
    assert!(ordered, "one producer's events come in order");
}

#[test]
fn what_a_sink_does_not_take_stays_in_the_buffer() {
    if !may_load() || !kernel(5, 12) {
        return;
    }
    let (spec, id) = ring_object(4096);
    let session = load(spec);
    let mut records = session.records(&[MapId(0)], false).unwrap();
    run(&session, id, 10);
    let mut seen = Vec::new();
    for _ in 0..10 {
        records
            .poll(Some(Duration::from_secs(5)), &mut |record| {
                let Record::Event { data, .. } = record else { panic!("{record:?}") };
                seen.push(data[0]);
                ControlFlow::Break(())
            })
            .unwrap();
    }
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(records.poll(Some(Duration::ZERO), &mut |record| panic!("{record:?}")).unwrap(), 0);
}

#[test]
fn several_rings_come_in_one_stream() {
    if !may_load() || !kernel(5, 8) {
        return;
    }
    let mut spec = empty();
    for name in ["a", "b"] {
        add_map(&mut spec, name, MapType::RINGBUF, 0, 0, 4096);
    }
    let send = |map: u32, what: u32| {
        format!(
            "*(u64 *)(r10 -8) = {what}\nr1 = map[id:{map}]\nr2 = r10\nr2 += -8\nr3 = 8\nr4 = 0\n\
             call bpf_ringbuf_output#130\nr0 = 0\nexit"
        )
    };
    let a = add_program(&mut spec, "to_a", CLS, &send(0, 11));
    let b = add_program(&mut spec, "to_b", CLS, &send(1, 22));
    let session = load(spec);
    let mut records = session.records(&[MapId(0), MapId(1)], false).unwrap();
    run(&session, b, 1);
    run(&session, a, 2);
    let mut seen = Vec::new();
    let mut sink = |record: Record<'_>| {
        let Record::Event { map, data, .. } = record else { panic!("{record:?}") };
        seen.push((map.0, data[0]));
        ControlFlow::Continue(())
    };
    assert_eq!(records.poll(Some(Duration::from_secs(5)), &mut sink).unwrap(), 3);
    assert_eq!(seen, [(0, 11), (0, 11), (1, 22)]);
}

#[test]
fn perf_buffers_tell_what_they_lost() {
    if !may_load() {
        return;
    }
    let (spec, map, id) = perf_object();
    let session = load(spec);
    let mut records = page_reader(&session, map);
    let mut delivered = 0u64;
    let mut lost = 0u64;
    let mut offered = 0u64;
    // The kernel tells of a loss with the next event that fits, so a few come after the burst, on whichever CPU.
    for burst in [5000, 1, 1, 1, 1, 1, 1, 1, 1] {
        run(&session, id, burst);
        offered += u64::from(burst);
        records
            .poll(Some(Duration::ZERO), &mut |record| {
                match record {
                    Record::Event { map: of, cpu: Some(_), data } => {
                        assert_eq!((of, data.len()), (map, 12));
                        assert_eq!(data[0], 6);
                        delivered += 1;
                    }
                    Record::Lost { source, cpu: Some(_), count } => {
                        assert_eq!(source, Source::Map(map));
                        lost += count;
                    }
                    other => panic!("{other:?}"),
                }
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    assert!(lost > 0 && delivered > 50, "a page does not hold 5000 events: {delivered} + {lost} of {offered}");
    if kernel(6, 0) {
        assert_eq!(delivered + lost, offered);
    } else {
        // A CPU that the first burst ran on and the others did not may still owe its count.
        assert!(delivered + lost <= offered, "{delivered} + {lost} of {offered}");
    }
}

#[test]
fn a_pass_over_a_ring_can_be_limited_and_its_positions_are_told() {
    if !may_load() || !kernel(5, 12) {
        return;
    }
    let (spec, id) = ring_object(4096);
    let session = load(spec);
    let mut records = Records::new().unwrap();
    records.add_map(MapId(0), session.kernel_map(MapId(0)).unwrap()).unwrap();
    run(&session, id, 5);
    // Eight bytes and a header of eight.
    let positions = records.positions(MapId(0)).unwrap();
    assert_eq!((positions.consumer, positions.producer), (0, 5 * 16));
    assert_eq!((records.ring_size(MapId(0)), records.ring_size(MapId(1))), (Some(4096), None));
    let mut seen = Vec::new();
    let mut sink = |record: Record<'_>| {
        let Record::Event { data, .. } = record else { panic!("{record:?}") };
        seen.push(data[0]);
        ControlFlow::Continue(())
    };
    assert_eq!(records.drain_at_most(0, &mut sink).unwrap(), 0);
    assert_eq!(records.drain_at_most(2, &mut sink).unwrap(), 2);
    assert_eq!(records.positions(MapId(0)).unwrap().consumer, 2 * 16);
    assert_eq!(records.drain_at_most(100, &mut sink).unwrap(), 3);
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    let positions = records.positions(MapId(0)).unwrap();
    assert_eq!(positions.consumer, positions.producer);
}

#[test]
fn perf_buffers_are_read_one_cpu_at_a_time() {
    if !may_load() {
        return;
    }
    let (spec, map, id) = perf_object();
    let session = load(spec);
    let mut records = page_reader(&session, map);
    run(&session, id, 3);
    let buffers: Vec<(u32, u64)> = records.perf_buffers(map).map(|it| (it.cpu, it.available_bytes)).collect();
    assert!(records.perf_buffers(map).all(|it| it.size_bytes == 4096));
    assert!(records.perf_buffers(MapId(7)).next().is_none());
    // A header, the length and 12 bytes make 24.
    assert_eq!(buffers.iter().map(|(_, bytes)| bytes).sum::<u64>(), 3 * 24, "{buffers:?}");
    for (cpu, bytes) in buffers {
        let seen = records.drain_cpu(map, cpu, &mut |record| {
            assert!(matches!(record, Record::Event { cpu: Some(of), .. } if of == cpu), "{record:?}");
            ControlFlow::Continue(())
        });
        assert_eq!(seen as u64, bytes / 24);
    }
    assert_eq!(records.drain_cpu(map, 1 << 20, &mut |record| panic!("{record:?}")), 0);
}

#[test]
fn raw_records_of_perf_buffers_are_whole_and_of_every_kind() {
    if !may_load() {
        return;
    }
    let (spec, map, id) = perf_object();
    let session = load(spec);
    let mut records = page_reader(&session, map);
    let (mut samples, mut lost, mut offered) = (0u64, 0u64, 0u64);
    stay_on_this_cpu();
    for burst in [1000, 1, 1, 1, 1, 1, 1, 1, 1] {
        run(&session, id, burst);
        offered += u64::from(burst);
        records.drain_raw(&mut |record| {
            assert_eq!(record.map, map);
            match record.record_type {
                9 => {
                    assert_eq!(record.body.len(), 16);
                    assert_eq!((&record.body[..4], record.body[4]), (&12u32.to_ne_bytes()[..], 6));
                    samples += 1;
                }
                2 => lost += u64::from_ne_bytes(record.body[8..16].try_into().unwrap()),
                other => panic!("type {other}"),
            }
            ControlFlow::Continue(())
        });
    }
    assert!(samples > 50 && lost > 0 && samples + lost <= offered, "{samples} + {lost} of {offered}");
    // What was given raw is not told again; what no record could tell still is.
    let mut told = 0;
    records
        .drain(&mut |record| {
            let Record::Lost { count, .. } = record else { panic!("{record:?}") };
            told += count;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(samples + lost + told <= offered);
    if kernel(6, 0) {
        assert_eq!(samples + lost + told, offered);
    }
}

#[test]
fn events_of_the_callers_own_making_come_raw_alone() {
    if !may_load() {
        return;
    }
    use skep_sys::perf_event;
    let (spec, map, id) = perf_object();
    let session = load(spec);
    let mut records = Records::new().unwrap();
    records.set_perf_bytes(4096);
    let mut attr = perf_event::Attr::new(perf_event::PERF_TYPE_SOFTWARE, perf_event::PERF_COUNT_SW_BPF_OUTPUT)
        .with_flags(perf_event::flags::COMM | perf_event::flags::TASK);
    attr.sample_type = perf_event::PERF_SAMPLE_RAW | perf_event::PERF_SAMPLE_TIME;
    attr.sample_period = 1;
    attr.wakeup = 1;
    records.add_perf_with(map, session.kernel_map(map).unwrap(), attr).unwrap();
    run(&session, id, 1);
    std::process::Command::new("true").status().unwrap();
    assert_eq!(records.drain(&mut |record| panic!("{record:?}")).unwrap(), 0);
    let mut seen = Vec::new();
    records.drain_raw(&mut |record| {
        seen.push((record.record_type, record.body.len()));
        ControlFlow::Continue(())
    });
    // The time stands before the length of the bytes.
    assert!(seen.contains(&(9, 24)), "{seen:?}");
    assert!(seen.iter().any(|(of, _)| *of == 3) && seen.iter().any(|(of, _)| *of == 7), "{seen:?}");
}

/// A burst that nothing follows: no event comes that could carry the news of what was lost.
#[test]
fn losses_behind_the_last_event_of_a_perf_buffer_are_told() {
    if !may_load() || !kernel(6, 0) {
        return;
    }
    let mut spec = empty();
    let map = add_map(&mut spec, "perf", MapType::PERF_EVENT_ARRAY, 4, 4, 0);
    let code = "*(u64 *)(r10 -8) = 5\nr2 = map[id:0]\nr3 = 0xffffffff ll\nr4 = r10\nr4 += -8\n\
                r5 = 8\ncall bpf_perf_event_output#25\nr0 = 0\nexit";
    let id = add_program(&mut spec, "offer", CLS, code);
    let options = LoadOptions { perf_buffer_bytes: 4096, ..LoadOptions::default() };
    let session = KernelEngine::new().load(spec, &options).unwrap();
    let mut records = session.records(&[map], false).unwrap();
    run(&session, id, 5000);
    let (mut delivered, mut lost) = (0u64, 0);
    let mut calls = 0;
    // A sink that breaks off is told the losses all the same, later.
    while delivered + lost < 5000 && calls < 10_000 {
        calls += 1;
        let mut sink = |record: Record<'_>| {
            match record {
                Record::Event { .. } => delivered += 1,
                Record::Lost { count, .. } => lost += count,
                Record::Text { .. } => panic!("{record:?}"),
            }
            ControlFlow::Break(())
        };
        records.poll(Some(Duration::ZERO), &mut sink).unwrap();
    }
    assert_eq!(delivered + lost, 5000, "{delivered} + {lost}");
    assert!(lost > 4000, "{lost}: a page was asked for");
}

#[test]
fn printed_text_is_read_and_nothing_is_left() {
    if !may_load() || !kernel(5, 9) {
        return;
    }
    let mut spec = empty();
    // "hi from %d\n" on the stack, and 77.
    let mut words = *b"hi from %d\n\0\0\0\0\0";
    words[11] = 0;
    let (first, second) =
        (u64::from_ne_bytes(words[..8].try_into().unwrap()), u64::from_ne_bytes(words[8..].try_into().unwrap()));
    let code = format!(
        "r1 = {first:#x} ll\n*(u64 *)(r10 -16) = r1\nr1 = {second:#x} ll\n*(u64 *)(r10 -8) = r1\nr1 = r10\nr1 += -16\nr2 = 12\n\
         r3 = 77\ncall bpf_trace_printk#6\nr0 = 0\nexit"
    );
    let id = add_program(&mut spec, "say", CLS, &code);
    let session = load(spec);
    let tracefs = skep_sys::tracefs::Tracefs::open().unwrap();
    let ours = || -> Vec<String> {
        let mut names = tracefs.instances().unwrap();
        names.retain(|name| name.starts_with("skep-"));
        names
    };
    // One that a dead process left behind.
    let _ = tracefs.make_instance("skep-0-0");
    let mut records = session.records(&[], true).unwrap();
    assert!(!ours().contains(&"skep-0-0".to_owned()), "what the dead left is removed");
    let mine = format!("skep-{}-", std::process::id());
    assert!(ours().iter().any(|name| name.starts_with(&mine)));
    run(&session, id, 3);
    let mut seen = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    while seen.len() < 3 && Instant::now() < deadline {
        records
            .poll(Some(Duration::from_millis(200)), &mut |record| {
                if let Record::Text { comm, tid, time_ns, text, .. } = record
                    && text == "hi from 77"
                {
                    assert!(tid > 0 && time_ns > 0 && !comm.is_empty());
                    seen.push(text.to_owned());
                }
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    assert_eq!(seen, ["hi from 77"; 3]);
    drop(records);
    assert!(!ours().iter().any(|name| name.starts_with(&mine)), "nothing is left: {:?}", ours());
}

/// The process that [`a_killed_reader_leaves_no_trace_instance`] kills.
#[test]
fn reader_that_waits_to_be_killed() {
    if std::env::var_os("SKEP_TEST_WAIT").is_none() {
        return;
    }
    let mut records = Records::new().unwrap();
    records.add_printk().unwrap();
    println!("reading");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_reader_leaves_no_trace_instance() {
    if !may_load() || !kernel(5, 9) {
        return;
    }
    let tracefs = skep_sys::tracefs::Tracefs::open().unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reader_that_waits_to_be_killed", "--nocapture"])
        .env("SKEP_TEST_WAIT", "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let theirs = format!("skep-{}-", child.id());
    let there = || tracefs.instances().unwrap().iter().any(|name| name.starts_with(&theirs));
    let until = |wanted: bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while there() != wanted && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        there() == wanted
    };
    let appeared = until(true);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(appeared, "the reader made no instance");
    assert!(until(false), "left behind: {:?}", tracefs.instances().unwrap());
}

#[test]
fn user_rings_refuse_what_does_not_fit() {
    if !may_load() || !kernel(6, 1) {
        return;
    }
    let mut spec = empty();
    let id = add_map(&mut spec, "ring", MapType::USER_RINGBUF, 0, 0, 4096);
    let session = load(spec);
    let ring = UserRing::new(session.kernel_map(id).unwrap()).unwrap();
    assert!(ring.send(&[1; 1000]).unwrap());
    let mut sample = ring.reserve(1000).unwrap().expect("there is room");
    sample.bytes().fill(2);
    sample.submit();
    ring.reserve(1000).unwrap().expect("there is room").discard();
    assert_eq!(ring.pending(), 3 * 1008);
    let positions = ring.positions();
    assert_eq!((positions.consumer, positions.producer), (0, 3 * 1008));
    assert!(ring.send(&[0; 1000]).unwrap());
    // Nobody drains.
    assert!(ring.reserve(1000).unwrap().is_none());
    let started = Instant::now();
    assert!(ring.reserve_blocking(1000, Some(Duration::from_millis(30))).unwrap().is_none());
    assert!(started.elapsed() >= Duration::from_millis(30));
    assert!(ring.reserve(usize::MAX).is_err());
    let error = ring.reserve(5000).unwrap_err();
    assert_eq!(error.hint(), Some("raise its `max_entries`, its size in bytes"));
}

#[test]
fn a_map_without_events_is_no_source() {
    if !may_load() {
        return;
    }
    let mut spec = empty();
    let id = add_map(&mut spec, "plain", MapType::HASH, 4, 4, 4);
    let session = load(spec);
    let Err(error) = session.records(&[id], false) else { panic!("a hash is no stream") };
    assert_eq!(error.to_string(), "map `plain` is of type hash, which holds no stream of events");
}
