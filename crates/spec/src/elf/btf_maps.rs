//! Maps that BTF describes: the variables of `.maps`.
//!
//! A map's definition is the *type* of its variable, written with the macros of `bpf_helpers.h`:
//!
//! | macro | member | means |
//! | --- | --- | --- |
//! | `__uint(name, n)` | pointer to `int[n]` | the number `n` |
//! | `__ulong(name, n)` | an enumeration with one value | the number `n`, up to 64 bits |
//! | `__type(name, T)` | pointer to `T` | the type `T`, and its size |
//! | `__array(values, T)` | `T *[]` | what the slots hold: a map's definition or a function |
//!
//! The variable's bytes matter only for `values`: relocations say which map or program fills which slot.

use skep_btf::{Btf, FuncLinkage, Type, TypeId, VarLinkage};

use super::Reader;
use super::file::MAX_NAME_BYTES;
use crate::map::{Map, MapContents, MapOrigin, MapType, Pinning, Slot};
use crate::{Extern, ExternId, ExternKind, FuncId, MapId};

/// More members than any definition has. One damaged struct may stand behind every map.
const MAX_MEMBERS: usize = 64;

/// A definition with slots, waiting for the relocations that fill them.
pub(super) struct Slotted {
    map: MapId,
    section: usize,
    /// Where the slots begin and the variable ends, in the section.
    slots_off: u64,
    end_off: u64,
}

/// Where `values` begins in the variable, in bytes, beside the definition itself.
type Defined = (Map, Option<u32>);

impl Reader<'_, '_> {
    pub(super) fn read_btf_maps(&mut self) {
        let Some((section, _)) = self.elf.section_named(".maps") else { return };
        let Some(btf) = self.btf() else {
            self.warn_with(
                ".maps",
                "the maps cannot be read: the object has no types",
                Some("compile with `-g`".to_owned()),
            );
            return;
        };
        let Some(Ok(Type::Datasec(datasec))) = self.datasec(".maps").map(|id| btf.type_by_id(id)) else {
            self.warn_with(
                ".maps",
                "the maps cannot be read: the object's types do not describe them",
                Some("compile with `-g`".to_owned()),
            );
            return;
        };
        let size = self.elf.sections[section].size;
        for entry in datasec.vars() {
            let Ok(Type::Var(var)) = btf.type_by_id(entry.type_id) else { continue };
            if var.name().len() > MAX_NAME_BYTES {
                self.warn(".maps", "the name of a map is too long; it is ignored");
                continue;
            }
            let name = var.name().to_owned();
            if var.linkage() == VarLinkage::EXTERN {
                // It has no bytes here: an extern, if an instruction or a slot refers to it.
                continue;
            }
            let (off, end) = (u64::from(entry.offset), u64::from(entry.offset) + u64::from(entry.size));
            if end > size {
                self.warn(
                    name,
                    format!("the map's definition ends at {end}, outside of section `.maps` of {size} bytes"),
                );
                continue;
            }
            let (mut map, values_off) = self.define(&btf, &name, var.type_id(), false);
            map.linkage = self.linkage_at(section, off, &name);
            let slotted = values_off.map(|values| (off + u64::from(values), end));
            let id = self.add_map(map);
            self.map_at.insert((section, off), id);
            if let Some((slots_off, end_off)) = slotted {
                self.slotted.push(Slotted { map: id, section, slots_off, end_off });
            }
        }
    }

    /// A definition as far as it can be understood; what cannot be is said, and the map is not created.
    fn define(&mut self, btf: &Btf, name: &str, type_id: TypeId, inner: bool) -> Defined {
        let mut map = blank(name);
        let mut values_off = None;
        let mut faults = Vec::new();
        let members = match btf.resolve(type_id) {
            Ok((_, Type::Struct(it))) => Some(it),
            _ => {
                faults.push("a map is defined by a struct".to_owned());
                None
            }
        };
        let mut values = None;
        for member in members.iter().flat_map(|it| it.members().take(MAX_MEMBERS)) {
            let field = member.name();
            let mut number = |into: &mut u32| match number_of(btf, member.type_id()).and_then(|n| u32::try_from(n).ok())
            {
                Some(n) => *into = n,
                None => faults.push(format!("`{field}` is not written with __uint(), or not a number of 32 bits")),
            };
            match field {
                "type" => number(&mut map.map_type.0),
                "max_entries" => number(&mut map.max_entries),
                "map_flags" => number(&mut map.flags),
                "numa_node" => {
                    let mut node = 0;
                    number(&mut node);
                    map.numa_node = Some(node);
                }
                "map_extra" => match number_of(btf, member.type_id()) {
                    Some(n) => map.map_extra = n,
                    None => faults.push("`map_extra` is not written with __uint() or __ulong()".to_owned()),
                },
                "pinning" => {
                    let mut how = 0;
                    number(&mut how);
                    match how {
                        0 => {}
                        1 if !inner => map.pinning = Pinning::ByName,
                        1 => faults.push("an inner map cannot be pinned".to_owned()),
                        other => {
                            faults.push(format!("`pinning` is {other}, but only 0 and LIBBPF_PIN_BY_NAME (1) exist"))
                        }
                    }
                }
                "key_size" | "value_size" => {
                    let mut size = 0;
                    number(&mut size);
                    let into = if field == "key_size" { &mut map.key_size } else { &mut map.value_size };
                    if *into != 0 && size != *into {
                        faults.push(format!("`{field}` is {size}, but another member says {into}"));
                    }
                    *into = size;
                }
                "key" | "value" => {
                    let Ok(Type::Ptr(ptr)) = btf.type_by_id(member.type_id()) else {
                        faults.push(format!("`{field}` is not written with __type()"));
                        continue;
                    };
                    let target = ptr.type_id();
                    let Some(size) = btf.size_of(target).ok().and_then(|size| u32::try_from(size).ok()) else {
                        faults.push(format!("the type of `{field}` has no size"));
                        continue;
                    };
                    let (size_of, type_of) = if field == "key" {
                        (&mut map.key_size, &mut map.key_type)
                    } else {
                        (&mut map.value_size, &mut map.value_type)
                    };
                    if *size_of != 0 && size != *size_of {
                        faults
                            .push(format!("the type of `{field}` has {size} bytes, but `{field}_size` says {size_of}"));
                    }
                    *size_of = size;
                    *type_of = Some(target);
                }
                "values" => {
                    values_off = Some(member.bit_offset() / 8);
                    values = element_of(btf, member.type_id());
                    if values.is_none() {
                        faults.push("`values` is not written with __array()".to_owned());
                    }
                }
                other => self.warn(name, format!("the definition has a member `{other}`, which means nothing")),
            }
        }
        if let Some(element) = values.filter(|_| inner) {
            let _ = element;
            faults.push("an inner map cannot have slots of its own".to_owned());
        } else if let Some(element) = values {
            self.define_values(btf, &mut map, element, &mut faults);
        }
        if members.is_some() && map.map_type == MapType::UNSPEC {
            faults.push("`type` is missing".to_owned());
        }
        settle_sizes(&mut map);
        map.autocreate = faults.is_empty();
        for fault in faults {
            self.warn(name, format!("{fault}; the map is not created"));
        }
        (map, values_off.filter(|_| !inner))
    }

    fn define_values(&mut self, btf: &Btf, map: &mut Map, element: TypeId, faults: &mut Vec<String>) {
        match (map.map_type, btf.resolve(element)) {
            (MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS, Ok((_, Type::Struct(_)))) => {
                let (inner, _) = self.define(btf, &format!("{}.inner", map.name), element, true);
                map.inner = Some(Box::new(inner));
                map.value_size = 4;
            }
            (MapType::PROG_ARRAY, Ok((_, Type::FuncProto(_)))) => map.value_size = 4,
            (MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS, _) => {
                faults.push("`values` of a map of maps must be the definition of a map".to_owned());
            }
            (MapType::PROG_ARRAY, _) => faults.push("`values` of a program array must be a function".to_owned()),
            (other, _) => faults
                .push(format!("a map of type {other} cannot have `values`; only maps of maps and program arrays can")),
        }
    }

    /// Fills the slots of maps of maps and program arrays from the relocations of `.maps`.
    pub(super) fn read_map_slots(&mut self) {
        let mut slotted = std::mem::take(&mut self.slotted);
        slotted.sort_by_key(|it| it.slots_off);
        let Some((section, maps)) = self.elf.section_named(".maps") else { return };
        for reloc in &maps.relocs {
            let symbol = &self.elf.symbols[reloc.symbol];
            let after = slotted.partition_point(|it| it.slots_off <= reloc.offset);
            let found = after.checked_sub(1).map(|at| &slotted[at]);
            let Some(entry) = found.filter(|it| it.section == section && reloc.offset < it.end_off) else {
                self.warn(
                    ".maps",
                    format!("the reference to `{}` at offset {} fills no slot of any map", symbol.name, reloc.offset),
                );
                continue;
            };
            let (id, index) = (entry.map, (reloc.offset - entry.slots_off) / 8);
            let addend =
                reloc.addend.or_else(|| self.word64(section, reloc.offset).map(|word| word as i64)).unwrap_or(0);
            let place = symbol.section.zip(symbol.value.checked_add_signed(addend));
            let external = self.extern_of_symbol.get(&reloc.symbol).copied();
            let external = external.or_else(|| self.untyped_extern(reloc.symbol, self.spec.map(id).map_type));
            let slot = match place {
                None => external.filter(|it| self.spec.external(*it).kind.is_of_object()).map(Slot::Extern),
                Some(place) if self.spec.map(id).map_type == MapType::PROG_ARRAY => {
                    self.program_at(place).map(Slot::Program)
                }
                Some(place) => self.map_at.get(&place).copied().map(Slot::Map),
            };
            let name = symbol.name.clone();
            let map = &mut self.spec.maps[id.0 as usize];
            match slot {
                Some(slot) => match &mut map.contents {
                    MapContents::Slots(slots) => slots.push((index as u32, slot)),
                    contents => *contents = MapContents::Slots(vec![(index as u32, slot)]),
                },
                None => {
                    let (map, what) = (map.name.clone(), map.map_type);
                    let wanted = if what == MapType::PROG_ARRAY { "program" } else { "map" };
                    self.warn(map, format!("slot {index} names `{name}`, which is no {wanted} of this object"));
                }
            }
        }
        // `max_entries` may be left out when the slots tell it.
        for map in &mut self.spec.maps {
            if let MapContents::Slots(slots) = &mut map.contents {
                slots.sort_by_key(|slot| slot.0);
                if map.max_entries == 0 && map.map_type != MapType::HASH_OF_MAPS {
                    map.max_entries = slots.last().map_or(0, |slot| slot.0.saturating_add(1));
                }
            }
        }
    }

    /// An extern for a slot that names something of another object. Compilers before LLVM 18 or so describe functions only when code calls
    /// them.
    pub(super) fn untyped_extern(&mut self, index: usize, of: MapType) -> Option<ExternId> {
        let symbol = &self.elf.symbols[index];
        if !symbol.undefined || symbol.is_local() || symbol.name.is_empty() {
            return None;
        }
        let kind = match of {
            MapType::PROG_ARRAY => ExternKind::Function { proto: TypeId::VOID },
            _ => ExternKind::Map { type_id: TypeId::VOID },
        };
        let id = ExternId(self.spec.externs.len() as u32);
        let name = symbol.name.clone().into_owned();
        self.spec.externs.push(Extern { name, weak: symbol.is_weak(), btf_id: None, kind });
        self.extern_of_symbol.insert(index, id);
        Some(id)
    }

    pub(super) fn program_at(&self, place: (usize, u64)) -> Option<crate::ProgId> {
        let id: FuncId = *self.function_at.get(&place)?;
        self.program_of.get(&id).copied()
    }
}

/// A definition that says nothing yet.
pub(super) fn blank(name: &str) -> Map {
    Map { origin: MapOrigin::Btf, ..Map::new(name, MapType::UNSPEC, 0, 0, 0) }
}

/// Sizes that a type of map fixes. For ring and perf buffers a value type may say what an event is (so do libraries that
/// generate readers); the kernel wants its own sizes there all the same.
pub(super) fn settle_sizes(map: &mut Map) {
    match map.map_type {
        MapType::RINGBUF | MapType::USER_RINGBUF => (map.key_size, map.value_size) = (0, 0),
        MapType::PERF_EVENT_ARRAY => (map.key_size, map.value_size) = (4, 4),
        MapType::PROG_ARRAY | MapType::CGROUP_ARRAY | MapType::ARRAY_OF_MAPS if map.key_size == 0 => map.key_size = 4,
        _ => {}
    }
    if matches!(
        map.map_type,
        MapType::PROG_ARRAY | MapType::CGROUP_ARRAY | MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS
    ) && map.value_size == 0
    {
        map.value_size = 4;
    }
}

/// The number of a `__uint` or `__ulong` member.
pub(crate) fn number_of(btf: &Btf, member: TypeId) -> Option<u64> {
    match btf.resolve(member).ok()?.1 {
        Type::Ptr(ptr) => match btf.resolve(ptr.type_id()).ok()?.1 {
            Type::Array(array) => Some(u64::from(array.len())),
            _ => None,
        },
        Type::Enum(values) | Type::Enum64(values) => {
            let mut values = values.values();
            let only = values.next()?;
            if values.next().is_some() {
                return None;
            }
            // The value is a bit pattern: -1 is as good as all ones.
            Some(only.value as u64)
        }
        _ => None,
    }
}

/// The element of an `__array` member: `T` of `T *[]`.
fn element_of(btf: &Btf, member: TypeId) -> Option<TypeId> {
    let Type::Array(array) = btf.resolve(member).ok()?.1 else { return None };
    let Type::Ptr(ptr) = btf.resolve(array.element()).ok()?.1 else { return None };
    Some(ptr.type_id())
}

/// Whether a function type declares an external function.
pub(super) fn is_extern(linkage: FuncLinkage) -> bool {
    linkage == FuncLinkage::EXTERN
}
