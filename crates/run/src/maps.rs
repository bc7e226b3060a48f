//! What the maps hold when a run ends.
//!
//! A program that counts into a map and sends no events says nothing while it runs; its maps are its result. So they are
//! shown at the end, unless the run showed events or printed lines, beside which they are usually scratch space. Entries of
//! arrays that nothing was written into are counted instead of shown. Ring buffers, program arrays and other maps without values of their own are never shown; of the data sections the global
//! variables are.

use std::io::Write as _;

use skep_btf::value::{Value, to_json, to_text};
use skep_btf::{Btf, Type, TypeId};
use skep_engine::{MapId, Session};
use skep_spec::map::{DataKind, DataSection, MapOrigin};
use skep_spec::{Map, MapType};
use skep_view::{Clock, MapEntries, MapView, Stacks, json_string};

use crate::options::Format;

/// Types whose values mean something to people.
const SHOWN: &[MapType] = &[
    MapType::HASH,
    MapType::ARRAY,
    MapType::PERCPU_HASH,
    MapType::PERCPU_ARRAY,
    MapType::LRU_HASH,
    MapType::LRU_PERCPU_HASH,
    MapType::LPM_TRIE,
];

/// Where the contents of maps go, and what they are shown with.
pub(crate) struct Contents<'a> {
    pub(crate) session: &'a dyn Session,
    pub(crate) format: Format,
    pub(crate) wall_ns: i64,
    pub(crate) clock: &'a mut Clock,
    pub(crate) stacks: &'a dyn Stacks,
    pub(crate) out: &'a mut Vec<u8>,
}

impl Contents<'_> {
    /// Formats every map that means something.
    pub(crate) fn write(mut self) {
        for (id, map) in self.session.spec().maps().filter(|(_, map)| SHOWN.contains(&map.map_type)) {
            match &map.origin {
                MapOrigin::Data(section) => self.write_globals(id, section),
                MapOrigin::Btf => self.write_entries(id, map),
                _ => {}
            }
        }
    }

    fn write_entries(&mut self, id: MapId, map: &Map) {
        let (Some(btf), Some(key), Some(value)) = (&self.session.spec().btf, map.key_type, map.value_type) else {
            return;
        };
        let (Some(handle), Ok(view)) = (self.session.map(id), MapView::of(btf, key, value)) else { return };
        let Ok(entries) = handle.entries() else { return };
        let facts = handle.facts();
        let entries = MapEntries {
            name: &map.name,
            entries: &entries,
            cpu_size: (facts.values_per_key > 1).then_some(facts.value_size as usize),
            full: matches!(map.map_type, MapType::ARRAY | MapType::PERCPU_ARRAY),
        };
        match self.format {
            Format::Text if entries.entries.is_empty() => {}
            Format::Text => view.write_text(&entries, self.clock, self.stacks, self.out),
            Format::Json => view.write_json(&entries, self.wall_ns, self.clock, self.stacks, self.out),
        }
    }

    /// The global variables of a section that programs can change.
    fn write_globals(&mut self, id: MapId, section: &DataSection) {
        if section.kind == DataKind::Rodata {
            return;
        }
        let Some(btf) = &self.session.spec().btf else { return };
        let data = self.session.map(id).and_then(|map| map.lookup(&0u32.to_ne_bytes()).ok().flatten());
        let Some(data) = data else { return };
        for variable in section.variables.iter().filter(|variable| variable.global) {
            let range = variable.off_bytes as usize..(variable.off_bytes + variable.size_bytes) as usize;
            let (Some(type_id), Some(bytes)) = (variable.type_id, data.get(range)) else { continue };
            if self.format == Format::Text && self.write_table(btf, &variable.name, type_id, bytes) {
                continue;
            }
            let value = Value::new(btf, type_id, bytes);
            match self.format {
                Format::Text => {
                    if let Ok(text) = to_text(value) {
                        // Writing to a vector cannot fail.
                        let _ = writeln!(self.out, "{} = {text}", variable.name);
                    }
                }
                Format::Json => {
                    let Ok(json) = to_json(value) else { continue };
                    self.out.extend_from_slice(b"{\"time\":\"");
                    self.clock.write_rfc3339(self.wall_ns, self.out);
                    self.out.extend_from_slice(b"\",\"variable\":");
                    json_string(&variable.name, self.out);
                    let _ = writeln!(self.out, ",\"value\":{json}}}");
                }
            }
        }
    }

    /// Writes an array of structs as the table that a map of them would be; `false` when it is none.
    fn write_table(&mut self, btf: &Btf, name: &str, type_id: TypeId, bytes: &[u8]) -> bool {
        let Ok((_, Type::Array(array))) = btf.resolve(type_id) else { return false };
        let Ok((_, Type::Struct(element))) = btf.resolve(array.element()) else { return false };
        let size = element.size() as usize;
        let Ok(view) = MapView::of(btf, array.index(), array.element()) else { return false };
        if size == 0 {
            return false;
        }
        let rows = (0u32..).zip(bytes.chunks_exact(size));
        let entries: Vec<_> = rows.map(|(index, value)| (index.to_ne_bytes().to_vec(), value.to_vec())).collect();
        let entries = MapEntries { name, entries: &entries, cpu_size: None, full: true };
        view.write_text(&entries, self.clock, self.stacks, self.out);
        true
    }
}
