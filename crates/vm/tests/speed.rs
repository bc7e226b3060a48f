//! What compiled code does in its own way, beside the interpreter: rotations, lookups in known maps, accesses without a check, and
//! accesses that only a page without memory stops. Each with what must not be taken for it.
#![cfg(target_arch = "x86_64")]

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use std::sync::Arc;

use common::{Engine, code};
use skep_insn::InsnIdx;
use skep_vm::{
    CompileOptions, Cpu, F_RDONLY_PROG, FaultReason, Helpers, Image, Machine, Map, MapKind, MapSpec, Program, TrapKind,
};

const ENGINES: [Engine; 3] = [Engine::Interpreter, Engine::Compiler, Engine::Masked];

/// Runs on all engines, which must do the same; gives the result.
fn same(machine: &Arc<Machine>, asm: &str, args: [u64; 2]) -> u64 {
    let insns = code("same", asm);
    let mut cpu = Cpu::new(machine).expect("a stack");
    let results = ENGINES.map(|engine| {
        let program = engine.load(machine, &Image { insns: &insns, ..Image::default() }).expect("a good program");
        (cpu.run(&program, args), cpu.fuel_left())
    });
    assert_eq!(results[0], results[1], "{asm}");
    assert_eq!(results[0], results[2], "{asm}");
    results[0].0.clone().expect("a result")
}

#[test]
fn two_shifts_and_an_or_are_a_rotation_only_where_they_are() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let set = "r0 = 0x123456789abcdef1 ll\nr3 = 0xfedcba9876543211 ll\nr4 = 7\nr5 = 9\n";
    let mix = "r0 *= 0x1000193\nr0 ^= r3\nr0 *= 0x1000193\nr0 ^= r4\nr0 *= 0x1000193\nr0 ^= r5\nexit";
    // With r4 and r5 read afterwards, and overwritten; with shifts that make up the width, and that do not; of both widths.
    for (w, bits) in [("r", 64), ("w", 32)] {
        for left in [1, 5, bits / 2, bits - 1] {
            for right in [bits - left, (bits - left + 1) % bits, 0] {
                for tail in ["", "r4 = 1\n", "r5 = 1\n", "r4 = 1\nr5 = 1\n", "r3 = 1\n", "if r3 > 5 goto +1\nr4 = 1\n"]
                {
                    let bodies = [
                        format!("{w}4 = {w}3\n{w}4 >>= {right}\n{w}3 <<= {left}\n{w}3 |= {w}4\n"),
                        format!("{w}4 = {w}3\n{w}4 <<= {left}\n{w}3 >>= {right}\n{w}3 += {w}4\n"),
                        format!("{w}4 = {w}3\n{w}3 <<= {left}\n{w}4 >>= {right}\n{w}4 ^= {w}3\n"),
                        format!("{w}4 = {w}3\n{w}4 >>= {right}\n{w}5 = {w}3\n{w}5 <<= {left}\n{w}5 |= {w}4\n"),
                        format!("{w}4 = {w}3\n{w}4 <<= {left}\n{w}3 = {w}3\n{w}3 >>= {right}\n{w}3 |= {w}4\n"),
                        format!("{w}4 = {w}3\n{w}4 >>= {right}\n{w}3 <<= {left}\n{w}3 s>>= 1\n{w}3 |= {w}4\n"),
                        format!("{w}4 = {w}3\n{w}4 s>>= {right}\n{w}3 <<= {left}\n{w}3 |= {w}4\n"),
                        // Something jumps into the middle.
                        format!("if r5 == 8 goto +1\n{w}4 = {w}3\n{w}4 >>= {right}\n{w}3 <<= {left}\n{w}3 |= {w}4\n"),
                    ];
                    for body in bodies {
                        same(&machine, &format!("{set}{body}{tail}{mix}"), [0, 0]);
                    }
                }
            }
        }
    }
}

fn map(machine: &Machine, kind: MapKind, key_size: u32, value_size: u32, flags: u32) -> Arc<Map> {
    let spec = MapSpec { kind, key_size, value_size, max_entries: 5, flags, ..MapSpec::default() };
    machine.create_map(&spec).expect("a map")
}

/// A program whose first instruction loads the map into r1.
fn on_map(machine: &Machine, engine: Engine, asm: &str, map: &Map) -> Arc<Program> {
    let insns = code("on a map", &format!("r1 = 0 ll\n{asm}"));
    let binds = [(InsnIdx(0), map.handle())];
    let mut slots = insns.clone();
    // As a loader leaves it: a load of a map.
    slots[0].src_reg = 1;
    engine.load(machine, &Image { insns: &slots, binds: &binds, ..Image::default() }).expect("a good program")
}

#[test]
fn lookups_in_known_maps_find_what_others_find() {
    let machine = Machine::with_cpus(Helpers::all(), 3).expect("4 GiB of addresses");
    for kind in [MapKind::Array, MapKind::PerCpuArray, MapKind::Hash, MapKind::PerCpuHash, MapKind::LruHash] {
        let sizes: &[u32] =
            if matches!(kind, MapKind::Array | MapKind::PerCpuArray) { &[4] } else { &[1, 4, 6, 8, 16, 24, 32, 40] };
        for &key_size in sizes {
            for value_size in [1, 8, 12, 64] {
                let map = map(&machine, kind, key_size, value_size, 0);
                let all = map.lookup(&vec![0; key_size as usize]).expect("a lookup").map_or(0, |value| value.len());
                let len = if all == 0 { value_size.next_multiple_of(8) as usize * 3 } else { all };
                let len = if map.values_per_key() == 1 { value_size as usize } else { len };
                for key in 1..4u8 {
                    let mut bytes = vec![0; key_size as usize];
                    bytes[0] = key;
                    map.update(&bytes, &vec![key; len], 0).expect("room");
                }
                // The key is in r1's first byte; the rest of the stack is zero.
                let asm = "r6 = r2\nr2 = r10\nr2 += -40\n*(u8 *)(r2 + 0) = r6\ncall 1\nif r0 == 0 goto +2\n\
                           r0 = *(u8 *)(r0 + 0)\nexit\nr0 = 1000\nexit";
                for number in 0..3 {
                    for key in 0..7 {
                        let results = ENGINES.map(|engine| {
                            let program = on_map(&machine, engine, asm, &map);
                            let mut cpu = Cpu::new(&machine).expect("a stack");
                            cpu.set_number(number);
                            (cpu.run(&program, [0, key]), cpu.fuel_left())
                        });
                        assert!(results.iter().all(|it| *it == results[0]), "{kind:?} {key_size}: {results:?}");
                        if (1..4).contains(&key) {
                            assert_eq!(results[0].0, Ok(key));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn lookups_in_full_hash_maps_find_each_key_and_no_other() {
    let machine = Machine::with_cpus(Helpers::all(), 2).expect("4 GiB of addresses");
    for kind in [MapKind::Hash, MapKind::LruHash, MapKind::PerCpuHash] {
        for key_size in [4u32, 8, 16, 24, 32] {
            // Lists of some length, and one longer than the code looks.
            for max_entries in [1, 255, 1023] {
                let spec = MapSpec { kind, key_size, value_size: 24, max_entries, ..MapSpec::default() };
                let map = machine.create_map(&spec).expect("a map");
                let key = |number: u32| {
                    let mut key = vec![0xaa; key_size as usize];
                    key[key_size as usize - 4..].copy_from_slice(&number.to_ne_bytes());
                    key
                };
                for number in 0..max_entries {
                    let one = number.to_ne_bytes().repeat(6);
                    map.update(&key(number), &one.repeat(map.values_per_key() as usize), 0).expect("room");
                }
                // What the helper does not spoil, the code does not either.
                let fill: String = (0..key_size).map(|at| format!("*(u8 *)(r10 - {}) = 0xaa\n", 41 - at)).collect();
                let asm = format!(
                    "{fill}*(u32 *)(r10 - {}) = r2\nr6 = r2\nr3 = 33\nr4 = 44\nr5 = 55\nr2 = r10\nr2 += -41\ncall 1\n\
                     if r0 == 0 goto +8\nr0 = *(u64 *)(r0 + 16)\nr3 *= r4\nr0 ^= r3\nr0 ^= r5\nr2 -= r10\nr0 ^= r2\nr0 ^= r6\n\
                     exit\nr0 = r3\nr0 -= r2\nr0 += r10\nexit",
                    45 - key_size
                );
                let programs = ENGINES.map(|engine| on_map(&machine, engine, &asm, &map));
                let mut cpu = Cpu::new(&machine).expect("a stack");
                for number in 0..max_entries + 300 {
                    let results = programs.each_ref().map(|program| cpu.run(program, [0, number.into()]));
                    assert!(results.iter().all(|it| *it == results[0]), "{kind:?} {key_size} {number}: {results:?}");
                    let twice = u64::from(number) << 32 | u64::from(number);
                    let known = twice ^ (33 * 44) ^ 55 ^ 41u64.wrapping_neg() ^ u64::from(number);
                    assert_eq!(results[0], Ok(if number < max_entries { known } else { 33 + 41 }));
                }
            }
        }
    }
}

#[test]
fn a_key_that_stays_is_found_while_others_come_and_go() {
    let machine = Machine::with_cpus(Helpers::all(), 2).expect("4 GiB of addresses");
    let spec = MapSpec { kind: MapKind::Hash, key_size: 8, value_size: 8, max_entries: 6, ..MapSpec::default() };
    let map = machine.create_map(&spec).expect("a map");
    let asm = "*(u64 *)(r10 - 8) = r2\nr2 = r10\nr2 += -8\ncall 1\nif r0 == 0 goto +1\nr0 = *(u64 *)(r0 + 0)\nexit";
    let program = on_map(&machine, Engine::Compiler, asm, &map);
    map.update(&7u64.to_ne_bytes(), &1007u64.to_ne_bytes(), 0).expect("room");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut cpu = Cpu::new(&machine).expect("a stack");
            let mut reads = 0u64;
            while reads < 300_000 || !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(cpu.run(&program, [0, 7]), Ok(1007));
                // Never there.
                assert_eq!(cpu.run(&program, [0, 500]), Ok(0));
                reads += 1;
            }
        });
        for round in 0..60_000u64 {
            let key = (100 + round % 40).to_ne_bytes();
            map.update(&key, &(2000 + round).to_ne_bytes(), 0).expect("room");
            map.delete(&key).expect("it is there");
            if reader.is_finished() {
                break;
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn values_are_reached_to_their_end_and_not_further() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let array = map(&machine, MapKind::Array, 4, 12, 0);
    let constant = map(&machine, MapKind::Array, 4, 16, F_RDONLY_PROG);
    let (mut ended, mut stopped) = (0, 0);
    for map in [&array, &constant] {
        for access in [
            "r0 = *(u8 *)(r0 + OFF)",
            "r0 = *(u32 *)(r0 + OFF)",
            "r0 = *(u64 *)(r0 + OFF)",
            "*(u32 *)(r0 + OFF) = 7",
            "r1 = 7\nlock *(u32 *)(r0 + OFF) += r1\nr0 = 0",
            "r0 += 4\nr0 = *(u64 *)(r0 + OFF)",
            // Null is no value, and neither is what was not looked at.
            "r6 = r0\nr0 = 0\nr0 = *(u8 *)(r0 + OFF)",
        ] {
            for index in [0, 3, 4] {
                for off in [0, 1, 4, 8, 9, 11, 12, 15, 16, 63, 64, 79, 80] {
                    let access = access.replace("OFF", &off.to_string());
                    let asm = format!(
                        "*(u32 *)(r10 - 4) = {index}\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto out\n{access}\nout:\nexit"
                    );
                    let [wanted, found] = [Engine::Interpreter, Engine::Compiler].map(|engine| {
                        let program = on_map(&machine, engine, &asm, map);
                        Cpu::new(&machine).expect("a stack").run(&program, [0, 0])
                    });
                    // The addresses are the same.
                    assert_eq!(wanted, found, "{asm}");
                    if wanted.is_ok() { ended += 1 } else { stopped += 1 }
                }
            }
        }
    }
    assert!(ended > 100 && stopped > 100, "{ended} ended, {stopped} were stopped");
}

#[test]
fn global_data_is_reached_without_a_check_only_where_it_is() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    for flags in [0, F_RDONLY_PROG] {
        let data = map(&machine, MapKind::Array, 4, 20, flags);
        let start = data.value_addr().expect("an array");
        for access in ["r0 = *(u32 *)(r1 + OFF)", "*(u64 *)(r1 + OFF) = 7\nr0 = 1", "r1 += 8\nr0 = *(u8 *)(r1 + OFF)"] {
            for off in [-9, -8, -1, 0, 1, 16, 92, 96, 112, 117, 119, 120, 121] {
                let place = if off < 0 { format!("r1 - {}", -off) } else { format!("r1 + {off}") };
                let asm = format!("r1 = {start} ll\n{}\nexit", access.replace("r1 + OFF", &place));
                let insns = code("data", &asm);
                let [wanted, found] = [Engine::Interpreter, Engine::Compiler].map(|engine| {
                    let image = Image { insns: &insns, ..Image::default() };
                    Cpu::new(&machine).expect("a stack").run(&engine.load(&machine, &image).expect("good"), [0, 0])
                });
                assert_eq!(wanted, found, "{asm}");
            }
        }
    }
}

#[test]
fn a_map_that_was_removed_is_not_found_by_compiled_code_either() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let asm = "*(u32 *)(r10 - 4) = 1\nr2 = r10\nr2 += -4\ncall 1\nif r0 == 0 goto +1\nr0 = 1\nexit";
    let (used, other) = (map(&machine, MapKind::Array, 4, 8, 0), map(&machine, MapKind::Array, 4, 8, 0));
    let program = on_map(&machine, Engine::Compiler, asm, &used);
    let mut cpu = Cpu::new(&machine).expect("a stack");
    assert_eq!(cpu.run(&program, [0, 0]), Ok(1));
    machine.remove_map(&other);
    assert_eq!(cpu.run(&program, [0, 0]), Ok(1));
    machine.remove_map(&used);
    let trap = cpu.run(&program, [0, 0]).expect_err("no such map");
    assert_eq!(trap.kind, TrapKind::NoMap { value: used.handle() });
}

#[test]
fn masked_code_is_stopped_by_a_page_without_memory_and_names_the_access() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let block = machine.space().allocate(16, true).expect("a block");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    let load = |asm: &str, engine: Engine| {
        let insns = code("masked", asm);
        engine.load(&machine, &Image { insns: &insns, ..Image::default() }).expect("a good program")
    };
    let own = [1u8; 8];
    for access in [
        "r0 = *(u64 *)(r1 + 8)",
        "*(u8 *)(r1 - 3) = 7",
        "*(u32 *)(r1 + 32767) = r1",
        "r0 = *(s16 *)(r1 - 32768)",
        "lock *(u64 *)(r1 + 8) += r1",
        "r1 = *(u64 *)(r1 + 8)",
    ] {
        let asm = format!("r0 = 3\nr6 = r1\n{access}\nr0 = 4\nexit");
        let [wanted, masked] = [load(&asm, Engine::Interpreter), load(&asm, Engine::Masked)];
        for addr in [0, 64, 0xffff_fff0, u64::MAX - 15, machine.space().base(), machine.space().base() - 8] {
            for _ in 0..2 {
                let [wanted, found] = [&wanted, &masked].map(|program| cpu.run(program, [addr, 0]));
                assert!(wanted.is_err(), "{access} at {addr:#x}");
                assert_eq!(wanted, found, "{access} at {addr:#x}");
            }
        }
        // The memory of others is out of reach: what is hit, if anything, lies in the space.
        let _ = cpu.run(&masked, [own.as_ptr() as u64, 0]);
    }
    assert_eq!(own, [1; 8]);
    // In order, and with an address that is said shortly.
    let good = load("*(u64 *)(r1 + 8) = 77\nr0 = *(u64 *)(r1 + 8)\nexit", Engine::Masked);
    for addr in [block.addr(), block.addr() & 0xffff_ffff] {
        assert_eq!(cpu.run(&good, [addr, 0]), Ok(77));
    }
    let odd = load("r2 = 1\nlock *(u64 *)(r1 + 4) += r2\nr0 = 0\nexit", Engine::Masked);
    let trap = cpu.run(&odd, [block.addr(), 0]).expect_err("not a multiple of 8");
    assert!(matches!(trap.kind, TrapKind::Memory(fault) if fault.reason == FaultReason::Misaligned), "{trap}");
}

#[test]
fn masked_programs_run_in_many_threads_and_inside_of_each_other() {
    let machine = Machine::with_cpus(Helpers::all(), 4).expect("4 GiB of addresses");
    // A callback that goes wrong in its second round.
    let asm = "r6 = r1\nr1 = 4\nr2 = cb ll\nr3 = r6\nr4 = 0\ncall 181\nexit\ncb:\nif r1 == 2 goto bad\nr0 = 0\nexit\n\
               bad:\nr0 = *(u8 *)(r2 + 0)\nexit";
    let asm = asm.replace("r2 = cb ll", "r2 = 0 ll");
    let mut insns = code("callback", &asm);
    // The address of a function of the program.
    let at = insns.iter().position(|insn| insn.code == 0x18).expect("a wide load");
    insns[at].src_reg = 4;
    insns[at].imm = 5;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut cpu = Cpu::new(&machine).expect("a stack");
                let image = Image { insns: &insns, ..Image::default() };
                let program = Engine::Masked.load(&machine, &image).expect("a good program");
                for _ in 0..200 {
                    let trap = cpu.run(&program, [0, 0]).expect_err("a null pointer");
                    assert!(matches!(trap.kind, TrapKind::Memory(_)), "{trap}");
                }
            });
        }
    });
}

#[test]
fn functions_that_are_copied_cost_and_fail_as_calls_do() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    // A function with a loop and two ends, called from two places, from seven frames down, and through its address.
    let asm = "r6 = 5\nr1 = 3\nagain:\ncall f\nr1 = r0\nr6 -= 1\nif r6 != 0 goto again\nr7 = r0\ncall deep\nr0 += r7\nr0 += r1\n\
               r0 += r2\nexit\n\
               deep:\nr6 = r1\nif r6 > 40 goto out\nr1 += 7\ncall deep\nout:\nr1 = r6\ncall f\nr0 += r6\nexit\n\
               f:\nr0 = 1\nr2 = 4\nif r1 > 1000 goto big\nstep:\nr0 *= 3\nr0 ^= r1\nr2 -= 1\nif r2 != 0 goto step\nr1 += 1\nexit\n\
               big:\nr0 = r1\nr0 >>= 7\nr3 = r1\nr3 <<= 57\nr0 |= r3\nr3 = 0\nexit";
    let insns = code("copied", asm);
    let mut ended = 0;
    for depth in [41, 34, 20, 6, 0] {
        let mut insns = insns.clone();
        let at = insns.iter().position(|insn| insn.imm == 40).expect("the comparison");
        insns[at].imm = depth;
        for fuel in 0..400 {
            let results = ENGINES.map(|engine| {
                let program = engine.load(&machine, &Image { insns: &insns, ..Image::default() }).expect("good");
                let mut cpu = Cpu::new(&machine).expect("a stack");
                cpu.set_fuel(fuel);
                (cpu.run(&program, [0, 0]), cpu.fuel_left())
            });
            assert!(results.iter().all(|it| *it == results[0]), "fuel {fuel}: {results:?}");
            ended += u32::from(results[0].0.is_ok());
        }
    }
    assert!(ended != 0, "some have fuel enough");
}

#[test]
fn code_without_a_meter_ends_with_as_much_fuel_as_it_began() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let insns = code("loop", "r0 = 1000\nr0 -= 1\nif r0 != 0 goto -2\nexit");
    let program = machine.load(&Image { insns: &insns, ..Image::default() }).expect("a good program");
    program.compile_with(CompileOptions::default().unmetered()).expect("memory for code");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    // Enough to enter it.
    cpu.set_fuel(4);
    assert_eq!(cpu.run(&program, [0, 0]), Ok(0));
}

#[test]
fn a_run_begins_as_the_first_whatever_the_one_before_it_left() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let block = machine.space().allocate(16, true).expect("a block");
    let programs = [
        // Registers and the frame are clear.
        "r0 |= r3\nr0 |= r4\nr0 |= r6\nr0 |= r9\nr3 = *(u64 *)(r10 - 8)\nr0 |= r3\nr9 = 7\nr6 = 7\n*(u64 *)(r10 - 8) = 3\nexit",
        "r3 = r10\nr3 += -512\nr0 = *(u64 *)(r3 + 0)\nr4 = *(u64 *)(r3 + 504)\nr0 |= r4\n*(u64 *)(r3 + 0) = 1\n\
         *(u64 *)(r3 + 504) = 1\nexit",
        // Stopped halfway, or not.
        "*(u64 *)(r10 - 16) = 5\nr0 = *(u64 *)(r1 + 8)\nr1 = *(u64 *)(r10 - 16)\nr0 += r1\nexit",
        "r6 = r2\nr6 &= 3\nr6 += 1\nr0 = 9\nr0 += 1\nr6 -= 1\nif r6 != 0 goto -3\nexit",
        // As often as it may.
        "r0 = 0\nr0 += 1\nmay_goto +1\ngoto -3\nexit",
        // Of functions inside of each other the outer frame is there, and the inner one is no longer.
        "r6 = r1\ncall f\nr0 = *(u64 *)(r10 - 520)\nexit\nf:\n*(u64 *)(r10 - 8) = 7\nr0 = 0\nexit",
        // The address of its frame, which is no secret.
        "r0 = r10\nexit",
    ];
    let loaded = ENGINES.map(|engine| {
        programs.map(|asm| {
            let insns = code("again", asm);
            engine.load(&machine, &Image { insns: &insns, ..Image::default() }).expect("a good program")
        })
    });
    let (mut ended, mut stopped) = (0, 0);
    let mut cpus = [(); 3].map(|()| Cpu::new(&machine).expect("a stack"));
    for round in 0..40u64 {
        for (index, asm) in programs.iter().enumerate() {
            // May_goto takes long.
            if asm.contains("may_goto") && round > 2 {
                continue;
            }
            for again in 0..4u64 {
                let good = !(round + again).is_multiple_of(3);
                let args = [if good { block.addr() } else { 8 }, again];
                let fuel = if round % 5 == 4 { round + again } else { 1 << 30 };
                let mut results = Vec::new();
                for (cpu, programs) in cpus.iter_mut().zip(&loaded) {
                    cpu.set_fuel(fuel);
                    let result = cpu.run(&programs[index], args);
                    // Every processor has a stack of its own.
                    let result = result.map(|value| if index == 6 { value & 0xffff } else { value });
                    let kind = result.map_err(|trap| match trap.kind {
                        TrapKind::Memory(fault) if index == 5 => format!("{} {:?}", fault.addr & 0xffff, fault.reason),
                        _ => trap.to_string(),
                    });
                    results.push((kind, cpu.fuel_left()));
                }
                assert_eq!(results[0], results[1], "{asm}, round {round}, {args:x?}");
                // A masked access reaches what lies in the same page.
                if index != 5 {
                    assert_eq!(results[0], results[2], "{asm}, round {round}, {args:x?}");
                }
                match results[0].0 {
                    Ok(_) => ended += 1,
                    Err(_) => stopped += 1,
                }
                if index < 2 && fuel == 1 << 30 {
                    assert_eq!(results[0].0, Ok(0), "{asm}");
                }
            }
        }
    }
    assert!(ended > 100 && stopped > 100, "{ended} ended, {stopped} were stopped");
}

#[test]
fn accesses_around_the_edges_of_many_blocks_are_what_the_interpreter_finds() {
    let machine = Machine::new(Helpers::all()).expect("4 GiB of addresses");
    let blocks = [(5, true), (8, true), (40, true), (24, false), (70_000, true)]
        .map(|(len, writable)| machine.space().allocate(len, writable).expect("a block"));
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut next = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) % below
    };
    let (mut ended, mut stopped) = (0, 0);
    for round in 0..3000 {
        let mut asm = String::from("r0 = 0\nr6 = 77\n");
        for (index, block) in blocks.iter().enumerate() {
            // One of them may be said shortly.
            let short = next(8) == 0;
            asm += &format!("r{} = {} ll\n", index + 1, if short { block.addr() & 0xffff_ffff } else { block.addr() });
        }
        // One that is wrong is enough to be stopped, so most are right.
        let wrong = next(3) == 0;
        for _ in 0..2 + next(9) {
            let index = next(5) as usize;
            let (size, bytes) = [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)][next(4) as usize];
            let len = if index == 4 { 20_000 } else { blocks[index].len() };
            let start = if next(4) == 0 { len.saturating_sub(bytes) } else { next(len + 1) };
            let off = start as i64 + if wrong { next(3) as i64 - 1 } else { 0 };
            let fits = off >= 0 && off as u64 + bytes <= blocks[index].len();
            if !fits && !wrong {
                continue;
            }
            let (writes, atomic) = (next(3) == 0 && (index != 3 || wrong), next(6) == 0 && bytes >= 4);
            if atomic && !wrong && !(off as u64).is_multiple_of(bytes) {
                continue;
            }
            let place = if off < 0 { format!("r{} - {}", index + 1, -off) } else { format!("r{} + {off}", index + 1) };
            asm += &match (writes, atomic && index != 3) {
                (_, true) => format!("lock *({size} *)({place}) += r6\n"),
                (true, _) => format!("*({size} *)({place}) = r6\n"),
                (false, _) => format!("r7 = *({size} *)({place})\nr0 *= 31\nr0 += r7\n"),
            };
            match next(12) {
                // What may change windows, and what does.
                0 => asm += "r8 = r1\nr9 = r2\ncall 5\nr0 = 1\nr1 = r8\nr2 = r9\n",
                1 => asm += "if r0 == 9 goto out\n",
                _ => {}
            }
        }
        asm += "out:\nexit";
        let insns = code("edges", &asm);
        let results = [Engine::Interpreter, Engine::Compiler].map(|engine| {
            for block in &blocks {
                block.write(0, &vec![round as u8; block.len() as usize]).expect("inside");
            }
            let program = engine.load(&machine, &Image { insns: &insns, ..Image::default() }).expect("a good program");
            let mut cpu = Cpu::new(&machine).expect("a stack");
            let result = cpu.run(&program, [0, 0]);
            (result, cpu.fuel_left(), blocks.each_ref().map(|block| block.bytes(0, 100_000)))
        });
        assert!(results[0] == results[1], "{asm}\n{:?}\n{:?}", results[0].0, results[1].0);
        if results[0].0.is_ok() { ended += 1 } else { stopped += 1 }
    }
    assert!(ended > 500 && stopped > 500, "{ended} ended, {stopped} were stopped");
}

#[test]
fn a_frame_that_was_left_is_out_of_reach_at_once() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    // The inner function reads its own frame by an address that nobody knows to be in it, and gives that.
    for off in [-8, -512, 504, 512] {
        let asm = format!(
            "r1 = r10\nr1 &= -1\nr0 = *(u64 *)(r1 - 8)\nr6 = 0\ncall f\nr2 = r0\nr0 = *(u64 *)(r2 {} {})\nexit\n\
             f:\nr0 = r10\nr0 &= -1\nr3 = *(u64 *)(r0 - 8)\n*(u64 *)(r0 - 512) = r3\nexit",
            if off < 0 { '-' } else { '+' },
            i32::from(off as i16).abs()
        );
        let insns = code("frames", &asm);
        let mut cpu = Cpu::new(&machine).expect("a stack");
        let results = [Engine::Interpreter, Engine::Compiler].map(|engine| {
            let program = engine.load(&machine, &Image { insns: &insns, ..Image::default() }).expect("good");
            cpu.run(&program, [0, 0])
        });
        assert_eq!(results[0], results[1], "{asm}");
        // r10 of the inner function is 512 bytes below that of the outer one.
        assert_eq!(results[0].is_ok(), off == 504, "{off}: {results:?}");
    }
}

/// As [`same`], in a frame of its own kind: `mem` is 16 bytes whose address is in r1, and what they are afterwards counts, with all that is left of some
/// amounts of fuel.
fn same_in_memory(machine: &Arc<Machine>, asm: &str) {
    let insns = code("same in memory", asm);
    let block = machine.space().allocate(16, true).expect("a block");
    let programs = ENGINES
        .map(|engine| engine.load(machine, &Image { insns: &insns, ..Image::default() }).expect("a good program"));
    // Where nothing goes wrong: what is plain is right then.
    let plain = machine.load(&Image { insns: &insns, ..Image::default() }).expect("a good program");
    // SAFETY: the programs here stay in their 16 bytes.
    #[expect(unsafe_code, reason = "code without checks is compared, too")]
    let options = unsafe { CompileOptions::plain() };
    plain.compile_with(options).expect("memory for code");
    let mut cpu = Cpu::new(machine).expect("a stack");
    for fuel in [1_000_000, 40, 41, 42, 43, 55, 70, 100] {
        cpu.set_fuel(fuel);
        let results = programs.iter().chain([&plain]).map(|program| {
            block.write(0, &[0xf3, 1, 2, 3, 4, 5, 6, 0x87, 8, 9, 10, 11, 12, 13, 14, 15]).expect("it fits");
            (cpu.run(program, [block.addr(), 16]), cpu.fuel_left(), block.bytes(0, 16))
        });
        let results: Vec<_> = results.collect();
        assert!(results.iter().all(|it| *it == results[0]), "{fuel}: {asm}\n{results:?}");
    }
}

const MIX: &str = "r0 *= 0x1000193\nr0 ^= r2\nr0 *= 0x1000193\nr0 ^= r3\nr0 *= 0x1000193\nr0 ^= r4\nexit";

#[test]
fn a_move_and_a_sum_are_one_only_where_they_are() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    for (copy, add) in [("r", "r"), ("w", "w"), ("r", "w"), ("w", "r")] {
        for (dst, a, b) in [(2, 3, 4), (2, 3, 3), (2, 3, 2), (2, 2, 3), (4, 2, 3), (3, 4, 2)] {
            for by in [format!("{add}{b}"), "-7".into(), "0x7fffffff".into()] {
                for between in ["", "if r4 == 3 goto +0\n", "r0 += r2\n"] {
                    let asm = format!(
                        "r0 = 1\nr2 = 0xfedcba9876543210 ll\nr3 = 0x8000000180000002 ll\nr4 = 3\n\
                         {copy}{dst} = {copy}{a}\n{between}{add}{dst} += {by}\n{MIX}"
                    );
                    same(&machine, &asm, [0, 0]);
                }
            }
        }
    }
    for load in ["r2 = *(u8 *)(r2 + 1)", "r2 = *(s16 *)(r2 - 1)", "r3 = *(u32 *)(r2 + 0)", "r2 = *(u64 *)(r2 + 3)"] {
        for between in ["", "r0 = r2\nr0 -= r1\n", "if r4 == 2 goto +0\n"] {
            same_in_memory(
                &machine,
                &format!("r0 = 0\nr3 = 5\nr4 = 2\nr2 = r1\nr2 += r4\n{between}{load}\nr4 = 0\n{MIX}"),
            );
        }
    }
}

#[test]
fn a_count_in_memory_is_one_operation_only_where_nobody_reads_the_register() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    for size in ["u8", "u16", "u32", "u64"] {
        for (w, by) in [("r", "1"), ("r", "-300"), ("w", "1"), ("r", "r3"), ("w", "w3"), ("r", "r2")] {
            for behind in ["r2 = 7", "r0 = r2", "r3 = 1", "r2 = 9\nr0 = r2"] {
                for (from, to, between) in [(0, 0, ""), (0, 8, ""), (8, 8, "r4 = 1\n"), (4, 4, "if r4 == 9 goto +0\n")]
                {
                    if (from + to) % 8 != 0 && size == "u64" {
                        continue;
                    }
                    same_in_memory(
                        &machine,
                        &format!(
                            "r0 = 0\nr2 = 0\nr3 = 0x1ffffffff ll\nr4 = 9\nr2 = *({size} *)(r1 + {from})\n{between}{w}2 += {by}\n\
                             *({size} *)(r1 + {to}) = r2\n{behind}\n{MIX}"
                        ),
                    );
                }
            }
        }
    }
}

#[test]
fn a_loop_that_is_turned_round_pays_and_ends_as_it_did() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    // The end of the loop stands before its body; jumps lead to it from two places, and past it.
    for step in
        ["r3 += 1", "r3 += 1\nr2 += r3\nr2 <<= 1", "r3 += 1\nr2 = *(u8 *)(r1 + 2)", "r4 = 0x123456789 ll\nr3 += 1"]
    {
        for body in ["r0 += r3", "if r3 == 2 goto next\nr0 += 5", "if r3 == 4 goto out\nr0 ^= r3"] {
            same_in_memory(
                &machine,
                &format!(
                    "r0 = 0\nr2 = 0\nr3 = 0\nr4 = 0\ngoto body\nnext:\n{step}\nif r3 != 6 goto body\nout:\nr0 += 100\n{MIX}\n\
                     body:\n{body}\ngoto next"
                ),
            );
        }
    }
}

#[test]
fn what_a_lookup_is_given_stays_where_somebody_reads_it() {
    let machine = Machine::with_cpus(Helpers::all(), 1).expect("4 GiB of addresses");
    for kind in [MapKind::Array, MapKind::Hash] {
        let map = map(&machine, kind, 4, 8, 0);
        // All of an array's are there.
        let there = if kind == MapKind::Array { 0..5u32 } else { 1..4 };
        // Keys from 0 to 6 in a loop whose branches lead back and forth; r1, r2, r3 are read behind the call, or not.
        for behind in ["", "r7 ^= r2\nr7 -= r10\n", "r7 ^= r1\n", "r7 += r3\n"] {
            for store in [
                "*(u32 *)(r10 - 4) = r6\n",
                "*(u32 *)(r10 - 4) = r6\nr8 = 0\n",
                "*(u64 *)(r10 - 8) = 0\n*(u32 *)(r10 - 4) = r2\n",
            ] {
                for branch in
                    ["if r0 == 0 goto next\n", "if r0 != 0 goto found\ngoto next\n", "r8 += 1\nif r0 == 0 goto next\n"]
                {
                    let asm = format!(
                        "r9 = r1\nr7 = 0\nr6 = 0\nr8 = 0\nr3 = 77\ngoto body\nnext:\nr6 += 1\nif r6 == 7 goto out\n\
                         body:\nr2 = r6\n{store}r1 = r9\nr2 = r10\nr2 += -4\ncall 1\n{behind}{branch}found:\n\
                         r1 = *(u64 *)(r0 + 0)\nr1 += 1\n*(u64 *)(r0 + 0) = r1\nr7 += r1\ngoto next\nout:\nr0 = r7\nr0 += r8\nexit"
                    );
                    let known = asm.replace("r1 = r9\n", "r1 = MAP ll\n").replace("r9 = r1\n", "");
                    for asm in [asm, known] {
                        let results = ENGINES.map(|engine| {
                            for key in there.clone() {
                                let value = (1000 + u64::from(key)).to_ne_bytes();
                                map.update(&key.to_ne_bytes(), &value, 0).expect("room");
                            }
                            let asm = asm.replace("MAP", &map.handle().to_string());
                            let program = on_map(&machine, engine, &asm, &map);
                            let mut cpu = Cpu::new(&machine).expect("a stack");
                            (cpu.run(&program, [0, 0]), cpu.fuel_left())
                        });
                        assert!(results.iter().all(|it| *it == results[0]), "{asm}\n{results:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_copied_function_jumps_back_into_its_copy() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    // A branch back to what ends the function, to a loop, and to a loop whose end stands before its body.
    let functions = [
        "goto ask\nless:\nr0 = 5\nr0 += r1\nexit\nask:\nif r1 < 3 goto less\nr0 = r1\nexit",
        "r0 = 0\nagain:\nr0 += r1\nr1 -= 1\nif r1 s> 0 goto again\nexit",
        "r0 = 0\nr2 = 0\ngoto body\nnext:\nr2 += 1\nif r2 > 4 goto out\nbody:\nr0 += r1\ngoto next\nout:\nexit",
    ];
    for function in functions {
        let asm = format!(
            "r6 = 6\nr7 = 0\nround:\nr1 = r6\ncall f\nr7 *= 31\nr7 += r0\nr6 -= 1\nif r6 != 0 goto round\nr0 = r7\nexit\nf:\n{function}"
        );
        same(&machine, &asm, [0, 0]);
        same_in_memory(&machine, &asm);
    }
}

#[test]
fn a_lookup_takes_its_key_from_memory_when_a_count_there_left_it_in_no_register() {
    let machine = Machine::with_cpus(Helpers::all(), 1).expect("4 GiB of addresses");
    for kind in [MapKind::Array, MapKind::Hash] {
        let map = map(&machine, kind, 4, 8, 0);
        for key in 1..4u32 {
            map.update(&key.to_ne_bytes(), &(1000 + u64::from(key)).to_ne_bytes(), 0).expect("room");
        }
        // The register of the sum is read by nobody: r0 is the helper's, the others are set before they are read.
        for reg in [0, 6, 7, 8, 9] {
            for by in ["1", "r5"] {
                let asm = format!(
                    "r5 = 1\nr{reg} = 3\n*(u32 *)(r10 - 4) = 1\nr{reg} = *(u32 *)(r10 - 4)\nr{reg} += {by}\n\
                     *(u32 *)(r10 - 4) = r{reg}\nr2 = r10\nr2 += -4\nr1 = {} ll\ncall 1\nif r0 == 0 goto +1\n\
                     r0 = *(u64 *)(r0 + 0)\nr1 = 0\nr2 = 0\nexit",
                    map.handle()
                );
                assert_eq!(same(&machine, &asm, [0, 0]), 1002, "{kind:?} {asm}");
            }
        }
    }
}

#[test]
fn an_atomic_operation_fetches_by_an_address_in_its_own_registers() {
    let machine = Machine::with_cpus(Helpers::all(), 1).expect("4 GiB of addresses");
    let map = map(&machine, MapKind::Array, 4, 16, 0);
    // Of the value of a map, which needs no check, and of what has one; with the base in r0, and in the register that fetches.
    for name in ["or", "and", "xor", "add"] {
        for (width, size) in [("r", "u64"), ("w", "u32")] {
            for (base, src) in [(0, 1), (0, 0), (1, 1), (1, 0), (6, 0), (6, 6), (3, 3)] {
                let asm = format!(
                    "*(u32 *)(r10 - 4) = 1\nr2 = r10\nr2 += -4\nr1 = {} ll\ncall 1\nif r0 == 0 goto out\nr7 = r0\n\
                     r3 = 0x123456789abcdef0 ll\n*(u64 *)(r7 + 8) = r3\nr{src} = 0x0f0f0f0f00ff00ff ll\nr{base} = r7\n\
                     {width}{src} = atomic_fetch_{name}(({size} *)(r{base} + 8), {width}{src})\n\
                     r8 = *(u64 *)(r7 + 8)\nr2 = r{src}\nr2 -= r7\nr0 = r2\nr0 *= 31\nr0 ^= r8\nout:\nexit",
                    map.handle()
                );
                same(&machine, &asm, [0, 0]);
                let own = asm.replace("r7 = r0\n", "r7 = r0\nif r7 == 0 goto out\n");
                same(&machine, &own, [0, 0]);
            }
        }
    }
}

#[test]
fn a_key_may_come_from_any_register_and_by_either_way() {
    let machine = Machine::with_cpus(Helpers::all(), 1).expect("4 GiB of addresses");
    for kind in [MapKind::Array, MapKind::Hash] {
        let map = map(&machine, kind, 4, 8, 0);
        for key in 1..4u32 {
            map.update(&key.to_ne_bytes(), &(1000 + u64::from(key)).to_ne_bytes(), 0).expect("room");
        }
        let look = format!(
            "r2 = r10\nr2 += -4\nr1 = {} ll\ncall 1\nif r0 == 0 goto +1\nr0 = *(u64 *)(r0 + 0)\nr1 = 0\nr2 = 0\nexit",
            map.handle()
        );
        for reg in 0..10 {
            // r1 and r2 are the arguments, which the lookup does not make where nobody reads them.
            let asm = format!("r{reg} = 0x700000002 ll\n*(u32 *)(r10 - 4) = r{reg}\n{look}");
            assert_eq!(same(&machine, &asm, [0, 0]), 1002, "{kind:?} {asm}");
            // A register of one way is not the key of the other; nor is one that was stored elsewhere, or partly.
            for store in ["*(u32 *)(r10 - 4) = 1\n", "*(u16 *)(r10 - 4) = 1\n", "*(u32 *)(r10 - 8) = 1\n"] {
                for arg in [0, 1] {
                    let asm = format!(
                        "r5 = r2\nr{reg} = 3\n*(u32 *)(r10 - 4) = r{reg}\nr5 = {arg}\nif r5 == 0 goto +2\n{store}r{reg} = 2\n\
                         {look}"
                    );
                    let low = store.contains("- 4") && arg == 1;
                    let wanted = if low { 1001 } else { 1003 };
                    assert_eq!(same(&machine, &asm, [0, 0]), wanted, "{kind:?} {asm}");
                    let last = format!("r{reg} = 3\n*(u32 *)(r10 - 4) = r{reg}\nr{reg} = 2\n{look}");
                    assert_eq!(same(&machine, &last, [0, 0]), 1003, "{kind:?} {last}");
                }
            }
        }
    }
}

#[test]
fn a_value_changes_by_every_address_of_it_and_is_gone_when_it_was_deleted() {
    let machine = Machine::with_cpus(Helpers::all(), 1).expect("4 GiB of addresses");
    for kind in [MapKind::Array, MapKind::Hash, MapKind::LruHash, MapKind::PerCpuHash] {
        let map = map(&machine, kind, 4, 16, 0);
        let look = format!("r2 = r10\nr2 += -4\nr1 = {} ll\ncall 1\nif r0 == 0 goto gone\n", map.handle());
        let update = format!(
            "*(u64 *)(r10 - 24) = 70\n*(u64 *)(r10 - 16) = 700\nr2 = r10\nr2 += -4\nr3 = r10\nr3 += -24\nr4 = 0\n\
             r1 = {} ll\ncall 2\n",
            map.handle()
        );
        let delete = format!("r2 = r10\nr2 += -4\nr1 = {} ll\ncall 3\n", map.handle());
        // Between two looks at the same key: a store by the first address, a count, an update in its place, a deletion, and both.
        for between in [
            "*(u64 *)(r6 + 0) = 5\n".to_owned(),
            "r1 = *(u64 *)(r6 + 0)\nr1 += 3\n*(u64 *)(r6 + 0) = r1\nr1 = 0\n".to_owned(),
            "r1 = 9\nlock *(u64 *)(r6 + 0) += r1\nr1 = 0\n".to_owned(),
            update.clone(),
            delete.clone(),
            format!("{delete}{update}"),
            format!("{update}{delete}"),
        ] {
            for behind in ["r7 += *6\n", "r1 = 1\nr1 = atomic_fetch_or((u64 *)(r0 + 0), r1)\nr7 += r1\nr7 += *6\n"] {
                let behind = behind.replace("r7 += *6\n", "r1 = *(u64 *)(r6 + 0)\nr7 += r1\n");
                let asm = format!(
                    "r7 = 0\n{update}*(u32 *)(r10 - 4) = 1\n{update}{look}r6 = r0\nr1 = *(u64 *)(r0 + 8)\nr7 += r1\n{between}\
                     {look}r1 = *(u64 *)(r0 + 0)\nr7 += r1\nr7 *= 31\n{behind}r0 = r7\ngoto out\ngone:\nr0 = r7\nr0 += 1000000\n\
                     out:\nr1 = 0\nr2 = 0\nexit"
                );
                same(&machine, &asm, [0, 0]);
            }
        }
    }
}

#[test]
fn a_masked_operation_that_finds_no_memory_leaves_everything_as_it_was() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    for name in ["or", "and", "xor", "add"] {
        for (base, src) in [(0, 1), (0, 0), (1, 1), (1, 0), (3, 4), (6, 6)] {
            let access = format!("r{src} = atomic_fetch_{name}((u64 *)(r{base} + 8), r{src})");
            let asm = format!("r6 = 77\nr{src} = 5\nr{base} = r1\nr{src} += 0\n{access}\nr0 = 1\nexit");
            let insns = code("masked", &asm);
            let [wanted, found] = [Engine::Interpreter, Engine::Masked].map(|engine| {
                let image = Image { insns: &insns, ..Image::default() };
                let program = engine.load(&machine, &image).expect("a good program");
                (cpu.run(&program, [machine.space().base() + 0x8000, 0]), cpu.fuel_left())
            });
            assert!(wanted.0.is_err(), "{asm}");
            assert_eq!(wanted, found, "{asm}");
        }
    }
}

#[test]
fn a_byte_that_is_loaded_for_nothing_stops_a_program_where_it_is_not() {
    let machine = Machine::new(Helpers::none()).expect("4 GiB of addresses");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    let two = "r3 = *(u8 *)(r10 - 7)\nr2 = *(u8 *)(r10 - 8)\nr3 <<= 8\nr3 |= r2\nr2 = 0\nr0 = r3\nexit";
    for extra in ["r2 = *(u8 *)(r10 + 0)\n", "r2 = *(u8 *)(r10 - 513)\n", "r2 = *(u8 *)(r10 - 1)\n"] {
        let insns = code("bytes", &format!("*(u64 *)(r10 - 8) = 0x1234567\n{extra}{two}"));
        let [wanted, found] = [Engine::Interpreter, Engine::Compiler].map(|engine| {
            let program = engine.load(&machine, &Image { insns: &insns, ..Image::default() }).expect("a good program");
            cpu.run(&program, [0, 0])
        });
        assert_eq!(wanted, found, "{extra}");
        assert_eq!(wanted.is_ok(), extra.contains("- 1)"), "{extra}");
    }
}
