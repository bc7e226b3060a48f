//! What the maps hold when a run ends.
//!
//! A program that counts into a map and sends no events says nothing while it runs; its maps are its result. So they are
//! shown at the end, unless the run showed events or printed lines, beside which they are usually scratch space. Entries of
//! arrays that nothing was written into are counted instead of shown. Ring buffers, program arrays and other maps without values of their own are never shown; of the data sections the global
//! variables are.

use std::io::Write as _;

use skep_btf::value::{Value, to_json, to_text};
use skep_engine::{MapId, Session};
use skep_spec::map::{DataKind, DataSection, MapOrigin};
use skep_spec::{Map, MapType};
use skep_view::{Clock, MapEntries, MapView, json_string};

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

/// Formats every map that means something.
pub(crate) fn write(session: &dyn Session, format: Format, wall_ns: i64, clock: &mut Clock, out: &mut Vec<u8>) {
    let spec = session.spec();
    for (id, map) in spec.maps().filter(|(_, map)| SHOWN.contains(&map.map_type)) {
        match &map.origin {
            MapOrigin::Data(section) => write_globals(session, id, section, format, wall_ns, clock, out),
            MapOrigin::Btf => write_entries(session, id, map, format, wall_ns, clock, out),
            _ => {}
        }
    }
}

fn write_entries(
    session: &dyn Session,
    id: MapId,
    map: &Map,
    format: Format,
    wall_ns: i64,
    clock: &mut Clock,
    out: &mut Vec<u8>,
) {
    let (Some(btf), Some(key), Some(value)) = (&session.spec().btf, map.key_type, map.value_type) else { return };
    let (Some(handle), Ok(view)) = (session.map(id), MapView::of(btf, key, value)) else { return };
    let Ok(entries) = handle.entries() else { return };
    let facts = handle.facts();
    let entries = MapEntries {
        name: &map.name,
        entries: &entries,
        cpu_size: (facts.values_per_key > 1).then_some(facts.value_size as usize),
        full: matches!(map.map_type, MapType::ARRAY | MapType::PERCPU_ARRAY),
    };
    match format {
        Format::Text if !entries.entries.is_empty() => view.write_text(&entries, clock, out),
        Format::Text => {}
        Format::Json => view.write_json(&entries, wall_ns, clock, out),
    }
}

/// The global variables of a section that programs can change.
fn write_globals(
    session: &dyn Session,
    id: MapId,
    section: &DataSection,
    format: Format,
    wall_ns: i64,
    clock: &mut Clock,
    out: &mut Vec<u8>,
) {
    if section.kind == DataKind::Rodata {
        return;
    }
    let Some(btf) = &session.spec().btf else { return };
    let Some(data) = session.map(id).and_then(|map| map.lookup(&0u32.to_ne_bytes()).ok().flatten()) else { return };
    for variable in section.variables.iter().filter(|variable| variable.global) {
        let range = variable.off_bytes as usize..(variable.off_bytes + variable.size_bytes) as usize;
        let (Some(type_id), Some(bytes)) = (variable.type_id, data.get(range)) else { continue };
        let value = Value::new(btf, type_id, bytes);
        match format {
            Format::Text => {
                if let Ok(text) = to_text(value) {
                    // Writing to a vector cannot fail.
                    let _ = writeln!(out, "{} = {text}", variable.name);
                }
            }
            Format::Json => {
                let Ok(json) = to_json(value) else { continue };
                out.extend_from_slice(b"{\"time\":\"");
                clock.write_rfc3339(wall_ns, out);
                out.extend_from_slice(b"\",\"variable\":");
                json_string(&variable.name, out);
                let _ = writeln!(out, ",\"value\":{json}}}");
            }
        }
    }
}
