//! Counting what a full ring buffer refuses.
//!
//! `bpf_ringbuf_reserve` gives NULL and `bpf_ringbuf_output` an error when a ring buffer is full, and most programs then
//! return without a word: the event is gone and nobody knows. Nothing in the kernel counts it. So a few instructions are put
//! behind each such call, which add 1 to a counter of our own when it failed. r1 to r5 are free there (a call clobbers
//! them), and r0 stays as it is.
//!
//! Perf buffers need nothing: the kernel counts for them and puts a record with the number into the buffer.

use skep_insn::consts::{BPF_ALU64, BPF_ATOMIC, BPF_CALL, BPF_DW, BPF_JEQ, BPF_JMP, BPF_JNE, BPF_K, BPF_LD_IMM64};
use skep_insn::consts::{BPF_MOV, BPF_STX};
use skep_insn::{InsnIdx, RawInsn};
use skep_spec::function::{RefTarget, Reference};
use skep_spec::{FuncId, Map, MapId, MapType, Spec};

const RINGBUF_OUTPUT: i32 = 130;
const RINGBUF_RESERVE: i32 = 131;
const RINGBUF_RESERVE_DYNPTR: i32 = 198;

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
        .filter(|(_, function)| function.insns.iter().any(|insn| failure_test(*insn).is_some()))
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

/// How `r0` tells that this call lost an event: the jump operation (compared with 0) that is taken when it did not.
fn failure_test(insn: RawInsn) -> Option<u8> {
    if insn.code != BPF_JMP | BPF_CALL || insn.src_reg != 0 {
        return None;
    }
    match insn.imm {
        RINGBUF_RESERVE => Some(BPF_JNE),
        RINGBUF_OUTPUT | RINGBUF_RESERVE_DYNPTR => Some(BPF_JEQ),
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
        .filter_map(|(index, insn)| Some((index as u32, failure_test(*insn)?)))
        .collect();
    for (call, kept) in calls.into_iter().rev() {
        let insn = RawInsn::new;
        let code = [
            insn(BPF_JMP | kept | BPF_K, 0, 0, 4, 0),
            insn(BPF_LD_IMM64, 1, 0, 0, 0),
            insn(0, 0, 0, 0, 0),
            insn(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 1),
            insn(BPF_STX | BPF_ATOMIC | BPF_DW, 1, 2, 0, 0),
        ];
        let counter = Reference { insn: InsnIdx(1), target: RefTarget::MapValue { map, off_bytes } };
        // A call is never a function's last instruction; a jump that gets too long leaves this one call uncounted.
        let _ = spec.insert(id, InsnIdx(call + 1), &code, &[counter]);
    }
}
