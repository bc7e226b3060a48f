//! What a map is on this machine: sizes and names that a Spec leaves open, and comparing with a map that is there already.

use skep_spec::map::MapOrigin;
use skep_spec::{Map, MapType};
use skep_sys::bpf::{self, MapInfo, flags};
use skep_sys::{cpu, page_size};

/// The sizes of a map on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) map_type: MapType,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) map_extra: u64,
}

impl Shape {
    pub(crate) fn of(map: &Map) -> Shape {
        let mut shape = Shape {
            map_type: map.map_type,
            key_size: map.key_size,
            value_size: map.value_size,
            max_entries: map.max_entries,
            flags: map.flags,
            map_extra: map.map_extra,
        };
        match map.map_type {
            MapType::PERF_EVENT_ARRAY => {
                // A value type here describes events, not elements.
                shape.key_size = 4;
                shape.value_size = 4;
                if shape.max_entries == 0 {
                    shape.max_entries = cpu::possible_count() as u32;
                }
            }
            MapType::CPUMAP if shape.max_entries == 0 => shape.max_entries = cpu::possible_count() as u32,
            MapType::RINGBUF | MapType::USER_RINGBUF => {
                shape.key_size = 0;
                shape.value_size = 0;
                shape.max_entries = ring_size(shape.max_entries, page_size() as u32);
            }
            MapType::ARENA => {
                shape.key_size = 0;
                shape.value_size = 0;
            }
            _ => {}
        }
        if map.numa_node.is_some() {
            shape.flags |= flags::F_NUMA_NODE;
        }
        shape
    }

    /// What differs from the map that is pinned, each as `what is this here and that there`.
    ///
    /// Some flags may differ: the kernel itself adds `BPF_F_RDONLY_PROG` to device maps, and two others only say how the map
    /// was asked for.
    pub(crate) fn differences(&self, there: &MapInfo) -> Vec<String> {
        let mut found = Vec::new();
        if self.map_type.0 != there.map_type {
            found.push(format!("type is {} here and {} there", self.map_type, MapType(there.map_type)));
        }
        let mut compare = |what: &str, here: u32, there: u32| {
            if here != there {
                found.push(format!("{what} is {here} here and {there} there"));
            }
        };
        compare("key size", self.key_size, there.key_size);
        compare("value size", self.value_size, there.value_size);
        compare("max_entries", self.max_entries, there.max_entries);
        let mut ignored = flags::F_VTYPE_BTF_OBJ_FD | flags::F_TOKEN_FD;
        if [MapType::DEVMAP, MapType::DEVMAP_HASH].contains(&self.map_type) {
            ignored |= flags::F_RDONLY_PROG;
        }
        if (self.flags ^ there.map_flags) & !ignored != 0 {
            found.push(format!("map_flags are {:#x} here and {:#x} there", self.flags, there.map_flags));
        }
        if self.map_extra != there.map_extra {
            found.push(format!("map_extra is {:#x} here and {:#x} there", self.map_extra, there.map_extra));
        }
        found
    }

    /// Whether its type has values at all.
    pub(crate) fn has_values(&self) -> bool {
        ![MapType::RINGBUF, MapType::USER_RINGBUF, MapType::ARENA].contains(&self.map_type)
    }
}

impl std::fmt::Display for Shape {
    /// In a few words: `hash, 4-byte keys, 8-byte values, 1024 entries`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape { map_type, key_size, value_size, max_entries, .. } = self;
        match *map_type {
            MapType::RINGBUF | MapType::USER_RINGBUF => write!(f, "{map_type}, {max_entries} bytes"),
            MapType::ARENA => write!(f, "arena, {max_entries} pages"),
            _ => write!(f, "{map_type}, {key_size}-byte keys, {value_size}-byte values, {max_entries} entries"),
        }
    }
}

/// The next power of two of pages. 0 stays 0, and what has no next power stays, for the kernel to refuse.
fn ring_size(size: u32, page: u32) -> u32 {
    if size == 0 {
        return 0;
    }
    let pages = u64::from(size).div_ceil(u64::from(page)).next_power_of_two();
    u32::try_from(pages * u64::from(page)).unwrap_or(size)
}

/// The name that the kernel gets, 15 bytes. Data sections are called by up to eight letters of the object and their own
/// name, unless the section has a name of the program's choosing (`.data.counters`), which says enough by itself.
pub(crate) fn kernel_name(object: &str, map: &Map) -> String {
    if !matches!(map.origin, MapOrigin::Data(_) | MapOrigin::Kconfig) {
        return map.name.chars().take(bpf::OBJ_NAME_MAX).collect();
    }
    let own = map.name.get(1..).is_some_and(|rest| rest.contains('.'));
    let suffix = map.name.len().clamp(7, bpf::OBJ_NAME_MAX);
    let prefix = if own { 0 } else { bpf::OBJ_NAME_MAX - suffix };
    let name = object.chars().take(prefix).chain(map.name.chars());
    name.take(bpf::OBJ_NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_spec::map::{DataKind, DataSection};

    fn map(name: &str, origin: MapOrigin) -> Map {
        Map { origin, ..Map::new(name, MapType::ARRAY, 4, 4, 1) }
    }

    #[test]
    fn names_are_cut_as_libbpf_cuts_them() {
        let data = || {
            MapOrigin::Data(DataSection { kind: DataKind::Data, align_bytes: 8, datasec: None, variables: Vec::new() })
        };
        assert_eq!(kernel_name("bootstrap_bpf", &map(".rodata", data())), "bootstra.rodata");
        assert_eq!(kernel_name("bootstrap_bpf", &map(".bss", data())), "bootstra.bss");
        assert_eq!(kernel_name("bootstrap_bpf", &map(".data.counters", data())), ".data.counters");
        assert_eq!(kernel_name("x", &map(".kconfig", MapOrigin::Kconfig)), "x.kconfig");
        assert_eq!(kernel_name("bootstrap_bpf", &map(".kconfig", MapOrigin::Kconfig)), "bootstr.kconfig");
        assert_eq!(kernel_name("x", &map("a_very_long_map_name", MapOrigin::Btf)), "a_very_long_map");
    }

    #[test]
    fn ring_buffers_are_a_power_of_two_of_pages() {
        assert_eq!(ring_size(0, 4096), 0);
        assert_eq!(ring_size(1, 4096), 4096);
        assert_eq!(ring_size(4096, 4096), 4096);
        assert_eq!(ring_size(5000, 4096), 8192);
        assert_eq!(ring_size(256 * 1024, 4096), 256 * 1024);
        assert_eq!(ring_size(300_000, 4096), 512 * 1024);
        assert_eq!(ring_size(u32::MAX, 4096), u32::MAX);
    }

    #[test]
    fn a_pinned_map_is_compared_attribute_by_attribute() {
        let mut ring = map("events", MapOrigin::Btf);
        ring.map_type = MapType::RINGBUF;
        ring.max_entries = 5000;
        let shape = Shape::of(&ring);
        let mut info = MapInfo {
            id: bpf::MapId(1),
            map_type: MapType::RINGBUF.0,
            key_size: 0,
            value_size: 0,
            max_entries: 8192,
            map_flags: 0,
            name: "events".into(),
            ifindex: 0,
            btf_vmlinux_value_type_id: 0,
            netns_dev: 0,
            netns_ino: 0,
            btf_id: bpf::BtfId(0),
            btf_key_type_id: 0,
            btf_value_type_id: 0,
            btf_vmlinux_id: bpf::BtfId(0),
            map_extra: 0,
        };
        assert_eq!(shape.differences(&info), Vec::<String>::new());
        info.max_entries = 4096;
        info.map_type = MapType::ARRAY.0;
        assert_eq!(
            shape.differences(&info),
            ["type is ringbuf here and array there", "max_entries is 8192 here and 4096 there"]
        );
    }
}
