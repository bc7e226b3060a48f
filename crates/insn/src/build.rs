//! Short constructors, for programs written by hand in Rust.
//!
//! ```
//! use skep_insn::build::*;
//! use skep_insn::{Reg, Size};
//!
//! // return *(u32 *)(stack) after storing 7 there
//! let program = slots(&[
//!     store(Size::W, Reg::FP, -4, 7),
//!     load(Size::W, Reg::R0, Reg::FP, -4),
//!     exit(),
//! ]);
//! assert_eq!(program.len(), 3);
//! ```

use crate::{AluOp, AtomicOp, Cond, Imm64, Insn, LoadType, Operand, RawInsn, Reg, Size, Width};

/// The slots of a run of instructions, ready for the kernel.
pub fn slots(insns: &[Insn]) -> Vec<RawInsn> {
    insns.iter().flat_map(Insn::encode).collect()
}

/// `dst = src`, 64 bits.
pub fn mov(dst: Reg, src: impl Into<Operand>) -> Insn {
    let (width, src) = (Width::W64, src.into());
    Insn::Mov { width, dst, src }
}

/// `dst = src`, 32 bits; clears the upper half.
pub fn mov32(dst: Reg, src: impl Into<Operand>) -> Insn {
    let (width, src) = (Width::W32, src.into());
    Insn::Mov { width, dst, src }
}

/// `dst op= src`, 64 bits.
pub fn alu(op: AluOp, dst: Reg, src: impl Into<Operand>) -> Insn {
    let (width, src) = (Width::W64, src.into());
    Insn::Alu { width, op, dst, src }
}

/// `dst op= src`, 32 bits; clears the upper half.
pub fn alu32(op: AluOp, dst: Reg, src: impl Into<Operand>) -> Insn {
    let (width, src) = (Width::W32, src.into());
    Insn::Alu { width, op, dst, src }
}

/// `dst += src`, 64 bits.
pub fn add(dst: Reg, src: impl Into<Operand>) -> Insn {
    alu(AluOp::Add, dst, src)
}

/// `dst = *(ty *)(base + off)`; a [`Size`] or a [`LoadType`].
pub fn load(ty: impl Into<LoadType>, dst: Reg, base: Reg, off: i16) -> Insn {
    let ty = ty.into();
    Insn::Load { ty, dst, base, off }
}

/// `*(size *)(base + off) = src`; an immediate or a register.
pub fn store(size: Size, base: Reg, off: i16, src: impl Into<Operand>) -> Insn {
    let src = src.into();
    Insn::Store { size, base, off, src }
}

/// An atomic operation on `*(base + off)`.
pub fn atomic(op: AtomicOp, width: Width, base: Reg, off: i16, src: Reg) -> Insn {
    Insn::Atomic { op, width, base, off, src }
}

/// `dst = value`, all 64 bits, two slots.
pub fn load_imm64(dst: Reg, value: u64) -> Insn {
    let value = Imm64::Value(value);
    Insn::LoadImm64 { dst, value }
}

/// `dst = ` the address of a map, two slots.
pub fn load_map_fd(dst: Reg, fd: i32) -> Insn {
    let value = Imm64::MapFd(fd);
    Insn::LoadImm64 { dst, value }
}

/// `dst = ` an address inside the first value of a map, two slots.
pub fn load_map_value(dst: Reg, fd: i32, off: u32) -> Insn {
    let value = Imm64::MapValue { fd, off };
    Insn::LoadImm64 { dst, value }
}

/// `dst = ` the address of the subprogram `off` slots behind the first slot's end, two slots.
pub fn load_func(dst: Reg, off: i32) -> Insn {
    let value = Imm64::Func { off };
    Insn::LoadImm64 { dst, value }
}

/// `goto +off`.
pub fn jump(off: i16) -> Insn {
    Insn::Jump { off }
}

/// `if dst cond src goto +off`, 64 bits.
pub fn branch(cond: Cond, dst: Reg, src: impl Into<Operand>, off: i16) -> Insn {
    let (width, src) = (Width::W64, src.into());
    Insn::Branch { width, cond, dst, src, off }
}

/// `if dst cond src goto +off`, 32 bits.
pub fn branch32(cond: Cond, dst: Reg, src: impl Into<Operand>, off: i16) -> Insn {
    let (width, src) = (Width::W32, src.into());
    Insn::Branch { width, cond, dst, src, off }
}

/// `call id`, a helper; [`crate::helpers::id`] finds the number of a name.
pub fn call(id: u32) -> Insn {
    Insn::CallHelper { id: id as i32 }
}

/// A call of the subprogram `off` slots behind the end of this instruction.
pub fn call_local(off: i32) -> Insn {
    Insn::CallLocal { off }
}

/// A call of the kernel function with this BTF id, in the BTF at `fd_idx` of `fd_array` (0: the kernel's own).
pub fn call_kfunc(btf_id: u32, fd_idx: i16) -> Insn {
    Insn::CallKfunc { btf_id: btf_id as i32, fd_idx }
}

/// `exit`.
pub fn exit() -> Insn {
    Insn::Exit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructors_give_the_documented_bytes() {
        let code = slots(&[
            mov(Reg::R1, 1),
            mov32(Reg::R2, Reg::R1),
            add(Reg::R1, Reg::R2),
            alu32(AluOp::SDiv, Reg::R1, 3),
            load(LoadType::S16, Reg::R3, Reg::FP, -8),
            atomic(AtomicOp::FetchAdd, Width::W64, Reg::R1, 8, Reg::R2),
            load_map_value(Reg::R1, 4, 16),
            branch32(Cond::SLt, Reg::R1, -1, -2),
            call(crate::helpers::id("bpf_map_lookup_elem").expect("helper 1 exists")),
            call_kfunc(70, 2),
            exit(),
        ]);
        let expected = [
            RawInsn::new(0xb7, 1, 0, 0, 1),
            RawInsn::new(0xbc, 2, 1, 0, 0),
            RawInsn::new(0x0f, 1, 2, 0, 0),
            RawInsn::new(0x34, 1, 0, 1, 3),
            RawInsn::new(0x89, 3, 10, -8, 0),
            RawInsn::new(0xdb, 1, 2, 8, 1),
            RawInsn::new(0x18, 1, 2, 0, 4),
            RawInsn::new(0, 0, 0, 0, 16),
            RawInsn::new(0xc6, 1, 0, -2, -1),
            RawInsn::new(0x85, 0, 0, 0, 1),
            RawInsn::new(0x85, 0, 2, 2, 70),
            RawInsn::new(0x95, 0, 0, 0, 0),
        ];
        assert_eq!(code, expected);
    }
}
