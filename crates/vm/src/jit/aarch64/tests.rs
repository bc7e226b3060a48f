//! Code for processors that are older than the one that runs the tests, and for programs that are larger.

use std::sync::Arc;

use skep_insn::text;

use super::asm::Reach;
use super::emit::Emitter;
use crate::jit::{Native, assemble};
use crate::{CompileOptions, Cpu, Helpers, Image, Machine};

const OLD: &[(bool, Reach)] = &[
    (false, Reach::TRUE),
    (true, Reach { conditional: 16, always: Reach::TRUE.always }),
    (true, Reach { conditional: 0, always: Reach::TRUE.always }),
    (true, Reach { conditional: 16, always: 64 }),
    (false, Reach { conditional: 0, always: 0 }),
];

/// Runs a program interpreted, and as it is compiled with what [`OLD`] says.
fn check(machine: &Arc<Machine>, asm: &str, fuel: u64) {
    let insns = text::assemble(asm).unwrap().code;
    let load = || machine.load(&Image { insns: &insns, ..Image::default() }).unwrap();
    let block = machine.space().allocate(64, true).unwrap();
    let mut cpu = Cpu::new(machine).unwrap();
    cpu.set_fuel(fuel);
    let mut run = |program| {
        let bytes: Vec<u8> = (0u8..64).map(|byte| byte.wrapping_mul(7)).collect();
        block.write(0, &bytes).unwrap();
        let result = cpu.run(&program, [block.addr(), 64]);
        (result, block.bytes(0, 64), cpu.fuel_left())
    };
    let wanted = run(load());
    for (lse, reach) in OLD {
        let compiled = load();
        let made = assemble(&compiled, CompileOptions::default(), Emitter::with(insns.len(), *lse, *reach));
        let (words, _) = made.assembled.code.as_chunks::<4>();
        // The atomic instructions of ARMv8.1, and compare and swap.
        let atomic = |word: u32| word & 0x3f20_0c00 == 0x3820_0000 || word & 0x3fa0_7c00 == 0x08a0_7c00;
        assert!(*lse || !words.iter().any(|word| atomic(u32::from_le_bytes(*word))), "{asm}");
        compiled.native.set(Native::new(made).unwrap()).unwrap();
        assert_eq!(run(compiled), wanted, "lse {lse}, {reach:?}: {asm}");
    }
}

#[test]
fn atomics_without_atomic_instructions_do_the_same() {
    let machine = Machine::new(Helpers::none()).unwrap();
    let mix: String = (1..10).map(|reg| format!("r0 *= 0x1000193\nr0 ^= r{reg}\n")).collect();
    for base in ["r6", "r10"] {
        let at = if base == "r6" { "+ 16" } else { "- 264" };
        for src in 0..10 {
            for (size, r, atomic) in [("u64", "r", "atomic64"), ("u32", "w", "atomic")] {
                let mut ops: Vec<String> = ["+=", "|=", "&=", "^="]
                    .iter()
                    .map(|op| format!("lock *({size} *)({base} {at}) {op} {r}{src}"))
                    .collect();
                for op in ["add", "or", "and", "xor"] {
                    ops.push(format!("{r}{src} = {atomic}_fetch_{op}(({size} *)({base} {at}), {r}{src})"));
                }
                ops.push(format!("{r}{src} = {atomic}_xchg(({size} *)({base} {at}), {r}{src})"));
                // With another number in r0, and with the one that is there.
                let cmpxchg = format!("{r}0 = {atomic}_cmpxchg(({size} *)({base} {at}), {r}0, {r}{src})");
                ops.push(cmpxchg.clone());
                ops.push(format!("r0 = *({size} *)({base} {at})\n{cmpxchg}"));
                for op in ops {
                    let set: String = (0..10)
                        .filter(|reg| *reg != 6)
                        .map(|reg| format!("r{reg} = 0x8123456789abcd{:02x} ll\n", 0x30 + 7 * reg))
                        .collect();
                    let asm = format!(
                        "r6 = r1\n{set}*(u64 *)(r10 - 264) = r2\n{op}\n{mix}r1 = *(u64 *)({base} {at})\nr0 ^= r1\nexit"
                    );
                    check(&machine, &asm, 1000);
                }
            }
        }
    }
}

#[test]
fn programs_whose_jumps_are_far_do_the_same() {
    let helpers = Helpers::none().with(5, "first_argument", |_, args| Ok(args[0]));
    let machine = Machine::new(helpers).unwrap();
    let asm = "
        r6 = r1
        w7 = w1
        r8 = 5
        r0 = 1
        again:
        r1 = *(u64 *)(r6 + 8)
        r2 = *(u32 *)(r7 + 20)
        *(u8 *)(r7 + 3) = r2
        if r1 s> 7 goto +1
        r1 += 77
        if w2 & 0x40 goto +1
        r2 <<= 3
        call f
        r1 = r0
        call 5
        may_goto +1
        r0 = 0
        if r0 == 0 goto +1
        r0 ^= 0x55
        r8 -= 1
        if r8 != 0 goto again
        r1 = 1
        r2 = 2
        call f
        r3 = *(u64 *)(r6 + 57)
        exit
        f:
        *(u64 *)(r10 - 8) = r1
        *(u64 *)(r10 - 400) = r2
        r6 = r10
        r0 = *(u64 *)(r6 - 8)
        r1 = *(u64 *)(r6 - 400)
        r0 *= 31
        r0 += r1
        exit";
    // With too little to come to the end, and until the access over the end of the input.
    for fuel in (0..400).step_by(3).chain([10_000]) {
        check(&machine, asm, fuel);
    }
}
