//! Maps of the old `maps` section: an array of C structures whose first five words every loader agreed on.
//!
//! | words | who | after type, key size, value size, entries, flags |
//! | --- | --- | --- |
//! | 5 | libbpf before 1.0, BCC | nothing |
//! | 4 | older still | no flags either |
//! | 7 | kernel samples (`samples/bpf/bpf_load.h`) | index of the inner map, NUMA node |
//! | 9 | iproute2 (`struct bpf_elf_map`) | id, pinning (0 none, 1 object, 2 global), id of the inner map, index |
//!
//! How many words a structure has is told by the distance between symbols, as every loader did. Sections `maps/NAME`
//! hold one each.

use std::collections::HashMap;

use super::Reader;
use super::btf_maps::{blank, settle_sizes};
use crate::MapId;
use crate::map::{Map, MapOrigin, MapType, Pinning};

use super::file::{STT_NOTYPE, STT_OBJECT};

const IPROUTE2_WORDS: usize = 9;
const SAMPLES_WORDS: usize = 7;

impl Reader<'_, '_> {
    pub(super) fn read_legacy_maps(&mut self) {
        let elf = self.elf;
        for (index, section) in elf.sections.iter().enumerate().skip(1) {
            if section.name == "maps" || section.name.starts_with("maps/") {
                self.read_legacy_section(index);
            }
        }
    }

    fn read_legacy_section(&mut self, section: usize) {
        let elf = self.elf;
        let (name, data) = (&elf.sections[section].name, elf.sections[section].data);
        let mut symbols: Vec<(u64, u64, &str)> = elf
            .symbols_in(section)
            .filter(|it| it.kind == STT_OBJECT || it.kind == STT_NOTYPE && !it.is_local())
            .map(|it| (it.value, it.size, it.name.as_ref()))
            .collect();
        symbols.sort_unstable();
        symbols.dedup_by_key(|it| it.0);
        let mut ids: Vec<(MapId, Vec<u32>)> = Vec::new();
        for (position, &(off, size, symbol)) in symbols.iter().enumerate() {
            let next = symbols.get(position + 1).map_or(data.len() as u64, |next| next.0);
            let size = if size == 0 { next.saturating_sub(off) } else { size };
            let n_words = (size / 4).min(64);
            let words: Option<Vec<u32>> = (0..n_words).map(|word| self.word32(section, off + word * 4)).collect();
            let Some(words) = words.filter(|words| words.len() >= 4) else {
                self.warn(
                    symbol,
                    format!("{size} bytes at offset {off} of section `{name}` are too few for a map's definition"),
                );
                continue;
            };
            let map = self.define_legacy(symbol, &words);
            let id = self.add_map(map);
            self.map_at.insert((section, off), id);
            ids.push((id, words));
        }
        self.link_inner_maps(&ids);
    }

    fn define_legacy(&mut self, name: &str, words: &[u32]) -> Map {
        let mut map = blank(name);
        map.origin = MapOrigin::Legacy;
        map.map_type = MapType(words[0]);
        (map.key_size, map.value_size, map.max_entries) = (words[1], words[2], words[3]);
        map.flags = words.get(4).copied().unwrap_or(0);
        self.annotate(&mut map);
        settle_sizes(&mut map);
        match words.len() {
            SAMPLES_WORDS if words[6] != 0 => map.numa_node = Some(words[6]),
            IPROUTE2_WORDS => match words[6] {
                0 => {}
                1 | 2 => {
                    map.pinning = Pinning::ByName;
                    self.warn(name, "is pinned in the folder of this loader, not in iproute2's `tc/globals`");
                }
                other => self.warn(name, format!("pinning {other} is not known; the map is not pinned")),
            },
            0..=5 | SAMPLES_WORDS => {}
            _ if words[5..].iter().all(|&word| word == 0) => {}
            n => self.warn(name, format!("the definition has {n} words, and only the first five are understood")),
        }
        map
    }

    /// Types given beside the map as `struct ____btf_map_NAME { key; value; }` (`BPF_ANNOTATE_KV_PAIR`).
    fn annotate(&self, map: &mut Map) {
        use skep_btf::{Kind, Type};
        let Some(btf) = &self.spec.btf else { return };
        let Some(id) = btf.find(&format!("____btf_map_{}", map.name), Kind::STRUCT) else { return };
        let Ok(Type::Struct(pair)) = btf.type_by_id(id) else { return };
        if let (Some(key), Some(value)) = (pair.member(0), pair.member(1)) {
            (map.key_type, map.value_type) = (Some(key.type_id()), Some(value.type_id()));
        }
    }

    /// Inner maps: by position in the kernel samples' form, by id in iproute2's.
    fn link_inner_maps(&mut self, ids: &[(MapId, Vec<u32>)]) {
        let by_id: HashMap<u32, MapId> =
            ids.iter().filter(|(_, words)| words.len() == IPROUTE2_WORDS).map(|(id, words)| (words[5], *id)).collect();
        for (id, words) in ids {
            if !matches!(self.spec.map(*id).map_type, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS) {
                continue;
            }
            let inner = match words.len() {
                SAMPLES_WORDS => ids.get(words[5] as usize).map(|it| it.0),
                IPROUTE2_WORDS => by_id.get(&words[7]).copied(),
                _ => None,
            };
            match inner.filter(|inner| inner != id) {
                Some(inner) => {
                    let mut inner = self.spec.map(inner).clone();
                    // One level is all that the kernel has.
                    inner.inner = None;
                    inner.pinning = Pinning::None;
                    self.spec.maps[id.0 as usize].inner = Some(Box::new(inner));
                }
                None => {
                    let name = self.spec.map(*id).name.clone();
                    self.warn(name, "the shape of the inner maps is not given");
                }
            }
        }
    }
}
