//! `.maps` and `.struct_ops*` with the types that describe them.

use object::write::SectionId;
use object::{SectionKind, SymbolKind, SymbolScope};
use skep_btf::{Builder, IntEncoding, Kind, MemberDef, SecVar, Type, TypeDef, TypeId, VarLinkage};

use super::{Writer, is_variable, nowhere, scope};
use crate::elf::file::reloc_type::R_BPF_64_ABS64;
use crate::function::Linkage;
use crate::map::{MapContents, MapType, Pinning};
use crate::{Error, Map};

impl Writer<'_> {
    /// Symbols for the variables of a section that is no map; libbpf looks each of them up.
    pub(super) fn name_variables(&mut self, name: &str, section: SectionId) {
        let Some(btf) = self.btf.clone() else { return };
        let Some(Ok(Type::Datasec(datasec))) = btf.find(name, Kind::DATASEC).map(|id| btf.type_by_id(id)) else {
            return;
        };
        for entry in datasec.vars() {
            if let Ok(Type::Var(var)) = btf.type_by_id(entry.type_id) {
                let scope =
                    if var.linkage() == VarLinkage::STATIC { SymbolScope::Compilation } else { SymbolScope::Dynamic };
                self.symbol(var.name(), SymbolKind::Data, scope, section, entry.offset.into(), entry.size.into());
            }
        }
    }

    pub(super) fn write_maps(&mut self) -> Result<(), Error> {
        let spec = self.spec;
        if !spec.maps.iter().any(is_variable) {
            return Ok(());
        }
        let section = self.section(".maps", SectionKind::Data);
        let mut entries = Vec::new();
        let mut slots = Vec::new();
        for (id, map) in spec.maps().filter(|(_, map)| is_variable(map)) {
            let types = self.types.as_mut().ok_or_else(|| nowhere(&map.name))?;
            let (type_id, size) = Definition::of(types, map).map_err(|err| damaged(&map.name, &err))?;
            let n_slots = match &map.contents {
                MapContents::Slots(slots) => slots.last().map_or(0, |slot| slot.0 as usize + 1),
                _ => 0,
            };
            let total = size as usize + n_slots * 8;
            let off = self.object.append_section_data(section, &vec![0; total], 8);
            let scope = scope(map.linkage, false);
            let symbol = self.symbol(&map.name, SymbolKind::Data, scope, section, off, total as u64);
            self.object.symbol_mut(symbol).weak = map.linkage == Linkage::Weak;
            self.map_symbols.insert(id, symbol);
            let type_id = self.variable(".maps", &map.name, type_id)?;
            entries.push(SecVar { type_id, offset: off as u32, size: total as u32 });
            slots.push((map, off + u64::from(size)));
        }
        for (map, off) in slots {
            self.relocate_slots(section, off, map)?;
        }
        let end = entries.last().map_or(0, |entry| entry.offset + entry.size);
        entries.extend(self.extern_maps());
        self.set_datasec(".maps", end, &entries)
    }

    /// The maps of other objects, which have no place yet.
    fn extern_maps(&self) -> Vec<SecVar> {
        let Some(btf) = &self.btf else { return Vec::new() };
        let Some(Ok(Type::Datasec(datasec))) = btf.find(".maps", Kind::DATASEC).map(|id| btf.type_by_id(id)) else {
            return Vec::new();
        };
        let is_extern = |id| matches!(btf.type_by_id(id), Ok(Type::Var(var)) if var.linkage() == VarLinkage::EXTERN);
        datasec.vars().filter(|entry| is_extern(entry.type_id)).map(|entry| SecVar { offset: 0, ..entry }).collect()
    }

    pub(super) fn write_struct_ops(&mut self) -> Result<(), Error> {
        for (name, link, on) in [
            (".struct_ops", false, true),
            (".struct_ops.link", true, true),
            ("?.struct_ops", false, false),
            ("?.struct_ops.link", true, false),
        ] {
            let mut entries = Vec::new();
            for map in &self.spec.maps {
                let MapContents::StructOps(ops) = &map.contents else { continue };
                if ops.link != link || map.autocreate != on {
                    continue;
                }
                let section = self.section(name, SectionKind::Data);
                let mut bytes = ops.data.clone();
                for off in ops.programs.iter().map(|(off, _)| off).chain(ops.externs.iter().map(|(off, _)| off)) {
                    if let Some(word) = bytes.get_mut(*off as usize..(*off as usize).saturating_add(8)) {
                        word.fill(0);
                    }
                }
                let at = self.object.append_section_data(section, &bytes, 8);
                self.symbol(&map.name, SymbolKind::Data, SymbolScope::Dynamic, section, at, bytes.len() as u64);
                for (off, program) in &ops.programs {
                    let symbol = self
                        .spec
                        .programs
                        .get(program.0 as usize)
                        .and_then(|program| self.function_symbols.get(program.entry.0 as usize).copied())
                        .ok_or_else(|| nowhere(&map.name))?;
                    self.relocate(section, at + u64::from(*off), symbol, R_BPF_64_ABS64)?;
                }
                for (off, external) in &ops.externs {
                    let symbol = self.extern_symbols.get(external.0 as usize).copied();
                    let symbol = symbol.ok_or_else(|| nowhere(&map.name))?;
                    self.relocate(section, at + u64::from(*off), symbol, R_BPF_64_ABS64)?;
                }
                let type_id = self.variable(name, &map.name, ops.type_id)?;
                entries.push(SecVar { type_id, offset: at as u32, size: bytes.len() as u32 });
            }
            let known = self.btf.as_ref().is_some_and(|btf| btf.find(name, Kind::DATASEC).is_some());
            if known || !entries.is_empty() {
                let end = entries.last().map_or(0, |entry| entry.offset + entry.size);
                self.set_datasec(name, end, &entries)?;
            }
        }
        Ok(())
    }

    /// The `VAR` called `name` of a section, made to have type `type_id`.
    fn variable(&mut self, section: &str, name: &str, type_id: TypeId) -> Result<TypeId, Error> {
        // Variables of other sections may have the same name.
        let known = self.btf.as_ref().and_then(|btf| match btf.find(section, Kind::DATASEC).map(|id| btf.type_by_id(id)) {
            Some(Ok(Type::Datasec(datasec))) => datasec.vars().map(|entry| entry.type_id).find(
                |&id| matches!(btf.type_by_id(id), Ok(Type::Var(var)) if var.name() == name && var.linkage() != VarLinkage::EXTERN),
            ),
            _ => None,
        });
        let types = self.types.as_mut().ok_or_else(|| nowhere(name))?;
        let result = match known {
            Some(id) => {
                types.set_target(id, type_id).and_then(|()| types.set_var_linkage(id, VarLinkage::GLOBAL)).map(|()| id)
            }
            None => types.add(TypeDef::Var { name, type_id, linkage: VarLinkage::GLOBAL }),
        };
        result.map_err(|err| damaged(name, &err))
    }

    fn set_datasec(&mut self, name: &str, size: u32, vars: &[SecVar]) -> Result<(), Error> {
        let known = self.btf.as_ref().and_then(|btf| btf.find(name, Kind::DATASEC));
        let types = self.types.as_mut().ok_or_else(|| nowhere(name))?;
        let def = TypeDef::Datasec { name, size, vars };
        match known {
            Some(id) => types.replace(id, def),
            None => types.add(def).map(|_| ()),
        }
        .map_err(|err| damaged(name, &err))
    }
}

fn damaged(name: &str, err: &skep_btf::Error) -> Error {
    Error::new(format!("its types cannot be written: {err}")).about(name)
}

/// A map's definition as a struct in the making.
struct Definition<'b> {
    types: &'b mut Builder,
    int: TypeId,
    members: Vec<(&'static str, TypeId)>,
}

impl Definition<'_> {
    /// The struct that says what `map` is, and its size without slots, in bytes.
    fn of(types: &mut Builder, map: &Map) -> Result<(TypeId, u32), skep_btf::Error> {
        let int = types.add(TypeDef::Int { name: "int", size: 4, bits: 32, encoding: IntEncoding::SIGNED })?;
        let mut it = Definition { types, int, members: Vec::new() };
        it.number("type", map.map_type.0.into(), 0)?;
        it.number("max_entries", map.max_entries.into(), 0)?;
        it.number("map_flags", map.flags.into(), 0)?;
        it.number("map_extra", map.map_extra, 0)?;
        if let Some(node) = map.numa_node {
            it.number("numa_node", node.into(), u64::MAX)?;
        }
        if map.pinning == Pinning::ByName {
            it.number("pinning", 1, 0)?;
        }
        match map.key_type {
            Some(key) => it.pointer("key", key)?,
            None => it.number("key_size", map.key_size.into(), 0)?,
        }
        let of_maps = matches!(map.map_type, MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS);
        match map.value_type {
            Some(value) => it.pointer("value", value)?,
            None => it.number("value_size", map.value_size.into(), 0)?,
        }
        let slots = match (&map.inner, &map.contents) {
            (Some(inner), _) if of_maps => Some(Definition::of(it.types, inner)?.0),
            (_, MapContents::Slots(_)) => Some(it.types.add(TypeDef::FuncProto { result: it.int, params: &[] })?),
            _ => None,
        };
        let size = it.members.len() as u32 * 8;
        if let Some(element) = slots {
            let element = it.types.add(TypeDef::Ptr(element))?;
            let array = it.types.add(TypeDef::Array { element, index: it.int, len: 0 })?;
            it.members.push(("values", array));
        }
        let members: Vec<MemberDef<'_>> = (0u32..)
            .zip(&it.members)
            .map(|(index, (name, type_id))| MemberDef {
                name,
                type_id: *type_id,
                bit_offset: index * 64,
                bitfield_size: None,
            })
            .collect();
        let id = it.types.add(TypeDef::Struct { name: "", size, members: &members })?;
        Ok((id, size))
    }

    /// A number, unless it is `default`, which need not be written.
    fn number(&mut self, name: &'static str, value: u64, default: u64) -> Result<(), skep_btf::Error> {
        if value == default {
            return Ok(());
        }
        let type_id = match u32::try_from(value) {
            Ok(len) => {
                let array = self.types.add(TypeDef::Array { element: self.int, index: self.int, len })?;
                self.types.add(TypeDef::Ptr(array))?
            }
            // `__ulong`: eight bytes like all other members.
            Err(_) => {
                self.types.add(TypeDef::Enum64 { name: "", size: 8, signed: false, values: &[("value", value)] })?
            }
        };
        self.members.push((name, type_id));
        Ok(())
    }

    fn pointer(&mut self, name: &'static str, to: TypeId) -> Result<(), skep_btf::Error> {
        let type_id = self.types.add(TypeDef::Ptr(to))?;
        self.members.push((name, type_id));
        Ok(())
    }
}
