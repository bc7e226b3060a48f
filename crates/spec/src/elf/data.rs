//! Data sections: `.data*`, `.rodata*`, `.bss*`, each an array map of one entry, and `.addr_space.1`, the globals of an
//! arena.

use skep_btf::{Type, VarLinkage};

use super::Reader;
use super::code::linkage;
use super::file::MAX_NAME_BYTES;
use super::file::{SHT_NOBITS, SHT_PROGBITS, STT_NOTYPE, STT_OBJECT};
use crate::function::Linkage;
use crate::map::{
    BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, DataKind, DataSection, Map, MapContents, MapOrigin, MapType, Variable,
};

impl Reader<'_, '_> {
    pub(super) fn read_data_sections(&mut self) {
        let elf = self.elf;
        for (index, section) in elf.sections.iter().enumerate().skip(1) {
            let Some(kind) = kind_of(&section.name) else { continue };
            if section.size == 0 || !matches!(section.kind, SHT_PROGBITS | SHT_NOBITS) || section.is_code() {
                continue;
            }
            let Ok(size) = u32::try_from(section.size) else {
                self.warn(section.name.as_ref(), format!("is {} bytes large, more than a map can be", section.size));
                continue;
            };
            let variables = self.variables(index);
            let align_bytes = section.align.clamp(1, MAX_ALIGN_BYTES) as u32;
            let data = DataSection { kind, align_bytes, datasec: self.datasec_of(index), variables };
            let contents =
                if section.kind == SHT_NOBITS { MapContents::Empty } else { MapContents::Data(section.data.to_vec()) };
            for reloc in section.relocs.iter().take(1) {
                self.warn_with(
                    section.name.as_ref(),
                    format!(
                        "the variable at offset {} starts as the address of `{}`, which a kernel cannot give it; it stays as \
                         it is in the file",
                        reloc.offset, elf.symbols[reloc.symbol].name
                    ),
                    Some("set it in code, or use an array of characters instead of a pointer".to_owned()),
                );
            }
            if kind == DataKind::Arena {
                self.fill_arena(index, data, contents);
                continue;
            }
            let mut flags = if kind == DataKind::Rodata { BPF_F_RDONLY_PROG } else { 0 };
            // As libbpf's map_is_mmapable: some variable must be worth looking at from outside.
            if data.datasec.is_some() && data.variables.iter().any(|variable| variable.global) {
                flags |= BPF_F_MMAPABLE;
            }
            let map = Map {
                flags,
                value_type: data.datasec,
                contents,
                origin: MapOrigin::Data(data),
                ..Map::new(&section.name, MapType::ARRAY, 4, size, 1)
            };
            let id = self.add_map(map);
            self.map_of_section.insert(index, id);
        }
    }

    fn fill_arena(&mut self, section: usize, data: DataSection, contents: MapContents) {
        let arena = self.spec.maps().find(|(_, map)| map.map_type == MapType::ARENA).map(|(id, _)| id);
        let Some(id) = arena else {
            self.warn(ARENA_SECTION, "holds globals of an arena, but the object has no map of type arena");
            // It may be linked with one that has.
            let map = Map {
                contents,
                origin: MapOrigin::Arena(data),
                linkage: Linkage::Static,
                autocreate: false,
                ..Map::new(ARENA_SECTION, MapType::ARENA, 0, 0, 0)
            };
            let id = self.add_map(map);
            self.map_of_section.insert(section, id);
            return;
        };
        let map = &mut self.spec.maps[id.0 as usize];
        map.origin = MapOrigin::Arena(data);
        map.contents = contents;
        self.map_of_section.insert(section, id);
    }

    /// The variables of a data section: from the types when they describe it, else from the symbols.
    fn variables(&mut self, section: usize) -> Vec<Variable> {
        let mut variables: Vec<Variable> = match (self.btf(), self.datasec_of(section)) {
            (Some(btf), Some(datasec)) => {
                let Ok(Type::Datasec(datasec)) = btf.type_by_id(datasec) else { return Vec::new() };
                datasec
                    .vars()
                    .filter_map(|entry| match btf.type_by_id(entry.type_id) {
                        Ok(Type::Var(var)) if var.name().len() <= MAX_NAME_BYTES => Some(Variable {
                            name: var.name().to_owned(),
                            off_bytes: entry.offset,
                            size_bytes: entry.size,
                            type_id: Some(var.type_id()),
                            global: var.linkage() != VarLinkage::STATIC,
                            linkage: self.linkage_at(section, entry.offset.into(), var.name()),
                        }),
                        _ => None,
                    })
                    .collect()
            }
            _ => self
                .elf
                .symbols_in(section)
                .filter(|symbol| {
                    symbol.kind == STT_OBJECT || symbol.kind == STT_NOTYPE && !symbol.is_local() && symbol.size > 0
                })
                .filter_map(|symbol| {
                    Some(Variable {
                        name: symbol.name.clone().into_owned(),
                        off_bytes: u32::try_from(symbol.value).ok()?,
                        size_bytes: u32::try_from(symbol.size).ok()?,
                        type_id: None,
                        global: !symbol.is_local() && !symbol.is_hidden(),
                        linkage: linkage(symbol),
                    })
                })
                .collect(),
        };
        variables.sort_by_key(|variable| variable.off_bytes);
        variables
    }

    /// Who may see the variable `name` at `off` of a section, which the file's symbols say and the types only half.
    pub(super) fn linkage_at(&mut self, section: usize, off: u64, name: &str) -> Linkage {
        let elf = self.elf;
        let symbols = self.symbol_at.entry(section).or_insert_with(|| {
            let shared = elf.symbols_in(section).filter(|symbol| !symbol.is_local());
            shared.map(|symbol| ((symbol.value, symbol.name.as_ref()), linkage(symbol))).collect()
        });
        symbols.get(&(off, name)).copied().unwrap_or(Linkage::Static)
    }
}

/// Where globals of an arena stand, and the name of the map that stands for an arena of another object.
pub(crate) const ARENA_SECTION: &str = ".addr_space.1";

/// A page, the most that any kernel gives a map's value; damaged files say more.
const MAX_ALIGN_BYTES: u64 = 4096;

fn kind_of(name: &str) -> Option<DataKind> {
    let is = |stem: &str| name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    if is(".rodata") {
        Some(DataKind::Rodata)
    } else if is(".data") {
        Some(DataKind::Data)
    } else if is(".bss") {
        Some(DataKind::Bss)
    } else if name == ARENA_SECTION {
        Some(DataKind::Arena)
    } else {
        None
    }
}
