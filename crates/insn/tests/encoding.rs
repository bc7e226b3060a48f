//! Encoding and decoding are inverse, and whatever is no instruction says why.

mod support;

use skep_insn::consts::*;
use skep_insn::{DecodeErrorKind as Kind, Field, Insn, InsnIdx, RawInsn};
use support::*;

#[test]
fn every_instruction_survives_encoding() {
    let all = every_insn();
    assert!(all.len() > 18_000, "the walk shrank to {}", all.len());
    for insn in all {
        let slots = insn.encode();
        assert_eq!(slots.len(), insn.len_slots() as usize);
        assert_eq!(Insn::decode(&slots), Ok(insn), "{slots:?}");
    }
}

/// All opcodes, with registers, offsets and immediates at and beyond every boundary.
#[test]
fn every_slot_that_decodes_encodes_to_the_same_bits() {
    let offs = [0, 1, 2, 7, 8, 16, 32, 64, -1, i16::MAX, i16::MIN];
    let imms = [
        0,
        1,
        0x10,
        0x20,
        0x40,
        0x41,
        0x50,
        0x51,
        0xa0,
        0xa1,
        0xe0,
        0xe1,
        0xf0,
        0xf1,
        0x100,
        0x110,
        10,
        11,
        -1,
        i32::MIN,
    ];
    let (mut valid, mut opcodes) = (0u32, std::collections::BTreeSet::new());
    for code in 0..=255u8 {
        for regs in 0..=255u8 {
            for off in offs {
                for imm in imms {
                    let first = RawInsn::new(code, regs & 15, regs >> 4, off, imm);
                    for second in [RawInsn::default(), RawInsn::new(0, 0, 0, 0, -7)] {
                        let slots = [first, second];
                        if let Ok(insn) = Insn::decode(&slots) {
                            let encoded = insn.encode();
                            assert_eq!(*encoded, slots[..encoded.len()], "{insn:?}");
                            valid += 1;
                            opcodes.insert(code);
                        }
                        if !first.is_wide() {
                            break;
                        }
                    }
                }
            }
        }
    }
    assert!(valid > 150_000, "only {valid} valid slots");
    // 6.18's `bpf_opcode_in_insntable` has 1 more for each of `callx` and `gotox`, which it refuses.
    assert_eq!(opcodes.len(), expected_opcodes().len());
    assert!(opcodes.into_iter().eq(expected_opcodes()));
}

/// The opcodes by the kernel's own table (`BPF_INSN_MAP`, `kernel/bpf/core.c`, Linux 6.18), written independently of
/// the decoder.
fn expected_opcodes() -> std::collections::BTreeSet<u8> {
    let mut set = std::collections::BTreeSet::new();
    for op in [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0x90, 0xa0, 0xb0, 0xc0] {
        for class in [BPF_ALU, BPF_ALU64] {
            set.extend([class | op | BPF_K, class | op | BPF_X]);
        }
    }
    set.extend([0x84, 0x87, 0xd4, 0xdc, 0xd7]);
    for op in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0] {
        for class in [BPF_JMP, BPF_JMP32] {
            set.extend([class | op | BPF_K, class | op | BPF_X]);
        }
    }
    set.extend([0x05, 0x06, 0x85, 0x95, 0xe5]);
    set.extend([0x8d, 0x0d]);
    for size in [BPF_B, BPF_H, BPF_W, BPF_DW] {
        set.extend([BPF_LDX | BPF_MEM | size, BPF_ST | BPF_MEM | size, BPF_STX | BPF_MEM | size]);
        set.insert(BPF_STX | BPF_ATOMIC | size);
    }
    for size in [BPF_B, BPF_H, BPF_W] {
        set.extend([BPF_LDX | BPF_MEMSX | size, BPF_LD | BPF_ABS | size, BPF_LD | BPF_IND | size]);
    }
    set.insert(BPF_LD_IMM64);
    set
}

#[test]
fn what_is_no_instruction_says_why() {
    let slot = RawInsn::new;
    let cases: &[(&[RawInsn], Kind, &str)] = &[
        (&[], Kind::NoSlot, "instruction 0: the code ends here"),
        (&[slot(0xff, 0, 0, 0, 0)], Kind::UnknownOpcode, "instruction 0: unknown opcode 0xff"),
        (&[slot(0x99, 1, 2, 0, 0)], Kind::UnknownOpcode, "instruction 0: unknown opcode 0x99"),
        (
            &[slot(0xb7, 11, 0, 0, 0)],
            Kind::BadRegister(Field::DstReg),
            "instruction 0: dst_reg of opcode 0xb7 names register 11, the last one is r10",
        ),
        (
            &[slot(0x61, 1, 15, 0, 0)],
            Kind::BadRegister(Field::SrcReg),
            "instruction 0: src_reg of opcode 0x61 names register 15, the last one is r10",
        ),
        (
            &[slot(0x95, 0, 0, 0, 1)],
            Kind::ReservedField(Field::Imm),
            "instruction 0: imm is 1, but opcode 0x95 does not use it and needs 0 there",
        ),
        (
            &[slot(0x07, 1, 0, 1, 0)],
            Kind::ReservedField(Field::Off),
            "instruction 0: off is 1, but opcode 0x07 does not use it and needs 0 there",
        ),
        (&[slot(0x37, 1, 0, 2, 1)], Kind::BadVariant, "instruction 0: opcode 0x37 has no variant with off 2"),
        (&[slot(0xbc, 1, 2, 32, 0)], Kind::BadVariant, "instruction 0: opcode 0xbc has no variant with off 32"),
        (
            &[slot(0xdc, 1, 0, 0, 24)],
            Kind::BadSwapBits,
            "instruction 0: byte order conversion of 24 bits, expected 16, 32 or 64",
        ),
        (&[slot(0xdb, 1, 2, 0, 0x10)], Kind::UnknownAtomic, "instruction 0: unknown atomic operation, imm 0x10"),
        (
            &[slot(0xd3, 1, 2, 0, 0)],
            Kind::BadAtomicSize,
            "instruction 0: atomic operation 0x0 on 1 byte(s), expected 4 or 8",
        ),
        (
            &[slot(0x18, 1, 0, 0, 0)],
            Kind::TruncatedWideLoad,
            "instruction 0: 64-bit immediate load without its second slot",
        ),
        (
            &[slot(0x18, 1, 0, 0, 0), slot(0x95, 0, 0, 0, 0)],
            Kind::BadSecondSlot(Field::Code),
            "instruction 1: second slot of a 64-bit immediate load has 149 in code, expected 0",
        ),
        (
            &[slot(0x18, 1, 1, 0, 3), slot(0, 0, 0, 0, 4)],
            Kind::BadSecondSlot(Field::Imm),
            "instruction 1: second slot of a 64-bit immediate load has 4 in imm, expected 0",
        ),
        (
            &[slot(0x18, 1, 7, 0, 0), slot(0, 0, 0, 0, 0)],
            Kind::UnknownPseudoLoad,
            "instruction 0: 64-bit immediate load with unknown src_reg 7",
        ),
        (&[slot(0x85, 0, 3, 0, 1)], Kind::UnknownPseudoCall, "instruction 0: call with unknown src_reg 3"),
        (
            &[slot(0x85, 0, 0, 1, 1)],
            Kind::ReservedField(Field::Off),
            "instruction 0: off is 1, but opcode 0x85 does not use it and needs 0 there",
        ),
    ];
    for (slots, kind, text) in cases {
        let error = Insn::decode(slots).expect_err(text);
        assert_eq!((error.kind, error.to_string().as_str()), (*kind, *text));
    }
}

#[test]
fn decoding_a_program_goes_on_behind_a_bad_slot_and_counts_slots() {
    let slot = RawInsn::new;
    let code = [
        slot(0x18, 1, 0, 0, 5),
        slot(0, 0, 0, 0, 0),
        slot(0xff, 0, 0, 0, 0),
        slot(0x95, 0, 0, 0, 0),
        slot(0x18, 1, 0, 0, 5),
    ];
    let found: Vec<_> = Insn::decode_all(&code).collect();
    assert_eq!(found.len(), 4);
    assert!(matches!(found[0], Ok((InsnIdx(0), Insn::LoadImm64 { .. }))));
    assert!(matches!(found[1], Err(e) if e.idx == InsnIdx(2) && e.kind == Kind::UnknownOpcode));
    assert_eq!(found[2], Ok((InsnIdx(3), Insn::Exit)));
    assert!(matches!(found[3], Err(e) if e.idx == InsnIdx(4) && e.kind == Kind::TruncatedWideLoad));
}
