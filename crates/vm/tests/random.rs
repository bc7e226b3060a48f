//! Random programs on the interpreter, compiled, and on the kernel: r0 and the input afterwards are equal. What goes wrong is, too.
//!
//! `SKEP_VM_COUNT` says how many (with `SKEP_VM_SEED` for the first), to hunt for more than a test run has time for.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use std::sync::Arc;

use common::random::{For, INPUT_BYTES, Isa, change, program, setting};
use common::{Engine, Outcome, Runner, kernel};
use skep_insn::RawInsn;
use skep_insn::text::{Printer, Spelling};
use skep_sys::version::KernelVersion;
use skep_vm::{Block, Cpu, DEFAULT_FUEL, Image, Machine};

fn seeds() -> std::ops::Range<u64> {
    let first = setting("SKEP_VM_SEED", 1);
    first..first + setting("SKEP_VM_COUNT", 4000)
}

#[test]
fn random_programs_do_the_same_in_the_kernel() {
    let Some(running) = kernel::version() else { return };
    let isa = match running {
        it if it >= KernelVersion::new(6, 15, 0) => Isa::Ordered,
        it if it >= KernelVersion::new(6, 6, 0) => Isa::V4,
        _ => Isa::V3,
    };
    let mut runner = Runner::new();
    let mut log = vec![0; 1 << 16];
    let (mut same, mut refused) = (0, Vec::new());
    for seed in seeds() {
        let (insns, input) = program(seed, For::Kernel(isa));
        let (outcome, after) = runner.run(&insns, Some(&input), None);
        let show = || Printer::new(Spelling::Kernel).listing(&insns);
        match (kernel::run(&insns, Some(&input), &mut log), outcome) {
            (Ok((wanted, wanted_after)), Outcome::Result(found)) => {
                assert!(
                    wanted == found && wanted_after == after,
                    "seed {seed}: kernel {wanted:#x} {wanted_after:x?}, here {found:#x} {after:x?}\n{}",
                    show()
                );
                same += 1;
            }
            // Its verifier gives up on some, for their many paths.
            (Err(log), Outcome::Result(_)) => refused.push(format!("seed {seed}: {log}")),
            (_, outcome) => panic!("seed {seed}: {outcome:?}\n{}", show()),
        }
    }
    println!("{same} programs did the same, {} were refused by the kernel", refused.len());
    assert!(refused.len() as u64 * 20 <= seeds().count() as u64, "{} were refused: {}", refused.len(), refused[0]);
}

/// A machine, a processor and an input for programs that run interpreted and compiled, and see the same addresses.
struct Both {
    machine: Arc<Machine>,
    cpu: Cpu,
    input: Block,
}

impl Both {
    fn new(fuel: u64) -> Both {
        let machine = common::machine();
        let mut cpu = Cpu::new(&machine).expect("a stack");
        cpu.set_fuel(fuel);
        let input = machine.space().allocate(INPUT_BYTES as u64, true).expect("a block");
        Both { machine, cpu, input }
    }

    /// Runs a program both ways and compares all that can be seen; whether it was taken, and ended with a result.
    fn run(&mut self, seed: u64, insns: &[RawInsn], input: &[u8]) -> Option<bool> {
        let mut run = |engine: Engine| {
            let image = Image { insns, ..Image::default() };
            let program = engine.load(&self.machine, &image).ok()?;
            self.input.write(0, input).expect("it fits");
            let result = self.cpu.run(&program, [self.input.addr(), self.input.len()]);
            Some((result, self.input.bytes(0, INPUT_BYTES), self.cpu.fuel_left()))
        };
        let [wanted, found] = [run(Engine::Interpreter), run(Engine::Compiler)];
        let show = || Printer::new(Spelling::Kernel).listing(insns);
        assert_eq!(wanted, found, "seed {seed}:\n{}", show());
        // Code that masks addresses does the same for a program that is right, and ends one way or the other for every other one.
        let masked = run(Engine::Masked);
        if wanted.as_ref().is_some_and(|(result, ..)| result.is_ok()) {
            assert_eq!(wanted, masked, "masked, seed {seed}:\n{}", show());
        }
        wanted.map(|(result, ..)| result.is_ok())
    }
}

#[test]
fn random_programs_do_the_same_compiled() {
    let mut both = Both::new(DEFAULT_FUEL);
    for seed in seeds() {
        let (insns, input) = program(seed, For::Engines);
        assert_eq!(both.run(seed, &insns, &input), Some(true), "seed {seed}");
    }
}

#[test]
fn fuel_ends_at_the_same_place_compiled() {
    // Calls in a loop, inside of calls, with frames of several sizes, and recursion of the entry function until frames or fuel end.
    let calls = "
        r6 = 3
        r7 = r1
        loop:
        r1 = r6
        call f
        r7 += r0
        r6 -= 1
        if r6 != 0 goto loop
        r0 = r7
        call pc-9
        exit
        f:
        r6 = r1
        *(u64 *)(r10 - 8) = r1
        call g
        r1 = *(u64 *)(r10 - 8)
        r0 += r1
        r0 += r6
        exit
        g:
        r6 = 77
        r1 = *(u64 *)(r10 - 16)
        r2 = *(u64 *)(r10 - 80)
        *(u64 *)(r10 - 16) = -1
        *(u64 *)(r10 - 80) = -1
        r0 = r1
        r0 += r2
        exit";
    let insns = common::code("calls", calls);
    let mut both = Both::new(0);
    for fuel in 0..1000 {
        both.cpu.set_fuel(fuel);
        assert_eq!(both.run(fuel, &insns, &[0; INPUT_BYTES]), Some(false), "it never ends well");
    }
}

#[test]
fn random_programs_go_wrong_the_same_way_compiled() {
    let mut both = Both::new(100_000);
    let (mut ended, mut stopped) = (0, 0);
    for seed in seeds() {
        let (mut insns, input) = program(seed, For::Changed);
        change(seed, &mut insns);
        match both.run(seed, &insns, &input) {
            Some(true) => ended += 1,
            Some(false) => stopped += 1,
            None => {}
        }
    }
    println!("{ended} programs ended, {stopped} were stopped");
    assert!(ended != 0 && stopped != 0, "both kinds are tried");
}

#[test]
fn random_programs_end_whatever_is_cut_and_changed() {
    let mut runner = Runner::new();
    runner.cpu.set_fuel(100_000);
    let mut ran = 0;
    for seed in seeds() {
        let (mut insns, input) = program(seed, For::Changed);
        change(seed, &mut insns);
        // A result, a refusal or an error: never a panic, never a write outside of the block.
        let (outcome, _) = runner.run(&insns, Some(&input), None);
        ran += u64::from(!matches!(outcome, Outcome::Refused(_)));
    }
    assert!(ran * 10 > seeds().count() as u64, "only {ran} were taken");
}
