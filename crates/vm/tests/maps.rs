//! Maps: the same calls on this machine's and on the kernel's give the same; and what programs do with them.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use std::ops::ControlFlow;
use std::sync::Arc;

use common::{Engine, code, kernel, random::Rng};
use skep_insn::{Imm64, Insn, InsnIdx};
use skep_sys::bpf::{MapCreate, MapFd};
use skep_vm::{
    Cpu, F_NO_PREALLOC, F_RDONLY_PROG, Helpers, Image, Machine, Map, MapError, MapKind, MapSpec, Program, Trap,
};

fn spec(kind: MapKind, key_size: u32, value_size: u32, max_entries: u32) -> MapSpec {
    MapSpec { kind, key_size, value_size, max_entries, ..MapSpec::default() }
}

/// Loads a program whose maps are named by number: `r1 = map[id:0]`.
fn load(machine: &Machine, asm: &str, maps: &[&Map]) -> Arc<Program> {
    load_for(Engine::Interpreter, machine, asm, maps)
}

fn load_for(engine: Engine, machine: &Machine, asm: &str, maps: &[&Map]) -> Arc<Program> {
    let insns = code("program", asm);
    let bind = |decoded: Result<(InsnIdx, Insn), _>| match decoded {
        Ok((at, Insn::LoadImm64 { value: Imm64::MapFd(index), .. })) => Some((at, maps[index as usize].handle())),
        _ => None,
    };
    let binds: Vec<(InsnIdx, u64)> = Insn::decode_all(&insns).filter_map(bind).collect();
    let image = Image { name: "program", insns: &insns, binds: &binds, ..Image::default() };
    engine.load(machine, &image).expect("a good program")
}

fn run(machine: &Arc<Machine>, asm: &str, maps: &[&Map]) -> Result<u64, Box<Trap>> {
    Cpu::new(machine).expect("a stack").run(&load(machine, asm, maps), [0, 0])
}

/// An answer as the system call gives it.
type Answer = Result<Option<Vec<u8>>, i32>;

struct Pair {
    ours: Arc<Map>,
    kernels: MapFd,
}

impl Pair {
    fn new(machine: &Machine, spec: &MapSpec) -> Pair {
        let ours = machine.create_map(spec).expect("a map");
        let create = MapCreate {
            map_type: spec.kind as u32,
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: spec.max_entries,
            map_flags: spec.flags,
            ..MapCreate::default()
        };
        Pair { ours, kernels: create.create().expect("the kernel makes it") }
    }

    fn both(&self, what: &str, ours: Answer, kernels: Answer) -> Answer {
        assert_eq!(ours, kernels, "{what} of {:?}", self.ours.spec());
        ours
    }

    fn len(&self) -> usize {
        self.kernels.value_len()
    }

    fn update(&self, key: &[u8], value: &[u8], flags: u64) {
        let ours = self.ours.update(key, value, flags).map(|()| None).map_err(|error| error.errno());
        let kernels = self.kernels.update(key, value, flags).map(|()| None).map_err(|errno| errno.raw());
        let _ = self.both(&format!("update {key:x?} {flags}"), ours, kernels);
    }

    fn delete(&self, key: &[u8]) {
        let ours = self.ours.delete(key).map(|()| None).map_err(|error| error.errno());
        let kernels = self.kernels.delete(key).map(|()| None).map_err(|errno| errno.raw());
        let _ = self.both(&format!("delete {key:x?}"), ours, kernels);
    }

    fn lookup(&self, key: &[u8]) {
        let mut value = vec![0; self.len()];
        let kernels = self.kernels.lookup(key, &mut value, 0).map(|()| Some(value)).map_err(|errno| errno.raw());
        let _ = self.both(&format!("lookup {key:x?}"), absent(self.ours.lookup(key)), kernels);
    }

    fn take(&self, key: &[u8]) {
        let mut value = vec![0; self.len()];
        let kernels =
            self.kernels.lookup_and_delete(key, &mut value, 0).map(|()| Some(value)).map_err(|errno| errno.raw());
        let _ = self.both(&format!("take {key:x?}"), absent(self.ours.take(key)), kernels);
    }

    fn kernel_keys(&self) -> Vec<Vec<u8>> {
        let (mut keys, mut next) = (Vec::<Vec<u8>>::new(), vec![0; self.ours.spec().key_size as usize]);
        while self.kernels.next_key(keys.last().map(Vec::as_slice), &mut next).expect("keys") {
            keys.push(next.clone());
        }
        keys
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        let mut keys = Vec::<Vec<u8>>::new();
        while let Some(next) = self.ours.next_key(keys.last().map(Vec::as_slice)).expect("keys") {
            keys.push(next);
        }
        keys
    }
}

/// The kernel has an error number for what is not there.
fn absent(found: Result<Option<Vec<u8>>, MapError>) -> Answer {
    found.map_err(|error| error.errno()).and_then(|value| value.map(Some).ok_or(MapError::NotFound.errno()))
}

fn bytes(rng: &Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.next() as u8).collect()
}

/// Random calls with few keys.
fn compare(pair: &Pair, seed: u64, mut key: impl FnMut(&Rng) -> Vec<u8>) {
    let rng = Rng::new(seed);
    let stride = if pair.ours.spec().kind.is_per_cpu() { pair.ours.spec().value_size.next_multiple_of(8) } else { 0 };
    for _ in 0..3000 {
        let key = key(&rng);
        match rng.next() % 8 {
            0..=3 => {
                let mut value = bytes(&rng, pair.len());
                // What is behind a value up to 8 bytes is not kept.
                for (at, byte) in value.iter_mut().enumerate() {
                    if stride != 0 && at as u32 % stride >= pair.ours.spec().value_size {
                        *byte = 0;
                    }
                }
                pair.update(&key, &value, rng.next() % 4 * (rng.next() % 2));
            }
            4 => pair.delete(&key),
            5 if matches!(pair.ours.spec().kind, MapKind::Hash) => pair.take(&key),
            _ => pair.lookup(&key),
        }
    }
}

#[test]
fn arrays_and_hash_maps_answer_as_the_kernels_do() {
    if kernel::version().is_none() {
        return;
    }
    let cpus = skep_sys::cpu::possible_count() as u32;
    let machine = Machine::with_cpus(Helpers::none(), cpus).expect("4 GiB of addresses");
    for (seed, kind) in [MapKind::Array, MapKind::PerCpuArray].into_iter().enumerate() {
        let pair = Pair::new(&machine, &spec(kind, 4, 12, 10));
        compare(&pair, seed as u64, |rng| ((rng.next() % 12) as u32).to_ne_bytes().to_vec());
        assert_eq!(pair.keys(), pair.kernel_keys());
    }
    for (seed, kind) in [MapKind::Hash, MapKind::PerCpuHash].into_iter().enumerate() {
        for key_size in [1, 5, 8, 40, 70] {
            let pair = Pair::new(&machine, &spec(kind, key_size, 12, 10));
            compare(&pair, seed as u64, |rng| {
                let mut key = vec![7; key_size as usize];
                key[key_size as usize - 1] = (rng.next() % 14) as u8;
                key
            });
            let (mut ours, mut kernels) = (pair.keys(), pair.kernel_keys());
            ours.sort();
            kernels.sort();
            assert_eq!(ours, kernels);
            assert!(!ours.is_empty());
        }
    }
}

#[test]
fn tries_answer_and_are_walked_as_the_kernels_are() {
    let Some(running) = kernel::version() else { return };
    // Before, tries did not heed the flags of an update.
    if running < skep_sys::version::KernelVersion::new(6, 13, 0) {
        println!("skipped: needs kernel 6.13");
        return;
    }
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    for seed in 0..6 {
        let spec = MapSpec { flags: F_NO_PREALLOC, ..spec(MapKind::LpmTrie, 8, 8, 40) };
        let pair = Pair::new(&machine, &spec);
        compare(&pair, seed, |rng| {
            let bits = (rng.next() % 34) as u32;
            let addr = (rng.next() & 0xc000_0003) as u32 | (rng.next() as u32 & 0x0081_0000);
            [bits.to_ne_bytes(), addr.to_be_bytes()].concat()
        });
        let keys = pair.keys();
        assert_eq!(keys, pair.kernel_keys());
        assert!(keys.len() > 10);
    }
}

#[test]
fn queues_and_stacks_answer_as_the_kernels_do() {
    if kernel::version().is_none() {
        return;
    }
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    for kind in [MapKind::Queue, MapKind::Stack] {
        let pair = Pair::new(&machine, &spec(kind, 0, 6, 5));
        let rng = Rng::new(1);
        for _ in 0..1000 {
            match rng.next() % 4 {
                0 | 1 => pair.update(&[], &bytes(&rng, 6), rng.next() % 4),
                2 => pair.take(&[]),
                _ => pair.lookup(&[]),
            }
        }
    }
}

#[test]
fn a_full_lru_map_drops_what_no_program_looked_up() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    for kind in [MapKind::LruHash, MapKind::LruPerCpuHash] {
        let map = machine.create_map(&spec(kind, 4, 8, 100)).expect("a map");
        let look_up = "*(u32 *)(r10 - 4) = 5\nr2 = r10\nr2 += -4\nr1 = map[id:0]\ncall 1\nr0 = *(u64 *)(r0 + 0)\nexit";
        for round in 0..1000u32 {
            map.update(&round.to_ne_bytes(), &u64::from(round).to_ne_bytes(), 0).expect("always room");
            if round >= 5 {
                assert_eq!(run(&machine, look_up, &[&map]), Ok(5), "{kind:?} {round}");
            }
        }
        let entries = map.entries().expect("entries");
        assert_eq!(entries.len(), 100);
        assert!(entries.iter().any(|(key, _)| *key == 999u32.to_ne_bytes()));
        assert!(map.lookup(&3u32.to_ne_bytes()).expect("no error").is_none());
    }
}

#[test]
fn a_bloom_filter_knows_what_was_pushed_and_little_else() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let map = machine.create_map(&spec(MapKind::BloomFilter, 0, 4, 1000)).expect("a map");
    for value in 0..1000u32 {
        map.update(&[], &value.to_ne_bytes(), 0).expect("pushed");
    }
    let has = |value: &u32| map.may_contain(&value.to_ne_bytes()).expect("an answer");
    assert!((0..1000).all(|value| has(&value)));
    let wrong = (1000..11_000).filter(has).count();
    assert!(wrong < 1000, "{wrong} of 10000");
    assert_eq!(map.update(&[], &[0; 4], 1).map_err(|error| error.errno()), Err(22));
}

#[test]
fn readers_find_what_is_there_while_others_come_and_go() {
    // Key 7 is always there, key 8 never.
    let asm = |words: i16| {
        let zeros: String = (0..words).map(|word| format!("*(u64 *)(r10 - {}) = 0\n", 8 * (word + 1))).collect();
        let key = 8 * words;
        format!(
            "{zeros}r6 = 20000\nagain:\n*(u64 *)(r10 - {key}) = 7\nr2 = r10\nr2 += -{key}\nr1 = map[id:0]\ncall 1\n\
             if r0 == 0 goto bad\n*(u64 *)(r10 - {key}) = 8\nr2 = r10\nr2 += -{key}\nr1 = map[id:0]\ncall 1\nif r0 != 0 goto bad\n\
             r6 += -1\nif r6 != 0 goto again\nr0 = 1\nexit\nbad:\nr0 = 0\nexit"
        )
    };
    let engines = [Engine::Interpreter, Engine::Compiler];
    for (engine, words) in engines.into_iter().flat_map(|engine| [1, 2, 5].map(|words| (engine, words))) {
        let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
        let key_size = 8 * words as usize;
        let map = machine.create_map(&spec(MapKind::Hash, key_size as u32, 8, 64)).expect("a map");
        let key = |of: u64| {
            let mut key = vec![0; key_size];
            key[..8].copy_from_slice(&of.to_ne_bytes());
            key
        };
        map.update(&key(7), &[0; 8], 0).expect("room");
        let program = load_for(engine, &machine, &asm(words), &[&map]);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| Cpu::new(&machine).expect("a stack").run(&program, [0, 0]));
            let mut round = 0u64;
            while !reader.is_finished() {
                round += 1;
                let other = key(100 + round % 60);
                map.update(&other, &[0; 8], 0).expect("room");
                map.delete(&other).expect("it was there");
                map.update(&key(7), &[0; 8], 2).expect("room");
            }
            assert_eq!(reader.join().expect("no panic"), Ok(1), "{words} words, {engine:?}");
        });
    }
}

#[test]
fn compiled_code_finds_every_key_of_a_full_map() {
    let machine = Machine::with_cpus(Helpers::all(), 2).expect("4 GiB of addresses");
    let input = machine.space().allocate(64, true).expect("a block");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    cpu.set_number(1);
    let kinds = [MapKind::Hash, MapKind::LruHash, MapKind::PerCpuHash];
    for (kind, key_size) in kinds.into_iter().flat_map(|kind| [4, 8, 12, 16, 24, 32, 40].map(|size| (kind, size))) {
        // The key from the input into the frame, in whole numbers of 4 bytes.
        let copy: String = (0..key_size / 4)
            .map(|at| format!("r3 = *(u32 *)(r1 + {})\n*(u32 *)(r10 - {}) = r3\n", 4 * at, key_size - 4 * at))
            .collect();
        let asm = format!(
            "{copy}r2 = r10\nr2 += -{key_size}\nr1 = map[id:0]\ncall 1\nif r0 == 0 goto none\nr0 = *(u64 *)(r0 + 0)\n\
             none:\nexit"
        );
        for entries in [1u32, 2, 3, 100] {
            let map = machine.create_map(&spec(kind, key_size, 8, entries)).expect("a map");
            let program = load_for(Engine::Compiler, &machine, &asm, &[&map]);
            let key = |of: u32| {
                let mut key = vec![0; key_size as usize];
                let at = key.len() - 4;
                key[..4].copy_from_slice(&of.to_ne_bytes());
                key[at..].copy_from_slice(&of.to_ne_bytes());
                key
            };
            for of in 0..entries {
                let value = u64::from(of + 1).to_ne_bytes().repeat(if kind.is_per_cpu() { 2 } else { 1 });
                map.update(&key(of), &value, 0).expect("room");
            }
            for of in 0..2 * entries {
                input.write(0, &key(of)).expect("it fits");
                let wanted = if of < entries { u64::from(of) + 1 } else { 0 };
                let found = cpu.run(&program, [input.addr(), 64]);
                assert_eq!(found, Ok(wanted), "{kind:?}, keys of {key_size} bytes, {of} of {entries}");
            }
            machine.remove_map(&map);
        }
    }
}

#[test]
fn programs_update_look_up_and_delete() {
    let machine = Machine::with_cpus(Helpers::all(), 2).expect("4 GiB of addresses");
    let update = "*(u32 *)(r10 - 4) = 1\n*(u64 *)(r10 - 16) = 42\nr1 = map[id:0]\nr2 = r10\nr2 += -4\nr3 = r10\nr3 += -16\nr4 = 0\n\
                  call 2\nr1 = map[id:0]\nr2 = r10\nr2 += -4\ncall 1\nr1 = *(u64 *)(r0 + 0)\nr1 += 1\n*(u64 *)(r0 + 0) = r1\nr0 = r1\nexit";
    for kind in [MapKind::Array, MapKind::Hash, MapKind::LruHash, MapKind::PerCpuHash, MapKind::PerCpuArray] {
        let map = machine.create_map(&spec(kind, 4, 8, 4)).expect("a map");
        let mut cpu = Cpu::new(&machine).expect("a stack");
        cpu.set_number(1);
        assert_eq!(cpu.run(&load(&machine, update, &[&map]), [0, 0]), Ok(43), "{kind:?}");
        let value = map.lookup(&1u32.to_ne_bytes()).expect("no error").expect("it is there");
        let expected: &[u64] = if kind.is_per_cpu() { &[0, 43] } else { &[43] };
        let expected: Vec<u8> = expected.iter().flat_map(|value| value.to_ne_bytes()).collect();
        assert_eq!(value, expected, "{kind:?}");
    }
    // Behind a value there is nothing.
    let map = machine.create_map(&spec(MapKind::Array, 4, 8, 1)).expect("a map");
    let beyond = "*(u32 *)(r10 - 4) = 0\nr1 = map[id:0]\nr2 = r10\nr2 += -4\ncall 1\nr0 = *(u64 *)(r0 + 8)\nexit";
    assert!(run(&machine, beyond, &[&map]).expect_err("stopped").to_string().contains("outside"));
    let wrong = run(&machine, "r1 = 5\nr2 = r10\ncall 1\nexit", &[]).expect_err("stopped");
    assert!(wrong.to_string().ends_with("0x5 is no map of this machine"), "{wrong}");
}

#[test]
fn programs_find_maps_in_maps() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let inner_spec = spec(MapKind::Array, 4, 8, 1);
    let find = "*(u32 *)(r10 - 4) = 0\nr1 = map[id:0]\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto none\nr1 = r0\nr2 = r10\nr2 += -4\n\
                call 1\nr0 = *(u64 *)(r0 + 0)\nexit\nnone:\nr0 = 99\nexit";
    for kind in [MapKind::ArrayOfMaps, MapKind::HashOfMaps] {
        let outer = MapSpec { inner: Some(Box::new(inner_spec.clone())), ..spec(kind, 4, 4, 2) };
        let outer = machine.create_map(&outer).expect("a map");
        assert_eq!(run(&machine, find, &[&outer]), Ok(99));
        let inner = machine.create_map(&inner_spec).expect("a map");
        inner.update(&[0; 4], &17u64.to_ne_bytes(), 0).expect("room");
        outer.update(&[0; 4], &inner.id().to_ne_bytes(), 0).expect("room");
        assert_eq!(run(&machine, find, &[&outer]), Ok(17));
        assert_eq!(outer.lookup(&[0; 4]).expect("no error"), Some(inner.id().to_ne_bytes().to_vec()));
        let other = machine.create_map(&spec(MapKind::Array, 4, 4, 1)).expect("a map");
        assert_eq!(outer.update(&[0; 4], &other.id().to_ne_bytes(), 0).map_err(|error| error.errno()), Err(22));
        machine.remove_map(&inner);
        drop(inner);
        assert_eq!(run(&machine, find, &[&outer]), Ok(99), "it is gone");
    }
}

#[test]
fn programs_go_on_with_programs_of_a_map() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let map = machine.create_map(&spec(MapKind::ProgArray, 4, 4, 2)).expect("a map");
    map.set_program(1, Some(load(&machine, "r0 = 8\nexit", &[]))).expect("room");
    let go = |index: u32| format!("r2 = map[id:0]\nr3 = {index}\ncall 12\nr0 = 3\nexit");
    assert_eq!([0, 1, 2].map(|index| run(&machine, &go(index), &[&map]).expect("runs")), [3, 8, 3]);
    map.delete(&1u32.to_ne_bytes()).expect("it was there");
    assert_eq!(run(&machine, &go(1), &[&map]), Ok(3));
}

#[test]
fn callbacks_see_each_element() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let sum = "*(u64 *)(r10 - 8) = 0\nr1 = map[id:0]\nr2 = subprog[add]\nr3 = r10\nr3 += -8\nr4 = 0\ncall 164\n\
               r0 *= 1000\nr1 = *(u64 *)(r10 - 8)\nr0 += r1\nexit\n\
               add:\nr1 = *(u32 *)(r2 + 0)\nr2 = *(u64 *)(r3 + 0)\nr1 += r2\nr2 = *(u64 *)(r4 + 0)\nr2 += r1\n*(u64 *)(r4 + 0) = r2\nr0 = 0\nexit";
    for kind in [MapKind::Array, MapKind::Hash] {
        let map = machine.create_map(&spec(kind, 4, 8, 5)).expect("a map");
        for key in 0..5u32 {
            map.update(&key.to_ne_bytes(), &u64::from(key * 10).to_ne_bytes(), 0).expect("room");
        }
        assert_eq!(run(&machine, sum, &[&map]), Ok(5 * 1000 + 10 + 100));
    }
}

#[test]
fn records_of_a_ring_come_in_order_and_fill_it_as_in_the_kernel() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let map = machine.create_map(&spec(MapKind::Ringbuf, 0, 0, 4096)).expect("a map");
    // Reserves, writes its second and last word, submits; 1 when there is no room.
    let put = "r6 = r1\nr1 = map[id:0]\nr2 = 96\nr3 = 0\ncall 131\nif r0 == 0 goto full\n*(u64 *)(r0 + 0) = r6\n*(u64 *)(r0 + 88) = r6\n\
               r1 = r0\nr2 = 0\ncall 132\nr0 = 0\nexit\nfull:\nr0 = 1\nexit";
    let program = load(&machine, put, &[&map]);
    let mut cpu = Cpu::new(&machine).expect("a stack");
    let mut next = 0u64;
    let mut seen = 0u64;
    for _ in 0..5 {
        // 104 bytes each; 4095 hold 39 of them.
        for _ in 0..39 {
            assert_eq!(cpu.run(&program, [next, 0]), Ok(0));
            next += 1;
        }
        assert_eq!(cpu.run(&program, [next, 0]), Ok(1));
        let given = map.consume(&mut |data| {
            assert_eq!(data.len(), 96);
            assert_eq!((&data[..8], &data[88..]), (&seen.to_ne_bytes()[..], &seen.to_ne_bytes()[..]));
            seen += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(given.expect("a ring"), 39);
    }
    // One that a run leaves behind is not given, and holds nothing up.
    let strokes = machine.bell().strokes();
    assert_eq!(run(&machine, "r1 = map[id:0]\nr2 = 8\nr3 = 0\ncall 131\nr0 = 0\nexit", &[&map]), Ok(0));
    let output = "*(u64 *)(r10 - 8) = 9\nr1 = map[id:0]\nr2 = r10\nr2 += -8\nr3 = 8\nr4 = 0\ncall 130\nexit";
    assert_eq!(run(&machine, output, &[&map]), Ok(0));
    let mut records = Vec::new();
    let given = map.consume(&mut |data| {
        records.push(data.to_vec());
        ControlFlow::Continue(())
    });
    assert_eq!((given.expect("a ring"), records), (1, vec![9u64.to_ne_bytes().to_vec()]));
    assert!(machine.bell().strokes() > strokes);
    let wild = run(&machine, "r1 = r10\nr2 = 0\ncall 132\nexit", &[]).expect_err("stopped");
    assert!(wild.to_string().contains("is no record that this program has reserved"), "{wild}");
}

#[test]
fn perf_records_lie_in_the_buffer_of_the_cpu() {
    let machine = Machine::with_cpus(Helpers::all(), 2).expect("4 GiB of addresses");
    let map = machine.create_map(&spec(MapKind::PerfEventArray, 4, 4, 2)).expect("a map");
    let output =
        "*(u64 *)(r10 - 8) = r1\nr2 = map[id:0]\nr3 = 0xffffffff ll\nr4 = r10\nr4 += -8\nr5 = 8\ncall 25\nexit";
    let program = load(&machine, output, &[&map]);
    let mut cpu = Cpu::new(&machine).expect("a stack");
    cpu.set_number(1);
    assert_eq!(cpu.run(&program, [1, 0]), Ok(-2i64 as u64), "no buffer");
    map.open_buffer(1, 64).expect("a slot");
    assert_eq!([1, 2, 3].map(|value| cpu.run(&program, [value, 0]).expect("runs")), [0, 0, -28i64 as u64]);
    let mut records = Vec::new();
    let given = map.consume_slots(&mut |slot, data| {
        records.push((slot, data[0]));
        ControlFlow::Continue(())
    });
    assert_eq!((given.expect("an array"), records, map.take_lost(1)), (2, vec![(1, 1), (1, 2)], 1));
}

#[test]
fn a_frozen_map_is_for_programs_and_a_read_only_one_for_user_space() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let set = "*(u32 *)(r10 - 4) = 0\n*(u64 *)(r10 - 16) = 5\nr1 = map[id:0]\nr2 = r10\nr2 += -4\nr3 = r10\nr3 += -16\nr4 = 0\ncall 2\nexit";
    let frozen = machine.create_map(&spec(MapKind::Array, 4, 8, 1)).expect("a map");
    frozen.freeze();
    assert!(matches!(frozen.update(&[0; 4], &[1; 8], 0), Err(MapError::Frozen)));
    assert_eq!(run(&machine, set, &[&frozen]), Ok(0));
    assert_eq!(frozen.lookup(&[0; 4]).expect("no error"), Some(5u64.to_ne_bytes().to_vec()));
    let read_only = MapSpec { flags: F_RDONLY_PROG, ..spec(MapKind::Array, 4, 8, 1) };
    let read_only = machine.create_map(&read_only).expect("a map");
    read_only.update(&[0; 4], &[1; 8], 0).expect("user space may");
    assert!(
        run(&machine, set, &[&read_only])
            .expect_err("stopped")
            .to_string()
            .ends_with("programs may only read this map")
    );
    let addr = read_only.value_addr().expect("an array has one");
    let (load, store) =
        (format!("r1 = {addr} ll\nr0 = *(u8 *)(r1 + 0)\nexit"), format!("r1 = {addr} ll\n*(u8 *)(r1 + 0) = 2\nexit"));
    assert_eq!(run(&machine, &load, &[]), Ok(1));
    assert!(run(&machine, &store, &[]).expect_err("stopped").to_string().contains("may only read"));
}

#[test]
fn what_makes_no_sense_has_the_kernels_number() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let refused = |spec: &MapSpec| machine.create_map(spec).expect_err("refused").errno();
    for bad in [
        spec(MapKind::Array, 8, 8, 1),
        spec(MapKind::Array, 4, 0, 1),
        spec(MapKind::Hash, 0, 8, 1),
        spec(MapKind::Hash, 4, 8, 0),
        spec(MapKind::LpmTrie, 8, 8, 1),
        spec(MapKind::Ringbuf, 0, 0, 5000),
        spec(MapKind::Queue, 4, 4, 1),
        spec(MapKind::ArrayOfMaps, 4, 4, 1),
    ] {
        assert_eq!(refused(&bad), 22, "{bad:?}");
    }
    assert_eq!(refused(&spec(MapKind::Array, 4, 1 << 20, 1 << 20)), 12);
    let map = machine.create_map(&spec(MapKind::Hash, 4, 8, 1)).expect("a map");
    assert_eq!(map.update(&[0; 5], &[0; 8], 0).expect_err("refused").errno(), 22);
    assert_eq!(map.update(&[0; 4], &[0; 7], 0).expect_err("refused").errno(), 22);
    assert_eq!(map.set_program(0, None).expect_err("refused").errno(), 95);
}

#[test]
fn a_program_reads_the_values_of_other_cpus() {
    let machine = Machine::with_cpus(Helpers::all(), 3).expect("4 GiB of addresses");
    let map = machine.create_map(&spec(MapKind::PerCpuHash, 4, 8, 1)).expect("a map");
    let values: Vec<u8> = [10u64, 20, 30].iter().flat_map(|value| value.to_ne_bytes()).collect();
    map.update(&[0; 4], &values, 0).expect("room");
    let read = |cpu: u32| {
        let asm = format!(
            "*(u32 *)(r10 - 4) = 0\nr1 = map[id:0]\nr2 = r10\nr2 += -4\nr3 = {cpu}\ncall 195\nif r0 == 0 goto out\nr0 = *(u64 *)(r0 + 0)\nout:\nexit"
        );
        run(&machine, &asm, &[&map]).expect("it ends well")
    };
    assert_eq!([0, 1, 2, 3].map(read), [10, 20, 30, 0]);
}

#[test]
fn a_loop_around_a_helper_ends() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let block = machine.space().allocate(1 << 20, true).expect("a block");
    let asm = "r6 = r1\nagain:\nr1 = r6\nr2 = 0x100000\nr3 = r6\ncall 113\ngoto again";
    let started = std::time::Instant::now();
    let program = load(&machine, asm, &[]);
    let mut cpu = Cpu::new(&machine).expect("a stack");
    cpu.set_fuel(1 << 24);
    let stopped = cpu.run(&program, [block.addr(), 0]).expect_err("stopped");
    assert!(stopped.to_string().contains("does a loop never end?"), "{stopped}");
    assert!(started.elapsed().as_secs() < 10);
}

#[test]
fn a_ring_tells_how_full_it_is_and_takes_dynptrs() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let map = machine.create_map(&spec(MapKind::Ringbuf, 0, 0, 4096)).expect("a map");
    let query = |what: u32| run(&machine, &format!("r1 = map[id:0]\nr2 = {what}\ncall 134\nexit"), &[&map]);
    let put = |len: u32, end: u32| {
        let asm = format!(
            "r1 = map[id:0]\nr2 = {len}\nr3 = 0\nr4 = r10\nr4 += -16\ncall 198\nr6 = r0\nif r0 != 0 goto out\n\
             *(u64 *)(r10 - 24) = 77\nr1 = r10\nr1 += -16\nr2 = 0\nr3 = r10\nr3 += -24\nr4 = 8\nr5 = 0\ncall 202\n\
             out:\nr1 = r10\nr1 += -16\nr2 = 0\ncall {end}\nr0 = r6\nexit"
        );
        run(&machine, &asm, &[&map])
    };
    assert_eq!([put(20, 199), put(12, 200), put(5000, 199)], [Ok(0), Ok(0), Ok(-22i64 as u64)]);
    // 8 bytes in front of each, rounded up to 8.
    assert_eq!([0, 1, 2, 3, 4].map(|what| query(what).expect("it ends well")), [32 + 24, 4096, 0, 56, 0]);
    let mut records = Vec::new();
    let given = map.consume(&mut |data| {
        records.push(data.to_vec());
        ControlFlow::Continue(())
    });
    assert_eq!(given.expect("a ring"), 1);
    assert_eq!((records[0].len(), &records[0][..8]), (20, &77u64.to_ne_bytes()[..]));
    assert_eq!([0, 2, 3].map(|what| query(what).expect("it ends well")), [0, 56, 56]);
}
