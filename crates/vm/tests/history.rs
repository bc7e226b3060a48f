//! Mistakes that other machines in user space made. Each has a test here, or the name of the one that it is covered by.
//!
//! | mistake | where |
//! |---|---|
//! | division by zero traps | `alu64`, `alu32`: `div`, `mod`, `sdiv`, `smod` rows with 0 |
//! | the smallest number by -1 traps | the same, rows with `0x8000000000000000` |
//! | shifts by the width or more are not masked | `alu64`, `alu32`: `lsh`, `rsh`, `arsh` rows |
//! | 32-bit results keep or extend the upper half | every row of `alu32` |
//! | immediates of comparisons are not signed | `jump64`, `jump32`: rows with -1 |
//! | `le16`, `le32` do not truncate | `move`: `le16`, `le32` |
//! | a divisor by immediate is taken for a register in the check for zero | [`a_divisor_by_immediate_is_not_a_register`] |
//! | signed division is unsigned | `alu64`, `alu32`: `sdiv`, `smod`; `sdiv` by immediate |
//! | a histogram's slot is miscomputed | [`the_slot_of_a_latency_histogram`] |
//! | reserved fields are taken, `movsx` runs as `mov`, `sdiv` as `udiv` | `reserved`, `move`: `movsx` |
//! | a jump leads into a wide load | `control`: `a jump into a wide load` |
//! | the second slot of a wide load is not checked | `reserved`: `a_wide_load_has_two_slots_without_reserved_bits` |
//! | a program falls off its end | `control`: `the end without an exit`, `a function that falls into the next`, `a branch at the end` |
//! | the place in the code is counted in 16 bits | `run`: `long_programs_jump_further_than_16_bits_tell` |
//! | the distance of a call overflows | [`a_call_that_overflows_is_refused`] |
//! | registers are lost to shifts, multiplication and division | [`shifts_and_divisions_keep_every_other_register`] |
//! | r12 and r13 are encoded wrongly as bases | [`every_register_is_a_base`] |
//! | the bounds check overflows in address + length | `memory`: `an address whose sum overflows` |
//! | only the first byte of an access is checked, or 8 are assumed | `memory`: `a word that is half out of the input`, [`an_access_may_end_where_the_memory_ends`] |
//! | the stack shows what others left there | `memory`: `the stack starts as zeros`, [`a_stack_shows_nothing_of_the_last_run`], [`a_function_sees_nothing_of_the_last_run_in_its_callers_frame`] |
//! | a function's frame is its caller's | `control`: `a function gets r1 to r5 and keeps r6 to r9`, `memory`: `a function reaches its caller's frame` |
//! | a null context crashes the machine | `memory`: `a null pointer` |
//! | a helper follows a pointer that the program does not have | [`a_helper_checks_the_programs_pointer`] |
//! | recursion exhausts the machine's own stack | `control`: `functions that call each other run out of frames` |
//! | a program that was replaced leaks | [`programs_and_memory_that_are_gone_leave_nothing`] |

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use common::{Engine, Outcome, Runner, code};
use skep_insn::{InsnIdx, RawInsn};
use skep_vm::{Cpu, Helpers, Image, LoadErrorKind, Machine};

/// On one machine for all, since a space is much to ask of an emulated processor.
fn result(asm: &str, mem: &[u8]) -> u64 {
    thread_local! {
        static RUNNER: std::cell::RefCell<Runner> = std::cell::RefCell::new(Runner::new());
    }
    RUNNER.with_borrow_mut(|runner| match runner.run(&code("history", asm), Some(mem), None).0 {
        Outcome::Result(value) => value,
        other => panic!("{asm}: {other:?}"),
    })
}

#[test]
fn a_divisor_by_immediate_is_not_a_register() {
    // The register that the unused field names is 0.
    assert_eq!(result("r0 = 0\nr3 = 12\nr3 /= 4\nr0 = r3\nexit", &[0]), 3);
    assert_eq!(result("r0 = 0\nw3 = 14\nw3 %= 4\nr0 = r3\nexit", &[0]), 2);
}

#[test]
fn the_slot_of_a_latency_histogram() {
    let asm = "
        r2 = *(u64 *)(r1 + 0)
        r0 = 0
        r3 = r2
        r3 >>= 32
        if r3 == 0 goto low
        r0 += 32
        r2 = r3
        low:
        w2 = w2
        if r2 <= 0xffff goto half
        r2 >>= 16
        r0 |= 16
        half:
        if r2 <= 0xff goto byte
        r2 >>= 8
        r0 |= 8
        byte:
        if r2 <= 0xf goto nibble
        r2 >>= 4
        r0 |= 4
        nibble:
        if r2 <= 3 goto pair
        r2 >>= 2
        r0 |= 2
        pair:
        r2 >>= 1
        r0 |= r2
        exit";
    for bit in 0..64 {
        for number in [1u64 << bit, (1u64 << bit) | (1u64 << bit) >> 1, (!0u64) >> (63 - bit)] {
            assert_eq!(result(asm, &number.to_ne_bytes()), bit, "{number:#x}");
        }
    }
}

#[test]
fn a_call_that_overflows_is_refused() {
    let runner = Runner::new();
    let exit = RawInsn::new(0x95, 0, 0, 0, 0);
    for distance in [i32::MAX, i32::MIN, i32::MAX - 1, 0x1fff_ffff, -0x2000_0000] {
        for first in [
            RawInsn::new(0x85, 0, 1, 0, distance),
            RawInsn::new(0x06, 0, 0, 0, distance),
            RawInsn::new(0x85, 0, 0, 0, distance),
        ] {
            assert!(runner.load(&[first, exit]).is_err(), "{first:x?}");
        }
        let load = [RawInsn::new(0x18, 1, 4, 0, distance), RawInsn::new(0, 0, 0, 0, 0), exit];
        let error = runner.load(&load).expect_err("no such function");
        assert_eq!(error.kind, LoadErrorKind::OutOfProgram { target: i64::from(distance) + 1 });
    }
}

#[test]
fn shifts_and_divisions_keep_every_other_register() {
    let sum = "r0 = r0\nr0 += r1\nr0 += r2\nr0 += r3\nr0 += r4\nr0 += r5\nr0 += r6\nr0 += r7\nr0 += r8\nr0 += r9\nexit";
    for op in ["<<=", ">>=", "s>>=", "*=", "/=", "%=", "s/=", "s%="] {
        for width in ["r", "w"] {
            for dst in 0..10 {
                for src in 0..10 {
                    let mut regs: Vec<u64> = (0..10).map(|reg| 40 + 3 * reg).collect();
                    regs[src] = 2;
                    let set: String =
                        regs.iter().enumerate().map(|(reg, value)| format!("r{reg} = {value}\n")).collect();
                    let (a, b) = (regs[dst], regs[src]);
                    regs[dst] = match op {
                        "<<=" => a << b,
                        ">>=" | "s>>=" => a >> b,
                        "*=" => a * b,
                        "/=" | "s/=" => a / b,
                        _ => a % b,
                    };
                    let asm = format!("{set}{width}{dst} {op} {width}{src}\n{sum}");
                    assert_eq!(result(&asm, &[0]), regs.iter().sum::<u64>(), "{width}{dst} {op} {width}{src}");
                }
            }
        }
    }
}

#[test]
fn every_register_is_a_base() {
    for base in 0..10 {
        for value in (0..10).filter(|value| *value != base) {
            for (off, name) in [(0, "0"), (8, "8")] {
                let asm = format!(
                    "r{base} = r1\nr{value} = 77\n*(u64 *)(r{base} + {name}) = r{value}\n\
                     r{value} = 0\nr{value} = *(u64 *)(r{base} + {off})\nr0 = r{value}\nexit"
                );
                assert_eq!(result(&asm, &[0; 16]), 77, "{asm}");
            }
        }
    }
}

#[test]
fn an_access_may_end_where_the_memory_ends() {
    let mut runner = Runner::new();
    for (size, len) in [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)] {
        for off in 0..12 {
            let insns = code("edge", &format!("r0 = *({size} *)(r1 + {off})\nexit"));
            let ended = matches!(runner.run(&insns, Some(&[0; 9]), None).0, Outcome::Result(0));
            assert_eq!(ended, off + len <= 9, "{size} at {off}");
        }
    }
}

#[test]
fn a_stack_shows_nothing_of_the_last_run() {
    let mut runner = Runner::new();
    let fill: String = (1..=64).map(|word| format!("*(u64 *)(r10 - {}) = -1\n", 8 * word)).collect();
    let fill = code("fill", &format!("{fill}call f\nr0 = 0\nexit\nf:\n{fill}r0 = 0\nexit"));
    let read: String = (1..=64).map(|word| format!("r1 = *(u64 *)(r10 - {})\nr0 |= r1\n", 8 * word)).collect();
    let read = code("read", &format!("r6 = 0\ncall f\nr6 = r0\nr0 = 0\n{read}r0 |= r6\nexit\nf:\nr0 = 0\n{read}exit"));
    for _ in 0..2 {
        assert!(matches!(runner.run(&fill, None, None).0, Outcome::Result(0)));
        assert!(matches!(runner.run(&read, None, None).0, Outcome::Result(0)));
    }
}

#[test]
fn a_function_sees_nothing_of_the_last_run_in_its_callers_frame() {
    let mut runner = Runner::new();
    let fill: String = (1..=64).map(|word| format!("*(u64 *)(r10 - {}) = -1\n", 8 * word)).collect();
    let fill = code("fill", &format!("{fill}r0 = 0\nexit"));
    let above: String = (0..64).map(|word| format!("r1 = *(u64 *)(r10 + {})\nr0 |= r1\n", 8 * word)).collect();
    let across = "r0 = *(u64 *)(r10 - 4)\n".to_owned();
    let copied = "r1 = r10\nr0 = *(u64 *)(r1 + 8)\n".to_owned();
    for reads in [above, across, copied] {
        let read = code("read", &format!("call f\nexit\nf:\nr0 = 0\n{reads}exit"));
        assert!(matches!(runner.run(&fill, None, None).0, Outcome::Result(0)));
        assert!(matches!(runner.run(&read, None, None).0, Outcome::Result(0)), "{reads}");
    }
}

#[test]
fn a_helper_checks_the_programs_pointer() {
    let helpers = Helpers::none().with(5, "read", |cpu, [addr, len, ..]| {
        let mut bytes = vec![0; len.min(64) as usize];
        cpu.space().read(addr, &mut bytes)?;
        Ok(bytes.iter().map(|byte| u64::from(*byte)).sum())
    });
    let machine = Machine::new(helpers).expect("4 GiB of addresses");
    let insns = code("read", "call 5\nexit");
    let program =
        Engine::of_this_binary().load(&machine, &Image { insns: &insns, ..Image::default() }).expect("a good program");
    let block = machine.space().allocate(4, true).expect("a block");
    block.write(0, &[1, 2, 3, 4]).expect("it fits");
    let mut cpu = Cpu::new(&machine).expect("a stack");
    assert_eq!(cpu.run(&program, [block.addr(), 4]), Ok(10));
    // Somewhere in this process, where the program has nothing to look for.
    let own = [1u8; 8];
    for (addr, len) in [(block.addr(), 5), (own.as_ptr() as u64, 8), (0, 1), (u64::MAX, 2)] {
        let trap = cpu.run(&program, [addr, len]).expect_err("not the program's memory");
        assert_eq!(trap.at, InsnIdx(0));
    }
}

#[test]
fn programs_and_memory_that_are_gone_leave_nothing() {
    let mut runner = Runner::new();
    let insns = code("small", "r0 = 0\nexit");
    let input = vec![7; 1 << 20];
    // 8 GiB in all: more than the space has, if anything stayed.
    let rounds = 8 << 10;
    let big = runner.machine.space().allocate(3 << 30, true).expect("most of the space");
    for _ in 0..rounds {
        assert!(matches!(runner.run(&insns, None, None).0, Outcome::Result(0)));
        let block = runner.machine.space().allocate(input.len() as u64, true).expect("room again");
        assert!(block.write(0, &input[..8]).is_some());
    }
    drop(big);
    assert!(runner.machine.space().allocate(4_000_000_000, true).is_ok(), "the space is whole again");
}
