//! Maps, and what they hold from the start.

use super::Merger;
use super::symbols::Thing;
use super::types::Finished;
use crate::elf::{ARENA_SECTION, arrange, kconfig_map};
use crate::map::{DataSection, Map, MapContents, MapOrigin, Slot, StructOps, Variable};
use crate::{Error, Extern, ExternId, ExternKind, MapId, MapType};

impl Merger<'_> {
    /// Gives every map that stays its number, in the order of [`Merger::add_maps`].
    pub(super) fn number_maps(&mut self) {
        let mut next = 0;
        let mut arenas = Vec::new();
        let is_variable = |map: &Map| {
            matches!(map.origin, MapOrigin::Btf | MapOrigin::Legacy | MapOrigin::Made | MapOrigin::Arena(_))
                && !is_placeholder(map)
        };
        let inputs = self.inputs;
        let mut number = |merger: &mut Self, wanted: &dyn Fn(&Map) -> bool, arenas: &mut Vec<MapId>| {
            for (input, it) in inputs.iter().enumerate() {
                for (id, map) in it.spec.maps().filter(|(_, map)| wanted(map)) {
                    if merger.symbols.instead_of(input, Thing::Map(id)).is_none() {
                        merger.maps.insert((input, id), MapId(next));
                        if map.map_type == MapType::ARENA {
                            arenas.push(MapId(next));
                        }
                        next += 1;
                    }
                }
            }
        };
        number(self, &is_variable, &mut arenas);
        let has_globals = self.data.sections.iter().any(|section| section.name == ARENA_SECTION);
        if has_globals && arenas.len() > 1 {
            let hint = "define it in one of them, and declare it `extern` in the others";
            self.problems.push(Error::new("the objects have several arenas, but globals of one").hint(hint));
        }
        for section in &self.data.sections {
            let arena = section.name == ARENA_SECTION;
            let id = match arenas.first() {
                Some(&id) if arena => id,
                _ => MapId(next),
            };
            next += u32::from(id == MapId(next));
            for part in &section.parts {
                self.maps.insert(*part, id);
            }
        }
        let has_kconfig =
            inputs.iter().enumerate().flat_map(|(input, it)| it.spec.maps().map(move |(id, map)| (input, id, map)));
        let kconfig: Vec<(usize, MapId)> = has_kconfig
            .filter(|(_, _, map)| map.origin == MapOrigin::Kconfig)
            .map(|(input, id, _)| (input, id))
            .collect();
        next += u32::from(!kconfig.is_empty());
        self.maps.extend(kconfig.into_iter().map(|it| (it, MapId(next.saturating_sub(1)))));
        let mut number = |merger: &mut Self, origin: &MapOrigin| {
            for (input, it) in inputs.iter().enumerate() {
                for (id, _) in it.spec.maps().filter(|(_, map)| map.origin == *origin) {
                    if merger.symbols.instead_of(input, Thing::Map(id)).is_none() {
                        merger.maps.insert((input, id), MapId(next));
                        next += 1;
                    }
                }
            }
        };
        number(self, &MapOrigin::StructOps);
        number(self, &MapOrigin::JumpTable);
    }

    /// The number that a map has now, the one that took its place if it gave way.
    pub(super) fn map(&self, input: usize, id: MapId) -> Option<MapId> {
        match self.symbols.instead_of(input, Thing::Map(id)) {
            Some(taken) => match taken.thing {
                Thing::Map(other) => self.maps.get(&(taken.input, other)).copied(),
                _ => None,
            },
            None => self.maps.get(&(input, id)).copied(),
        }
    }

    /// The externs that no object defines.
    pub(super) fn add_externs(&mut self, types: &super::types::Types) {
        let mut externs: Vec<Extern> = Vec::new();
        for symbol in self.symbols.undefined() {
            let Some(first) = symbol.externs.first() else { continue };
            let of = |it: &super::symbols::Wanted| self.inputs[it.input].spec.external(it.id);
            let moved = |id| types.id(first.input, id);
            let it = of(first);
            let kind = match it.kind {
                ExternKind::TypedKsym { type_id } => ExternKind::TypedKsym { type_id: moved(type_id) },
                ExternKind::Kfunc { proto } => ExternKind::Kfunc { proto: moved(proto) },
                ExternKind::Function { proto } => ExternKind::Function { proto: moved(proto) },
                ExternKind::Variable { type_id } => ExternKind::Variable { type_id: moved(type_id) },
                ExternKind::Map { type_id } => ExternKind::Map { type_id: moved(type_id) },
                kind => kind,
            };
            let weak = symbol.externs.iter().all(|it| of(it).weak);
            externs.push(Extern { name: it.name.clone(), weak, btf_id: first.btf_id, kind });
        }
        let end = arrange(&types.btf, &mut externs);
        for (id, external) in (0u32..).map(ExternId).zip(&externs) {
            self.places.externs.insert(external.name.clone(), id);
        }
        self.places.kconfig_bytes = end;
        self.spec.externs = externs;
    }

    /// Adds the maps in the order of their numbers. Slots and struct_ops wait for the programs.
    pub(super) fn add_maps(&mut self, types: &Finished) {
        for external in &mut self.spec.externs {
            external.btf_id = external.btf_id.map(|id| types.last(id));
            let id = match &mut external.kind {
                ExternKind::TypedKsym { type_id }
                | ExternKind::Variable { type_id }
                | ExternKind::Map { type_id }
                | ExternKind::Kfunc { proto: type_id }
                | ExternKind::Function { proto: type_id } => type_id,
                ExternKind::Kconfig { .. } | ExternKind::TypelessKsym => continue,
            };
            *id = types.last(*id);
        }
        let mut maps: Vec<(MapId, Map)> = Vec::new();
        for (&(input, id), &to) in &self.maps {
            let map = self.inputs[input].spec.map(id);
            if matches!(map.origin, MapOrigin::Data(_) | MapOrigin::Kconfig) || is_placeholder(map) {
                continue;
            }
            maps.push((to, moved(map, input, types)));
        }
        let inputs = self.inputs;
        for section in std::mem::take(&mut self.data.sections) {
            let Some((id, first)) = section
                .parts
                .first()
                .and_then(|&(input, id)| Some((*self.maps.get(&(input, id))?, inputs[input].spec.map(id))))
            else {
                continue;
            };
            let mut variables = Vec::new();
            for &(input, part) in &section.parts {
                let map = inputs[input].spec.map(part);
                let base = self.data.base(input, part);
                let own = map.data_section().into_iter().flat_map(|data| data.variables.iter().enumerate());
                // One that gave way keeps its bytes, but nobody can name it.
                let own = own.filter(|(index, _)| {
                    self.symbols.instead_of(input, Thing::Variable { map: part, index: *index }).is_none()
                });
                variables.extend(own.map(|(_, it)| Variable {
                    off_bytes: base.saturating_add(it.off_bytes),
                    type_id: it.type_id.and_then(|id| types.id(input, id)),
                    ..it.clone()
                }));
            }
            variables.sort_by_key(|it| it.off_bytes);
            let data = DataSection { datasec: types.section(&section.name), variables, ..section.data.clone() };
            let contents = section.contents;
            if section.name == ARENA_SECTION {
                match maps.iter_mut().find(|(other, _)| *other == id) {
                    Some((_, arena)) => (arena.origin, arena.contents) = (MapOrigin::Arena(data), contents),
                    None => maps.push((id, Map { origin: MapOrigin::Arena(data), contents, ..first.clone() })),
                }
                continue;
            }
            let map = Map {
                value_size: section.size,
                flags: section.flags,
                value_type: data.datasec.filter(|_| section.typed),
                origin: MapOrigin::Data(data),
                contents,
                ..first.clone()
            };
            maps.push((id, map));
        }
        let kconfig =
            self.maps.iter().find(|((input, id), _)| inputs[*input].spec.map(*id).origin == MapOrigin::Kconfig);
        if let Some((_, &id)) = kconfig {
            match kconfig_map(self.places.kconfig_bytes, types.section(".kconfig")) {
                Ok(Some(map)) => maps.push((id, map)),
                Ok(None) => {}
                Err(message) => self.problems.push(Error::new(message).in_section(".kconfig")),
            }
        }
        maps.sort_by_key(|(id, _)| *id);
        self.spec.maps = maps.into_iter().map(|(_, map)| map).collect();
    }

    /// Fills slots, struct_ops and jump tables, now that programs have their numbers.
    pub(super) fn fill_maps(&mut self, types: &Finished) {
        let mut filled = Vec::new();
        for (&(input, id), &to) in &self.maps {
            let map = self.inputs[input].spec.map(id);
            let contents =
                match &map.contents {
                    MapContents::Slots(slots) => {
                        let mut moved = Vec::new();
                        for (index, slot) in slots {
                            match self.slot(input, *slot) {
                                Some(slot) => moved.push((*index, slot)),
                                None => filled.push((to, Err((input, map.name.clone(), format!("slot {index}"))))),
                            }
                        }
                        MapContents::Slots(moved)
                    }
                    MapContents::StructOps(ops) => {
                        let mut programs = Vec::new();
                        for (off, program) in &ops.programs {
                            match self.program(input, *program) {
                                Some(program) => programs.push((*off, program)),
                                None => filled
                                    .push((to, Err((input, map.name.clone(), format!("the member at byte {off}"))))),
                            }
                        }
                        let mut externs = Vec::new();
                        for (off, external) in &ops.externs {
                            match self.slot(input, Slot::Extern(*external)) {
                                Some(Slot::Program(program)) => programs.push((*off, program)),
                                Some(Slot::Extern(external)) => externs.push((*off, external)),
                                Some(Slot::Map(_)) | None => filled
                                    .push((to, Err((input, map.name.clone(), format!("the member at byte {off}"))))),
                            }
                        }
                        programs.sort_unstable_by_key(|(off, _)| *off);
                        let type_id = types.id(input, ops.type_id).unwrap_or(ops.type_id);
                        MapContents::StructOps(StructOps { type_id, programs, externs, ..ops.clone() })
                    }
                    MapContents::JumpTable { function, targets } => match self.function(input, *function) {
                        Some(function) => MapContents::JumpTable { function, targets: targets.clone() },
                        None => continue,
                    },
                    MapContents::Empty | MapContents::Data(_) => continue,
                };
            filled.push((to, Ok(contents)));
        }
        for (to, contents) in filled {
            match contents {
                Ok(contents) => {
                    if let Some(map) = self.spec.maps.get_mut(to.0 as usize) {
                        map.contents = contents;
                    }
                }
                Err((input, name, what)) => {
                    self.problem(input, &name, &format!("{what} names something that is no map and no program"));
                }
            }
        }
    }

    fn slot(&self, input: usize, slot: Slot) -> Option<Slot> {
        Some(match slot {
            Slot::Map(id) => Slot::Map(self.map(input, id)?),
            Slot::Program(id) => Slot::Program(self.program(input, id)?),
            Slot::Extern(id) => {
                let name = &self.inputs[input].spec.externs.get(id.0 as usize)?.name;
                match self.symbols.get(name)?.taken() {
                    None => Slot::Extern(*self.places.externs.get(name)?),
                    Some(taken) => match taken.thing {
                        Thing::Map(id) => Slot::Map(*self.maps.get(&(taken.input, id))?),
                        Thing::Function(id) => {
                            Slot::Program(*self.places.programs.get(self.places.functions.get(&(taken.input, id))?)?)
                        }
                        Thing::Variable { .. } => return None,
                    },
                }
            }
        })
    }
}

/// Whether a map only stands for an arena of another object.
fn is_placeholder(map: &Map) -> bool {
    matches!(map.origin, MapOrigin::Arena(_)) && map.name == ARENA_SECTION
}

/// A map with its types as they are now.
fn moved(map: &Map, input: usize, types: &Finished) -> Map {
    Map {
        key_type: map.key_type.and_then(|id| types.id(input, id)),
        value_type: map.value_type.and_then(|id| types.id(input, id)),
        inner: map.inner.as_ref().map(|inner| Box::new(moved(inner, input, types))),
        ..map.clone()
    }
}
