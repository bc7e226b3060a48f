//! Every reserved bit of every opcode, flipped: the program must be refused.
//!
//! The rules are written down here once more, as a table of which fields an opcode uses, so that a mistake in the decoder is not
//! repeated by its test.

#[allow(dead_code, reason = "each test binary uses a part")]
mod common;

use common::Runner;
use skep_insn::RawInsn;

/// Fields that an instruction uses: any bit may change and it is another instruction, or another operand.
struct Uses {
    dst: bool,
    src: bool,
    off: bool,
    imm: bool,
}

const fn uses(dst: bool, src: bool, off: bool, imm: bool) -> Uses {
    Uses { dst, src, off, imm }
}

const Y: bool = true;
const N: bool = false;

/// An instruction of each opcode, with what it uses beside the opcode (instruction set document, section by section).
fn opcodes() -> Vec<(RawInsn, Uses)> {
    let mut all = Vec::new();
    for class in [0x04, 0x07] {
        // add sub mul or and lsh rsh xor arsh, by immediate and by register
        for op in [0x00, 0x10, 0x20, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xc0] {
            all.push((RawInsn::new(class | op, 0, 0, 0, 1), uses(Y, N, N, Y)));
            all.push((RawInsn::new(class | op | 8, 0, 0, 0, 0), uses(Y, Y, N, N)));
        }
        // div mod; off 0 and 1
        for op in [0x30, 0x90] {
            for off in [0, 1] {
                all.push((RawInsn::new(class | op, 0, 0, off, 1), uses(Y, N, N, Y)));
                all.push((RawInsn::new(class | op | 8, 0, 0, off, 0), uses(Y, Y, N, N)));
            }
        }
        // mov, and with sign extension
        all.push((RawInsn::new(class | 0xb0, 0, 0, 0, 1), uses(Y, N, N, Y)));
        all.push((RawInsn::new(class | 0xb8, 0, 0, 0, 0), uses(Y, Y, N, N)));
        for bits in if class == 4 { &[8, 16][..] } else { &[8, 16, 32][..] } {
            all.push((RawInsn::new(class | 0xb8, 0, 0, *bits, 0), uses(Y, Y, N, N)));
        }
        // neg
        all.push((RawInsn::new(class | 0x80, 0, 0, 0, 0), uses(Y, N, N, N)));
    }
    // le be bswap
    for code in [0xd4, 0xdc, 0xd7] {
        for bits in [16, 32, 64] {
            all.push((RawInsn::new(code, 0, 0, 0, bits), uses(Y, N, N, N)));
        }
    }
    // Loads, sign-extending loads, stores of registers and immediates.
    for size in [0x00, 0x08, 0x10, 0x18] {
        all.push((RawInsn::new(0x61 & !0x18 | size, 0, 1, 0, 0), uses(Y, Y, Y, N)));
        all.push((RawInsn::new(0x63 & !0x18 | size, 1, 0, 0, 0), uses(Y, Y, Y, N)));
        all.push((RawInsn::new(0x62 & !0x18 | size, 1, 0, 0, 5), uses(Y, N, Y, Y)));
        if size != 0x18 {
            all.push((RawInsn::new(0x81 & !0x18 | size, 0, 1, 0, 0), uses(Y, Y, Y, N)));
        }
    }
    // Atomics: their `imm` selects; other values are tried below.
    for imm in [0x00, 0x40, 0x50, 0xa0, 0x01, 0x41, 0x51, 0xa1, 0xe1, 0xf1, 0x100, 0x110] {
        for code in [0xc3, 0xdb] {
            all.push((RawInsn::new(code, 1, 0, 0, imm), uses(Y, Y, Y, N)));
        }
    }
    for imm in [0x100, 0x110] {
        for code in [0xcb, 0xd3] {
            all.push((RawInsn::new(code, 1, 0, 0, imm), uses(Y, Y, Y, N)));
        }
    }
    // Legacy packet loads.
    for size in [0x00, 0x08, 0x10] {
        all.push((RawInsn::new(0x20 | size, 0, 0, 0, 1), uses(N, N, N, Y)));
        all.push((RawInsn::new(0x40 | size, 0, 1, 0, 1), uses(N, Y, N, Y)));
    }
    // Jumps; the next instruction is a target.
    all.push((RawInsn::new(0x05, 0, 0, 0, 0), uses(N, N, Y, N)));
    all.push((RawInsn::new(0x06, 0, 0, 0, 0), uses(N, N, N, Y)));
    all.push((RawInsn::new(0x0d, 0, 0, 0, 0), uses(Y, N, N, N)));
    all.push((RawInsn::new(0xe5, 0, 0, 0, 0), uses(N, N, Y, N)));
    for class in [0x05, 0x06] {
        for op in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0] {
            all.push((RawInsn::new(class | op, 0, 0, 0, 1), uses(Y, N, Y, Y)));
            all.push((RawInsn::new(class | op | 8, 0, 0, 0, 0), uses(Y, Y, Y, N)));
        }
    }
    // Calls: a helper, a function, a register; exit.
    all.push((RawInsn::new(0x85, 0, 0, 0, 5), uses(N, N, N, Y)));
    // Itself, so that what follows stays a part of the same function.
    all.push((RawInsn::new(0x85, 0, 1, 0, -1), uses(N, N, N, Y)));
    all.push((RawInsn::new(0x8d, 1, 0, 0, 0), uses(Y, N, N, N)));
    all.push((RawInsn::new(0x95, 0, 0, 0, 0), uses(N, N, N, N)));
    all
}

fn program(insn: RawInsn) -> [RawInsn; 2] {
    [insn, RawInsn::new(0x95, 0, 0, 0, 0)]
}

/// Whether bits of `imm` or `off` that are not free select another instruction that exists.
fn is_variant(insn: RawInsn) -> bool {
    let (op, class) = (insn.code & 0xf0, insn.code & 7);
    match insn.code {
        0xd4 | 0xdc | 0xd7 => matches!(insn.imm, 16 | 32 | 64) && insn.off == 0 && insn.src_reg == 0,
        0xc3 | 0xdb => {
            let known = [0x00, 0x40, 0x50, 0xa0, 0x01, 0x41, 0x51, 0xa1, 0xe1, 0xf1, 0x100, 0x110];
            known.contains(&insn.imm)
        }
        0xcb | 0xd3 => [0x100, 0x110].contains(&insn.imm),
        0x85 => matches!(insn.src_reg, 0 | 1) && insn.off == 0 && insn.dst_reg == 0,
        // The register in `imm`, as compilers before LLVM 19 wrote it.
        0x8d => insn.dst_reg == 0 && insn.src_reg == 0 && insn.off == 0 && (0..=10).contains(&insn.imm),
        0xb4 | 0xb7 => false,
        0xbc => matches!(insn.off, 0 | 8 | 16) && insn.imm == 0,
        // A cast between address spaces 0 and 1 needs an `imm` that one bit does not make of 0 with `off` 1.
        0xbf => matches!(insn.off, 0 | 8 | 16 | 32) && insn.imm == 0,
        _ if matches!(class, 4 | 7) && matches!(op, 0x30 | 0x90) => matches!(insn.off, 0 | 1),
        _ => false,
    }
}

#[test]
fn a_reserved_bit_makes_a_program_invalid() {
    let runner = Runner::new();
    let mut refused = 0;
    for (insn, uses) in opcodes() {
        assert!(runner.load(&program(insn)).is_ok(), "{insn:x?} is valid");
        let mut flipped = Vec::new();
        for bit in 0..4 {
            flipped.push((uses.dst, RawInsn { dst_reg: insn.dst_reg ^ 1 << bit, ..insn }));
            flipped.push((uses.src, RawInsn { src_reg: insn.src_reg ^ 1 << bit, ..insn }));
        }
        for bit in 0..16 {
            flipped.push((uses.off, RawInsn { off: insn.off ^ (1u16 << bit) as i16, ..insn }));
        }
        for bit in 0..32 {
            flipped.push((uses.imm, RawInsn { imm: insn.imm ^ (1u32 << bit) as i32, ..insn }));
        }
        for (used, insn) in flipped {
            if used || is_variant(insn) {
                continue;
            }
            assert!(runner.load(&program(insn)).is_err(), "{insn:x?} has a reserved bit");
            refused += 1;
        }
    }
    assert!(refused > 4500, "only {refused} were tried");
}

#[test]
fn no_other_opcode_exists() {
    let runner = Runner::new();
    let mut known: Vec<u8> = opcodes().iter().map(|(insn, _)| insn.code).collect();
    // The wide load, which takes two slots.
    known.push(0x18);
    for code in (0..=255).filter(|code| !known.contains(code)) {
        for (imm, off) in [(0, 0), (1, 0), (16, 0), (0x100, 0), (0, 1), (0, 8)] {
            let insn = RawInsn::new(code, 0, 0, off, imm);
            assert!(runner.load(&program(insn)).is_err(), "{insn:x?}");
        }
    }
}

#[test]
fn registers_above_r10_do_not_exist() {
    let runner = Runner::new();
    for (insn, uses) in opcodes() {
        for reg in 11..16 {
            for (used, insn) in
                [(uses.dst, RawInsn { dst_reg: reg, ..insn }), (uses.src, RawInsn { src_reg: reg, ..insn })]
            {
                assert!(!used || runner.load(&program(insn)).is_err(), "{insn:x?}");
            }
        }
    }
}

#[test]
fn a_wide_load_has_two_slots_without_reserved_bits() {
    let runner = Runner::new();
    let exit = RawInsn::new(0x95, 0, 0, 0, 0);
    let (first, second) = (RawInsn::new(0x18, 1, 0, 0, -1), RawInsn::new(0, 0, 0, 0, -1));
    let loads = |first, second| runner.load(&[first, second, exit]).is_ok();
    assert!(loads(first, second));
    for bit in 0..16 {
        assert!(!loads(RawInsn { off: 1u16.wrapping_shl(bit) as i16, ..first }, second), "off bit {bit}");
        assert!(!loads(first, RawInsn { off: 1u16.wrapping_shl(bit) as i16, ..second }), "second off bit {bit}");
    }
    for bit in 0..4 {
        assert!(!loads(first, RawInsn { dst_reg: 1 << bit, ..second }), "second dst bit {bit}");
        assert!(!loads(first, RawInsn { src_reg: 1 << bit, ..second }), "second src bit {bit}");
    }
    for bit in 0..8 {
        assert!(!loads(first, RawInsn { code: 1 << bit, ..second }), "second code bit {bit}");
    }
    for kind in 7..16 {
        assert!(!loads(RawInsn { src_reg: kind, ..first }, second), "kind {kind}");
    }
    assert!(runner.load(&[first]).is_err(), "the second slot is missing");
}
