//! Which C type travels through which ring or perf buffer.
//!
//! # The problem
//!
//! The kernel moves bytes; to print a record one must know its type. `__type(value, struct event)` on the buffer would say it,
//! but libbpf refuses that, so hardly any program has it. Nor does the type reach the object: clang's BPF back end emits
//! BTF only for what is reachable from maps, global variables, function prototypes and CO-RE accesses, while an event is
//! typically a local variable, or a local pointer to what `bpf_ringbuf_reserve` gave. (DWARF has it, but saying which of
//! a function's variables receives the result of a call means following location lists through optimised code.)
//!
//! # The way
//!
//! The compiler front end knows all of it at the call, and the headers are ours. `bpf/skep_events.h` makes macros of the six
//! helpers that send events; each expands to the helper's call and one static variable in section `.skep.events`:
//!
//! ```c
//! static void (*__skep_event)(typeof(map), typeof(data));
//! ```
//!
//! Nothing refers to it and it adds no instruction. But it is a global variable, so its whole type is in BTF: a pointer to
//! a prototype, whose parameters are the pointer to the *very type of the map's definition* (anonymous, hence its own id)
//! and the pointer to the event. BTF names the variable `FUNCTION.__skep_event`. Three shapes:
//!
//! | call | prototype |
//! |---|---|
//! | `bpf_ringbuf_output(&map, data, ..)`, `bpf_perf_event_output`, `bpf_skb_output`, `bpf_xdp_output` | `(map *, data *)` |
//! | `bpf_ringbuf_reserve(&map, ..)` | `(map *)` |
//! | `bpf_ringbuf_submit(data, ..)` | `(void *, data *)` |
//!
//! A submit does not know its buffer. It belongs to the buffers that its function reserves from, or else (a helper
//! function that only submits) to all that anybody reserves from. Discards say nothing new.
//!
//! # What comes out
//!
//! For each map the types that go through it, in the order of the source. More than one is normal (one buffer for several
//! kinds of events); the record's length then decides. A map is absent if its events have no type worth naming: bytes
//! in a `char` array, a `void *`. Objects compiled with other headers have no such section and give nothing.

use std::collections::BTreeMap;

use skep_btf::{Btf, Kind, Type, TypeId};

/// The types of the events of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTypes {
    /// The map's name in C.
    pub map: String,
    /// Structures, unions, enumerations or integers wider than a byte; typedefs are kept, qualifiers are not. Never empty.
    pub types: Vec<TypeId>,
}

/// The section that holds the traces of typed calls.
pub const SECTION: &str = ".skep.events";

/// Reads which types an object compiled with skep's headers sends through which of its maps.
///
/// Damaged or foreign BTF gives fewer answers, never an error.
pub fn event_types(btf: &Btf) -> Vec<EventTypes> {
    let maps = map_definitions(btf);
    // By function, so that a submit finds the reserves of its own one.
    let mut reserves: BTreeMap<&str, Vec<TypeId>> = BTreeMap::new();
    let mut calls = Vec::new();
    for (function, call) in traced_calls(btf) {
        if let Call::Reserve(map) = call {
            reserves.entry(function).or_default().push(map);
        }
        calls.push((function, call));
    }
    let everywhere: Vec<TypeId> = reserves.values().flatten().copied().collect();

    let mut found: BTreeMap<usize, Vec<TypeId>> = BTreeMap::new();
    let mut add = |definition: TypeId, event: TypeId| {
        for (at, _) in maps.iter().enumerate().filter(|(_, (_, id))| *id == definition) {
            let types = found.entry(at).or_default();
            if !types.contains(&event) {
                types.push(event);
            }
        }
    };
    for (function, call) in calls {
        match call {
            Call::Reserve(_) => {}
            Call::Output(map, event) => add(map, event),
            Call::Submit(event) => {
                for &map in reserves.get(function).unwrap_or(&everywhere) {
                    add(map, event);
                }
            }
        }
    }
    let name = |(at, types): (usize, Vec<TypeId>)| EventTypes { map: maps[at].0.to_owned(), types };
    found.into_iter().map(name).collect()
}

enum Call {
    Reserve(TypeId),
    Submit(TypeId),
    Output(TypeId, TypeId),
}

/// The variables of a section, in the order of the file.
pub(crate) fn variables<'a>(btf: &'a Btf, section: &'a str) -> impl Iterator<Item = skep_btf::Var<'a>> + 'a {
    let id = btf.find(section, Kind::DATASEC);
    let section = id.and_then(|id| match btf.type_by_id(id) {
        Ok(Type::Datasec(section)) => Some(section),
        _ => None,
    });
    section.into_iter().flat_map(|section| section.vars()).filter_map(|place| match btf.type_by_id(place.type_id) {
        Ok(Type::Var(var)) => Some(var),
        _ => None,
    })
}

/// Maps by name, with the id of the type that defines them.
fn map_definitions(btf: &Btf) -> Vec<(&str, TypeId)> {
    let definition = |var: skep_btf::Var<'_>| Some(btf.resolve(var.type_id()).ok()?.0);
    variables(btf, ".maps").filter_map(|var| Some((var.name(), definition(var)?))).collect()
}

fn traced_calls(btf: &Btf) -> impl Iterator<Item = (&str, Call)> {
    variables(btf, SECTION).filter_map(|var| {
        let (function, _) = var.name().split_once(".__skep_event")?;
        let prototype = pointee(btf, var.type_id())?;
        let Ok(Type::FuncProto(prototype)) = btf.type_by_id(prototype) else { return None };
        let params: Vec<TypeId> = prototype.params().map(|param| param.type_id).collect();
        let call = match params[..] {
            [map] => Call::Reserve(btf.resolve(pointee(btf, map)?).ok()?.0),
            [map, data] => {
                let (map, _) = btf.resolve(pointee(btf, map)?).ok()?;
                let event = event_type(btf, pointee(btf, data)?)?;
                if map == TypeId::VOID { Call::Submit(event) } else { Call::Output(map, event) }
            }
            _ => return None,
        };
        Some((function, call))
    })
}

fn pointee(btf: &Btf, id: TypeId) -> Option<TypeId> {
    match btf.resolve(id).ok()?.1 {
        Type::Ptr(target) => Some(target.type_id()),
        _ => None,
    }
}

/// The type without qualifiers, if it says more than "bytes".
fn event_type(btf: &Btf, id: TypeId) -> Option<TypeId> {
    let says_something = match btf.resolve(id).ok()?.1 {
        Type::Struct(_) | Type::Union(_) | Type::Enum(_) | Type::Enum64(_) => true,
        Type::Int(int) => int.size() > 1,
        _ => false,
    };
    says_something.then(|| btf.strip_qualifiers(id).ok().map(|(id, _)| id))?
}
