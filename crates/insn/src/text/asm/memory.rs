//! What writes to memory: stores and atomics.

use super::cursor::{Cursor, Failure};
use super::operand::{address, at_register, imm32, pointer, reg_of_size};
use crate::{AtomicOp, Insn, Operand, Reg, Size, Width};

pub(super) fn store(c: &mut Cursor<'_>) -> Result<Insn, Failure> {
    let (size, base, off) = pointer(c)?;
    c.expect("=")?;
    let src = if at_register(c) { Operand::Reg(reg_of_size(c, size)?) } else { Operand::Imm(imm32(c)?) };
    Ok(Insn::Store { size, base, off, src })
}

pub(super) fn locked(c: &mut Cursor<'_>) -> Result<Insn, Failure> {
    const OPS: [(&str, AtomicOp); 4] =
        [("+=", AtomicOp::Add), ("|=", AtomicOp::Or), ("&=", AtomicOp::And), ("^=", AtomicOp::Xor)];
    c.expect("*")?;
    let (width, base, off) = atomic_pointer(c)?;
    let op = c.eat_any(&OPS).ok_or_else(|| c.expected("`+=`, `|=`, `&=` or `^=`"))?;
    let src = reg_of_size(c, width_size(width))?;
    Ok(Insn::Atomic { op, width, base, off, src })
}

pub(super) fn width_size(width: Width) -> Size {
    match width {
        Width::W32 => Size::W,
        Width::W64 => Size::Dw,
    }
}

/// `(u32 *)(r1 + 8)` with a size that atomics have.
pub(super) fn atomic_pointer(c: &mut Cursor<'_>) -> Result<(Width, Reg, i16), Failure> {
    let before = c.clone();
    match pointer(c)? {
        (Size::W, base, off) => Ok((Width::W32, base, off)),
        (Size::Dw, base, off) => Ok((Width::W64, base, off)),
        _ => Err(before.expected("`(u32 *)` or `(u64 *)`")),
    }
}

/// `atomic_fetch_add(...)` to `cmpxchg32_32(...)`, of which `name` has been read.
pub(super) fn fetching(
    c: &mut Cursor<'_>,
    name: &str,
    dst: (Width, Reg),
    dst_column: usize,
) -> Option<Result<Insn, Failure>> {
    // The kernel says the width in the name, LLVM in the name or in the type only.
    let (op, named, typed) = match name {
        "atomic_fetch_add" => (AtomicOp::FetchAdd, None, true),
        "atomic_fetch_or" => (AtomicOp::FetchOr, None, true),
        "atomic_fetch_and" => (AtomicOp::FetchAnd, None, true),
        "atomic_fetch_xor" => (AtomicOp::FetchXor, None, true),
        "atomic64_fetch_add" => (AtomicOp::FetchAdd, Some(Width::W64), true),
        "atomic64_fetch_or" => (AtomicOp::FetchOr, Some(Width::W64), true),
        "atomic64_fetch_and" => (AtomicOp::FetchAnd, Some(Width::W64), true),
        "atomic64_fetch_xor" => (AtomicOp::FetchXor, Some(Width::W64), true),
        "atomic_xchg" => (AtomicOp::Xchg, Some(Width::W32), true),
        "atomic64_xchg" => (AtomicOp::Xchg, Some(Width::W64), true),
        "atomic_cmpxchg" => (AtomicOp::CmpXchg, Some(Width::W32), true),
        "atomic64_cmpxchg" => (AtomicOp::CmpXchg, Some(Width::W64), true),
        "xchg_64" => (AtomicOp::Xchg, Some(Width::W64), false),
        "xchg32_32" => (AtomicOp::Xchg, Some(Width::W32), false),
        "cmpxchg_64" => (AtomicOp::CmpXchg, Some(Width::W64), false),
        "cmpxchg32_32" => (AtomicOp::CmpXchg, Some(Width::W32), false),
        _ => return None,
    };
    let rest = |c: &mut Cursor<'_>| {
        c.expect("(")?;
        let before = c.clone();
        let (width, base, off) = if typed {
            atomic_pointer(c)?
        } else {
            let (base, off) = address(c)?;
            (named.unwrap_or(Width::W64), base, off)
        };
        if let Some(named) = named.filter(|named| *named != width) {
            return Err(before.expected(match named {
                Width::W32 => "`(u32 *)`",
                Width::W64 => "`(u64 *)`",
            }));
        }
        c.expect(",")?;
        let size = width_size(width);
        let result = if op == AtomicOp::CmpXchg {
            let before = c.clone();
            if reg_of_size(c, size)? != Reg::R0 {
                return Err(before.expected("r0, with which memory is compared"));
            }
            c.expect(",")?;
            Some(Reg::R0)
        } else {
            None
        };
        let before = c.clone();
        let src = reg_of_size(c, size)?;
        c.expect(")")?;
        let result = result.unwrap_or(src);
        if dst.1 != result {
            return Err(match op {
                AtomicOp::CmpXchg => (dst_column, "expected r0, which gets the old value".to_owned()),
                _ => before.expected(&format!("{}, which gets the old value", dst.1)),
            });
        }
        if dst.0 == Width::W32 && width == Width::W64 {
            return Err((dst_column, "expected an `r` register for 64 bits".to_owned()));
        }
        Ok(Insn::Atomic { op, width, base, off, src })
    };
    Some(rest(c))
}
