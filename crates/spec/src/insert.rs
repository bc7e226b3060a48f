//! Inserting instructions into a function without breaking what points across them.
//!
//! Jumps are relative, so every jump that spans an insertion point changes its distance; references, CO-RE records and
//! lines are indexed by instruction and move along. New instructions before slot `at` run when control *falls* into `at`.
//! A jump to `at` from elsewhere keeps its target, the old instruction, and skips them: that is what instrumenting "after
//! the call at `at - 1`" needs, and a prologue too, since a loop back to the first instruction must not run it again.

use std::fmt;

use skep_insn::{InsnIdx, RawInsn, consts};

use crate::function::Reference;
use crate::{FuncId, Function, Spec};

/// Why instructions could not be inserted. The function is unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The place is inside a wide load, or behind the function's end.
    NotAnInstruction {
        /// The place.
        at: InsnIdx,
    },
    /// A jump would have to go farther than its field can say.
    JumpTooFar {
        /// The jump.
        jump: InsnIdx,
    },
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InsertError::NotAnInstruction { at } => write!(f, "slot {at} does not begin an instruction"),
            InsertError::JumpTooFar { jump } => write!(f, "the jump at slot {jump} cannot reach its target any more"),
        }
    }
}

impl std::error::Error for InsertError {}

impl Spec {
    /// Inserts `insns` into function `id` before slot `at`; `references` are relative to the first of them.
    ///
    /// # Errors
    ///
    /// [`InsertError`]; the function is then unchanged.
    pub fn insert(
        &mut self,
        id: FuncId,
        at: InsnIdx,
        insns: &[RawInsn],
        references: &[Reference],
    ) -> Result<(), InsertError> {
        self.functions[id.0 as usize].insert(at, insns, references)?;
        // Jump tables lead to instructions of the function too.
        let by = insns.len() as u32;
        for map in &mut self.maps {
            if let crate::map::MapContents::JumpTable { function, targets } = &mut map.contents
                && *function == id
            {
                for target in targets.iter_mut().filter(|target| **target >= at) {
                    target.0 += by;
                }
            }
        }
        Ok(())
    }
}

impl Function {
    fn insert(&mut self, at: InsnIdx, insns: &[RawInsn], references: &[Reference]) -> Result<(), InsertError> {
        if at.0 as usize >= self.insns.len() || self.starts_inside_wide_load(at) {
            return Err(InsertError::NotAnInstruction { at });
        }
        let by = insns.len() as u32;
        let moved = |index: i64| if index >= i64::from(at.0) { index + i64::from(by) } else { index };

        let mut code = self.insns.clone();
        for (index, insn) in starts(&self.insns) {
            let Some(distance) = jump_distance(insn) else { continue };
            let from = i64::from(index.0);
            let distance = moved(from + 1 + distance) - moved(from) - 1;
            set_jump_distance(&mut code[index.0 as usize], distance).ok_or(InsertError::JumpTooFar { jump: index })?;
        }
        code.splice(at.0 as usize..at.0 as usize, insns.iter().copied());
        self.insns = code;

        let shift = |index: &mut InsnIdx| *index = InsnIdx(moved(i64::from(index.0)) as u32);
        self.references.iter_mut().for_each(|reference| shift(&mut reference.insn));
        self.core_relos.iter_mut().for_each(|relo| shift(&mut relo.insn));
        for line in &mut self.lines {
            // The kernel wants a line at the first instruction of every function: what is inserted there belongs to it.
            if !(at.0 == 0 && line.insn.0 == 0) {
                shift(&mut line.insn);
            }
        }
        let own = references
            .iter()
            .map(|reference| Reference { insn: InsnIdx(reference.insn.0 + at.0), target: reference.target });
        self.references.extend(own);
        self.references.sort_by_key(|reference| reference.insn);
        Ok(())
    }

    fn starts_inside_wide_load(&self, at: InsnIdx) -> bool {
        starts(&self.insns).all(|(index, _)| index != at)
    }
}

/// The slots that begin an instruction.
fn starts(insns: &[RawInsn]) -> impl Iterator<Item = (InsnIdx, RawInsn)> + '_ {
    let mut next = 0;
    std::iter::from_fn(move || {
        let index = next;
        let insn = *insns.get(index)?;
        next += if insn.is_wide() { 2 } else { 1 };
        Some((InsnIdx(index as u32), insn))
    })
}

/// Distance of a jump inside its function, in slots from the next instruction; `None` for anything else.
///
/// Calls between subprograms are [`Reference`]s and not distances.
fn jump_distance(insn: RawInsn) -> Option<i64> {
    let op = insn.code & 0xf0;
    match insn.class() {
        consts::BPF_JMP32 if op == consts::BPF_JA => Some(i64::from(insn.imm)),
        consts::BPF_JMP | consts::BPF_JMP32 if op != consts::BPF_CALL && op != consts::BPF_EXIT => {
            // An indirect jump (`gotox`) goes through a table.
            let indirect = op == consts::BPF_JA && insn.code & consts::BPF_X != 0;
            (!indirect).then_some(i64::from(insn.off))
        }
        _ => None,
    }
}

fn set_jump_distance(insn: &mut RawInsn, distance: i64) -> Option<()> {
    if insn.class() == consts::BPF_JMP32 && insn.code & 0xf0 == consts::BPF_JA {
        insn.imm = i32::try_from(distance).ok()?;
    } else {
        insn.off = i16::try_from(distance).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MapId;
    use crate::function::RefTarget;

    const EXIT: RawInsn = RawInsn::new(0x95, 0, 0, 0, 0);
    const NOP: RawInsn = RawInsn::new(0xb7, 1, 0, 0, 0);

    fn jump(off: i16) -> RawInsn {
        RawInsn::new(0x15, 1, 0, off, 0)
    }

    fn function(insns: &[RawInsn]) -> Function {
        Function::new("f", ".text", insns.to_vec())
    }

    #[test]
    fn jumps_across_the_place_grow_and_others_stay() {
        // 0: if goto 3; 1: nop; 2: if goto 0; 3: exit, with two slots before slot 1
        let mut f = function(&[jump(2), NOP, jump(-3), EXIT]);
        f.insert(InsnIdx(1), &[NOP, NOP], &[]).unwrap();
        assert_eq!(f.insns, [jump(4), NOP, NOP, NOP, jump(-5), EXIT]);
    }

    #[test]
    fn a_jump_to_the_place_skips_what_is_inserted() {
        let mut f = function(&[NOP, jump(-2), EXIT]);
        f.insert(InsnIdx(0), &[NOP], &[]).unwrap();
        // The loop still goes to the old first instruction.
        assert_eq!(f.insns, [NOP, NOP, jump(-2), EXIT]);
    }

    #[test]
    fn references_move_and_new_ones_join_in_order() {
        let wide = RawInsn::new(0x18, 1, 0, 0, 0);
        let mut f = function(&[NOP, wide, RawInsn::default(), EXIT]);
        f.references.push(Reference { insn: InsnIdx(1), target: RefTarget::Map(MapId(0)) });
        let new = Reference { insn: InsnIdx(0), target: RefTarget::Map(MapId(1)) };
        f.insert(InsnIdx(1), &[wide, RawInsn::default()], &[new]).unwrap();
        let places: Vec<_> = f.references.iter().map(|r| (r.insn.0, r.target)).collect();
        assert_eq!(places, [(1, RefTarget::Map(MapId(1))), (3, RefTarget::Map(MapId(0)))]);
        let inside = f.insert(InsnIdx(2), &[NOP], &[]);
        assert_eq!(inside, Err(InsertError::NotAnInstruction { at: InsnIdx(2) }));
    }

    #[test]
    fn a_jump_that_cannot_reach_leaves_the_function_alone() {
        let mut insns = vec![jump(i16::MAX)];
        insns.resize(i16::MAX as usize + 2, NOP);
        insns.push(EXIT);
        let mut f = function(&insns);
        assert_eq!(f.insert(InsnIdx(1), &[NOP], &[]), Err(InsertError::JumpTooFar { jump: InsnIdx(0) }));
        assert_eq!(f.insns, insns);
    }
}
