//! What the encoder writes, against the words that LLVM's assembler makes of the same instruction.

use super::*;

/// An instruction, its words, and how it is written.
type Row = (&'static str, &'static str, fn(&mut Asm));

fn hex(code: &[u8]) -> String {
    let (words, []) = code.as_chunks::<4>() else { panic!("whole words") };
    words.iter().map(|word| format!("{:08x}", u32::from_le_bytes(*word))).collect::<Vec<_>>().join(" ")
}

#[test]
fn instructions_are_the_words_that_the_assembler_makes() {
    for (text, wanted, write) in ROWS {
        let mut asm = Asm::new(Reach::TRUE);
        write(&mut asm);
        assert_eq!(hex(&asm.finish().code), *wanted, "{text}");
    }
}

#[test]
fn what_has_no_immediate_form_is_not_written() {
    let mut asm = Asm::new(Reach::TRUE);
    for imm in [4097, 1 << 24, i64::MAX, i64::MIN, -4097] {
        assert!(!asm.sum_imm(Sum::Add, Bits::B64, Reg(1), Reg(2), imm), "{imm:#x}");
    }
    for imm in [0, !0, 5, 0xffff_0001, 0x1234_5678_9abc_def0] {
        assert!(!asm.logic_imm(Logic::And, Bits::B64, Reg(1), Reg(2), imm), "{imm:#x}");
    }
    for imm in [0, 0xffff_ffff, !0] {
        assert!(!asm.logic_imm(Logic::And, Bits::B32, Reg(1), Reg(2), imm), "{imm:#x}");
    }
    assert_eq!(asm.finish().code, []);
}

/// What an immediate of logic means, by the definition in the manual.
fn meaning(field: u32) -> u64 {
    let (n, immr, imms) = (field >> 22 & 1, field >> 16 & 0x3f, field >> 10 & 0x3f);
    let size = 1u32 << (31 - (n << 6 | !imms & 0x3f).leading_zeros());
    let (ones, turn) = ((imms & (size - 1)) + 1, immr & (size - 1));
    let bit = |at: u32| (at + turn) % size < ones;
    (0..64).filter(|at| bit(at % size)).map(|at| 1 << at).sum()
}

#[test]
fn every_immediate_of_logic_is_found() {
    let mut found = 0;
    for size in [2u32, 4, 8, 16, 32, 64] {
        for ones in 1..size {
            for turn in 0..size {
                let row = (!0u128 >> (128 - ones)) << turn;
                let piece = (row | row >> size) as u64 & !0 >> (64 - size);
                let value = (0..64 / size).fold(0, |value, index| value | piece << (index * size));
                let field = pattern(Bits::B64, value).unwrap_or_else(|| panic!("{value:#x} is one"));
                assert_eq!(meaning(field), value, "{field:#x}");
                found += 1;
            }
        }
    }
    // As many as the manual has.
    assert_eq!(found, 5334);
}

/// Jumps forwards and backwards over so many words.
fn jumps(reach: Reach, over: usize) -> (String, Vec<u32>) {
    let mut asm = Asm::new(reach);
    let (before, behind) = (asm.label(), asm.label());
    asm.bind(before);
    asm.jump(behind);
    asm.jump_if(When::Flags(Cc::BELOW), before);
    asm.jump_if(When::Flags(Cc::BELOW).opposite(), behind);
    asm.jump_if(When::NotZero(Bits::B64, Reg(3)), behind);
    asm.jump_if(When::Zero(Bits::B32, Reg(3)), before);
    asm.call(before);
    (0..over).for_each(|_| asm.barrier());
    asm.bind(behind);
    asm.ret();
    let written = asm.finish();
    (hex(&written.code), vec![written.place(before), written.place(behind)])
}

#[test]
fn jumps_lead_forwards_and_backwards() {
    let (code, places) = jumps(Reach::TRUE, 0);
    assert_eq!(code, "14000006 54ffffe3 54000082 b5000063 34ffff83 97fffffb d65f03c0");
    assert_eq!(places, [0, 24]);
}

#[test]
fn jumps_that_are_far_become_longer() {
    let (code, places) = jumps(Reach { conditional: 0, always: 1000 }, 0);
    assert_eq!(
        code,
        "1400000a 54000042 17fffffe 54000043 14000006 b4000043 14000004 35000043 17fffff8 97fffff7 d65f03c0"
    );
    assert_eq!(places, [0, 40]);
    let (code, places) = jumps(Reach { conditional: 0, always: 0 }, 0);
    assert_eq!(
        code,
        "90000010 91016210 d61f0200 54000082 90000010 91000210 d61f0200 54000083 90000010 91016210 d61f0200 \
               b4000083 90000010 91016210 d61f0200 35000083 90000010 91000210 d61f0200 90000010 91000210 d63f0200 \
               d65f03c0"
    );
    assert_eq!(places, [0, 88]);
}

#[test]
fn only_jumps_that_are_far_become_longer() {
    // Three of the six lead forwards, over 1 MiB.
    let (code, places) = jumps(Reach::TRUE, 1 << 18);
    assert_eq!(places, [0, 4 * (6 + 2 + (1 << 18))]);
    let words: Vec<&str> = code.split(' ').take(8).collect();
    assert_eq!(words, ["14040008", "54ffffe3", "54000043", "14040005", "b4000043", "14040003", "34ffff43", "97fffff9"]);
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("add x1, x2, x30", "8b1e0041", |asm| asm.sum(Sum::Add, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("add w9, w23, w0", "0b0002e9", |asm| asm.sum(Sum::Add, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("add x1, x28, #0", "91000381", |asm| assert!(asm.sum_imm(Sum::Add, Bits::B64, Reg(1), Reg(28), 0))),
    ("add x1, x28, #4095", "913fff81", |asm| assert!(asm.sum_imm(Sum::Add, Bits::B64, Reg(1), Reg(28), 4095))),
    ("add x1, x28, #1, lsl #12", "91400781", |asm| assert!(asm.sum_imm(Sum::Add, Bits::B64, Reg(1), Reg(28), 4096))),
    ("add x1, x28, #4095, lsl #12", "917fff81", |asm| assert!(asm.sum_imm(Sum::Add, Bits::B64, Reg(1), Reg(28), 16_773_120))),
    ("sub x1, x28, #1", "d1000781", |asm| assert!(asm.sum_imm(Sum::Add, Bits::B64, Reg(1), Reg(28), -1))),
    ("sub x1, x28, #2, lsl #12", "d1400b81", |asm| assert!(asm.sum_imm(Sum::Add, Bits::B64, Reg(1), Reg(28), -8192))),
    ("add w1, w2, #7", "11001c41", |asm| assert!(asm.sum_imm(Sum::Add, Bits::B32, Reg(1), Reg(2), 7))),
    ("adds x1, x2, x30", "ab1e0041", |asm| asm.sum(Sum::Adds, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("adds w9, w23, w0", "2b0002e9", |asm| asm.sum(Sum::Adds, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("adds x1, x28, #0", "b1000381", |asm| assert!(asm.sum_imm(Sum::Adds, Bits::B64, Reg(1), Reg(28), 0))),
    ("adds x1, x28, #4095", "b13fff81", |asm| assert!(asm.sum_imm(Sum::Adds, Bits::B64, Reg(1), Reg(28), 4095))),
    ("adds x1, x28, #1, lsl #12", "b1400781", |asm| assert!(asm.sum_imm(Sum::Adds, Bits::B64, Reg(1), Reg(28), 4096))),
    ("adds x1, x28, #4095, lsl #12", "b17fff81", |asm| assert!(asm.sum_imm(Sum::Adds, Bits::B64, Reg(1), Reg(28), 16_773_120))),
    ("subs x1, x28, #1", "f1000781", |asm| assert!(asm.sum_imm(Sum::Adds, Bits::B64, Reg(1), Reg(28), -1))),
    ("subs x1, x28, #2, lsl #12", "f1400b81", |asm| assert!(asm.sum_imm(Sum::Adds, Bits::B64, Reg(1), Reg(28), -8192))),
    ("adds w1, w2, #7", "31001c41", |asm| assert!(asm.sum_imm(Sum::Adds, Bits::B32, Reg(1), Reg(2), 7))),
    ("sub x1, x2, x30", "cb1e0041", |asm| asm.sum(Sum::Sub, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("sub w9, w23, w0", "4b0002e9", |asm| asm.sum(Sum::Sub, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("sub x1, x28, #0", "d1000381", |asm| assert!(asm.sum_imm(Sum::Sub, Bits::B64, Reg(1), Reg(28), 0))),
    ("sub x1, x28, #4095", "d13fff81", |asm| assert!(asm.sum_imm(Sum::Sub, Bits::B64, Reg(1), Reg(28), 4095))),
    ("sub x1, x28, #1, lsl #12", "d1400781", |asm| assert!(asm.sum_imm(Sum::Sub, Bits::B64, Reg(1), Reg(28), 4096))),
    ("sub x1, x28, #4095, lsl #12", "d17fff81", |asm| assert!(asm.sum_imm(Sum::Sub, Bits::B64, Reg(1), Reg(28), 16_773_120))),
    ("add x1, x28, #1", "91000781", |asm| assert!(asm.sum_imm(Sum::Sub, Bits::B64, Reg(1), Reg(28), -1))),
    ("add x1, x28, #2, lsl #12", "91400b81", |asm| assert!(asm.sum_imm(Sum::Sub, Bits::B64, Reg(1), Reg(28), -8192))),
    ("sub w1, w2, #7", "51001c41", |asm| assert!(asm.sum_imm(Sum::Sub, Bits::B32, Reg(1), Reg(2), 7))),
    ("subs x1, x2, x30", "eb1e0041", |asm| asm.sum(Sum::Subs, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("subs w9, w23, w0", "6b0002e9", |asm| asm.sum(Sum::Subs, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("subs x1, x28, #0", "f1000381", |asm| assert!(asm.sum_imm(Sum::Subs, Bits::B64, Reg(1), Reg(28), 0))),
    ("subs x1, x28, #4095", "f13fff81", |asm| assert!(asm.sum_imm(Sum::Subs, Bits::B64, Reg(1), Reg(28), 4095))),
    ("subs x1, x28, #1, lsl #12", "f1400781", |asm| assert!(asm.sum_imm(Sum::Subs, Bits::B64, Reg(1), Reg(28), 4096))),
    ("subs x1, x28, #4095, lsl #12", "f17fff81", |asm| assert!(asm.sum_imm(Sum::Subs, Bits::B64, Reg(1), Reg(28), 16_773_120))),
    ("adds x1, x28, #1", "b1000781", |asm| assert!(asm.sum_imm(Sum::Subs, Bits::B64, Reg(1), Reg(28), -1))),
    ("adds x1, x28, #2, lsl #12", "b1400b81", |asm| assert!(asm.sum_imm(Sum::Subs, Bits::B64, Reg(1), Reg(28), -8192))),
    ("subs w1, w2, #7", "71001c41", |asm| assert!(asm.sum_imm(Sum::Subs, Bits::B32, Reg(1), Reg(2), 7))),
    ("cmp x3, #5", "f100147f", |asm| assert!(asm.sum_imm(Sum::Subs, Bits::B64, ZERO, Reg(3), 5))),
    ("cmn w3, #5", "3100147f", |asm| assert!(asm.sum_imm(Sum::Subs, Bits::B32, ZERO, Reg(3), -5))),
    ("and x1, x2, x30", "8a1e0041", |asm| asm.logic(Logic::And, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("and w9, w23, w0", "0a0002e9", |asm| asm.logic(Logic::And, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("and x9, x10, x27, lsl #32", "8a1b8149", |asm| asm.logic_shifted(Logic::And, Bits::B64, Reg(9), Reg(10), Reg(27), 32)),
    ("and x1, x2, #0xff", "92401c41", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(1), Reg(2), 0xff))),
    ("orr x1, x2, x30", "aa1e0041", |asm| asm.logic(Logic::Or, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("orr w9, w23, w0", "2a0002e9", |asm| asm.logic(Logic::Or, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("orr x9, x10, x27, lsl #32", "aa1b8149", |asm| asm.logic_shifted(Logic::Or, Bits::B64, Reg(9), Reg(10), Reg(27), 32)),
    ("orr x1, x2, #0xff", "b2401c41", |asm| assert!(asm.logic_imm(Logic::Or, Bits::B64, Reg(1), Reg(2), 0xff))),
    ("eor x1, x2, x30", "ca1e0041", |asm| asm.logic(Logic::Xor, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("eor w9, w23, w0", "4a0002e9", |asm| asm.logic(Logic::Xor, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("eor x9, x10, x27, lsl #32", "ca1b8149", |asm| asm.logic_shifted(Logic::Xor, Bits::B64, Reg(9), Reg(10), Reg(27), 32)),
    ("eor x1, x2, #0xff", "d2401c41", |asm| assert!(asm.logic_imm(Logic::Xor, Bits::B64, Reg(1), Reg(2), 0xff))),
    ("ands x1, x2, x30", "ea1e0041", |asm| asm.logic(Logic::Ands, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("ands w9, w23, w0", "6a0002e9", |asm| asm.logic(Logic::Ands, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("ands x9, x10, x27, lsl #32", "ea1b8149", |asm| asm.logic_shifted(Logic::Ands, Bits::B64, Reg(9), Reg(10), Reg(27), 32)),
    ("ands x1, x2, #0xff", "f2401c41", |asm| assert!(asm.logic_imm(Logic::Ands, Bits::B64, Reg(1), Reg(2), 0xff))),
    ("and x3, x4, #1", "92400083", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 1))),
    ("and x3, x4, #0x7fffffff", "92407883", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0x7fff_ffff))),
    ("and x3, x4, #0xffffffff", "92407c83", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0xffff_ffff))),
    ("and x3, x4, #0xfffffffffffffffe", "927ff883", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0xffff_ffff_ffff_fffe))),
    ("and x3, x4, #0x8000000000000000", "92410083", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0x8000_0000_0000_0000))),
    ("and x3, x4, #0x8000000000000001", "92410483", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0x8000_0000_0000_0001))),
    ("and x3, x4, #0x5555555555555555", "9200f083", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0x5555_5555_5555_5555))),
    ("and x3, x4, #0xaaaaaaaaaaaaaaaa", "9201f083", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0xaaaa_aaaa_aaaa_aaaa))),
    ("and x3, x4, #0x3333333333333333", "9200e483", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0x3333_3333_3333_3333))),
    ("and x3, x4, #0xe1e1e1e1e1e1e1e1", "9203cc83", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0xe1e1_e1e1_e1e1_e1e1))),
    ("and x3, x4, #0x00ff00ff00ff00ff", "92009c83", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0x00ff_00ff_00ff_00ff))),
    ("and x3, x4, #0xfff0000ffff0000f", "920c3c83", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0xfff0_000f_fff0_000f))),
    ("and x3, x4, #0xfffffffffffff000", "9274cc83", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0xffff_ffff_ffff_f000))),
    ("and x3, x4, #0x0001fffffffffe00", "92779c83", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0x0001_ffff_ffff_fe00))),
    ("and x3, x4, #0x7fffffffffffffff", "9240f883", |asm| assert!(asm.logic_imm(Logic::And, Bits::B64, Reg(3), Reg(4), 0x7fff_ffff_ffff_ffff))),
    ("orr w3, w4, #1", "32000083", |asm| assert!(asm.logic_imm(Logic::Or, Bits::B32, Reg(3), Reg(4), 1))),
    ("orr w3, w4, #0x80000000", "32010083", |asm| assert!(asm.logic_imm(Logic::Or, Bits::B32, Reg(3), Reg(4), 0x8000_0000))),
    ("orr w3, w4, #0xfffffff0", "321c6c83", |asm| assert!(asm.logic_imm(Logic::Or, Bits::B32, Reg(3), Reg(4), 0xffff_fff0))),
    ("orr w3, w4, #0x80000001", "32010483", |asm| assert!(asm.logic_imm(Logic::Or, Bits::B32, Reg(3), Reg(4), 0x8000_0001))),
    ("orr w3, w4, #0x0ff00000", "320c1c83", |asm| assert!(asm.logic_imm(Logic::Or, Bits::B32, Reg(3), Reg(4), 0x0ff0_0000))),
    ("orr w3, w4, #0xf0f0f0f0", "3204cc83", |asm| assert!(asm.logic_imm(Logic::Or, Bits::B32, Reg(3), Reg(4), 0xf0f0_f0f0))),
    ("orr w3, w4, #0x55555555", "3200f083", |asm| assert!(asm.logic_imm(Logic::Or, Bits::B32, Reg(3), Reg(4), 0x5555_5555))),
    ("orr w3, w4, #0xfffffff0", "321c6c83", |asm| assert!(asm.logic_imm(Logic::Or, Bits::B32, Reg(3), Reg(4), 0xffff_ffff_ffff_fff0))),
    ("mvn x12, x7", "aa2703ec", |asm| asm.not(Bits::B64, Reg(12), Reg(7))),
    ("mvn w12, w7", "2a2703ec", |asm| asm.not(Bits::B32, Reg(12), Reg(7))),
    ("udiv x1, x2, x30", "9ade0841", |asm| asm.two(Two::Udiv, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("udiv w9, w23, w0", "1ac00ae9", |asm| asm.two(Two::Udiv, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("sdiv x1, x2, x30", "9ade0c41", |asm| asm.two(Two::Sdiv, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("sdiv w9, w23, w0", "1ac00ee9", |asm| asm.two(Two::Sdiv, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("lsl x1, x2, x30", "9ade2041", |asm| asm.two(Two::Lsl, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("lsl w9, w23, w0", "1ac022e9", |asm| asm.two(Two::Lsl, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("lsr x1, x2, x30", "9ade2441", |asm| asm.two(Two::Lsr, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("lsr w9, w23, w0", "1ac026e9", |asm| asm.two(Two::Lsr, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("asr x1, x2, x30", "9ade2841", |asm| asm.two(Two::Asr, Bits::B64, Reg(1), Reg(2), Reg(30))),
    ("asr w9, w23, w0", "1ac02ae9", |asm| asm.two(Two::Asr, Bits::B32, Reg(9), Reg(23), Reg(0))),
    ("mul x1, x2, x3", "9b037c41", |asm| asm.multiply_add(Bits::B64, Reg(1), Reg(2), Reg(3), ZERO)),
    ("madd w1, w2, w3, w25", "1b036441", |asm| asm.multiply_add(Bits::B32, Reg(1), Reg(2), Reg(3), Reg(25))),
    ("msub x1, x2, x3, x25", "9b03e441", |asm| asm.multiply_sub(Bits::B64, Reg(1), Reg(2), Reg(3), Reg(25))),
    ("msub w1, w2, w3, w25", "1b03e441", |asm| asm.multiply_sub(Bits::B32, Reg(1), Reg(2), Reg(3), Reg(25))),
    ("ubfx x11, x10, #16, #16", "d3507d4b", |asm| asm.extract(Reg(11), Reg(10), 16, 16)),
    ("ubfx x11, x10, #32, #16", "d360bd4b", |asm| asm.extract(Reg(11), Reg(10), 32, 16)),
    ("ubfx x11, x10, #32, #32", "d360fd4b", |asm| asm.extract(Reg(11), Reg(10), 32, 32)),
    ("ubfx x11, x10, #0, #1", "d340014b", |asm| asm.extract(Reg(11), Reg(10), 0, 1)),
    ("ubfx x11, x10, #0, #3", "d340094b", |asm| asm.extract(Reg(11), Reg(10), 0, 3)),
    ("sxtb w1, w2", "13001c41", |asm| asm.sign_extend(Bits::B32, Reg(1), Len::B1, Reg(2))),
    ("sxth w1, w2", "13003c41", |asm| asm.sign_extend(Bits::B32, Reg(1), Len::B2, Reg(2))),
    ("sxtb x1, w2", "93401c41", |asm| asm.sign_extend(Bits::B64, Reg(1), Len::B1, Reg(2))),
    ("sxth x1, w2", "93403c41", |asm| asm.sign_extend(Bits::B64, Reg(1), Len::B2, Reg(2))),
    ("sxtw x1, w2", "93407c41", |asm| asm.sign_extend(Bits::B64, Reg(1), Len::B4, Reg(2))),
    ("uxth w9, w10", "53003d49", |asm| asm.zero_extend16(Reg(9), Reg(10))),
    ("lsl x1, x2, #1", "d37ff841", |asm| asm.shift_imm(Two::Lsl, Bits::B64, Reg(1), Reg(2), 1)),
    ("lsl x1, x2, #32", "d3607c41", |asm| asm.shift_imm(Two::Lsl, Bits::B64, Reg(1), Reg(2), 32)),
    ("lsl x1, x2, #63", "d3410041", |asm| asm.shift_imm(Two::Lsl, Bits::B64, Reg(1), Reg(2), 63)),
    ("lsl w1, w2, #0", "53007c41", |asm| asm.shift_imm(Two::Lsl, Bits::B32, Reg(1), Reg(2), 0)),
    ("lsl w1, w2, #1", "531f7841", |asm| asm.shift_imm(Two::Lsl, Bits::B32, Reg(1), Reg(2), 1)),
    ("lsl w1, w2, #31", "53010041", |asm| asm.shift_imm(Two::Lsl, Bits::B32, Reg(1), Reg(2), 31)),
    ("lsr x1, x2, #1", "d341fc41", |asm| asm.shift_imm(Two::Lsr, Bits::B64, Reg(1), Reg(2), 1)),
    ("lsr x1, x2, #32", "d360fc41", |asm| asm.shift_imm(Two::Lsr, Bits::B64, Reg(1), Reg(2), 32)),
    ("lsr x1, x2, #63", "d37ffc41", |asm| asm.shift_imm(Two::Lsr, Bits::B64, Reg(1), Reg(2), 63)),
    ("lsr w1, w2, #0", "53007c41", |asm| asm.shift_imm(Two::Lsr, Bits::B32, Reg(1), Reg(2), 0)),
    ("lsr w1, w2, #1", "53017c41", |asm| asm.shift_imm(Two::Lsr, Bits::B32, Reg(1), Reg(2), 1)),
    ("lsr w1, w2, #31", "531f7c41", |asm| asm.shift_imm(Two::Lsr, Bits::B32, Reg(1), Reg(2), 31)),
    ("asr x1, x2, #1", "9341fc41", |asm| asm.shift_imm(Two::Asr, Bits::B64, Reg(1), Reg(2), 1)),
    ("asr x1, x2, #32", "9360fc41", |asm| asm.shift_imm(Two::Asr, Bits::B64, Reg(1), Reg(2), 32)),
    ("asr x1, x2, #63", "937ffc41", |asm| asm.shift_imm(Two::Asr, Bits::B64, Reg(1), Reg(2), 63)),
    ("asr w1, w2, #0", "13007c41", |asm| asm.shift_imm(Two::Asr, Bits::B32, Reg(1), Reg(2), 0)),
    ("asr w1, w2, #1", "13017c41", |asm| asm.shift_imm(Two::Asr, Bits::B32, Reg(1), Reg(2), 1)),
    ("asr w1, w2, #31", "131f7c41", |asm| asm.shift_imm(Two::Asr, Bits::B32, Reg(1), Reg(2), 31)),
    ("mov x1, x2", "aa0203e1", |asm| asm.mov(Bits::B64, Reg(1), Reg(2))),
    ("mov w1, w2", "2a0203e1", |asm| asm.mov(Bits::B32, Reg(1), Reg(2))),
    ("mov x29, sp", "910003fd", |asm| asm.mov_from_sp(FP)),
    ("movz x9, #0", "d2800009", |asm| asm.mov_imm(Reg(9), 0x0)),
    ("movz x9, #1", "d2800029", |asm| asm.mov_imm(Reg(9), 0x1)),
    ("movz x9, #0xffff", "d29fffe9", |asm| asm.mov_imm(Reg(9), 0xffff)),
    ("movz x9, #1, lsl #16", "d2a00029", |asm| asm.mov_imm(Reg(9), 0x1_0000)),
    ("movz x9, #0x7f00, lsl #32", "d2cfe009", |asm| asm.mov_imm(Reg(9), 0x7f00_0000_0000)),
    ("movz x9, #0x5678; movk x9, #0x1234, lsl #16; movk x9, #0x5678, lsl #32; movk x9, #0x1234, lsl #48", "d28acf09 f2a24689 f2cacf09 f2e24689", |asm| asm.mov_imm(Reg(9), 0x1234_5678_1234_5678)),
    ("movn x9, #0", "92800009", |asm| asm.mov_imm(Reg(9), 0xffff_ffff_ffff_ffff)),
    ("movn x9, #1", "92800029", |asm| asm.mov_imm(Reg(9), 0xffff_ffff_ffff_fffe)),
    ("movn x9, #0xedcb, lsl #16", "92bdb969", |asm| asm.mov_imm(Reg(9), 0xffff_ffff_1234_ffff)),
    ("movn x9, #0xa987; movk x9, #0x1234, lsl #32", "929530e9 f2c24689", |asm| asm.mov_imm(Reg(9), 0xffff_1234_ffff_5678)),
    ("movz x9, #0x7800; movk x9, #0x56, lsl #16; movk x9, #0x3400, lsl #32; movk x9, #0x12, lsl #48", "d28f0009 f2a00ac9 f2c68009 f2e00249", |asm| asm.mov_imm(Reg(9), 0x12_3400_0056_7800)),
    ("orr x9, xzr, #0xffffffff", "b2407fe9", |asm| asm.mov_imm(Reg(9), 0xffff_ffff)),
    ("orr x9, xzr, #0xffffffff80000000", "b26183e9", |asm| asm.mov_imm(Reg(9), 0xffff_ffff_8000_0000)),
    ("rev x3, x3", "dac00c63", |asm| asm.swap_bytes(Bits::B64, Reg(3))),
    ("rev w3, w3", "5ac00863", |asm| asm.swap_bytes(Bits::B32, Reg(3))),
    ("rev16 w3, w3", "5ac00463", |asm| asm.swap_bytes16(Reg(3))),
    ("cmp x27, x10, lsr #32", "eb4a837f", |asm| asm.compare_shifted(Reg(27), Reg(10), 32)),
    ("ccmp w9, w13, #0, eq", "7a4d0120", |asm| asm.compare_if(Cc::EQUAL, Bits::B32, Reg(9), Reg(13), 0)),
    ("ccmp x14, x12, #2, hs", "fa4c21c2", |asm| asm.compare_if(Cc::ABOVE_EQUAL, Bits::B64, Reg(14), Reg(12), 2)),
    ("csel x1, x9, xzr, ne", "9a9f1121", |asm| asm.select(Cc::NOT_EQUAL, Reg(1), Reg(9), ZERO)),
    ("ldrb w1, [x28, #0]", "39400381", |asm| asm.load(Len::B1, Reg(1), Reg(28), 0)),
    ("strb w30, [x2, #0]", "3900005e", |asm| asm.store(Len::B1, Reg(2), 0, Reg(30))),
    ("ldrb w1, [x28, #1]", "39400781", |asm| asm.load(Len::B1, Reg(1), Reg(28), 1)),
    ("strb w30, [x2, #1]", "3900045e", |asm| asm.store(Len::B1, Reg(2), 1, Reg(30))),
    ("ldrb w1, [x28, #4095]", "397fff81", |asm| asm.load(Len::B1, Reg(1), Reg(28), 4095)),
    ("strb w30, [x2, #4095]", "393ffc5e", |asm| asm.store(Len::B1, Reg(2), 4095, Reg(30))),
    ("ldurb w1, [x28, #-1]", "385ff381", |asm| asm.load(Len::B1, Reg(1), Reg(28), -1)),
    ("sturb w30, [x2, #-1]", "381ff05e", |asm| asm.store(Len::B1, Reg(2), -1, Reg(30))),
    ("ldurb w1, [x28, #-256]", "38500381", |asm| asm.load(Len::B1, Reg(1), Reg(28), -256)),
    ("sturb w30, [x2, #-256]", "3810005e", |asm| asm.store(Len::B1, Reg(2), -256, Reg(30))),
    ("ldrb w1, [x28, #255]", "3943ff81", |asm| asm.load(Len::B1, Reg(1), Reg(28), 255)),
    ("strb w30, [x2, #255]", "3903fc5e", |asm| asm.store(Len::B1, Reg(2), 255, Reg(30))),
    ("ldrsb x1, [x28, #1]", "39800781", |asm| asm.load_signed(Len::B1, Reg(1), Reg(28), 1)),
    ("ldursb x1, [x28, #-3]", "389fd381", |asm| asm.load_signed(Len::B1, Reg(1), Reg(28), -3)),
    ("ldrh w1, [x28, #0]", "79400381", |asm| asm.load(Len::B2, Reg(1), Reg(28), 0)),
    ("strh w30, [x2, #0]", "7900005e", |asm| asm.store(Len::B2, Reg(2), 0, Reg(30))),
    ("ldrh w1, [x28, #2]", "79400781", |asm| asm.load(Len::B2, Reg(1), Reg(28), 2)),
    ("strh w30, [x2, #2]", "7900045e", |asm| asm.store(Len::B2, Reg(2), 2, Reg(30))),
    ("ldrh w1, [x28, #8190]", "797fff81", |asm| asm.load(Len::B2, Reg(1), Reg(28), 8190)),
    ("strh w30, [x2, #8190]", "793ffc5e", |asm| asm.store(Len::B2, Reg(2), 8190, Reg(30))),
    ("ldurh w1, [x28, #-1]", "785ff381", |asm| asm.load(Len::B2, Reg(1), Reg(28), -1)),
    ("sturh w30, [x2, #-1]", "781ff05e", |asm| asm.store(Len::B2, Reg(2), -1, Reg(30))),
    ("ldurh w1, [x28, #-256]", "78500381", |asm| asm.load(Len::B2, Reg(1), Reg(28), -256)),
    ("sturh w30, [x2, #-256]", "7810005e", |asm| asm.store(Len::B2, Reg(2), -256, Reg(30))),
    ("ldurh w1, [x28, #255]", "784ff381", |asm| asm.load(Len::B2, Reg(1), Reg(28), 255)),
    ("sturh w30, [x2, #255]", "780ff05e", |asm| asm.store(Len::B2, Reg(2), 255, Reg(30))),
    ("ldrsh x1, [x28, #2]", "79800781", |asm| asm.load_signed(Len::B2, Reg(1), Reg(28), 2)),
    ("ldursh x1, [x28, #-3]", "789fd381", |asm| asm.load_signed(Len::B2, Reg(1), Reg(28), -3)),
    ("ldr w1, [x28, #0]", "b9400381", |asm| asm.load(Len::B4, Reg(1), Reg(28), 0)),
    ("str w30, [x2, #0]", "b900005e", |asm| asm.store(Len::B4, Reg(2), 0, Reg(30))),
    ("ldr w1, [x28, #4]", "b9400781", |asm| asm.load(Len::B4, Reg(1), Reg(28), 4)),
    ("str w30, [x2, #4]", "b900045e", |asm| asm.store(Len::B4, Reg(2), 4, Reg(30))),
    ("ldr w1, [x28, #16380]", "b97fff81", |asm| asm.load(Len::B4, Reg(1), Reg(28), 16_380)),
    ("str w30, [x2, #16380]", "b93ffc5e", |asm| asm.store(Len::B4, Reg(2), 16_380, Reg(30))),
    ("ldur w1, [x28, #-1]", "b85ff381", |asm| asm.load(Len::B4, Reg(1), Reg(28), -1)),
    ("stur w30, [x2, #-1]", "b81ff05e", |asm| asm.store(Len::B4, Reg(2), -1, Reg(30))),
    ("ldur w1, [x28, #-256]", "b8500381", |asm| asm.load(Len::B4, Reg(1), Reg(28), -256)),
    ("stur w30, [x2, #-256]", "b810005e", |asm| asm.store(Len::B4, Reg(2), -256, Reg(30))),
    ("ldur w1, [x28, #255]", "b84ff381", |asm| asm.load(Len::B4, Reg(1), Reg(28), 255)),
    ("stur w30, [x2, #255]", "b80ff05e", |asm| asm.store(Len::B4, Reg(2), 255, Reg(30))),
    ("ldrsw x1, [x28, #4]", "b9800781", |asm| asm.load_signed(Len::B4, Reg(1), Reg(28), 4)),
    ("ldursw x1, [x28, #-3]", "b89fd381", |asm| asm.load_signed(Len::B4, Reg(1), Reg(28), -3)),
    ("ldr x1, [x28, #0]", "f9400381", |asm| asm.load(Len::B8, Reg(1), Reg(28), 0)),
    ("str x30, [x2, #0]", "f900005e", |asm| asm.store(Len::B8, Reg(2), 0, Reg(30))),
    ("ldr x1, [x28, #8]", "f9400781", |asm| asm.load(Len::B8, Reg(1), Reg(28), 8)),
    ("str x30, [x2, #8]", "f900045e", |asm| asm.store(Len::B8, Reg(2), 8, Reg(30))),
    ("ldr x1, [x28, #32760]", "f97fff81", |asm| asm.load(Len::B8, Reg(1), Reg(28), 32_760)),
    ("str x30, [x2, #32760]", "f93ffc5e", |asm| asm.store(Len::B8, Reg(2), 32_760, Reg(30))),
    ("ldur x1, [x28, #-1]", "f85ff381", |asm| asm.load(Len::B8, Reg(1), Reg(28), -1)),
    ("stur x30, [x2, #-1]", "f81ff05e", |asm| asm.store(Len::B8, Reg(2), -1, Reg(30))),
    ("ldur x1, [x28, #-256]", "f8500381", |asm| asm.load(Len::B8, Reg(1), Reg(28), -256)),
    ("stur x30, [x2, #-256]", "f810005e", |asm| asm.store(Len::B8, Reg(2), -256, Reg(30))),
    ("ldur x1, [x28, #255]", "f84ff381", |asm| asm.load(Len::B8, Reg(1), Reg(28), 255)),
    ("stur x30, [x2, #255]", "f80ff05e", |asm| asm.store(Len::B8, Reg(2), 255, Reg(30))),
    ("str xzr, [x23, #-8]", "f81f82ff", |asm| asm.store(Len::B8, Reg(23), -8, ZERO)),
    ("ldr x10, [x9, x11, lsl #3]", "f86b792a", |asm| asm.load_indexed(Reg(10), Reg(9), Reg(11))),
    ("stp x19, x20, [sp, #16]", "a90153f3", |asm| asm.store_pair(Reg(19), Reg(20), SP, 16)),
    ("stp xzr, xzr, [x23, #-512]", "a9207eff", |asm| asm.store_pair(ZERO, ZERO, Reg(23), -512)),
    ("ldp x19, x20, [sp, #504]", "a95fd3f3", |asm| asm.load_pair(Reg(19), Reg(20), SP, 504)),
    ("stp xzr, xzr, [x10], #16", "a8817d5f", |asm| asm.store_pair_on(ZERO, ZERO, Reg(10))),
    ("stp x29, x30, [sp, #-96]!", "a9ba7bfd", |asm| asm.push_pair(FP, LINK, 96)),
    ("ldp x29, x30, [sp], #96", "a8c67bfd", |asm| asm.pop_pair(FP, LINK, 96)),
    ("ldarb w1, [x23]", "08dffee1", |asm| asm.load_acquire(Len::B1, Reg(1), Reg(23))),
    ("stlrb w1, [x23]", "089ffee1", |asm| asm.store_release(Len::B1, Reg(23), Reg(1))),
    ("ldarh w1, [x23]", "48dffee1", |asm| asm.load_acquire(Len::B2, Reg(1), Reg(23))),
    ("stlrh w1, [x23]", "489ffee1", |asm| asm.store_release(Len::B2, Reg(23), Reg(1))),
    ("ldar w1, [x23]", "88dffee1", |asm| asm.load_acquire(Len::B4, Reg(1), Reg(23))),
    ("stlr w1, [x23]", "889ffee1", |asm| asm.store_release(Len::B4, Reg(23), Reg(1))),
    ("ldar x1, [x23]", "c8dffee1", |asm| asm.load_acquire(Len::B8, Reg(1), Reg(23))),
    ("stlr x1, [x23]", "c89ffee1", |asm| asm.store_release(Len::B8, Reg(23), Reg(1))),
    ("ldxr w11, [x10]", "885f7d4b", |asm| asm.load_exclusive(Bits::B32, Reg(11), Reg(10))),
    ("stlxr w13, w12, [x10]", "880dfd4c", |asm| asm.store_exclusive(Bits::B32, Reg(13), Reg(10), Reg(12))),
    ("ldaddal w3, w11, [x10]", "b8e3014b", |asm| asm.rmw(Rmw::Add, Bits::B32, Reg(10), Reg(3), Reg(11))),
    ("ldclral w3, w11, [x10]", "b8e3114b", |asm| asm.rmw(Rmw::Clear, Bits::B32, Reg(10), Reg(3), Reg(11))),
    ("ldeoral w3, w11, [x10]", "b8e3214b", |asm| asm.rmw(Rmw::Xor, Bits::B32, Reg(10), Reg(3), Reg(11))),
    ("ldsetal w3, w11, [x10]", "b8e3314b", |asm| asm.rmw(Rmw::Or, Bits::B32, Reg(10), Reg(3), Reg(11))),
    ("swpal w3, w11, [x10]", "b8e3814b", |asm| asm.rmw(Rmw::Swap, Bits::B32, Reg(10), Reg(3), Reg(11))),
    ("casal w5, w3, [x10]", "88e5fd43", |asm| asm.compare_and_swap(Bits::B32, Reg(10), Reg(5), Reg(3))),
    ("ldxr x11, [x10]", "c85f7d4b", |asm| asm.load_exclusive(Bits::B64, Reg(11), Reg(10))),
    ("stlxr w13, x12, [x10]", "c80dfd4c", |asm| asm.store_exclusive(Bits::B64, Reg(13), Reg(10), Reg(12))),
    ("ldaddal x3, x11, [x10]", "f8e3014b", |asm| asm.rmw(Rmw::Add, Bits::B64, Reg(10), Reg(3), Reg(11))),
    ("ldclral x3, x11, [x10]", "f8e3114b", |asm| asm.rmw(Rmw::Clear, Bits::B64, Reg(10), Reg(3), Reg(11))),
    ("ldeoral x3, x11, [x10]", "f8e3214b", |asm| asm.rmw(Rmw::Xor, Bits::B64, Reg(10), Reg(3), Reg(11))),
    ("ldsetal x3, x11, [x10]", "f8e3314b", |asm| asm.rmw(Rmw::Or, Bits::B64, Reg(10), Reg(3), Reg(11))),
    ("swpal x3, x11, [x10]", "f8e3814b", |asm| asm.rmw(Rmw::Swap, Bits::B64, Reg(10), Reg(3), Reg(11))),
    ("casal x5, x3, [x10]", "c8e5fd43", |asm| asm.compare_and_swap(Bits::B64, Reg(10), Reg(5), Reg(3))),
    ("dmb ish", "d5033bbf", |asm| asm.barrier()),
    ("br x16", "d61f0200", |asm| asm.jump_reg(FAR)),
    ("blr x16", "d63f0200", |asm| asm.call_reg(FAR)),
    ("ret", "d65f03c0", |asm| asm.ret()),
];
