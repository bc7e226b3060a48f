//! The fuzz targets on bytes that are the same on every run: noise, and valid inputs with a few things changed.

mod support;

use skep_insn::fuzz::{self, SPELLINGS};
use skep_insn::text::Printer;
use skep_insn::{Endian, Insn, RawInsn, slots_to_bytes};
use support::*;

#[test]
fn code_of_noise() {
    let mut bits = Bits(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3_000 {
        let len = bits.below(120);
        let data: Vec<u8> = (0..len).map(|_| bits.next() as u8).collect();
        fuzz::code(&data);
    }
}

/// Single bits of valid instructions turned over: close to valid, where the checks of single fields are.
#[test]
fn code_with_bits_turned_over() {
    let mut bits = Bits(2);
    let insns = every_insn();
    for _ in 0..6_000 {
        let code: Vec<RawInsn> = (0..4).flat_map(|_| insns[bits.below(insns.len())].encode()).collect();
        let mut data = slots_to_bytes(&code, Endian::Little);
        for _ in 0..bits.below(4) {
            let at = bits.below(data.len());
            data[at] ^= 1 << bits.below(8);
        }
        fuzz::code(&data);
    }
}

#[test]
fn every_opcode_alone_has_a_text() {
    let mut bits = Bits(3);
    for code in 0..=255 {
        for _ in 0..50 {
            let n = bits.next();
            let (dst, src) = (n as u8 & 15, (n >> 4) as u8 & 15);
            fuzz::slot(RawInsn::new(code, dst, src, (n >> 8) as i16, (n >> 24) as i32));
        }
    }
}

#[test]
fn text_with_things_changed() {
    let mut bits = Bits(4);
    let insns = every_insn();
    let words = [
        "r1",
        "w2",
        "r11",
        "goto",
        "gotol",
        "pc+",
        "+0x5",
        "-",
        "0x",
        "ffffffff",
        "99999999999999999999",
        "ll",
        "(",
        ")",
        "*",
        "[",
        "]",
        "<f>",
        "=",
        "+=",
        "s>>=",
        "lock",
        "call",
        "kfunc#",
        "bpf_loop",
        "label:",
        "label",
        "#",
        ";",
        "//",
        ":",
        "\n",
        "\r\n",
        "\t",
        " ",
        "(b7)",
        "map[id:5]",
        "skb[",
        "u64",
        "s8",
        "\u{1f41d}",
        "\u{fffd}",
        "\0",
        "subprog[",
        "may_goto",
        "if ",
        "exit",
    ];
    for _ in 0..6_000 {
        let mut text = String::new();
        for _ in 0..bits.below(4) + 1 {
            let slots = insns[bits.below(insns.len())].encode();
            let spelling = SPELLINGS[bits.below(SPELLINGS.len())];
            text.push_str(&Printer::new(spelling).exact().insn(&slots, skep_insn::InsnIdx(0)));
            text.push('\n');
        }
        for _ in 0..bits.below(5) {
            let mut at = bits.below(text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            if bits.below(3) == 0 {
                text.truncate(at);
            } else {
                text.insert_str(at, words[bits.below(words.len())]);
            }
        }
        fuzz::text(text.as_bytes());
    }
}

#[test]
fn text_of_noise() {
    let mut bits = Bits(5);
    for _ in 0..3_000 {
        let len = bits.below(80);
        let data: Vec<u8> = (0..len).map(|_| bits.next() as u8).collect();
        fuzz::text(&data);
    }
}

#[test]
fn texts_that_are_all_labels_or_all_mistakes_stay_small() {
    fuzz::text("a:\n".repeat(10_000).as_bytes());
    fuzz::text("?\n".repeat(10_000).as_bytes());
    fuzz::text("(".repeat(100_000).as_bytes());
    fuzz::text(format!("goto {}", "x".repeat(100_000)).as_bytes());
    fuzz::text(format!("{}:", "9".repeat(100_000)).as_bytes());
    fuzz::text(format!("r1 = {}", "9".repeat(100_000)).as_bytes());
    assert!(Insn::decode(&[]).is_err());
}
