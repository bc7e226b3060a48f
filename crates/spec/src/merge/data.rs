//! Data sections of one name, behind each other.

use std::collections::HashMap;

use super::Input;
use super::symbols::{Symbols, Thing};
use crate::elf::ARENA_SECTION;
use crate::map::{DataSection, Map, MapContents, MapOrigin};
use crate::{Error, MapId, MapType};

/// Where the data of all objects went.
pub(super) struct Data {
    /// The joined sections, in the order in which they were met.
    pub(super) sections: Vec<Section>,
    /// Where each object's map begins in the joined section.
    bases: HashMap<(usize, MapId), u32>,
    /// Variables that gave way, by object and map.
    given_up: HashMap<(usize, MapId), Vec<GivenUp>>,
}

/// Where a variable begins and ends, in bytes, and its position among those of its map.
type GivenUp = (u32, u32, usize);

/// A joined section.
pub(super) struct Section {
    pub(super) name: String,
    /// The parts: object and map.
    pub(super) parts: Vec<(usize, MapId)>,
    pub(super) size: u32,
    pub(super) data: DataSection,
    pub(super) contents: MapContents,
    pub(super) flags: u32,
    /// Whether a part has its section's type as value type.
    pub(super) typed: bool,
}

/// The name of the section whose data a map holds.
pub(super) fn section_of(map: &Map) -> &str {
    if matches!(map.origin, MapOrigin::Arena(_)) { ARENA_SECTION } else { &map.name }
}

/// Bytes before the first that must be written out.
const MAX_ZEROES: u32 = 1 << 28;

impl Data {
    pub(super) fn place(inputs: &[Input<'_>], symbols: &Symbols) -> Result<Data, Error> {
        let mut all = Data { sections: Vec::new(), bases: HashMap::new(), given_up: HashMap::new() };
        for (input, it) in inputs.iter().enumerate() {
            for (id, map) in it.spec.maps() {
                let Some(data) = map.data_section() else { continue };
                all.append(input, id, map, data).map_err(|err| err.in_section(section_of(map)).about(it.file))?;
                for (index, variable) in data.variables.iter().enumerate() {
                    if symbols.instead_of(input, Thing::Variable { map: id, index }).is_some() {
                        let end = variable.off_bytes.saturating_add(variable.size_bytes.max(1));
                        all.given_up.entry((input, id)).or_default().push((variable.off_bytes, end, index));
                    }
                }
            }
        }
        Ok(all)
    }

    fn append(&mut self, input: usize, id: MapId, map: &Map, data: &DataSection) -> Result<(), Error> {
        let name = section_of(map);
        let size = match map.map_type {
            MapType::ARENA => {
                let ends = data.variables.iter().map(|it| it.off_bytes.saturating_add(it.size_bytes));
                let len = match &map.contents {
                    MapContents::Data(bytes) => u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                    _ => 0,
                };
                ends.max().unwrap_or(0).max(len)
            }
            _ => map.value_size,
        };
        let at = self.sections.iter().position(|section| section.name == name);
        let at = at.unwrap_or_else(|| {
            self.sections.push(Section {
                name: name.to_owned(),
                parts: Vec::new(),
                size: 0,
                data: DataSection { datasec: None, variables: Vec::new(), ..data.clone() },
                contents: MapContents::Empty,
                flags: 0,
                typed: false,
            });
            self.sections.len() - 1
        });
        let section = &mut self.sections[at];
        let too_large = || Error::new("together with that of the other objects it is larger than 4 GiB");
        let align = section.data.align_bytes.max(data.align_bytes).max(1);
        let base = section.size.checked_next_multiple_of(align).ok_or_else(too_large)?;
        section.size = base.checked_add(size).ok_or_else(too_large)?;
        section.data.align_bytes = align;
        section.flags |= map.flags;
        section.typed |= map.value_type.is_some();
        section.parts.push((input, id));
        if let MapContents::Data(bytes) = &map.contents {
            let mut all = match std::mem::replace(&mut section.contents, MapContents::Empty) {
                MapContents::Data(all) => all,
                _ => Vec::new(),
            };
            if base > MAX_ZEROES {
                return Err(Error::new(format!("begins behind {base} bytes of zeroes of the other objects")));
            }
            all.resize(base as usize, 0);
            all.extend_from_slice(bytes);
            section.contents = MapContents::Data(all);
        }
        self.bases.insert((input, id), base);
        Ok(())
    }

    /// Where the data of an object's map begins, in bytes; 0 for a map without.
    pub(super) fn base(&self, input: usize, map: MapId) -> u32 {
        self.bases.get(&(input, map)).copied().unwrap_or(0)
    }

    /// Where the section `name` of an object begins; `None` when it is no data section, or the object has none of the name. Of several
    /// sections of one name, the types describe the first.
    pub(super) fn base_of_section(&self, input: usize, name: &str) -> Option<u32> {
        let section = self.sections.iter().find(|section| section.name == name)?;
        let part = section.parts.iter().find(|(of, _)| *of == input)?;
        self.bases.get(part).copied()
    }

    /// The size of a joined section, in bytes; `None` when it is no data section.
    pub(super) fn size(&self, name: &str) -> Option<u32> {
        self.sections.iter().find(|section| section.name == name && name != ARENA_SECTION).map(|section| section.size)
    }

    /// The variable at an offset that gave way, by its position, and the offset inside of it.
    pub(super) fn given_up(&self, input: usize, map: MapId, off: u32) -> Option<(usize, u32)> {
        let found = self.given_up.get(&(input, map))?;
        found
            .iter()
            .find(|(start, end, _)| (*start..*end).contains(&off))
            .map(|(start, _, index)| (*index, off - start))
    }
}
