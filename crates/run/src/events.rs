//! What the events of a buffer look like.
//!
//! A ring buffer takes bytes of any shape, and nothing in the kernel says which. The type is found from the most certain
//! source to the least:
//!
//! 1. the map's own value type (`__type(value, struct event)`);
//! 2. what the compiler saw: the types of the pointers that go into the output calls, kept by our own compile as
//!    [hints](EventTypes);
//! 3. the map that the event lies in: a program may look its buffer up and send the value;
//! 4. the constant sizes in the calls themselves, compared with the structs of the object's BTF, those called `*event*` first.
//!
//! A buffer may carry several types; a record's size tells them apart. Without any type a record prints as hex.

use std::collections::BTreeMap;

use skep_btf::{Btf, Type, TypeId};
use skep_clang::EventTypes;
use skep_insn::consts::{
    BPF_ALU, BPF_ALU64, BPF_CALL, BPF_DW, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MEM, BPF_MOV, BPF_STX, BPF_X,
};
use skep_insn::{RawInsn, helpers};
use skep_spec::function::RefTarget;
use skep_spec::{Function, Map, MapId, MapType, Spec};
use skep_view::Layout;

/// The layouts of one buffer's events.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    /// Name of the map.
    pub(crate) name: String,
    /// Most certain first; empty when nothing is known.
    pub(crate) layouts: Vec<Layout>,
}

impl Shapes {
    /// The layout for a record of `len` bytes: one of exactly that size, else one that a perf buffer pads to it, else the
    /// smallest that is large enough (a trimmed tail), else the first.
    pub(crate) fn for_len(&self, len: usize) -> Option<usize> {
        pick(&self.layouts.iter().map(|layout| layout.size_bytes() as usize).collect::<Vec<_>>(), len)
    }
}

fn pick(sizes: &[usize], len: usize) -> Option<usize> {
    sizes
        .iter()
        .position(|size| *size == len)
        .or_else(|| sizes.iter().position(|size| perf_padded(*size) == len))
        .or_else(|| (0..sizes.len()).filter(|index| sizes[*index] > len).min_by_key(|index| sizes[*index]))
        .or(if sizes.is_empty() { None } else { Some(0) })
}

/// What a perf buffer makes of a length: the data and the `u32` before it that holds their length fill whole 8 bytes
/// together, so that 24 bytes come out as 28 (`perf_prepare_sample`, kernel/events/core.c, 6.18). Ring buffers keep lengths.
fn perf_padded(size: usize) -> usize {
    (size + 4).next_multiple_of(8) - 4
}

/// Whether programs send events to user space through this map.
pub(crate) fn carries_events(map: &Map) -> bool {
    matches!(map.map_type, MapType::RINGBUF | MapType::PERF_EVENT_ARRAY)
}

/// The shapes of all buffers of `spec`.
pub(crate) fn shapes(spec: &Spec, hints: &[EventTypes]) -> BTreeMap<MapId, Shapes> {
    let mut found = BTreeMap::new();
    for (id, map) in spec.maps().filter(|(_, map)| map.autocreate && carries_events(map)) {
        let mut layouts = Vec::new();
        if let Some(btf) = &spec.btf {
            let mut types: Vec<TypeId> = value_type(btf, map).into_iter().collect();
            types.extend(hints.iter().filter(|hint| hint.map == map.name).flat_map(|hint| &hint.types));
            if types.is_empty() {
                types = by_origin(btf, spec, id);
            }
            if types.is_empty() {
                types = by_size(btf, spec, id);
            }
            types.dedup();
            layouts.extend(types.into_iter().filter_map(|type_id| Layout::of(btf, type_id).ok()));
        }
        found.insert(id, Shapes { name: map.name.clone(), layouts });
    }
    found
}

/// The map's value type if it is meant as an event: for perf event arrays it usually is a plain `u32`, the size of a
/// descriptor.
fn value_type(btf: &Btf, map: &Map) -> Option<TypeId> {
    let type_id = map.value_type?;
    let is_struct = matches!(btf.resolve(type_id).ok()?.1, Type::Struct(_) | Type::Union(_));
    (is_struct || map.map_type == MapType::RINGBUF).then_some(type_id)
}

/// Value types of the maps that hold what is output to `map`.
fn by_origin(btf: &Btf, spec: &Spec, map: MapId) -> Vec<TypeId> {
    let mut found = Vec::new();
    for function in &spec.functions {
        for call in outputs(function, map) {
            let holder = call.data.and_then(|register| looked_up(function, call.at, register));
            let holder = holder.and_then(|at| map_of(function, at, 1));
            let value = holder.and_then(|holder| spec.map(holder).value_type);
            let is_struct = |id: &TypeId| matches!(btf.resolve(*id), Ok((_, Type::Struct(_) | Type::Union(_))));
            found.extend(value.filter(is_struct).filter(|id| !found.contains(id)));
        }
    }
    found
}

/// The lookup whose result is in `register` before instruction `at`, as far as a straight reading tells.
fn looked_up(function: &Function, at: usize, mut register: u8) -> Option<usize> {
    // A register kept on the stack, when that is where the value is.
    let mut slot = None;
    for (index, insn) in function.insns[..at].iter().enumerate().rev() {
        if let Some(offset) = slot {
            if insn.code == BPF_STX | BPF_MEM | BPF_DW && insn.dst_reg == STACK && insn.off == offset {
                (register, slot) = (insn.src_reg, None);
            }
        } else if insn.code == BPF_JMP | BPF_CALL {
            if register <= 5 {
                return (register == 0 && insn.helper() == Some(helpers::MAP_LOOKUP_ELEM)).then_some(index);
            }
        } else if insn.dst_reg == register && writes_register(*insn) {
            match insn.code {
                code if code == BPF_ALU64 | BPF_MOV | BPF_X && insn.off == 0 => register = insn.src_reg,
                code if code == BPF_LDX | BPF_MEM | BPF_DW && insn.src_reg == STACK => slot = Some(insn.off),
                _ => return None,
            }
        }
    }
    None
}

/// The frame pointer.
const STACK: u8 = 10;

fn writes_register(insn: RawInsn) -> bool {
    matches!(insn.class(), BPF_LD | BPF_LDX | BPF_ALU | BPF_ALU64)
}

/// Structs of the sizes that are constant in calls which output to `map`.
fn by_size(btf: &Btf, spec: &Spec, map: MapId) -> Vec<TypeId> {
    let mut sizes: Vec<u64> = spec.functions.iter().flat_map(|function| output_sizes(function, map)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut found = Vec::new();
    for size in sizes {
        let mut fitting: Vec<(TypeId, &str)> = btf
            .types()
            .filter_map(|(id, t)| match t {
                Type::Struct(composite) if u64::from(composite.size()) == size && !t.name().is_empty() => {
                    Some((id, t.name()))
                }
                _ => None,
            })
            .collect();
        let named: Vec<_> = fitting.iter().copied().filter(|(_, name)| sounds_like_event(name)).collect();
        if !named.is_empty() {
            fitting = named;
        }
        // Two candidates are a guess, and a wrong table is worse than hex.
        if let [(id, _)] = fitting[..] {
            found.push(id);
        }
    }
    found
}

fn sounds_like_event(name: &str) -> bool {
    ["event", "evt", "data_t", "record", "sample"].iter().any(|word| name.contains(word))
}

fn output_sizes(function: &Function, map: MapId) -> Vec<u64> {
    let constant = |call: &Output| {
        let insn = function.insns[last_set(function, call.at, call.size)?];
        let is_number = insn.code == BPF_ALU64 | BPF_MOV | BPF_K || insn.code == BPF_ALU | BPF_MOV | BPF_K;
        is_number.then_some(u64::from(insn.imm as u32))
    };
    outputs(function, map).iter().filter_map(constant).collect()
}

/// A call that outputs or reserves: where it stands, and the registers of the data, if it has any yet, and of the size.
struct Output {
    at: usize,
    data: Option<u8>,
    size: u8,
}

fn outputs(function: &Function, map: MapId) -> Vec<Output> {
    let calls = function.insns.iter().enumerate().filter_map(|(at, insn)| {
        let (of, data, size) = match insn.helper()? {
            helpers::RINGBUF_RESERVE => (1, None, 2),
            helpers::RINGBUF_OUTPUT => (1, Some(2), 3),
            helpers::PERF_EVENT_OUTPUT => (2, Some(4), 5),
            _ => return None,
        };
        (map_of(function, at, of) == Some(map)).then_some(Output { at, data, size })
    });
    calls.collect()
}

/// The map whose address was last put into `register` before instruction `at`.
fn map_of(function: &Function, at: usize, register: u8) -> Option<MapId> {
    let set = last_set(function, at, register)?;
    // The second slot of a wide load names register 0.
    function.references.iter().find_map(|reference| match reference.target {
        RefTarget::Map(map) if reference.insn.0 as usize == set => Some(map),
        _ => None,
    })
}

fn last_set(function: &Function, at: usize, register: u8) -> Option<usize> {
    function.insns[..at].iter().rposition(|insn| insn.dst_reg == register && writes_register(*insn))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_record_tells_the_types_of_one_perf_buffer_apart() {
        let sizes = [88, 24, 16];
        assert_eq!(pick(&sizes, perf_padded(88)), Some(0));
        assert_eq!(pick(&sizes, 28), Some(1));
        assert_eq!(pick(&sizes, 20), Some(2));
        // A perf buffer keeps 20 bytes as they are, and an exact size goes before a padded one.
        assert_eq!(pick(&[16, 20], 20), Some(1));
    }

    #[test]
    fn a_trimmed_tail_takes_the_smallest_type_with_room_for_it() {
        assert_eq!(pick(&[7800, 40, 400], 200), Some(2));
        assert_eq!(pick(&[8, 16], 100), Some(0));
        assert_eq!(pick(&[], 8), None);
    }
}
