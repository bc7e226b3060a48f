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

/// Instructions that all go on to the next one as they are executed at another address, with nothing behind them; `None` if that is too far away for one of them, or one goes
/// elsewhere.
pub(crate) fn moved(bytes: &[u8], insns: &[Insn], from: u64, to: u64) -> Option<Copy> {
    let mut copy = Copy::default();
    let mut off = 0u8;
    for insn in insns {
        copy.starts.push((copy.code.len() as u8, off));
        let here = bytes.get(off.into()..)?;
        let there = to.wrapping_add(copy.code.len() as u64);
        inside(&mut copy.code, here, *insn, from.wrapping_add(off.into()), there)?;
        off += insn.len;
    }
    Some(copy)
}

/// Adds an instruction that goes on to the next one, if only sometimes.
fn inside(code: &mut Vec<u8>, bytes: &[u8], insn: Insn, from: u64, to: u64) -> Option<()> {
    let start = code.len();
    code.extend_from_slice(bytes.get(..insn.len.into())?);
    match insn.kind {
        Kind::Nothing | Kind::Push(_) | Kind::Anywhere => Some(()),
        Kind::Relative { at } => move_displacement(code, start + usize::from(at), from, to),
        Kind::Branch { opcode, by } => {
            // With a displacement of 32 bits, whatever it had.
            code.truncate(start);
            code.extend([0x0f, opcode + 0x10]);
            code.extend(by.to_le_bytes());
            move_displacement(code, start + 2, from.wrapping_add(insn.len.into()), to.wrapping_add(6))
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use skep_binary::decode::decode;

    const FROM: u64 = 0x1000_0000;
    const SLOT: u64 = 0x2000_0000;

    /// The copy of as many instructions as the bytes have.
    fn copied(bytes: &[u8]) -> Option<Copy> {
        let mut insns = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let insn = decode(&bytes[at..]).unwrap();
            at += usize::from(insn.len);
            insns.push(insn);
        }
        displaced(bytes, &insns, FROM, SLOT)
    }

    /// Bytes, and a jump to an address behind them.
    fn then_to(bytes: &[u8], to: u64) -> Vec<u8> {
        let mut code = bytes.to_vec();
        jump(&mut code, to);
        code
    }

    #[test]
    fn instructions_in_a_row_keep_their_order() {
        // endbr64; push rbp; mov rbp, rsp
        let bytes = [0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5];
        let copy = copied(&bytes).unwrap();
        assert_eq!(copy.code, then_to(&bytes, FROM + 8));
        assert_eq!(copy.starts, [(0, 0), (4, 4), (5, 5)]);
        // One that does nothing is not copied when it is the last: mov edx, ecx; nop.
        let copy = copied(&[0x89, 0xca, 0x90]).unwrap();
        assert_eq!((copy.code, copy.starts), (then_to(&[0x89, 0xca], FROM + 3), vec![(0, 0), (2, 2)]));
    }

    #[test]
    fn what_is_named_by_its_distance_is_still_the_same() {
        // push rbx; lea rax, [rip + 16]; mov rcx, [rip - 16]: both in the middle and at the end.
        let bytes = [0x53, 0x48, 0x8d, 0x05, 16, 0, 0, 0, 0x48, 0x8b, 0x0d, 0xf0, 0xff, 0xff, 0xff];
        let copy = copied(&bytes).unwrap();
        let named = |at: usize, end: u64| {
            let by = i32::from_le_bytes(copy.code[at..at + 4].try_into().unwrap());
            (SLOT + end).wrapping_add_signed(by.into())
        };
        assert_eq!((named(4, 8), named(11, 15)), (FROM + 8 + 16, FROM + 15 - 16));
        assert!(copy.code.ends_with(&then_to(&[], FROM + 15)));
        assert_eq!(copy.starts, [(0, 0), (1, 1), (8, 8)]);
        // Too far away from there.
        let bytes = [0x53, 0x48, 0x8d, 0x05, 0, 0, 0, 0x80];
        assert_eq!(copied(&bytes), None);
    }

    #[test]
    fn what_goes_elsewhere_goes_there() {
        // xor eax, eax; jne to 32 bytes behind it.
        let copy = copied(&[0x31, 0xc0, 0x75, 32]).unwrap();
        assert_eq!(copy.code, [then_to(&[0x31, 0xc0, 0x75, JUMP_BYTES], FROM + 4), then_to(&[], FROM + 36)].concat());
        // push rbx; call to 16 bytes behind it, which returns behind the original.
        let copy = copied(&[0x53, 0xe8, 16, 0, 0, 0]).unwrap();
        let mut code = then_to(&[0x53, 0xff, 0x35, JUMP_BYTES, 0, 0, 0], FROM + 22);
        code.extend((FROM + 6).to_le_bytes());
        assert_eq!((copy.code, copy.starts), (code, vec![(0, 0), (1, 1)]));
        // A branch goes where it went, or on: jne to 32 bytes behind it; xor eax, eax.
        let copy = copied(&[0x75, 32, 0x31, 0xc0]).unwrap();
        let by = (FROM + 34).wrapping_sub(SLOT + 6) as i32;
        assert_eq!(copy.code, then_to(&[&[0x0f, 0x85], &by.to_le_bytes()[..], &[0x31, 0xc0]].concat(), FROM + 4));
        assert_eq!(copied(&[0xe8, 16, 0, 0, 0, 0x53]), None);
    }

    #[test]
    fn a_slot_has_room_for_the_longest_rows() {
        // Four bytes, and each of the longest kinds behind them.
        let rows: [&[u8]; 4] = [
            // movabs rax, ...; loop with a narrow register; call [rip + ...]; mov qword [rax + rbx + ...], ...
            &[0x90, 0x53, 0x53, 0x53, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0x53, 0x53, 0x67, 0xe2, 5],
            &[0x53, 0x53, 0x53, 0x53, 0xff, 0x15, 0, 0, 0, 0],
            &[0x53, 0x53, 0x53, 0x53, 0x65, 0x48, 0xc7, 0x84, 0x18, 0, 0, 0, 0, 0, 0, 0, 0],
        ];
        for bytes in rows {
            assert!(copied(bytes).unwrap().code.len() as u64 <= SLOT_BYTES, "{bytes:x?}");
        }
    }
}
