//! The kernel's spelling, slot by slot as `print_bpf_insn` of `kernel/bpf/disasm.c` (Linux 6.18) goes about it.
//!
//! It works on raw slots rather than on decoded instructions, because it must have a text for what only the
//! kernel's own rewriting makes: register r11, speculation barriers, loads that may fault, addresses of per-CPU
//! variables.

use super::Printer;
use crate::consts::*;
use crate::helpers;
use crate::{AluOp, AtomicOp, Cond, InsnIdx, RawInsn, Size};

/// The `off` of a move that turns a per-CPU offset into an address; only in the kernel's own view (Linux 6.10).
const BPF_ADDR_PERCPU: i16 = -1;

pub(super) fn insn(printer: &Printer<'_>, slots: &[RawInsn], at: InsnIdx) -> String {
    let insn = slots[0];
    let code = insn.code;
    let text = match insn.class() {
        BPF_ALU | BPF_ALU64 => alu(insn),
        BPF_STX => stx(insn),
        BPF_ST => match code & 0xe0 {
            BPF_MEM => format!("*({} *)(r{} {:+}) = {}", size(code), insn.dst_reg, insn.off, insn.imm),
            BPF_NOSPEC => "nospec".to_owned(),
            _ => return format!("BUG_st_{code:02x}"),
        },
        BPF_LDX => {
            let ty = match code & 0xe0 {
                BPF_MEM => size(code),
                BPF_MEMSX => match Size::from_code(code) {
                    Size::B => "s8",
                    Size::H => "s16",
                    Size::W => "s32",
                    Size::Dw => return format!("BUG_ldx_{code:02x}"),
                },
                _ => return format!("BUG_ldx_{code:02x}"),
            };
            format!("r{} = *({ty} *)(r{} {:+})", insn.dst_reg, insn.src_reg, insn.off)
        }
        BPF_LD => match code & 0xe0 {
            BPF_ABS => format!("r0 = *({} *)skb[{}]", size(code), insn.imm),
            BPF_IND => format!("r0 = *({} *)skb[r{} + {}]", size(code), insn.src_reg, insn.imm),
            _ if insn.is_wide() => {
                let second = slots.get(1).map_or(0, |second| second.imm);
                format!("r{} = {}", insn.dst_reg, imm64(printer, at, insn, second))
            }
            _ => return format!("BUG_ld_{code:02x}"),
        },
        _ => jump(printer, insn, at),
    };
    if text.is_empty() {
        return format!("BUG_{code:02x}");
    }
    format!("({code:02x}) {text}")
}

fn size(code: u8) -> &'static str {
    Size::from_code(code).type_name()
}

/// An empty text stands for an operation that does not exist, here and below.
fn alu(insn: RawInsn) -> String {
    let RawInsn { code, dst_reg: dst, src_reg: src, off, imm } = insn;
    let wide = insn.class() == BPF_ALU64;
    let w = if wide { 'r' } else { 'w' };
    let register = code & BPF_X != 0;
    match code & 0xf0 {
        BPF_END if wide => format!("r{dst} = bswap{imm} r{dst}"),
        BPF_END => format!("r{dst} = {}{imm} r{dst}", if register { "be" } else { "le" }),
        BPF_NEG => format!("{w}{dst} = -{w}{dst}"),
        BPF_MOV if wide && register && off == BPF_ADDR_SPACE_CAST => {
            format!("r{dst} = addr_space_cast(r{src}, {}, {})", imm as u32 >> 16, imm as u16)
        }
        BPF_MOV if wide && register && off == BPF_ADDR_PERCPU => {
            format!("r{dst} = &(void __percpu *)(r{src})")
        }
        BPF_MOV if register => {
            let cast = match off {
                8 => "(s8)",
                16 => "(s16)",
                32 => "(s32)",
                _ => "",
            };
            format!("{w}{dst} = {cast}{w}{src}")
        }
        BPF_MOV => format!("{w}{dst} = {imm}"),
        code => {
            let signed = off == 1 && matches!(code, BPF_DIV | BPF_MOD);
            let op = AluOp::ALL.into_iter().find(|op| op.code() == (code, i16::from(signed)));
            match op.map(AluOp::symbol) {
                None => String::new(),
                Some(symbol) if register => format!("{w}{dst} {symbol} {w}{src}"),
                Some(symbol) => format!("{w}{dst} {symbol} {imm}"),
            }
        }
    }
}

fn stx(insn: RawInsn) -> String {
    let RawInsn { code, dst_reg: dst, src_reg: src, off, imm } = insn;
    let ty = size(code);
    let wide = if Size::from_code(code) == Size::Dw { "64" } else { "" };
    match (code & 0xe0, imm) {
        (BPF_MEM, _) => format!("*({ty} *)(r{dst} {off:+}) = r{src}"),
        (BPF_ATOMIC, BPF_LOAD_ACQ) => format!("r{dst} = load_acquire(({ty} *)(r{src} {off:+}))"),
        (BPF_ATOMIC, BPF_STORE_REL) => format!("store_release(({ty} *)(r{dst} {off:+}), r{src})"),
        (BPF_ATOMIC, imm) => match AtomicOp::from_imm(imm) {
            None => String::new(),
            Some(AtomicOp::CmpXchg) => {
                format!("r0 = atomic{wide}_cmpxchg(({ty} *)(r{dst} {off:+}), r0, r{src})")
            }
            Some(AtomicOp::Xchg) => format!("r{src} = atomic{wide}_xchg(({ty} *)(r{dst} {off:+}), r{src})"),
            Some(op) => match op.symbol() {
                Some(symbol) => format!("lock *({ty} *)(r{dst} {off:+}) {symbol} r{src}"),
                None => format!("r{src} = atomic{wide}_fetch_{}(({ty} *)(r{dst} {off:+}), r{src})", op.name()),
            },
        },
        _ => String::new(),
    }
}

fn jump(printer: &Printer<'_>, insn: RawInsn, at: InsnIdx) -> String {
    let RawInsn { code, dst_reg: dst, src_reg: src, off, imm } = insn;
    const GOTO: u8 = BPF_JMP | BPF_JA;
    const GOTOL: u8 = BPF_JMP32 | BPF_JA;
    const GOTOX: u8 = BPF_JMP | BPF_JA | BPF_X;
    const MAY_GOTO: u8 = BPF_JMP | BPF_JCOND;
    const EXIT: u8 = BPF_JMP | BPF_EXIT;
    const CALL: u8 = BPF_JMP | BPF_CALL;
    const CALLX: u8 = BPF_JMP | BPF_CALL | BPF_X;
    match code {
        GOTO => format!("goto pc{off:+}"),
        GOTOL => format!("gotol pc{imm:+}"),
        GOTOX => format!("gotox r{dst}"),
        MAY_GOTO if src == BPF_MAY_GOTO => format!("may_goto pc{off:+}"),
        EXIT => "exit".to_owned(),
        CALL => call(printer, insn, at),
        // No kernel loads it, so the kernel has no text for it; this is LLVM's.
        CALLX if imm != 0 && printer.exact => format!("callx imm r{imm}"),
        CALLX => format!("callx r{}", if imm != 0 { imm } else { i32::from(dst) }),
        _ => {
            let Some(cond) = Cond::ALL.into_iter().find(|cond| cond.code() == code & 0xf0) else {
                return String::new();
            };
            let w = if insn.class() == BPF_JMP32 { 'w' } else { 'r' };
            let symbol = cond.symbol();
            if code & BPF_X != 0 {
                format!("if {w}{dst} {symbol} {w}{src} goto pc{off:+}")
            } else {
                format!("if {w}{dst} {symbol} {imm:#x} goto pc{off:+}")
            }
        }
    }
}

fn call(printer: &Printer<'_>, insn: RawInsn, at: InsnIdx) -> String {
    let imm = insn.imm;
    let name = || printer.names.call(at, insn);
    match insn.src_reg {
        BPF_PSEUDO_CALL => match name() {
            Some(name) => format!("call pc{name}"),
            None => format!("call pc{imm:+}"),
        },
        BPF_PSEUDO_KFUNC_CALL if printer.exact => match insn.off {
            0 => format!("call kfunc#{imm}"),
            fd_idx => format!("call kfunc#{imm}@{fd_idx}"),
        },
        BPF_PSEUDO_KFUNC_CALL => {
            let name = name();
            format!("call {}#{imm}", name.as_deref().unwrap_or("kernel-function"))
        }
        0 => {
            let known = u32::try_from(imm).ok().and_then(helpers::name);
            let name = known.map(str::to_owned).or_else(name);
            format!("call {}#{imm}", name.as_deref().unwrap_or("unknown"))
        }
        _ => format!("call {}#{imm}", name().as_deref().unwrap_or("unknown")),
    }
}

/// bpftool's words for what a 64-bit immediate load refers to; those it has none for are in the same manner.
fn imm64(printer: &Printer<'_>, at: InsnIdx, first: RawInsn, second: i32) -> String {
    if let Some(text) = printer.names.imm64(at, first, second) {
        return text;
    }
    let (low, high) = (first.imm as u32, second as u32);
    match first.src_reg {
        BPF_PSEUDO_MAP_FD => format!("map[id:{low}]"),
        BPF_PSEUDO_MAP_VALUE => format!("map[id:{low}][0]+{high}"),
        BPF_PSEUDO_BTF_ID if high == 0 => format!("btf[id:{low}]"),
        BPF_PSEUDO_BTF_ID => format!("btf[id:{low} fd:{second}]"),
        BPF_PSEUDO_FUNC => format!("subprog[{:+}]", first.imm),
        BPF_PSEUDO_MAP_IDX => format!("map[idx:{low}]"),
        BPF_PSEUDO_MAP_IDX_VALUE => format!("map[idx:{low}]+{high}"),
        _ => format!("{:#x}", u64::from(high) << 32 | u64::from(low)),
    }
}
