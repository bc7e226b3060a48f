//! Sizes of maps that an object leaves to its application.
//!
//! Tools whose `main` reads a command line often leave `max_entries` open and set it before they load. Here nobody else does,
//! so a map without a size gets a usual one.

use skep_spec::{Map, MapType, Spec};

/// What maps without a size get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usual {
    /// Entries.
    pub(crate) entries: u32,
    /// Bytes of a ring buffer: a power of two, and whole pages.
    pub(crate) ring_bytes: u32,
    /// Whether what has no value type gets one too: the frames of a stack trace.
    pub(crate) values: bool,
}

impl Usual {
    /// The arithmetic of `skep load --fix-sizes`, which other loaders can be compared by.
    pub(crate) fn yardstick() -> Usual {
        Usual { entries: 1024, ring_bytes: rustix::param::page_size() as u32, values: false }
    }

    /// Room for a run: what tools usually take themselves.
    pub(crate) fn run() -> Usual {
        Usual { entries: 10_240, ring_bytes: 1 << 20, values: true }
    }
}

/// Frames of a stack in a run, which is the kernel's own limit (`kernel.perf_event_max_stack`) where nobody changed it.
const FRAMES: u32 = 127;

/// Gives the maps that are switched on and have no size a usual one, and says which got what. What has an
/// entry for each CPU is sized by the loader, and storage maps have no entries. A map of maps without an inner map gets an array of one `u32`.
pub(crate) fn fill(spec: &mut Spec, usual: Usual) -> Vec<String> {
    let mut said = Vec::new();
    for map in spec.maps.iter_mut().filter(|map| map.autocreate) {
        if map.max_entries == 0 && !is_sized_elsewhere(map.map_type) {
            let ring = matches!(map.map_type, MapType::RINGBUF | MapType::USER_RINGBUF);
            map.max_entries = if ring { usual.ring_bytes } else { usual.entries };
            let unit = if ring { "bytes" } else { "entries" };
            said.push(format!("map `{}` has no size in the object: it gets {} {unit}", map.name, map.max_entries));
        }
        if usual.values && map.map_type == MapType::STACK_TRACE && map.value_size == 0 {
            map.value_size = FRAMES * 8;
            said.push(format!("map `{}` says nothing of its stacks in the object: they get {FRAMES} frames", map.name));
        }
        if matches!(map.map_type, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS) && map.inner.is_none() {
            let name = format!("{}.inner", map.name);
            map.inner = Some(Box::new(Map::new(&name, MapType::ARRAY, 4, 4, 1)));
            said.push(format!("map `{}` has no inner map in the object: it gets an array of one number", map.name));
        }
    }
    said
}

fn is_sized_elsewhere(map_type: MapType) -> bool {
    map_type.is_storage() || matches!(map_type, MapType::PERF_EVENT_ARRAY | MapType::CPUMAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(maps: Vec<Map>) -> Spec {
        Spec { maps, ..Spec::new("sizes") }
    }

    #[test]
    fn only_what_is_open_is_filled() {
        let mut stacks = Map::new("stacks", MapType::STACK_TRACE, 4, 0, 0);
        stacks.key_size = 4;
        let mut spec = spec(vec![
            Map::new("open", MapType::HASH, 4, 8, 0),
            Map::new("sized", MapType::HASH, 4, 8, 7),
            Map::new("ring", MapType::RINGBUF, 0, 0, 0),
            Map::new("perf", MapType::PERF_EVENT_ARRAY, 4, 4, 0),
            Map::new("cpus", MapType::CPUMAP, 4, 8, 0),
            Map::new("cgroups", MapType::CGROUP_STORAGE, 8, 8, 0),
            stacks,
        ]);
        let said = fill(&mut spec, Usual::run());
        let entries: Vec<u32> = spec.maps.iter().map(|map| map.max_entries).collect();
        assert_eq!(entries, [10_240, 7, 1 << 20, 0, 0, 0, 10_240]);
        assert_eq!(spec.maps[6].value_size, 127 * 8);
        assert_eq!(said.len(), 4);
        assert_eq!(said[0], "map `open` has no size in the object: it gets 10240 entries");
        assert_eq!(fill(&mut spec, Usual::run()), Vec::<String>::new());
    }

    #[test]
    fn what_is_switched_off_is_left_alone() {
        let mut off = Map::new("off", MapType::HASH, 4, 8, 0);
        off.autocreate = false;
        let mut spec = spec(vec![off]);
        assert!(fill(&mut spec, Usual::run()).is_empty());
        assert_eq!(spec.maps[0].max_entries, 0);
    }

    #[test]
    fn the_yardstick_leaves_values_alone() {
        let mut spec = spec(vec![Map::new("stacks", MapType::STACK_TRACE, 4, 0, 0)]);
        fill(&mut spec, Usual::yardstick());
        assert_eq!((spec.maps[0].max_entries, spec.maps[0].value_size), (1024, 0));
    }
}
