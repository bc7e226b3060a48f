//! An instruction that is executed at another address than its own.
//!
//! Where a breakpoint is, the instruction that it hides has a copy in a *slot*, with a jump back behind it. A task that was stopped
//! goes on in the slot; nothing is ever taken out of the code and put back, so no other task can slip through. What depends on the address is
//! written anew: displacements that count from the next instruction, jumps, and the return address of a call.

use skep_binary::decode::{Insn, Kind};

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: u64 = 64;
/// Bytes of a copy, at most.
pub(crate) const COPY_BYTES: u64 = SLOT_BYTES;

/// Instructions as they are executed elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copy {
    /// With a jump behind them to where they go on.
    pub(crate) code: Vec<u8>,
    /// Where each begins here, and there.
    pub(crate) starts: Vec<(u8, u8)>,
}

/// `jmp *0(%rip)` with the address behind it.
fn jump(code: &mut Vec<u8>, to: u64) {
    code.extend([0xff, 0x25, 0, 0, 0, 0]);
    code.extend(to.to_le_bytes());
}

/// Bytes of such a jump.
const JUMP_BYTES: u8 = 14;

/// The slot's code for instructions that follow each other, of which only the last may go elsewhere; `None` when the slot is too far away for what one of them
/// names.
pub(crate) fn displaced(bytes: &[u8], insns: &[Insn], from: u64, slot: u64) -> Option<Copy> {
    let mut copy = Copy { code: Vec::with_capacity(SLOT_BYTES as usize), starts: Vec::with_capacity(insns.len()) };
    let mut off = 0u8;
    for (index, insn) in insns.iter().enumerate() {
        copy.starts.push((copy.code.len() as u8, off));
        let (here, at) = (bytes.get(off.into()..)?, from.wrapping_add(off.into()));
        let there = slot.wrapping_add(copy.code.len() as u64);
        if index + 1 == insns.len() {
            last(&mut copy.code, here, *insn, at, there)?;
        } else {
            inside(&mut copy.code, here, *insn, at, there)?;
        }
        off += insn.len;
    }
    debug_assert!(copy.code.len() as u64 <= SLOT_BYTES, "a slot has room for every kind");
    Some(copy)
}

/// Adds an instruction that goes on to the next one.
fn inside(code: &mut Vec<u8>, bytes: &[u8], insn: Insn, from: u64, to: u64) -> Option<()> {
    let start = code.len();
    code.extend_from_slice(bytes.get(..insn.len.into())?);
    match insn.kind {
        Kind::Nothing | Kind::Push(_) | Kind::Anywhere => Some(()),
        Kind::Relative { at } => move_displacement(code, start + usize::from(at), from, to),
        _ => None,
    }
}

/// Adds the last instruction, and how it goes on.
fn last(code: &mut Vec<u8>, bytes: &[u8], insn: Insn, from: u64, to: u64) -> Option<()> {
    let bytes = bytes.get(..insn.len.into())?;
    let next = from.wrapping_add(insn.len.into());
    let at = |by: i32| next.wrapping_add(by as i64 as u64);
    match insn.kind {
        Kind::Nothing => jump(code, next),
        Kind::Push(_) | Kind::Anywhere | Kind::Relative { .. } => {
            inside(code, bytes, insn, from, to)?;
            jump(code, next);
        }
        Kind::Jump { by } => jump(code, at(by)),
        Kind::Branch { opcode, by } => {
            code.extend([opcode, JUMP_BYTES]);
            jump(code, next);
            jump(code, at(by));
        }
        Kind::Loop { opcode, narrow, by } => {
            code.extend(narrow.then_some(0x67));
            code.extend([opcode, JUMP_BYTES]);
            jump(code, next);
            jump(code, at(by));
        }
        Kind::Call { by } => {
            // `push` of the return address, which is behind the jump.
            code.extend([0xff, 0x35]);
            code.extend(u32::from(JUMP_BYTES).to_le_bytes());
            jump(code, at(by));
            code.extend(next.to_le_bytes());
        }
        Kind::CallOperand { modrm_at, relative } => {
            code.extend([0xff, 0x35]);
            code.extend(u32::from(insn.len).to_le_bytes());
            let start = code.len();
            code.extend_from_slice(bytes);
            // A jump (`/4`) in place of the call (`/2`).
            let modrm = code.get_mut(start + usize::from(modrm_at))?;
            *modrm = *modrm & !0x38 | 4 << 3;
            if relative {
                let moved = to.wrapping_add(6);
                let at = start + usize::from(modrm_at) + 1;
                move_displacement(code, at, from, moved)?;
            }
            code.extend(next.to_le_bytes());
        }
    }
    Some(())
}

/// Makes the displacement at byte `at` of the code lead to the same place from another address of its instruction.
fn move_displacement(code: &mut [u8], at: usize, from: u64, to: u64) -> Option<()> {
    let field = code.get_mut(at..at + 4)?;
    let old = i32::from_le_bytes(field.try_into().ok()?);
    let moved = i64::from(old).wrapping_add(from.wrapping_sub(to) as i64);
    field.copy_from_slice(&i32::try_from(moved).ok()?.to_le_bytes());
    Some(())
}
