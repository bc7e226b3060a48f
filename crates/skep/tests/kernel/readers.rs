//! Readers of one buffer: deadlines, flushing, pausing, wakeups, writing over, losses, loans.

use std::time::{Duration, Instant};

use skep::spec::MapType;
use skep::{Loaded, Next, PerfOptions, PerfReader, PerfRecord, TestRun, Wakeup};
use skep_sys::version::KernelVersion;

use super::{PACKET, Recipe, may_load};

/// Writes 16 bytes into map 0, a perf event array: the element 0 of map 1, which is counted up, and 7. Returns what the kernel said.
const PERF: &str = "
    r6 = r1
    *(u32 *)(r10 -4) = 0
    r1 = map[id:1]
    r2 = r10
    r2 += -4
    call bpf_map_lookup_elem#1
    if r0 == 0x0 goto out
    r2 = *(u64 *)(r0 +0)
    r3 = r2
    r3 += 1
    *(u64 *)(r0 +0) = r3
    *(u64 *)(r10 -24) = r2
    *(u64 *)(r10 -16) = 7
    r1 = r6
    r2 = map[id:0]
    r3 = 0xffffffff ll
    r4 = r10
    r4 += -24
    r5 = 16
    call bpf_perf_event_output#25
    exit
out:
    r0 = 1
    exit
";

/// Writes the number 77 of 8 bytes into map 0, a ring buffer. Returns what the kernel said.
const RING: &str = "
    *(u64 *)(r10 -8) = 77
    r1 = map[id:0]
    r2 = r10
    r2 += -8
    r3 = 8
    r4 = 0
    call bpf_ringbuf_output#130
    exit
";

pub(super) fn perf() -> Loaded {
    Recipe::new()
        .map("perf", MapType::PERF_EVENT_ARRAY, 4, 4, 0)
        .map("number", MapType::ARRAY, 4, 8, 1)
        .program("send", "tc", PERF)
        .load()
}

pub(super) fn ring() -> Loaded {
    Recipe::new().map("ring", MapType::RINGBUF, 0, 0, 4096).program("send", "tc", RING).load()
}

/// Runs the program so often; what it returned the last time.
pub(super) fn send(loaded: &Loaded, times: u32) -> i32 {
    let input = TestRun { data: &PACKET, repeat: times, ..TestRun::default() };
    loaded.program("send").unwrap().test_run(&input).unwrap().retval as i32
}

fn open(loaded: &Loaded, options: &PerfOptions) -> PerfReader {
    loaded.map("perf").unwrap().perf_reader(options).unwrap()
}

pub(super) fn number(data: &[u8]) -> u64 {
    u64::from_ne_bytes(data[..8].try_into().unwrap())
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(60))
}

/// Everything up to the end, and the end.
fn rest(reader: &mut PerfReader) -> (Vec<u64>, u64, &'static str) {
    let (mut events, mut losses) = (Vec::new(), 0);
    loop {
        match reader.read().unwrap() {
            Next::Record(PerfRecord::Event { data, .. }) => events.push(number(data)),
            Next::Record(PerfRecord::Lost { count, .. }) => losses += count,
            Next::Deadline => return (events, losses, "deadline"),
            Next::Flushed => return (events, losses, "flushed"),
        }
    }
}

#[test]
fn perf_events_are_read_one_by_one_until_the_deadline() {
    if !may_load() {
        return;
    }
    let loaded = perf();
    let mut reader = open(&loaded, &PerfOptions::default());
    assert_eq!(send(&loaded, 3), 0);
    reader.set_deadline(soon());
    let mut remaining = Vec::new();
    for expected in 0..3 {
        match reader.read().unwrap() {
            Next::Record(PerfRecord::Event { data, remaining_bytes, .. }) => {
                assert_eq!((number(data), number(&data[8..])), (expected, 7));
                remaining.push(remaining_bytes);
            }
            other => panic!("{other:?}"),
        }
    }
    // All ran on one CPU, and each takes 8 bytes of header, 4 of length, 16 of data and 4 of padding.
    assert_eq!(remaining, [64, 32, 0]);
    let before = Instant::now();
    reader.set_deadline(Some(before + Duration::from_millis(50)));
    assert!(matches!(reader.read().unwrap(), Next::Deadline));
    assert!(before.elapsed() >= Duration::from_millis(50));
    assert!(matches!(reader.try_read().unwrap(), Next::Deadline));
    send(&loaded, 1);
    assert!(matches!(reader.try_read().unwrap(), Next::Record(_)));
}

#[test]
fn a_watermark_lets_the_reader_sleep_and_a_flush_gives_what_is_below_it() {
    if !may_load() {
        return;
    }
    let loaded = perf();
    for wakeup in [Wakeup::Bytes(3000), Wakeup::Events(90)] {
        let mut reader = open(&loaded, &PerfOptions { bytes_per_cpu: 4096, wakeup, ..PerfOptions::default() });
        assert_eq!(reader.bytes_per_cpu(), 4096);
        // 32 bytes each: below the mark nobody is woken, so only the descriptor is looked at.
        send(&loaded, 10);
        let fd = &reader;
        let readable = |ms: u64| {
            let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: ms as i64 * 1_000_000 };
            let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&timeout)).unwrap() > 0
        };
        assert!(!readable(30), "{wakeup:?}");
        let flusher = reader.flusher();
        let flushing = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            flusher.flush();
        });
        let waiting = rest_after_wait(&mut reader);
        flushing.join().unwrap();
        assert_eq!((waiting.0.len(), waiting.1, waiting.2), (10, 0, "flushed"), "{wakeup:?}");
        send(&loaded, 100);
        let fd = &reader;
        let timeout = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
        let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut fds, Some(&timeout)).unwrap(), 1, "{wakeup:?}");
    }
    let never = PerfOptions { bytes_per_cpu: 4096, wakeup: Wakeup::Bytes(4096), ..PerfOptions::default() };
    let error = loaded.map("perf").unwrap().perf_reader(&never).unwrap_err();
    assert!(error.to_string().contains("would never wake"), "{error}");
}

/// Reads without a deadline.
fn rest_after_wait(reader: &mut PerfReader) -> (Vec<u64>, u64, &'static str) {
    reader.set_deadline(None);
    rest(reader)
}

#[test]
fn a_paused_reader_makes_programs_fail_and_a_resumed_one_reads_on() {
    if !may_load() {
        return;
    }
    let loaded = perf();
    let mut reader = open(&loaded, &PerfOptions::default());
    assert_eq!(send(&loaded, 1), 0);
    reader.pause().unwrap();
    reader.pause().unwrap();
    // -ENOENT
    assert_eq!(send(&loaded, 1), -2);
    reader.resume().unwrap();
    assert_eq!(send(&loaded, 1), 0);
    reader.set_deadline(Some(Instant::now()));
    assert_eq!(rest(&mut reader), (vec![0, 2], 0, "deadline"));
    drop(reader);
    assert_eq!(send(&loaded, 1), -2);
}

#[test]
fn what_does_not_fit_is_told_and_counted() {
    if !may_load() {
        return;
    }
    if KernelVersion::running() < KernelVersion::new(6, 0, 0) {
        println!("skipped: needs kernel 6.0");
        return;
    }
    let loaded = perf();
    let mut reader = open(&loaded, &PerfOptions { bytes_per_cpu: 4096, ..PerfOptions::default() });
    let mut sent = 0;
    for times in [1000, 1, 500] {
        send(&loaded, times);
        sent += u64::from(times);
    }
    reader.set_deadline(Some(Instant::now()));
    let (events, losses, _) = rest(&mut reader);
    assert!(!events.is_empty() && losses > 0);
    assert_eq!(events.len() as u64 + losses, sent);
    // And those at the very end, which no event follows.
    send(&loaded, 1000);
    reader.set_deadline(Some(Instant::now()));
    let (events, losses, _) = rest(&mut reader);
    assert_eq!(events.len() as u64 + losses, 1000);
}

#[test]
fn an_overwritable_reader_has_the_newest() {
    if !may_load() {
        return;
    }
    let loaded = perf();
    let options = PerfOptions { bytes_per_cpu: 4096, overwritable: true, ..PerfOptions::default() };
    let mut reader = open(&loaded, &options);
    let error = reader.read().unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("pause")), "{error}");
    assert_eq!(send(&loaded, 5), 0);
    reader.pause().unwrap();
    assert_eq!(rest(&mut reader).0, [4, 3, 2, 1, 0]);
    reader.resume().unwrap();
    assert_eq!(send(&loaded, 1000), 0);
    reader.pause().unwrap();
    let (events, losses, end) = rest(&mut reader);
    // 4096 bytes hold 128 of them.
    assert!((100..=128).contains(&events.len()), "{}", events.len());
    let newest: Vec<u64> = (0..1005).rev().take(events.len()).collect();
    assert_eq!((events, losses, end), (newest, 0, "flushed"));
    // Nothing is given twice.
    reader.resume().unwrap();
    assert_eq!(send(&loaded, 1), 0);
    reader.pause().unwrap();
    assert_eq!(rest(&mut reader).0, [1005]);
}

#[test]
fn a_ring_buffer_lends_its_records() {
    if !may_load() {
        return;
    }
    let loaded = ring();
    let mut reader = loaded.map("ring").unwrap().ring_reader().unwrap();
    assert_eq!((reader.size_bytes(), reader.available_bytes()), (4096, 0));
    // Full: 16 bytes each, and both ends must not meet.
    assert!(send(&loaded, 1000) < 0);
    assert_eq!(reader.available_bytes(), 4096 - 16);
    reader.set_deadline(soon());
    match reader.read().unwrap() {
        Next::Record(record) => assert_eq!((record.len(), number(&record)), (8, 77)),
        other => panic!("{other:?}"),
    }
    // The loan is over, and its room given back.
    assert_eq!(reader.available_bytes(), 4096 - 32);
    assert_eq!(send(&loaded, 1), 0);
    let mut count = 0;
    let flusher = reader.flusher();
    flusher.flush();
    flusher.flush();
    loop {
        match reader.read().unwrap() {
            Next::Record(_) => count += 1,
            Next::Flushed => break,
            Next::Deadline => panic!("the deadline is far"),
        }
        // A program that never stops does not put the end off.
        send(&loaded, 1);
    }
    assert!(count >= 255, "{count}");
    while matches!(reader.try_read().unwrap(), Next::Record(_)) {}
    assert_eq!(reader.available_bytes(), 0);
    reader.set_deadline(Some(Instant::now() + Duration::from_millis(30)));
    assert!(matches!(reader.read().unwrap(), Next::Deadline));
    let error = perf().map("perf").unwrap().ring_reader().unwrap_err().to_string();
    assert!(error.ends_with("and no ring buffer"), "{error}");
    let error = loaded.map("ring").unwrap().perf_reader(&PerfOptions::default()).unwrap_err().to_string();
    assert!(error.ends_with("and no perf event array"), "{error}");
}

#[test]
fn a_reader_waits_in_a_thread_of_its_own() {
    if !may_load() {
        return;
    }
    let loaded = ring();
    let mut reader = loaded.map("ring").unwrap().ring_reader().unwrap();
    let flusher = reader.flusher();
    let reading = std::thread::spawn(move || {
        let mut count = 0;
        while let Next::Record(_) = reader.read().unwrap() {
            count += 1;
        }
        count
    });
    for _ in 0..50 {
        send(&loaded, 1);
        std::thread::sleep(Duration::from_micros(200));
    }
    flusher.flush();
    assert_eq!(reading.join().unwrap(), 50);
}
