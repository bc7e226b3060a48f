//! Random programs on the interpreter and on the kernel: r0 and the input afterwards are equal.
//!
//! `SKEP_VM_COUNT` says how many (with `SKEP_VM_SEED` for the first), to hunt for more than a test run has time for.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use common::random::{Isa, program};
use common::{Outcome, Runner, kernel};
use skep_insn::text::{Printer, Spelling};
use skep_sys::version::KernelVersion;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(default)
}

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
        let (insns, input) = program(seed, isa);
        let (outcome, after) = runner.run(&insns, Some(&input), None);
        let show = || Printer::new(Spelling::Kernel).listing(&insns);
        match (kernel::run(&insns, Some(&input), &mut log), outcome) {
            (Ok((wanted, wanted_after)), Outcome::Result(found)) => {
                let equal = wanted == found && wanted_after == after;
                assert!(
                    equal,
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

#[test]
fn random_programs_end_whatever_is_cut_and_changed() {
    let mut runner = Runner::new();
    runner.cpu.set_fuel(100_000);
    let mut ran = 0;
    for seed in seeds() {
        let (mut insns, input) = program(seed, Isa::Ordered);
        let mut rng = common::random::Rng::new(!seed);
        for _ in 0..1 + rng.next() % 3 {
            let at = rng.next() as usize % insns.len();
            let insn = &mut insns[at];
            match rng.next() % 6 {
                0 => insn.dst_reg = (rng.next() % 11) as u8,
                1 => insn.src_reg = (rng.next() % 11) as u8,
                2 => insn.off = rng.number() as i16,
                3 => insn.imm = rng.number() as i32,
                4 => insn.code = rng.next() as u8,
                _ => insns.swap(at, at / 2),
            }
        }
        // A result, a refusal or an error: never a panic, never a write outside of the block.
        let (outcome, _) = runner.run(&insns, Some(&input), None);
        ran += u64::from(!matches!(outcome, Outcome::Refused(_)));
    }
    assert!(ran * 10 > seeds().count() as u64, "only {ran} were taken");
}
