//! Counting what a full ring buffer refuses.
//!
//! `bpf_ringbuf_reserve` gives NULL and `bpf_ringbuf_output` an error when a ring buffer is full, and most programs then
//! return without a word: the event is gone and nobody knows. Nothing in the kernel counts it. So a few instructions are put
//! behind each such call, or on the way that the program itself takes when it failed, which add 1 to a counter of our own.
//! r1 to r5 are free there (a call clobbers them), and r0 stays as it is.
//!
//! Perf buffers need nothing: the kernel counts for them and puts a record with the number into the buffer.

use skep_insn::build::{atomic, branch, load_imm64, mov, slots};
use skep_insn::consts::{BPF_ALU, BPF_ALU64, BPF_JEQ, BPF_JMP, BPF_JNE, BPF_LD, BPF_LD_IMM64, BPF_LDX};
use skep_insn::consts::{BPF_ST, BPF_STX, BPF_X};
use skep_insn::{AtomicOp, Cond, InsnIdx, RawInsn, Reg, Width, helpers};
use skep_spec::function::{RefTarget, Reference};
use skep_spec::{FuncId, Map, MapId, MapType, Spec};

/// The counters that were added to a Spec.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    /// An array of one entry that holds all counters, 8 bytes each.
    pub(crate) map: MapId,
    /// Which function counter 0, 1, ... belongs to.
    pub(crate) functions: Vec<FuncId>,
}

impl Counters {
    /// The counts in the map's value, with the names of their functions; those that are 0 left out.
    pub(crate) fn read<'s>(&self, spec: &'s Spec, value: &[u8]) -> Vec<(&'s str, u64)> {
        let counts = value.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
        self.functions
            .iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|(id, count)| (spec.function(*id).name.as_str(), count))
            .collect()
    }
}

/// Adds counters to every function of `spec` that puts something into a ring buffer; `None` when there is none.
pub(crate) fn count(spec: &mut Spec) -> Option<Counters> {
    let functions: Vec<FuncId> = (0u32..)
        .map(FuncId)
        .zip(&spec.functions)
        .filter(|(_, function)| function.insns.iter().any(|insn| success_test(*insn).is_some()))
        .map(|(id, _)| id)
        .collect();
    if functions.is_empty() {
        return None;
    }
    let map = MapId(spec.maps.len() as u32);
    let size = 8 * functions.len() as u32;
    spec.maps.push(Map::new("skep_lost", MapType::ARRAY, 4, size, 1));
    for (index, id) in functions.iter().enumerate() {
        instrument(spec, *id, map, 8 * index as u32);
    }
    Some(Counters { map, functions })
}

/// How `r0` tells that this call lost no event: the comparison with 0 that holds then.
fn success_test(insn: RawInsn) -> Option<Cond> {
    match insn.helper()? {
        helpers::RINGBUF_RESERVE => Some(Cond::Ne),
        helpers::RINGBUF_OUTPUT | helpers::RINGBUF_RESERVE_DYNPTR => Some(Cond::Eq),
        _ => None,
    }
}

fn instrument(spec: &mut Spec, id: FuncId, map: MapId, off_bytes: u32) {
    // From the back, so that the places found first stay where they are.
    let calls: Vec<_> = spec
        .function(id)
        .insns
        .iter()
        .enumerate()
        .filter_map(|(index, insn)| Some((index as u32, success_test(*insn)?)))
        .collect();
    for (call, kept) in calls.into_iter().rev() {
        // The program's own check of a reserved place, if it is found: see `own_check`.
        let check = (kept == Cond::Ne).then(|| own_check(&spec.function(id).insns, call)).flatten();
        let (at, mut code) = match check {
            // On the way to the program's jump, over which the others go.
            Some(Check { at, register, null_jumps: true, .. }) => (at, vec![branch(Cond::Ne, register, 0, 5)]),
            // Behind the program's jump, which the others have taken.
            Some(Check { at, null_jumps: false, .. }) => (at + 1, vec![]),
            None => (call + 1, vec![branch(kept, Reg::R0, 0, 4)]),
        };
        let (address, one) = check.map_or((Reg::R1, Reg::R2), |check| check.free);
        let before = code.len() as u32;
        code.extend([load_imm64(address, 0), mov(one, 1), atomic(AtomicOp::Add, Width::W64, address, 0, one)]);
        let counter = Reference { insn: InsnIdx(before), target: RefTarget::MapValue { map, off_bytes } };
        // A call is never a function's last instruction; a jump that gets too long leaves this one call uncounted.
        let _ = spec.insert(id, InsnIdx(at), &slots(&code), &[counter]);
    }
}

/// The place where a program looks whether it got a place in the buffer.
#[derive(Clone, Copy)]
struct Check {
    /// Its jump.
    at: u32,
    /// What it compares with 0: r0 or a copy of it.
    register: Reg,
    /// It jumps when there is none; else it goes on.
    null_jumps: bool,
    /// Two registers that nothing uses there: a call leaves r1 to r5 without a value.
    free: (Reg, Reg),
}

/// Finds the program's own check behind the call at `call`.
///
/// Older verifiers, 6.1's among them, do not know that a place which was found is still there when it is compared again
/// (`reg_type_not_null`, kernel/bpf/verifier.c): a second check would give them a way out on which the place is never handed
/// back. So the program's own check is used where it follows the call in a straight line, as it does in compiled C.
fn own_check(insns: &[RawInsn], call: u32) -> Option<Check> {
    const LOAD_OR_COPY: u8 = 0xbf; // r = r, 64 bits
    let mut copies = 1u16; // of r0, one bit each
    let mut written = 0u16;
    let mut at = call as usize + 1;
    while let Some(insn) = insns.get(at) {
        let dst = 1u16 << insn.dst_reg;
        match insn.class() {
            BPF_JMP => {
                let null_jumps = match insn.code & 0xf0 {
                    BPF_JEQ => true,
                    BPF_JNE => false,
                    _ => return None,
                };
                if insn.code & BPF_X != 0 || insn.imm != 0 || copies & dst == 0 {
                    return None;
                }
                let mut free = [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5]
                    .into_iter()
                    .enumerate()
                    .filter(|(index, _)| written & (2 << index) == 0)
                    .map(|(_, register)| register);
                let free = (free.next()?, free.next()?);
                let register = Reg::new(insn.dst_reg)?;
                return Some(Check { at: at as u32, register, null_jumps, free });
            }
            BPF_LDX | BPF_ALU | BPF_ALU64 | BPF_LD => {
                let copied = insn.code == LOAD_OR_COPY && insn.off == 0 && copies & (1 << insn.src_reg) != 0;
                copies = if copied { copies | dst } else { copies & !dst };
                written |= dst;
            }
            BPF_ST | BPF_STX => {}
            _ => return None,
        }
        at += if insn.code == BPF_LD_IMM64 { 2 } else { 1 };
    }
    None
}

#[cfg(test)]
mod tests {
    use skep_insn::build::{call, exit, load};
    use skep_insn::{Insn, Size};

    use super::*;

    /// Where the check of a program is found whose call is its first instruction.
    fn found(rest: &[Insn]) -> Option<(u32, Reg, bool)> {
        let insns = slots(&[&[call(helpers::RINGBUF_RESERVE)], rest].concat());
        own_check(&insns, 0).map(|check| (check.at, check.register, check.null_jumps))
    }

    #[test]
    fn a_check_right_behind_the_call_is_found() {
        assert_eq!(found(&[branch(Cond::Eq, Reg::R0, 0, 1), exit(), exit()]), Some((1, Reg::R0, true)));
        assert_eq!(found(&[branch(Cond::Ne, Reg::R0, 0, 1), exit(), exit()]), Some((1, Reg::R0, false)));
    }

    #[test]
    fn a_check_of_a_copy_counts_and_one_of_something_else_does_not() {
        let copy = mov(Reg::R6, Reg::R0);
        assert_eq!(found(&[copy, branch(Cond::Eq, Reg::R6, 0, 1), exit()]), Some((2, Reg::R6, true)));
        // r0 is overwritten, and its copy still holds the place.
        assert_eq!(found(&[copy, mov(Reg::R0, 1), branch(Cond::Eq, Reg::R6, 0, 1), exit()]), Some((3, Reg::R6, true)));
        assert_eq!(found(&[mov(Reg::R0, 1), branch(Cond::Eq, Reg::R0, 0, 1), exit()]), None);
        assert_eq!(found(&[branch(Cond::Eq, Reg::R7, 0, 1), exit()]), None);
        // Not a comparison with 0.
        assert_eq!(found(&[branch(Cond::Eq, Reg::R0, 5, 1), exit()]), None);
        assert_eq!(found(&[branch(Cond::Gt, Reg::R0, 0, 1), exit()]), None);
    }

    #[test]
    fn what_ends_the_straight_line_ends_the_search() {
        assert_eq!(found(&[call(5u32), branch(Cond::Eq, Reg::R0, 0, 1), exit()]), None);
        assert_eq!(found(&[exit()]), None);
        assert_eq!(found(&[]), None);
    }

    /// A wide load takes two slots, of which the second is no instruction.
    #[test]
    fn wide_loads_are_stepped_over_whole() {
        let wide = load_imm64(Reg::R1, 0x1_0000_0000);
        assert_eq!(found(&[wide, branch(Cond::Eq, Reg::R0, 0, 1), exit()]), Some((3, Reg::R0, true)));
    }

    #[test]
    fn registers_that_were_written_are_not_free() {
        let written = [load(Size::Dw, Reg::R1, Reg::FP, -8), mov(Reg::R3, 4)];
        let check = [&[call(helpers::RINGBUF_RESERVE)], &written[..], &[branch(Cond::Eq, Reg::R0, 0, 1), exit()]];
        let check = own_check(&slots(&check.concat()), 0).unwrap();
        assert_eq!(check.free, (Reg::R2, Reg::R4));
        let all = [Reg::R1, Reg::R2, Reg::R3, Reg::R4].map(|register| mov(register, 0));
        assert_eq!(found(&[&all[..], &[branch(Cond::Eq, Reg::R0, 0, 1), exit()]].concat()), None);
    }
}
