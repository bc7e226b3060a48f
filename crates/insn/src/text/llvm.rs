//! LLVM's spelling, as the instruction printer of its BPF back end writes it (LLVM 19).

use super::{Llvm, Printer};
use crate::{AtomicOp, Imm64, Insn, InsnIdx, Operand, RawInsn, Reg, Size, Width};

const UNKNOWN: &str = "<unknown>";

/// How many slots one line covers: the second slot of a wide load belongs to it only if the load is whole.
pub(super) fn len_slots(slots: &[RawInsn]) -> usize {
    Insn::decode(slots).map_or(1, |insn| insn.len_slots() as usize)
}

pub(super) fn insn(printer: &Printer<'_>, style: Llvm, slots: &[RawInsn], at: InsnIdx) -> String {
    let Ok(insn) = Insn::decode(slots) else {
        return UNKNOWN.to_owned();
    };
    let n = |value: i64| number(style, value);
    let mut text = plain(printer, style, insn);
    if let Some(distance) = insn.jump_distance() {
        text.push_str(if distance < 0 { "-" } else { "+" });
        text.push_str(&n(i64::from(distance).abs()));
        let target = i64::from(at.0) + i64::from(insn.len_slots()) + i64::from(distance);
        if let Some(name) = printer.names.target(target) {
            text.push_str(&format!(" <{name}>"));
        }
    }
    text
}

/// The text up to the distance of a jump.
fn plain(printer: &Printer<'_>, style: Llvm, insn: Insn) -> String {
    let n = |value: i32| number(style, value.into());
    let u = |value: u32| number(style, value.into());
    let src_text = |width, src| match src {
        Operand::Reg(src) => register(width, src),
        Operand::Imm(imm) => n(imm),
    };
    match insn {
        Insn::Alu { width, op, dst, src } => {
            format!("{} {} {}", register(width, dst), op.symbol(), src_text(width, src))
        }
        Insn::Mov { width, dst, src } => {
            format!("{} = {}", register(width, dst), src_text(width, src))
        }
        Insn::MovSx { extend, dst, src } => {
            let width = extend.width();
            let (dst, src) = (register(width, dst), register(width, src));
            format!("{dst} = (s{}){src}", extend.from_bits())
        }
        Insn::Neg { width, dst } => {
            let dst = register(width, dst);
            format!("{dst} = -{dst}")
        }
        Insn::Swap { kind, bits, dst } => format!("{dst} = {}{} {dst}", kind.name(), bits.bits()),
        Insn::AddrSpaceCast { dst, src, to, from } => {
            format!("{dst} = addr_space_cast({src}, {}, {})", u(to.into()), u(from.into()))
        }
        Insn::LoadAbs { size, off } => {
            format!("r0 = *({} *)skb[{}]", Size::from(size).type_name(), n(off))
        }
        Insn::LoadInd { size, src, off } => {
            let ty = Size::from(size).type_name();
            if printer.exact && off != 0 {
                format!("r0 = *({ty} *)skb[{src} {}]", offset(style, off))
            } else {
                format!("r0 = *({ty} *)skb[{src}]")
            }
        }
        Insn::LoadImm64 { dst, value } => match value {
            Imm64::Value(value) => format!("{dst} = {} ll", number(style, value as i64)),
            _ => {
                let (kind, low, high) = value.bits();
                let mut text = format!("ld_pseudo\t{dst}, {}, {}", n(kind.into()), u(low as u32));
                if printer.exact && high != 0 {
                    text.push_str(&format!(", {}", u(high as u32)));
                }
                text
            }
        },
        Insn::Load { ty, dst, base, off } => {
            let dst = if ty.is_signed() { register(Width::W64, dst) } else { sized(style, ty.size(), dst) };
            let off = offset(style, off.into());
            format!("{dst} = *({} *)({base} {off})", ty.type_name())
        }
        Insn::Store { size, base, off, src } => {
            let src = match src {
                Operand::Reg(src) => sized(style, size, src),
                Operand::Imm(imm) => n(imm),
            };
            let off = offset(style, off.into());
            format!("*({} *)({base} {off}) = {src}", size.type_name())
        }
        Insn::Atomic { op, width, base, off, src } => {
            atomic(style, op, width, format!("{base} {}", offset(style, off.into())), src)
        }
        Insn::LoadAcquire { size, dst, base, off } => {
            let (dst, off) = (half(size, dst), offset(style, off.into()));
            format!("{dst} = load_acquire(({} *)({base} {off}))", size.type_name())
        }
        Insn::StoreRelease { size, base, off, src } => {
            let (src, off) = (half(size, src), offset(style, off.into()));
            format!("store_release(({} *)({base} {off}), {src})", size.type_name())
        }
        Insn::Jump { .. } => "goto ".to_owned(),
        Insn::JumpLong { .. } => "gotol ".to_owned(),
        Insn::JumpReg { target } => format!("gotox {target}"),
        Insn::MayGoto { .. } => "may_goto ".to_owned(),
        Insn::Branch { width, cond, dst, src, .. } => {
            format!("if {} {} {} goto ", register(width, dst), cond.symbol(), src_text(width, src))
        }
        Insn::CallHelper { id } if printer.exact && id < 0 => format!("call unknown#{id}"),
        Insn::CallLocal { off } if printer.exact => format!("call pc{off:+}"),
        Insn::CallKfunc { btf_id, fd_idx } if printer.exact => match fd_idx {
            0 => format!("call kfunc#{btf_id}"),
            _ => format!("call kfunc#{btf_id}@{fd_idx}"),
        },
        Insn::CallHelper { id: imm } | Insn::CallLocal { off: imm } | Insn::CallKfunc { btf_id: imm, .. } => {
            format!("call {}", n(imm))
        }
        Insn::CallReg { target } => format!("callx {target}"),
        Insn::CallRegInImm { target } if printer.exact => format!("callx imm {target}"),
        // LLVM 19 looks into dst_reg, its forerunners into the immediate.
        Insn::CallRegInImm { target } if style.decimal => format!("callx {target}"),
        Insn::CallRegInImm { .. } => format!("callx {}", Reg::R0),
        Insn::Exit => "exit".to_owned(),
    }
}

fn atomic(style: Llvm, op: AtomicOp, width: Width, address: String, src: Reg) -> String {
    let ty = match width {
        Width::W32 => "u32",
        Width::W64 => "u64",
    };
    let reg = |reg| register(width, reg);
    match (op, op.symbol()) {
        (AtomicOp::Add, _) if !style.alu32 => format!("lock *({ty} *)({address}) += {src}"),
        (_, Some(symbol)) => format!("lock *({ty} *)({address}) {symbol} {}", reg(src)),
        (AtomicOp::Xchg | AtomicOp::CmpXchg, None) => {
            let suffix = match width {
                Width::W32 => "32_32",
                Width::W64 => "_64",
            };
            if op == AtomicOp::Xchg {
                format!("{src} = xchg{suffix}({address}, {src})", src = reg(src))
            } else {
                let r0 = reg(Reg::R0);
                format!("{r0} = cmpxchg{suffix}({address}, {r0}, {})", reg(src))
            }
        }
        (_, None) => {
            let src = reg(src);
            format!("{src} = atomic_fetch_{}(({ty} *)({address}), {src})", op.name())
        }
    }
}

fn register(width: Width, reg: Reg) -> String {
    format!("{}{}", width.prefix(), reg.number())
}

/// The register of a plain load or store: half of it only if 32-bit arithmetic is on.
fn sized(style: Llvm, size: Size, reg: Reg) -> String {
    if style.alu32 { half(size, reg) } else { register(Width::W64, reg) }
}

fn half(size: Size, reg: Reg) -> String {
    match size {
        Size::Dw => register(Width::W64, reg),
        _ => register(Width::W32, reg),
    }
}

fn number(style: Llvm, value: i64) -> String {
    match (style.decimal, value < 0) {
        (true, _) => format!("{value}"),
        (false, true) => format!("-{:#x}", value.unsigned_abs()),
        (false, false) => format!("{value:#x}"),
    }
}

fn offset(style: Llvm, off: i32) -> String {
    let sign = if off < 0 { '-' } else { '+' };
    format!("{sign} {}", number(style, i64::from(off).abs()))
}
