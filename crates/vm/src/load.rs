//! From instructions to operations, with every check that needs no knowledge of data.
//!
//! # What a loaded program is known to be
//!
//! 1. Every slot belongs to an instruction that [`Insn::decode`] knows: opcodes exist, registers exist, reserved fields are zero.
//! 2. Jumps lead to the first slot of an instruction of the same function. Functions start at slot 0, at the targets of calls, and
//!    where a wide load takes the address of one; each reaches to the start of the next.
//! 3. The last instruction of a function is an exit or a jump without a condition, so nothing falls out of its end.
//! 4. r10 is never written.
//! 5. Every helper that is called by number exists, and every wide load has a value.
//!
//! So a running program is always at some operation that was meant, and what is left to check is memory, time, and calls and
//! jumps by register. Rules 2 and 3 are the kernel's (`check_subprogs`, kernel/bpf/verifier.c, Linux 6.18). Not its rules: that code be
//! reachable, and that shifts and divisors by immediate be sensible: they have a meaning anyhow.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use skep_insn::{AtomicOp, Imm64, Insn, InsnIdx, Operand, PacketSize, Reg, Size, Width, helpers};

use crate::op::{self, Code, Op};
use crate::program::{Function, line_of};
use crate::{Image, LoadError, LoadErrorKind, MAX_INSNS, Machine, Program, STACK_BYTES};

use LoadErrorKind as Kind;

/// See [`Machine::load`].
pub(crate) fn load(image: &Image<'_>, machine: &Machine) -> Result<Program, LoadError> {
    let fail = |at, kind| LoadError { at, line: line_of(image.lines, at).cloned(), kind };
    let mut insns = Vec::with_capacity(image.insns.len());
    let len = image.insns.len();
    if len == 0 {
        return Err(fail(InsnIdx(0), Kind::Empty));
    }
    if len > MAX_INSNS {
        return Err(fail(InsnIdx(0), Kind::TooLong { len }));
    }
    for decoded in Insn::decode_all(image.insns) {
        insns.push(decoded.map_err(|error| fail(error.idx, Kind::Decode(error)))?);
    }
    let shape = Shape::of(&insns, len as u32).map_err(|(at, kind)| fail(at, kind))?;
    let mut load = Load {
        machine,
        binds: image.binds.iter().copied().collect(),
        kfuncs: image.kfuncs.iter().copied().collect(),
        functions: shape.functions(&insns),
        shape,
        helpers: Vec::new(),
        ops: Vec::with_capacity(len),
    };
    for (at, insn) in insns {
        load.insn(at, insn).map_err(|kind| fail(at, kind))?;
    }
    Ok(Program {
        name: image.name.to_owned(),
        insns: image.insns.to_vec(),
        ops: load.ops,
        functions: load.functions,
        helpers: load.helpers,
        lines: image.lines.to_vec(),
        space: machine.space().clone(),
        registry: Arc::downgrade(machine.registry()),
        native: OnceLock::new(),
    })
}

/// Where functions and the second slots of wide loads are.
struct Shape {
    len: u32,
    starts: BTreeSet<u32>,
    holes: Vec<bool>,
}

impl Shape {
    fn of(insns: &[(InsnIdx, Insn)], len: u32) -> Result<Shape, (InsnIdx, Kind)> {
        let mut shape = Shape { len, starts: BTreeSet::from([0]), holes: vec![false; len as usize] };
        for (at, insn) in insns {
            if insn.len_slots() == 2 {
                shape.holes[at.0 as usize + 1] = true;
            }
        }
        for &(at, insn) in insns {
            let (Insn::CallLocal { off } | Insn::LoadImm64 { value: Imm64::Func { off }, .. }) = insn else { continue };
            let start = shape.target(at, off).map_err(|kind| (at, kind))?;
            shape.starts.insert(start);
        }
        for (index, (at, insn)) in insns.iter().enumerate() {
            let next = insns.get(index + 1).map_or(len, |(next, _)| next.0);
            let ends = next == len || shape.starts.contains(&next);
            let leaves = matches!(insn, Insn::Exit | Insn::Jump { .. } | Insn::JumpLong { .. } | Insn::JumpReg { .. });
            if ends && !leaves {
                return Err((*at, Kind::FallsOffEnd));
            }
        }
        Ok(shape)
    }

    /// The slot that is `off` slots behind the end of the one at `at`.
    fn target(&self, at: InsnIdx, off: i32) -> Result<u32, Kind> {
        let target = i64::from(at.0) + 1 + i64::from(off);
        let slot = u32::try_from(target).ok().filter(|slot| *slot < self.len);
        let slot = slot.ok_or(Kind::OutOfProgram { target })?;
        if self.holes[slot as usize] { Err(Kind::IntoWideLoad { target: slot }) } else { Ok(slot) }
    }

    /// First slot of the function around a slot, and the first one behind it.
    fn around(&self, at: u32) -> (u32, u32) {
        let start = self.starts.range(..=at).next_back().copied().unwrap_or(0);
        let end = self.starts.range(at + 1..).next().copied().unwrap_or(self.len);
        (start, end)
    }

    fn functions(&self, insns: &[(InsnIdx, Insn)]) -> Vec<Function> {
        let mut functions: Vec<Function> =
            (self.starts.iter()).map(|&start| Function { start, end: self.around(start).1, stack_bytes: 0 }).collect();
        let mut current = 0;
        for (at, insn) in insns {
            while at.0 >= functions[current].end {
                current += 1;
            }
            let touched = &mut functions[current].stack_bytes;
            *touched = (*touched).max(stack_bytes(insn));
        }
        // A function that may reach the frames of its callers sees what they leave untouched of them.
        if functions[1..].iter().any(|function| function.stack_bytes == STACK_BYTES) {
            functions.iter_mut().for_each(|function| function.stack_bytes = STACK_BYTES);
        }
        functions
    }
}

/// How far below the frame pointer an instruction may reach, in whole words; the whole frame if it hands the pointer on, or reaches above
/// it.
fn stack_bytes(insn: &Insn) -> u32 {
    let direct = |base: Reg, off: i16, size: Size| match (base, i32::from(off)) {
        (Reg::FP, off) if off + size.len_bytes() as i32 > 0 => STACK_BYTES,
        (Reg::FP, off) => (-off).min(STACK_BYTES as i32) as u32,
        _ => 0,
    };
    let copied = |reg: Reg| if reg == Reg::FP { STACK_BYTES } else { 0 };
    let operand = |src: Operand| match src {
        Operand::Reg(reg) => copied(reg),
        Operand::Imm(_) => 0,
    };
    let bytes = match *insn {
        Insn::Alu { src, .. } | Insn::Mov { src, .. } => operand(src),
        Insn::MovSx { src, .. } | Insn::AddrSpaceCast { src, .. } | Insn::LoadInd { src, .. } => copied(src),
        Insn::Branch { dst, src, .. } => copied(dst).max(operand(src)),
        Insn::Load { base, off, ty, .. } => direct(base, off, ty.size()),
        Insn::LoadAcquire { base, off, size, .. } => direct(base, off, size),
        Insn::Store { base, off, src, size } => direct(base, off, size).max(operand(src)),
        Insn::StoreRelease { base, off, src, size } => direct(base, off, size).max(copied(src)),
        Insn::Atomic { base, off, src, width, .. } => {
            let size = if width == Width::W32 { Size::W } else { Size::Dw };
            direct(base, off, size).max(copied(src))
        }
        Insn::CallReg { target } | Insn::CallRegInImm { target } | Insn::JumpReg { target } => copied(target),
        Insn::Neg { .. }
        | Insn::Swap { .. }
        | Insn::LoadAbs { .. }
        | Insn::LoadImm64 { .. }
        | Insn::Jump { .. }
        | Insn::JumpLong { .. }
        | Insn::MayGoto { .. }
        | Insn::CallHelper { .. }
        | Insn::CallLocal { .. }
        | Insn::CallKfunc { .. }
        | Insn::Exit => 0,
    };
    bytes.next_multiple_of(8)
}

/// The register that an instruction writes.
fn written(insn: &Insn) -> Option<Reg> {
    match *insn {
        Insn::Alu { dst, .. }
        | Insn::Mov { dst, .. }
        | Insn::MovSx { dst, .. }
        | Insn::Neg { dst, .. }
        | Insn::Swap { dst, .. }
        | Insn::AddrSpaceCast { dst, .. }
        | Insn::LoadImm64 { dst, .. }
        | Insn::Load { dst, .. }
        | Insn::LoadAcquire { dst, .. } => Some(dst),
        Insn::Atomic { op, src, .. } if op.symbol().is_none() && op != AtomicOp::CmpXchg => Some(src),
        _ => None,
    }
}

struct Load<'a> {
    machine: &'a Machine,
    binds: HashMap<InsnIdx, u64>,
    kfuncs: HashMap<InsnIdx, &'a str>,
    shape: Shape,
    functions: Vec<Function>,
    helpers: Vec<crate::Helper>,
    ops: Vec<Op>,
}

impl Load<'_> {
    fn insn(&mut self, at: InsnIdx, insn: Insn) -> Result<(), Kind> {
        if written(&insn) == Some(Reg::FP) {
            return Err(Kind::WritesFramePointer);
        }
        let op = self.op(at, insn)?;
        self.ops.push(op);
        if insn.len_slots() == 2 {
            self.ops.push(Op { code: Code::Hole, dst: 0, src: 0, off: 0, imm: 0 });
        }
        Ok(())
    }

    fn op(&mut self, at: InsnIdx, insn: Insn) -> Result<Op, Kind> {
        let make =
            |code, dst: Reg, src: Reg, off: i32, imm: u64| Op { code, dst: dst.number(), src: src.number(), off, imm };
        let bare = |code| make(code, Reg::R0, Reg::R0, 0, 0);
        Ok(match insn {
            Insn::Alu { width, op, dst, src } => {
                let (src_reg, imm) = operand(width, src);
                make(op::alu(op, width, src), dst, src_reg, 0, imm)
            }
            Insn::Mov { width, dst, src } => {
                let (src_reg, imm) = operand(width, src);
                let code = match (src, width) {
                    (Operand::Imm(_), _) => Code::Imm,
                    (Operand::Reg(_), Width::W64) => Code::Mov64,
                    (Operand::Reg(_), Width::W32) => Code::Mov32,
                };
                make(code, dst, src_reg, 0, imm)
            }
            Insn::MovSx { extend, dst, src } => make(op::extend(extend), dst, src, 0, 0),
            Insn::Neg { width: Width::W64, dst } => make(Code::Neg64, dst, dst, 0, 0),
            Insn::Neg { width: Width::W32, dst } => make(Code::Neg32, dst, dst, 0, 0),
            Insn::Swap { kind, bits, dst } => make(op::swap(kind, bits), dst, dst, 0, 0),
            // To the programs' space: the short form of an address, as the kernel's verifier makes a 32-bit move of it.
            Insn::AddrSpaceCast { dst, src, to: 0, from: 1 } => make(Code::Mov32, dst, src, 0, 0),
            Insn::AddrSpaceCast { dst, src, to: 1, from: 0 } => {
                make(Code::CastUser, dst, src, 0, self.machine.space().base())
            }
            Insn::AddrSpaceCast { to, from, .. } => return Err(Kind::AddressSpace { to, from }),
            Insn::LoadAbs { size, off } => {
                let code = packet(size, [Code::PacketAbs8, Code::PacketAbs16, Code::PacketAbs32]);
                make(code, Reg::R0, Reg::R0, 0, off as u64)
            }
            Insn::LoadInd { size, src, off } => {
                let code = packet(size, [Code::PacketInd8, Code::PacketInd16, Code::PacketInd32]);
                make(code, Reg::R0, src, 0, off as u64)
            }
            Insn::LoadImm64 { dst, value } => make(Code::Imm, dst, dst, 1, self.wide(at, value)?),
            Insn::Load { ty, dst, base, off } => make(op::load(ty), dst, base, off.into(), 0),
            Insn::Store { size, base, off, src } => {
                let (src_reg, imm) = operand(Width::W64, src);
                let codes = match src {
                    Operand::Reg(_) => op::STORES,
                    Operand::Imm(_) => op::STORES_IMM,
                };
                make(op::sized(size, codes), base, src_reg, off.into(), imm)
            }
            Insn::Atomic { op, width, base, off, src } => make(op::atomic(op, width), base, src, off.into(), 0),
            Insn::LoadAcquire { size, dst, base, off } => {
                make(op::sized(size, op::LOADS_ACQUIRE), dst, base, off.into(), 0)
            }
            Insn::StoreRelease { size, base, off, src } => {
                make(op::sized(size, op::STORES_RELEASE), base, src, off.into(), 0)
            }
            Insn::Jump { off } => make(Code::Jump, Reg::R0, Reg::R0, self.jump(at, off.into())?, 0),
            Insn::JumpLong { off } => make(Code::Jump, Reg::R0, Reg::R0, self.jump(at, off)?, 0),
            Insn::JumpReg { target } => make(Code::JumpReg, target, target, 0, 0),
            Insn::MayGoto { off } => make(Code::MayGoto, Reg::R0, Reg::R0, self.jump(at, off.into())?, 0),
            Insn::Branch { width, cond, dst, src, off } => {
                let (src_reg, imm) = operand(width, src);
                make(op::branch(cond, width, src), dst, src_reg, self.jump(at, off.into())?, imm)
            }
            // The call of one that the target's kernel has not is a call of a helper that there is not.
            Insn::CallHelper { .. } | Insn::CallKfunc { .. } if let Some(index) = self.kfunc(at) => {
                make(Code::Helper, Reg::R0, Reg::R0, 0, index as u64)
            }
            Insn::CallHelper { id } => {
                let code = if id as u32 == helpers::TAIL_CALL { Code::TailCall } else { Code::Helper };
                make(code, Reg::R0, Reg::R0, 0, self.helper(id)? as u64)
            }
            Insn::CallLocal { off } => {
                let start = self.shape.target(at, off)?;
                let index = self.functions.partition_point(|function| function.start < start);
                make(Code::Call, Reg::R0, Reg::R0, off, index as u64)
            }
            Insn::CallKfunc { btf_id, .. } => return Err(Kind::Kfunc { btf_id }),
            Insn::CallReg { target } | Insn::CallRegInImm { target } => make(Code::CallReg, target, target, 0, 0),
            Insn::Exit => bare(Code::Exit),
        })
    }

    /// A distance, if it leads to an instruction of the same function.
    fn jump(&self, at: InsnIdx, off: i32) -> Result<i32, Kind> {
        let target = self.shape.target(at, off)?;
        let (start, end) = self.shape.around(at.0);
        if (start..end).contains(&target) { Ok(off) } else { Err(Kind::OutOfFunction { target, start, end }) }
    }

    fn wide(&self, at: InsnIdx, value: Imm64) -> Result<u64, Kind> {
        let what = match value {
            Imm64::Value(value) => return Ok(value),
            Imm64::Func { off } => return Ok(Program::code_addr(InsnIdx(self.shape.target(at, off)?))),
            Imm64::MapFd(_) | Imm64::MapIdx(_) => "a map",
            Imm64::MapValue { .. } | Imm64::MapIdxValue { .. } => "a map's value",
            Imm64::BtfId { .. } => "a kernel variable",
        };
        self.binds.get(&at).copied().ok_or(Kind::Unbound { what })
    }

    /// The index of a kernel's function of this machine among what the program calls.
    fn kfunc(&mut self, at: InsnIdx) -> Option<usize> {
        let (name, run) = crate::helpers::kfunc(self.kfuncs.get(&at)?)?;
        if let Some(index) = self.helpers.iter().position(|helper| helper.id == KFUNC && helper.name == name) {
            return Some(index);
        }
        self.helpers.push(crate::Helper { id: KFUNC, name, run, own: false });
        Some(self.helpers.len() - 1)
    }

    /// The index of a helper among those that the program calls.
    fn helper(&mut self, id: i32) -> Result<usize, Kind> {
        let number = u32::try_from(id).map_err(|_| Kind::NoSuchHelper { id })?;
        if let Some(index) = self.helpers.iter().position(|helper| helper.id == number) {
            return Ok(index);
        }
        let helper = self.machine.helpers().get(number).ok_or_else(|| match helpers::name(number) {
            Some(name) if number != helpers::UNSPEC => {
                Kind::HelperNotHere { name, needs: crate::helpers::needs(number) }
            }
            _ => Kind::NoSuchHelper { id },
        })?;
        self.helpers.push(*helper);
        Ok(self.helpers.len() - 1)
    }
}

/// In place of a helper's number: it is a function of the kernel.
const KFUNC: u32 = u32::MAX;

/// The register or the extended immediate.
fn operand(width: Width, src: Operand) -> (Reg, u64) {
    match (src, width) {
        (Operand::Reg(reg), _) => (reg, 0),
        (Operand::Imm(imm), Width::W64) => (Reg::R0, i64::from(imm) as u64),
        (Operand::Imm(imm), Width::W32) => (Reg::R0, u64::from(imm as u32)),
    }
}

fn packet(size: PacketSize, codes: [Code; 3]) -> Code {
    match size {
        PacketSize::B => codes[0],
        PacketSize::H => codes[1],
        PacketSize::W => codes[2],
    }
}
