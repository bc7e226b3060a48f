//! What the events of a buffer look like.
//!
//! A ring buffer takes bytes of any shape, and nothing in the kernel says which. The type is found from the most certain
//! source to the least:
//!
//! 1. the map's own value type (`__type(value, struct event)`);
//! 2. what the compiler saw: the types of the pointers that go into the output calls, kept by our own compile as
//!    [hints](EventTypes);
//! 3. the constant sizes in the calls themselves, compared with the structs of the object's BTF, those called `*event*` first.
//!
//! A buffer may carry several types; a record's size tells them apart. Without any type a record prints as hex.

use std::collections::BTreeMap;

use skep_btf::{Btf, Type, TypeId};
use skep_clang::EventTypes;
use skep_insn::consts::{BPF_ALU, BPF_ALU64, BPF_K, BPF_LD, BPF_LDX, BPF_MOV};
use skep_insn::helpers;
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
    let mut sizes = Vec::new();
    for (index, insn) in function.insns.iter().enumerate() {
        // Registers of the map and of the size.
        let (map_reg, size_reg) = match insn.helper() {
            Some(helpers::RINGBUF_RESERVE) => (1, 2),
            Some(helpers::RINGBUF_OUTPUT) => (1, 3),
            Some(helpers::PERF_EVENT_OUTPUT) => (2, 5),
            _ => continue,
        };
        let before = &function.insns[..index];
        let last_set = |register: u8| {
            before.iter().rposition(|insn| {
                let class = insn.class();
                insn.dst_reg == register && matches!(class, BPF_LD | BPF_LDX | BPF_ALU | BPF_ALU64)
            })
        };
        let is_map = last_set(map_reg).is_some_and(|at| {
            // The second slot of a wide load names register 0.
            function.references.iter().any(|r| r.insn.0 as usize == at && r.target == RefTarget::Map(map))
        });
        let constant = last_set(size_reg).map(|at| before[at]).filter(|insn| {
            matches!(insn.code, code if code == BPF_ALU64 | BPF_MOV | BPF_K || code == BPF_ALU | BPF_MOV | BPF_K)
        });
        if let (true, Some(size)) = (is_map, constant) {
            sizes.push(u64::from(size.imm as u32));
        }
    }
    sizes
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
