//! Random programs of several functions, with loops, callbacks and maps, on all engines and on the kernel: results, memory, maps, and
//! fuel are equal; also of programs that were changed until they go wrong.
//!
//! `SKEP_VM_COUNT` says how many (with `SKEP_VM_SEED` for the first), to hunt for more than a test run has time for.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use common::random::{For, INPUT_BYTES, Isa, change, program, setting};
use common::shapes::{self, Bound, PROGRAMS, Shaped, World, shaped};
use common::{Engine, kernel};
use skep_insn::text::{Printer, Spelling};
use skep_insn::{RawInsn, helpers};
use skep_sys::bpf::{BtfFd, MapCreate, MapFd};
use skep_sys::version::KernelVersion;
use skep_vm::{Block, Cpu, DEFAULT_FUEL, Helpers, Image, Machine, Map, MapKind, Program, Trap};

fn seeds() -> std::ops::Range<u64> {
    let first = setting("SKEP_VM_SEED", 1);
    first..first + setting("SKEP_VM_COUNT", 2000)
}

/// What can be seen of a run.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    result: Result<u64, Box<Trap>>,
    fuel: u64,
    world: World,
}

/// A machine with the maps of the programs, which each run finds as its world says.
struct Bench {
    machine: Arc<Machine>,
    cpu: Cpu,
    input: Block,
    maps: Vec<Arc<Map>>,
}

impl Bench {
    fn new() -> Bench {
        let machine = Machine::with_cpus(Helpers::all(), 2).expect("4 GiB of addresses");
        let mut cpu = Cpu::new(&machine).expect("a stack");
        cpu.set_number(1);
        let input = machine.space().allocate(INPUT_BYTES as u64, true).expect("a block");
        let maps = shapes::maps().iter().map(|spec| machine.create_map(spec).expect("a map")).collect();
        Bench { machine, cpu, input, maps }
    }

    /// Values stay where they are if a map has the same keys as before.
    fn set(&self, world: &World) {
        self.input.write(0, &world.input).expect("it fits");
        for (map, wanted) in self.maps.iter().zip(&world.maps) {
            if map.spec().kind == MapKind::ProgArray {
                continue;
            }
            let there = entries(map);
            let same = there.len() == wanted.len() && there.iter().zip(wanted).all(|((a, _), (b, _))| a == b);
            let stays = match map.spec().kind {
                MapKind::Array | MapKind::PerCpuArray => true,
                MapKind::PerCpuHash => same,
                _ => false,
            };
            if !stays {
                for (key, _) in &there {
                    map.delete(key).expect("it is there");
                }
            }
            for (key, value) in wanted {
                map.update(key, &user_value(map, value), 0).expect("room");
            }
        }
    }

    fn world(&self) -> World {
        let maps = self.maps[..PROGRAMS].iter().map(|map| entries(map)).collect();
        World { input: self.input.bytes(0, INPUT_BYTES), maps }
    }

    fn number(&self, bound: Bound) -> u64 {
        match bound {
            Bound::Map(map) => self.maps[map].handle(),
            Bound::Value(map, off) => self.maps[map].value_addr().expect("an array") + u64::from(off),
        }
    }

    fn insns(&self, program: &Shaped) -> Vec<RawInsn> {
        program.with_numbers(|bound| self.number(bound))
    }

    fn load(&self, engine: Engine, insns: &[RawInsn]) -> Option<Arc<Program>> {
        engine.load(&self.machine, &Image { insns, ..Image::default() }).ok()
    }

    fn run(&mut self, world: &World, program: &Arc<Program>, fuel: u64) -> Seen {
        self.set(world);
        self.cpu.set_fuel(fuel);
        let result = self.cpu.run(program, [self.input.addr(), self.input.len()]);
        Seen { result, fuel: self.cpu.fuel_left(), world: self.world() }
    }
}

/// In the order of their keys.
fn entries(map: &Map) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut entries = map.entries().expect("entries");
    entries.sort();
    entries
}

/// A value as user space gives it: that of each processor.
fn user_value(map: &Map, value: &[u8]) -> Vec<u8> {
    if !map.spec().kind.is_per_cpu() {
        return value.to_vec();
    }
    let mut one = value.to_vec();
    one.resize(value.len().next_multiple_of(8), 0);
    one.repeat(map.values_per_key() as usize)
}

fn listing(insns: &[RawInsn]) -> String {
    Printer::new(Spelling::Kernel).listing(insns)
}

const ENGINES: [Engine; 4] = [Engine::Interpreter, Engine::Compiler, Engine::Masked, Engine::Plain];

#[test]
fn shaped_programs_do_the_same_compiled() {
    let mut bench = Bench::new();
    let mut stopped = 0;
    for seed in seeds() {
        let (world, program, others) = shaped(seed, For::Engines);
        let insns = bench.insns(&program);
        let programs = ENGINES.map(|engine| bench.load(engine, &insns).unwrap_or_else(|| panic!("seed {seed}")));
        let others = ENGINES.map(|engine| {
            let load = |other| bench.load(engine, &bench.insns(other)).unwrap_or_else(|| panic!("seed {seed}"));
            others.iter().map(load).collect::<Vec<_>>()
        });
        let mut run = |which: usize, fuel: u64| {
            for (index, other) in others[which].iter().enumerate() {
                bench.maps[PROGRAMS].set_program(index as u32, Some(other.clone())).expect("room");
            }
            bench.run(&world, &programs[which], fuel)
        };
        let wanted = run(0, DEFAULT_FUEL);
        let show = || {
            let others: Vec<String> = others[0].iter().map(|other| listing(other.insns())).collect();
            format!("seed {seed}:\n{}\n{}", listing(&insns), others.join("\n"))
        };
        assert!(wanted.result.is_ok(), "{:?} {}", wanted.result, show());
        // Stopped somewhere on the way, everything is as far as that.
        let used = DEFAULT_FUEL - wanted.fuel;
        let some = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % used;
        let wanted_of_some = run(0, some);
        stopped += u64::from(wanted_of_some.result.is_err());
        for (which, engine) in ENGINES.iter().enumerate().skip(1) {
            let found = run(which, DEFAULT_FUEL);
            assert!(wanted == found, "{engine:?}: {wanted:x?}\n{found:x?}\n{}", show());
            let found = run(which, some);
            assert!(
                wanted_of_some == found,
                "{engine:?} with fuel {some}: {wanted_of_some:x?}\n{found:x?}\n{}",
                show()
            );
        }
    }
    println!("{} programs did the same, and {stopped} of them when they were stopped", seeds().count());
    assert!(stopped * 2 > seeds().count() as u64, "less than half were stopped: {stopped}");
}

/// What programs call.
const HELPERS: [u32; 6] = [
    helpers::MAP_LOOKUP_ELEM,
    helpers::MAP_UPDATE_ELEM,
    helpers::MAP_DELETE_ELEM,
    helpers::TAIL_CALL,
    helpers::LOOP,
    helpers::FOR_EACH_MAP_ELEM,
];

#[test]
fn shaped_programs_go_wrong_the_same_way_compiled() {
    let mut bench = Bench::new();
    let (mut ended, mut stopped) = (0, 0);
    for seed in seeds() {
        let (world, program, _) = shaped(seed, For::Changed);
        let mut insns = bench.insns(&program);
        change(seed, &mut insns);
        // What tells the time or the task, or draws numbers, is not the same twice.
        let calls = |insn: &RawInsn| insn.code == 0x85 && insn.src_reg == 0;
        if insns.iter().any(|insn| calls(insn) && !HELPERS.contains(&(insn.imm as u32))) {
            continue;
        }
        let mut run = |engine| bench.load(engine, &insns).map(|it| bench.run(&world, &it, 100_000));
        let [wanted, found] = [run(Engine::Interpreter), run(Engine::Compiler)];
        let show = || format!("seed {seed}:\n{}", listing(&insns));
        assert!(wanted == found, "{wanted:x?}\n{found:x?}\n{}", show());
        // Code that masks addresses does the same for a program that is right, and ends one way or the other for every other one.
        let masked = run(Engine::Masked);
        match wanted {
            Some(Seen { result: Ok(_), .. }) => {
                assert!(wanted == masked, "masked: {wanted:x?}\n{masked:x?}\n{}", show());
                ended += 1;
            }
            Some(_) => stopped += 1,
            None => {}
        }
    }
    println!("{ended} programs ended, {stopped} were stopped");
    assert!(ended != 0 && stopped != 0, "both kinds are tried");
}

/// How many atomic instructions fetch from the stack, and how many of them have a byte stored in front, where no jump leads in between.
fn fetches_from_stack(insns: &[RawInsn]) -> [usize; 2] {
    let long = |insn: &RawInsn| insn.code == 0x06;
    let jumps = |insn: &RawInsn| matches!(insn.code & 7, 5 | 6) && !matches!(insn.code & 0xf0, 0x80 | 0x90);
    let to = |(at, insn): (usize, &RawInsn)| at as i32 + 1 + if long(insn) { insn.imm } else { i32::from(insn.off) };
    let targets: Vec<i32> = insns.iter().enumerate().filter(|(_, insn)| jumps(insn)).map(to).collect();
    let fetches = |insn: &RawInsn| matches!(insn.code, 0xc3 | 0xdb) && insn.dst_reg == 10 && insn.imm & 1 != 0;
    let places: Vec<usize> = (1..insns.len()).filter(|at| fetches(&insns[*at])).collect();
    let behind_byte = places.iter().filter(|at| {
        let (before, insn) = (insns[**at - 1], insns[**at]);
        let byte = before.code == 0x72 && before.dst_reg == 10 && before.off == insn.off && before.imm != 0;
        byte && !targets.contains(&(**at as i32))
    });
    [places.len(), behind_byte.count()]
}

#[test]
fn the_kernel_gets_programs_whose_fetches_from_the_stack_it_does_not_foresee() {
    let count = |runner: For| {
        let all = (1..=500).flat_map(|seed| {
            let none = |_| 0;
            [program(seed, runner).0, shaped(seed, runner).1.with_numbers(none)].map(|insns| fetches_from_stack(&insns))
        });
        all.fold([0, 0], |sum, found| [sum[0] + found[0], sum[1] + found[1]])
    };
    let [all, behind_byte] = count(For::Kernel(Isa::Ordered));
    assert!(all > 100 && all == behind_byte, "{behind_byte} of {all}");
    // The engines are asked without.
    let [all, behind_byte] = count(For::Engines);
    assert!(all > 100 && behind_byte * 20 < all, "{behind_byte} of {all}");
}

/// The maps of the programs in the kernel.
struct Kernels {
    maps: Vec<MapFd>,
    types: BtfFd,
}

impl Kernels {
    fn new() -> Kernels {
        let create = |spec: &skep_vm::MapSpec| MapCreate {
            map_type: spec.kind as u32,
            key_size: spec.key_size,
            value_size: spec.value_size,
            // What is new in a small one drives others out before it is full.
            max_entries: if spec.kind == MapKind::LruHash { 4096 } else { spec.max_entries },
            map_flags: spec.flags,
            ..MapCreate::default()
        };
        let specs = shapes::maps();
        let maps = specs[..PROGRAMS].iter().map(|spec| create(spec).create().expect("a map")).collect();
        Kernels { maps, types: kernel::types() }
    }

    fn entries(map: &MapFd) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut next = vec![0; map.key_len()];
        while map.next_key(entries.last().map(|(key, _)| key.as_slice()), &mut next).expect("keys") {
            let mut value = vec![0; map.value_len()];
            map.lookup(&next, &mut value, 0).expect("it is there");
            entries.push((next.clone(), value));
        }
        entries.sort();
        entries
    }

    fn all(&self) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
        self.maps.iter().map(Kernels::entries).collect()
    }

    /// What is in the maps, `before`, gives way to what the world says.
    fn set(&self, before: &[Vec<(Vec<u8>, Vec<u8>)>], world: &World) {
        for ((map, before), wanted) in self.maps.iter().zip(before).zip(&world.maps) {
            // Arrays keep all of theirs.
            for (key, _) in before.iter().filter(|(key, _)| !wanted.iter().any(|(wanted, _)| key == wanted)) {
                map.delete(key).expect("it is there");
            }
            for (key, value) in wanted {
                let mut one = value.clone();
                if map.is_per_cpu() {
                    one.resize(value.len().next_multiple_of(8), 0);
                    one = one.repeat(map.value_len() / one.len());
                }
                map.update(key, &one, 0).expect("room");
            }
        }
    }

    /// Whether what is in the maps is as after a run on one processor of two; values of others are zeros, or as they were.
    fn are(&self, theirs: &[Vec<(Vec<u8>, Vec<u8>)>], found: &World) -> bool {
        let mut cpus: Option<Vec<usize>> = None;
        self.maps.iter().zip(theirs).zip(&found.maps).all(|((map, theirs), found)| {
            let keys = theirs.len() == found.len() && theirs.iter().zip(found).all(|((a, _), (b, _))| a == b);
            if !map.is_per_cpu() {
                return keys && theirs == found;
            }
            keys && theirs.iter().zip(found).all(|((_, theirs), (_, found))| {
                let stride = found.len() / 2;
                let [other, own] = [&found[..stride], &found[stride..]];
                let all: Vec<&[u8]> = theirs.chunks(stride).collect();
                // Those that may have run it.
                let fits = |cpu: &usize| {
                    all[*cpu] == own && (0..all.len()).filter(|it| it != cpu).all(|cpu| all[cpu] == other)
                };
                let before = cpus.take().unwrap_or_else(|| (0..all.len()).collect());
                let fitting: Vec<usize> = before.into_iter().filter(fits).collect();
                let any = !fitting.is_empty();
                cpus = Some(fitting);
                any
            })
        })
    }
}

/// Seeds that no kernel is asked to load. The verifier of Linux 6.18.44 follows a null pointer (`__mark_chain_precision`, called by
/// `propagate_precision`), which ends the thread that loads, leaves this test waiting for ever, and the machine in doubt.
/// 6.12.117 takes the program and does the same as the engines.
const OOPSES: [u64; 1] = [170_770_509];

#[test]
fn shaped_programs_do_the_same_in_the_kernel() {
    let Some(running) = kernel::version() else { return };
    // Maps of all these kinds in programs that may sleep, callbacks, and jumps back by counters in memory.
    if running < KernelVersion::new(6, 6, 0) {
        println!("skipped: needs kernel 6.6");
        return;
    }
    let isa = if running >= KernelVersion::new(6, 15, 0) { Isa::Ordered } else { Isa::V4 };
    let (mut bench, kernels) = (Bench::new(), Kernels::new());
    let fds: Vec<i32> = kernels.maps.iter().map(|map| map.as_fd().as_raw_fd()).collect();
    let mut log = vec![0; 1 << 16];
    let (mut same, mut refused, mut there) = (0, Vec::new(), kernels.all());
    for seed in seeds().filter(|seed| !OOPSES.contains(seed)) {
        let (world, program, _) = shaped(seed, For::Kernel(isa));
        let theirs = program.with_descriptors(&fds);
        kernels.set(&there, &world);
        let functions = Some((&kernels.types, program.functions.as_slice()));
        let ended = kernel::run_functions(&theirs, functions, Some(&world.input), &mut log);
        there = kernels.all();
        let (wanted, after) = match ended {
            Ok(ended) => ended,
            // Its verifier gives up on some, for their many paths.
            Err(log) => {
                refused.push(format!("seed {seed}: {log}"));
                continue;
            }
        };
        let insns = bench.insns(&program);
        for engine in ENGINES {
            let program = bench.load(engine, &insns).unwrap_or_else(|| panic!("seed {seed}"));
            let found = bench.run(&world, &program, DEFAULT_FUEL);
            let equal = found.result == Ok(wanted) && found.world.input == after && kernels.are(&there, &found.world);
            assert!(
                equal,
                "seed {seed}: kernel {wanted:#x} {after:x?} {there:x?}\n{engine:?} {found:x?}\n{}",
                listing(&insns)
            );
        }
        same += 1;
    }
    println!("{same} programs did the same, {} were refused by the kernel", refused.len());
    for text in refused.iter().take(setting("SKEP_VM_REFUSED", 0) as usize) {
        println!("{text}");
    }
    assert!(refused.len() as u64 * 20 <= seeds().count() as u64, "{} were refused: {}", refused.len(), refused[0]);
}
