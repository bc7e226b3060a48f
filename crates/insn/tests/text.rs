//! Text and back: what is printed assembles to the same bits, and what is wrong says where.

mod support;

use skep_insn::fuzz::SPELLINGS;
use skep_insn::text::{AsmError, Names, Printer, Spelling, assemble};
use skep_insn::{Insn, InsnIdx, RawInsn, helpers};
use support::*;

#[test]
fn every_instruction_survives_exact_text_in_every_spelling() {
    for spelling in SPELLINGS {
        let printer = Printer::new(spelling).exact();
        for insn in every_insn() {
            let code = insn.encode();
            let text = printer.insn(&code, InsnIdx(0));
            let back = assemble(&text).map(|assembly| assembly.code);
            assert_eq!(back.as_deref(), Ok(&*code), "{spelling:?}: {text}");
        }
    }
}

/// What the tools' own text loses is what the module says, and nothing else.
#[test]
fn plain_text_loses_only_what_is_documented() {
    for spelling in SPELLINGS {
        let printer = Printer::new(spelling);
        for insn in every_insn() {
            let code = insn.encode();
            let text = printer.insn(&code, InsnIdx(0));
            if assemble(&text).is_ok_and(|assembly| assembly.code == *code) {
                continue;
            }
            let documented = match (spelling, insn) {
                (_, Insn::CallRegInImm { .. }) => true,
                (Spelling::Kernel, Insn::CallKfunc { fd_idx, .. }) => fd_idx != 0,
                (Spelling::Kernel, _) => false,
                (_, Insn::CallHelper { id }) => id < 0,
                (_, Insn::CallLocal { off }) => off >= 0,
                (_, Insn::CallKfunc { .. }) => true,
                (_, Insn::LoadInd { off, .. }) => off != 0,
                (_, Insn::LoadImm64 { value, .. }) => value.bits().0 != 0 && value.bits().2 != 0,
                _ => false,
            };
            assert!(documented, "{spelling:?} loses {insn:?} in `{text}`");
        }
    }
}

#[test]
fn a_whole_listing_assembles_with_its_indexes() {
    let code: Vec<RawInsn> = every_insn().iter().flat_map(Insn::encode).collect();
    for spelling in SPELLINGS {
        let listing = Printer::new(spelling).exact().listing(&code);
        let back = assemble(&listing).expect("every line assembles alone");
        assert!(back.code == code, "{spelling:?}");
    }
}

#[test]
fn lines_look_as_the_tools_print_them() {
    let code = assemble("r1 = 5 ll\nif w1 s> -1 goto +1\ncall 1\nexit").expect("is valid").code;
    assert_eq!(
        Printer::new(Spelling::Kernel).listing(&code),
        "   0: (18) r1 = 0x5\n   2: (66) if w1 s> 0xffffffff goto pc+1\n   3: (85) call bpf_map_lookup_elem#1\n   4: (95) exit\n"
    );
    assert_eq!(
        Printer::new(Spelling::LLVM).listing(&code),
        "       0:\tr1 = 0x5 ll\n       2:\tif w1 s> -0x1 goto +0x1\n       3:\tcall 0x1\n       4:\texit\n"
    );
}

#[test]
fn what_only_the_kernel_makes_has_a_text_too() {
    let slot = RawInsn::new;
    let cases = [
        (slot(0xc2, 0, 0, 0, 0), "(c2) nospec"),
        (slot(0xbf, 1, 2, -1, 0), "(bf) r1 = &(void __percpu *)(r2)"),
        (slot(0xbf, 11, 2, 0, 0), "(bf) r11 = r2"),
        (slot(0xff, 0, 0, 0, 0), "BUG_ff"),
        (slot(0x21, 0, 0, 0, 0), "BUG_ldx_21"),
        (slot(0xe2, 0, 0, 0, 0), "BUG_st_e2"),
        (slot(0x00, 0, 0, 0, 0), "BUG_ld_00"),
        (slot(0xdb, 1, 2, 0, 0x33), "BUG_db"),
        (slot(0x85, 0, 0, 0, 73760), "(85) call unknown#73760"),
        (slot(0x85, 0, 2, 3, 70), "(85) call kernel-function#70"),
        (slot(0x18, 1, 0, 0, 70), "(18) r1 = 0x46"),
    ];
    for (insn, text) in cases {
        assert_eq!(Printer::new(Spelling::Kernel).insn(&[insn], InsnIdx(0)), text);
    }
}

struct Some3;

impl Names for Some3 {
    fn call(&self, at: InsnIdx, insn: RawInsn) -> Option<String> {
        match insn.src_reg {
            1 => Some(format!("{:+}#sub_{at}", insn.imm)),
            2 => Some("bpf_rcu_read_lock".to_owned()),
            _ => (insn.imm == 73760).then(|| "__htab_map_lookup_elem".to_owned()),
        }
    }

    fn imm64(&self, _: InsnIdx, first: RawInsn, second_imm: i32) -> Option<String> {
        (first.src_reg == 2).then(|| format!("map[counts]+{second_imm}"))
    }

    fn target(&self, target: i64) -> Option<String> {
        Some(format!("prog+{:#x}", target * 8))
    }
}

#[test]
fn names_come_from_the_caller() {
    let text = "call pc+2\ncall kfunc#9\ncall unknown#73760\ncall 1\nr1 = map[id:3][0]+4\ngoto -3\nexit";
    let code = assemble(text).expect("is valid").code;
    let kernel = Printer::new(Spelling::Kernel).names(&Some3);
    let lines: Vec<_> = kernel.lines(&code).map(|(_, line)| line).collect();
    assert_eq!(
        lines,
        [
            "(85) call pc+2#sub_0",
            "(85) call bpf_rcu_read_lock#9",
            "(85) call __htab_map_lookup_elem#73760",
            "(85) call bpf_map_lookup_elem#1",
            "(18) r1 = map[counts]+4",
            "(05) goto pc-3",
            "(95) exit",
        ]
    );
    let llvm = Printer::new(Spelling::LLVM).names(&Some3);
    assert_eq!(llvm.insn(&code, InsnIdx(6)), "goto -0x3 <prog+0x20>");
    assert_eq!(llvm.insn(&code, InsnIdx(99)), "");
}

#[test]
fn labels_stand_for_distances_in_slots() {
    let text = "
        ; count down from ten
        start:
            r1 = 10
            r2 = 5 ll          # two slots
        loop:
            r1 -= 1
            if r1 != 0 goto loop
            if r1 == 0 goto out // forward
            gotol start
            may_goto out
            r3 = subprog[helper]
            call helper
            call bpf_ktime_get_ns
        out: \n exit
        0000000000000068 <helper>:
            exit";
    let plain = "
        r1 = 10\nr2 = 5 ll\nr1 -= 1\nif r1 != 0 goto -2\nif r1 == 0 goto +6\ngotol -7\nmay_goto +4
        r3 = subprog[+4]\ncall pc+2\ncall 5\nexit\nexit";
    let (with, without) = (assemble(text), assemble(plain));
    assert_eq!(with.as_ref().map(|a| &a.code).expect("is valid"), &without.expect("is valid").code);
    let labels = with.expect("is valid").labels;
    let labels: Vec<_> = labels.iter().map(|(name, at)| (name.as_str(), at.0)).collect();
    assert_eq!(labels, [("start", 0), ("loop", 3), ("out", 12), ("helper", 13)]);
}

#[test]
fn helpers_can_be_called_by_every_name() {
    for id in 1..helpers::COUNT {
        let name = helpers::name(id).expect("ids below COUNT have names");
        let code = assemble(&format!("call {name}")).expect("is valid").code;
        assert_eq!(code, [RawInsn::new(0x85, 0, 0, 0, id as i32)]);
    }
}

#[test]
fn llvm_objdump_output_can_be_pasted() {
    let text = "0000000000000000 <prog>:\n       0:\tif r1 == 0x0 goto +0x1 <prog+0x10>\n       1:\tr1 = 0x1\n       2:\texit\n";
    let code = assemble(text).expect("is valid").code;
    assert_eq!(code.len(), 3);
}

/// Each case is a line, the column of the mistake, and the message.
#[test]
fn mistakes_say_where_and_what_was_expected() {
    let cases = [
        ("r1 = ", 6, "expected a number, a register, a load or a reference, found the end of the line"),
        ("r11 = 5", 1, "expected an instruction, found `r11`"),
        ("frob r1", 1, "expected an instruction, found `frob`"),
        ("r1 += w2", 7, "expected a register, `r0` to `r10`, found `w2`"),
        ("w1 = r2", 6, "expected a register, `w0` to `w10`, found `r2`"),
        ("r1 ? 5", 4, "expected `=` or an assignment such as `+=`, found `?`"),
        ("r1 = 0x123456789", 6, "number 4886718345 does not fit 32 bits, write `4886718345 ll` for a 64-bit load"),
        ("w1 = 5 ll", 6, "a 64-bit load needs an `r` register"),
        ("r1 = 99999999999999999999", 6, "`99999999999999999999` is no number of 64 bits"),
        ("r1 = 0xzz", 6, "`0xzz` is no number of 64 bits"),
        ("r1 += 0x100000000", 7, "number 4294967296 does not fit, expected -2147483648 to 4294967295"),
        ("r1 = *(u32 *)(r2 + 40000)", 18, "offset 40000 does not fit, expected -32768 to 32767"),
        ("r1 = *(u31 *)(r2 + 4)", 8, "expected a type, `u8` to `u64` or `s8` to `s32`, found `u31`"),
        ("w1 = *(u64 *)(r2 + 4)", 1, "a load of `u64` needs an `r` register"),
        ("r1 = *(u8 *)skb[4]", 1, "packet loads go to r0"),
        ("*(s8 *)(r1 + 0) = 1", 2, "expected a type without sign, `(u8 *)` to `(u64 *)`, found `(`"),
        ("lock *(u8 *)(r1 + 0) += r2", 7, "expected `(u32 *)` or `(u64 *)`, found `(`"),
        ("lock *(u64 *)(r1 + 0) -= r2", 23, "expected `+=`, `|=`, `&=` or `^=`, found `-`"),
        ("r3 = atomic64_fetch_add((u64 *)(r1 + 0), r2)", 42, "expected r3, which gets the old value, found `r2`"),
        ("r1 = -r2", 7, "expected r1, found `r2`"),
        ("r1 = be16 r2", 11, "expected r1, found `r2`"),
        ("w1 = (s32)w2", 7, "expected `s8` or `s16`, the extensions to 32 bits, found `s32`"),
        ("if r1 = 5 goto +1", 7, "expected a comparison, found `=`"),
        ("if r1 == 5 jump +1", 12, "expected `goto`, found `jump`"),
        ("goto +40000", 6, "distance 40000 does not fit, expected -32768 to 32767"),
        ("goto nowhere", 6, "no label is named `nowhere`"),
        ("call nothing", 6, "no label and no helper is named `nothing`"),
        ("exit now", 6, "expected the end of the line, found `now`"),
        ("(b7) r1 += 5", 1, "opcode (b7) stands before an instruction with opcode (07)"),
        ("(95)", 5, "expected an instruction, found the end of the line"),
        ("callx imm r0", 10, "`callx imm` cannot name r0, write `callx r0`"),
        ("ld_pseudo r1, 9, 5", 15, "expected a kind of reference, 1 to 6, found `9`"),
        ("ld_pseudo r1, 1, 5, 6", 19, "expected the end of the line, this kind of reference has one number, found `,`"),
        ("9lives:", 1, "expected a label of letters, digits, `_`, `.` and `$` before `:`, found `9lives`"),
        ("r1 = \u{1F41D}", 6, "expected a number, a register, a load or a reference, found `\\u{1f41d}`"),
        ("   \u{e9}: r1 = 5", 4, "expected an instruction, found `\\u{e9}`"),
        ("goto +1 <prog", 10, "expected `>` before the end of the line, found `prog`"),
    ];
    for (line, column, message) in cases {
        let expected = AsmError { line: 2, column, message: message.to_owned() };
        assert_eq!(assemble(&format!("exit\n{line}\nexit")), Err(vec![expected]), "{line}");
    }
}

#[test]
fn all_mistakes_of_a_text_are_reported_in_order() {
    let errors = assemble("goto a\nr1 = x\nb:\nb:\ngoto c").expect_err("four mistakes");
    let shown: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "1:6: no label is named `a`",
            "2:6: expected a number, a register, a load or a reference, found `x`",
            "4:1: label `b` is there twice",
            "5:6: no label is named `c`",
        ]
    );
}

#[test]
fn a_label_out_of_reach_says_what_reaches_it() {
    let mut text = "start:\n".to_owned();
    text.push_str(&"r1 += 1\n".repeat(40_000));
    let near = assemble(&format!("{text}goto start")).expect_err("is too far");
    assert_eq!(
        near[0].to_string(),
        "40002:6: label `start` is -40001 slots away, this jump reaches -32768 to 32767, write `gotol`"
    );
    assert!(assemble(&format!("{text}gotol start")).is_ok());
}

#[test]
fn an_instruction_displays_as_what_assembles_to_it() {
    for insn in every_insn() {
        let assembled = assemble(&insn.to_string()).map(|assembly| assembly.code);
        assert_eq!(assembled.as_deref(), Ok(&*insn.encode()));
    }
}
