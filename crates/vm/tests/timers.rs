//! Timers of programs: what the calls return, when callbacks run, and what ends a timer.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use std::sync::Arc;
use std::time::Duration;

use common::code;
use skep_vm::{Block, Cpu, Helpers, Image, Machine, Map, MapKind, MapSpec, Trap};

const EINVAL: u64 = -22i64 as u64;
const EBUSY: u64 = -16i64 as u64;
const EDEADLK: u64 = -35i64 as u64;
/// A second, which no test waits for.
const LONG: u64 = 1_000_000_000;

/// A map whose values are a counter, what the callback saw, and a timer.
struct Bench {
    machine: Arc<Machine>,
    cpu: Cpu,
    map: Arc<Map>,
    key: Block,
}

impl Bench {
    fn new(kind: MapKind, max_entries: u32) -> Bench {
        let machine = Machine::with_cpus(Helpers::all(), 4).expect("4 GiB of addresses");
        let cpu = Cpu::new(&machine).expect("a stack");
        let spec = MapSpec {
            name: "timed".into(),
            kind,
            key_size: 4,
            value_size: 32,
            max_entries,
            timer_off: Some(16),
            ..MapSpec::default()
        };
        let map = machine.create_map(&spec).expect("a map");
        let key = machine.space().allocate(64, true).expect("a block");
        Bench { machine, cpu, map, key }
    }

    /// Runs a program with the value of a key in r7, and its timer in r1.
    fn run(&mut self, key: u32, asm: &str, callback: &str) -> Result<u64, Box<Trap>> {
        self.key.write(0, &key.to_ne_bytes()).expect("it fits");
        let handle = self.map.handle();
        let asm = format!(
            "r6 = r1\nr1 = {handle:#x} ll\nr2 = r6\ncall 1\nr7 = r0\nr1 = r7\nr1 += 16\n{asm}\nexit\n\
             f:\n{callback}\nr0 = 0\nexit"
        );
        let image = code("timed", &asm);
        let program =
            self.machine.load(&Image { name: "timed", insns: &image, ..Image::default() }).expect("it is good");
        program.compile().ok();
        self.cpu.run(&program, [self.key.addr(), 0])
    }

    fn gives(&mut self, key: u32, asm: &str) -> u64 {
        let uses = format!("{asm}\nr9 = r0\nr2 = subprog[f]\nr0 = r9");
        self.run(key, &uses, COUNTS).expect("it ends well")
    }

    fn init(&mut self, key: u32, flags: u64) -> u64 {
        let asm = format!("r2 = {:#x} ll\nr3 = {flags}\ncall 169", self.map.handle());
        self.gives(key, &asm)
    }

    /// Makes and starts a timer of a key.
    fn start(&mut self, key: u32, callback: &str, ns: u64, flags: u64) {
        assert_eq!(self.init(key, 1), 0);
        let asm = format!("r8 = r1\nr2 = subprog[f]\ncall 170\nr1 = r8\nr2 = {ns:#x} ll\nr3 = {flags}\ncall 171");
        assert_eq!(self.run(key, &asm, callback).expect("it ends well"), 0);
    }

    fn words(&self, key: u32) -> (u64, u64) {
        let value = self.map.lookup(&key.to_ne_bytes()).expect("it is there").expect("an element");
        assert_eq!(value[16..], [0; 16], "nobody sees a timer");
        let word = |at: usize| u64::from_ne_bytes(value[at..at + 8].try_into().expect("8 bytes"));
        (word(0), word(8))
    }
}

/// Counts, and keeps the key.
const COUNTS: &str =
    "r4 = *(u64 *)(r3 + 0)\nr4 += 1\n*(u64 *)(r3 + 0) = r4\nr5 = *(u32 *)(r2 + 0)\n*(u64 *)(r3 + 8) = r5";
const CALLBACK: &str = "r2 = subprog[f]\ncall 170";
const CANCEL: &str = "call 172";

fn starts(ns: u64, flags: u64) -> String {
    format!("r2 = {ns:#x} ll\nr3 = {flags}\ncall 171")
}

#[test]
fn calls_return_what_the_kernel_returns() {
    let mut bench = Bench::new(MapKind::Array, 2);
    for flags in [2, 3, 4, 6, 8, 15, 16, 17] {
        assert_eq!(bench.init(1, flags), EINVAL, "{flags}");
    }
    for call in [CALLBACK, CANCEL, &starts(LONG, 0)] {
        assert_eq!(bench.gives(1, call), EINVAL, "{call}");
    }
    assert_eq!((bench.init(1, 7), bench.init(1, 1), bench.init(0, 0)), (0, EBUSY, 0));
    assert_eq!(bench.gives(1, &starts(LONG, 0)), EINVAL);
    assert_eq!(bench.gives(1, CANCEL), 0);
    assert_eq!(bench.gives(1, CALLBACK), 0);
    assert_eq!(bench.gives(1, &starts(LONG, 4)), EINVAL);
    assert_eq!(bench.gives(1, &starts(LONG, 2)), 0);
    assert_eq!(bench.gives(1, &starts(LONG, 0)), 0);
    assert_eq!(bench.machine.timers().waiting(), 1);
    // It takes the callback away.
    assert_eq!((bench.gives(1, CANCEL), bench.gives(1, CANCEL)), (1, 0));
    assert_eq!(bench.gives(1, &starts(LONG, 0)), EINVAL);
    assert_eq!(bench.machine.timers().waiting(), 0);
}

#[test]
fn a_callback_gets_its_key_and_its_value_when_its_time_has_come() {
    for kind in [MapKind::Array, MapKind::Hash, MapKind::LruHash] {
        let mut bench = Bench::new(kind, 8);
        if kind != MapKind::Array {
            bench.map.update(&5u32.to_ne_bytes(), &[0; 32], 0).expect("there is room");
        }
        bench.start(5, COUNTS, 20_000_000, 0);
        let wait = bench.machine.timers().wait_time();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(20), "{wait:?}");
        assert!(bench.cpu.run_timer().is_none());
        std::thread::sleep(wait);
        let expired = bench.cpu.run_timer().expect("it is time");
        assert!(expired.result.is_ok() && expired.program.name() == "timed");
        assert_eq!(bench.words(5), (1, 5));
        assert!(bench.cpu.run_timer().is_none());
        // By the clock: long ago; and in an hour.
        assert_eq!(bench.gives(5, &starts(1, 1)), 0);
        assert!(bench.cpu.run_timer().is_some());
        assert_eq!(bench.words(5), (2, 5));
        assert_eq!(bench.gives(5, &starts(3600 * LONG, 0)), 0);
        assert_eq!(bench.machine.timers().wait_time(), Duration::from_secs(1));
        assert!(bench.cpu.run_timer().is_none());
    }
}

#[test]
fn timers_run_in_the_order_of_their_times_with_the_number_of_who_started_them() {
    let mut bench = Bench::new(MapKind::Array, 3);
    let callback = "r6 = r3\nr7 = *(u32 *)(r2 + 0)\ncall 8\n*(u64 *)(r6 + 0) = r0\n*(u64 *)(r6 + 8) = r7";
    for (key, ns) in [(0, 30), (1, 10), (2, 20)] {
        bench.cpu.set_number(key + 1);
        bench.start(key, callback, ns, 1);
    }
    bench.cpu.set_number(0);
    for key in [1, 2, 0] {
        assert_eq!(bench.words(key), (0, 0));
        assert!(bench.cpu.run_timer().expect("it is time").result.is_ok());
        assert_eq!(bench.words(key), (u64::from(key) + 1, key.into()));
        assert_eq!(bench.cpu.number(), 0);
    }
}

#[test]
fn a_callback_starts_its_timer_again_and_cannot_cancel_it() {
    let mut bench = Bench::new(MapKind::Array, 1);
    let callback = format!(
        "{COUNTS}\nr6 = r3\nr1 = r6\nr1 += 16\ncall 172\n*(u64 *)(r6 + 8) = r0\nr1 = r6\nr1 += 16\n{}",
        starts(0, 0)
    );
    bench.start(0, &callback, 0, 0);
    for round in 1..=3 {
        assert!(bench.cpu.run_timer().expect("it is time").result.is_ok());
        assert_eq!(bench.words(0), (round, EDEADLK));
    }
    assert_eq!(bench.gives(0, CANCEL), 1);
    assert!(bench.cpu.run_timer().is_none());
}

/// Ends the element of a key.
type End = fn(&Map, &[u8]);

#[test]
fn a_timer_ends_with_its_element() {
    let key = 3u32.to_ne_bytes();
    let ends: [(MapKind, End); 6] = [
        (MapKind::Array, |map, key| map.update(key, &[0; 32], 0).expect("an update")),
        (MapKind::Hash, |map, key| map.update(key, &[0xff; 32], 0).expect("an update")),
        (MapKind::Hash, |map, key| map.delete(key).expect("it is there")),
        (MapKind::Hash, |map, key| assert!(map.take(key).expect("it is there").is_some())),
        (MapKind::LruHash, |map, key| map.delete(key).expect("it is there")),
        // Others take its place.
        (MapKind::LruHash, |map, _| (10u32..30).for_each(|key| map.update(&key.to_ne_bytes(), &[0; 32], 0).unwrap())),
    ];
    for (round, (kind, end)) in ends.into_iter().enumerate() {
        let mut bench = Bench::new(kind, 4);
        if kind != MapKind::Array {
            bench.map.update(&key, &[0; 32], 0).expect("there is room");
        }
        bench.start(3, COUNTS, 0, 0);
        end(&bench.map, &key);
        assert!(bench.cpu.run_timer().is_none(), "{round}");
        if kind == MapKind::Array {
            assert_eq!(bench.init(3, 1), 0);
        }
    }
    let mut bench = Bench::new(MapKind::Hash, 4);
    bench.map.update(&key, &[0; 32], 0).expect("there is room");
    // A program deletes its own element.
    let handle = bench.map.handle();
    bench.start(3, &format!("r1 = {handle:#x} ll\ncall 3"), 0, 0);
    assert!(bench.cpu.run_timer().expect("it is time").result.is_ok());
    assert_eq!((bench.map.lookup(&key).unwrap(), bench.machine.timers().waiting()), (None, 0));
    bench.map.update(&key, &[0; 32], 0).expect("there is room");
    bench.start(3, COUNTS, 0, 0);
    bench.machine.remove_map(&bench.map);
    assert!(bench.cpu.run_timer().is_none());
}

#[test]
fn what_is_no_timer_is_refused_and_a_wild_callback_is_stopped() {
    let mut bench = Bench::new(MapKind::Array, 2);
    let handle = bench.map.handle();
    for at in ["r1 = r7", "r1 = r7\nr1 += 8", "r1 = r10\nr1 += -16"] {
        let trap =
            bench.run(0, &format!("{at}\nr2 = {handle:#x} ll\nr3 = 1\ncall 169\nr2 = subprog[f]"), "").unwrap_err();
        assert!(trap.to_string().contains("is no `struct bpf_timer` of an element of map `timed`"), "{trap}");
    }
    bench.start(1, "r0 = *(u64 *)(r3 + 4096)", 0, 0);
    let expired = bench.cpu.run_timer().expect("it is time");
    let trap = expired.result.unwrap_err();
    assert!(trap.to_string().contains("program `timed`"), "{trap}");
    let spec = |kind, timer_off| MapSpec {
        kind,
        key_size: 4,
        value_size: 32,
        max_entries: 1,
        timer_off: Some(timer_off),
        ..MapSpec::default()
    };
    for wrong in [spec(MapKind::Array, 4), spec(MapKind::Array, 24), spec(MapKind::PerCpuArray, 0)] {
        assert_eq!(bench.machine.create_map(&wrong).unwrap_err().errno(), 22);
    }
}

#[test]
fn who_waits_is_woken_by_a_timer_that_is_next() {
    let mut bench = Bench::new(MapKind::Array, 2);
    let seen = bench.machine.timers().bell().strokes();
    bench.start(0, COUNTS, LONG, 0);
    assert_eq!(bench.machine.timers().bell().strokes(), seen + 1);
    bench.start(1, COUNTS, 2 * LONG, 0);
    assert_eq!(bench.machine.timers().bell().strokes(), seen + 1);
}
