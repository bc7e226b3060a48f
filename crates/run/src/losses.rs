//! Counting what a full ring buffer refuses.
//!
//! `bpf_ringbuf_reserve` gives NULL and `bpf_ringbuf_output` an error when a ring buffer is full, and most programs then
//! return without a word: the event is gone and nobody knows. Nothing in the kernel counts it. So a few instructions are put
//! behind each such call, which add 1 to a counter of our own when it failed. r1 to r5 are free there (a call clobbers
//! them), and r0 stays as it is.
//!
//! Perf buffers need nothing: the kernel counts for them and puts a record with the number into the buffer.

use skep_insn::build::{atomic, branch, load_imm64, mov, slots};
use skep_insn::{AtomicOp, Cond, InsnIdx, RawInsn, Reg, Width, helpers};
use skep_spec::function::{RefTarget, Reference};
use skep_spec::{FuncId, Map, MapId, MapType, Spec};

/// The counters that were added to a Spec.
#[derive(Clone, Debug)]
pub struct Counters {
    /// An array of one entry that holds all counters, 8 bytes each.
    pub map: MapId,
    /// Which function counter 0, 1, ... belongs to.
    pub functions: Vec<FuncId>,
}

impl Counters {
    /// The counts in the map's value, with the names of their functions; those that are 0 left out.
    pub fn read<'s>(&self, spec: &'s Spec, value: &[u8]) -> Vec<(&'s str, u64)> {
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
pub fn count(spec: &mut Spec) -> Option<Counters> {
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
        let code = slots(&[
            branch(kept, Reg::R0, 0, 4),
            load_imm64(Reg::R1, 0),
            mov(Reg::R2, 1),
            atomic(AtomicOp::Add, Width::W64, Reg::R1, 0, Reg::R2),
        ]);
        let counter = Reference { insn: InsnIdx(1), target: RefTarget::MapValue { map, off_bytes } };
        // A call is never a function's last instruction; a jump that gets too long leaves this one call uncounted.
        let _ = spec.insert(id, InsnIdx(call + 1), &code, &[counter]);
    }
}
