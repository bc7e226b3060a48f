//! Types: appended, deduplicated, and freed of what only one object needed.
//!
//! A type has three numbers one after the other: its own object's, the one among all types after the first deduplication, by which
//! symbols are compared, and the final one. Between the last two, declarations and variables that gave way are replaced by `void *`,
//! which the second deduplication makes one type; sections of one name become one.

use std::collections::HashMap;

use skep_btf::dedup::Deduplicated;
use skep_btf::{Appended, Btf, Builder, FuncLinkage, Kind, SecVar, Type, TypeDef, TypeId, VarLinkage};

use super::symbols::Thing;
use super::{Input, Merger};
use crate::{Error, Spec};

/// All types of all objects, under common numbers.
pub(super) struct Types {
    builder: Builder,
    /// The types by their common numbers.
    pub(super) btf: Btf,
    /// Each object's own types, and where they went.
    inputs: Vec<Option<(Btf, Appended)>>,
    common: Deduplicated,
    endian: skep_btf::Endian,
}

/// The finished types.
pub(super) struct Finished {
    pub(super) btf: Option<Btf>,
    inputs: Vec<Option<Appended>>,
    common: Deduplicated,
    last: Deduplicated,
    /// Line records of each function, by input and function, with their strings as they are now.
    pub(super) lines: Vec<Vec<Vec<crate::function::LineInfo>>>,
    sections: HashMap<String, TypeId>,
}

/// A variable of a section: its number and place.
#[derive(Clone, Copy)]
pub(super) struct Declared {
    /// The `VAR`, by its common number.
    pub(super) id: TypeId,
    pub(super) offset: u32,
}

/// The variables of one object that are defined, by section and name.
pub(super) type Variables = HashMap<(String, String), Vec<Declared>>;

impl Types {
    pub(super) fn collect(inputs: &[Input<'_>]) -> Result<Types, Error> {
        let mut builder = Builder::new();
        let mut own = Vec::new();
        for input in inputs {
            let bad = |err: skep_btf::Error| Error::new(format!("its types cannot be linked: {err}")).about(input.file);
            own.push(match input.spec.fitted_btf() {
                Some(bytes) => {
                    let btf = Btf::parse(bytes).map_err(bad)?;
                    let appended = builder.append(&btf).map_err(bad)?;
                    Some((btf, appended))
                }
                None => None,
            });
        }
        let endian = inputs.first().map_or(skep_btf::Endian::NATIVE, |it| it.spec.endian);
        let common = builder.dedup().map_err(damaged)?;
        let btf = Btf::parse(builder.finish(endian).map_err(damaged)?).map_err(damaged)?;
        Ok(Types { builder, btf, inputs: own, common, endian })
    }

    /// The common number of a type of an object.
    pub(super) fn id(&self, input: usize, id: TypeId) -> TypeId {
        match self.inputs.get(input) {
            Some(Some((_, appended))) => self.common.type_id(appended.type_id(id)),
            _ => TypeId::VOID,
        }
    }

    /// What an object defines in its sections.
    pub(super) fn variables(&self, input: usize) -> Variables {
        let mut variables = Variables::new();
        self.sections(input, |name, _, vars| {
            for var in vars {
                if let Ok(Type::Var(it)) = self.btf.type_by_id(var.type_id)
                    && it.linkage() != VarLinkage::EXTERN
                {
                    let key = (name.to_owned(), it.name().to_owned());
                    variables.entry(key).or_default().push(Declared { id: var.type_id, offset: var.offset });
                }
            }
        });
        variables
    }

    /// Each section of an object: its name, its own number, and its variables by their common numbers.
    fn sections(&self, input: usize, mut each: impl FnMut(&str, TypeId, Vec<SecVar>)) {
        let Some(Some((btf, _))) = self.inputs.get(input) else { return };
        for id in btf.of_kind(Kind::DATASEC) {
            if let Ok(Type::Datasec(section)) = btf.type_by_id(id) {
                let vars = section.vars().map(|var| SecVar { type_id: self.id(input, var.type_id), ..var });
                each(section.name(), self.id(input, id), vars.collect());
            }
        }
    }

    /// The offset of one of an object's strings among all strings.
    pub(super) fn text(&self, input: usize, off: u32) -> Vec<u8> {
        match self.inputs.get(input) {
            Some(Some((btf, _))) => btf.string_bytes(off).unwrap_or_default().to_vec(),
            _ => Vec::new(),
        }
    }

    /// Leaves out what gave way, joins the sections and gives the final numbers.
    pub(super) fn finish(
        mut self,
        merger: &Merger<'_>,
        lines: Vec<Vec<Vec<super::code::LineText>>>,
    ) -> Result<Finished, Error> {
        let gone = self.gone(merger);
        let any = self.inputs.iter().any(Option::is_some);
        for tag in self.btf.of_kind(Kind::DECL_TAG) {
            let Ok(Type::DeclTag(it)) = self.btf.type_by_id(tag) else { continue };
            match gone.get(&it.type_id()) {
                Some(Some(to)) => self.builder.set_target(tag, *to).map_err(damaged)?,
                Some(None) => self.builder.replace(tag, TypeDef::Ptr(TypeId::VOID)).map_err(damaged)?,
                None => {}
            }
        }
        for id in gone.keys() {
            self.builder.replace(*id, TypeDef::Ptr(TypeId::VOID)).map_err(damaged)?;
        }
        let sections = self.join_sections(merger, &gone)?;
        let mut texts = HashMap::new();
        let mut off_of = |builder: &mut Builder, text: Vec<u8>| -> Result<u32, Error> {
            if let Some(off) = texts.get(&text) {
                return Ok(*off);
            }
            let off = builder.string_bytes(&text).map_err(damaged)?;
            texts.insert(text, off);
            Ok(off)
        };
        let mut placed = Vec::new();
        for functions in lines {
            let mut of_input = Vec::new();
            for records in functions {
                let mut of_function = Vec::with_capacity(records.len());
                for (mut line, file, text) in records {
                    line.file_name_off = off_of(&mut self.builder, file)?;
                    line.line_off = off_of(&mut self.builder, text)?;
                    of_function.push(line);
                }
                of_input.push(of_function);
            }
            placed.push(of_input);
        }
        let last = self.builder.dedup().map_err(damaged)?;
        let sections = sections.into_iter().map(|(name, id)| (name, last.type_id(id))).collect();
        let btf = match any {
            true => Some(Btf::parse(self.builder.finish(self.endian).map_err(damaged)?).map_err(damaged)?),
            false => None,
        };
        let inputs = self.inputs.into_iter().map(|it| it.map(|(_, appended)| appended)).collect();
        Ok(Finished { btf, inputs, common: self.common, last, lines: placed, sections })
    }

    /// Functions and variables that give way, and the ones that take their place.
    fn gone(&self, merger: &Merger<'_>) -> HashMap<TypeId, Option<TypeId>> {
        let mut gone = HashMap::new();
        for symbol in merger.symbols.all() {
            let Some(taken) = symbol.taken() else {
                // Of equal externs, the first describes them all.
                let mut ids = symbol.externs.iter().filter_map(|it| it.btf_id);
                let first = ids.next();
                gone.extend(ids.filter(|id| Some(*id) != first).map(|id| (id, first)));
                continue;
            };
            let given_up = symbol.definitions.iter().filter_map(|it| it.btf_id);
            let given_up = given_up.chain(symbol.externs.iter().filter_map(|it| it.btf_id));
            gone.extend(given_up.filter(|id| Some(*id) != taken.btf_id).map(|id| (id, taken.btf_id)));
        }
        // Declarations that no instruction uses.
        let is_extern = |id: &TypeId| match self.btf.type_by_id(*id) {
            Ok(Type::Var(it)) if it.linkage() == VarLinkage::EXTERN => Some(it.name().to_owned()),
            Ok(Type::Func(it)) if it.linkage() == FuncLinkage::EXTERN => Some(it.name().to_owned()),
            _ => None,
        };
        for id in self.btf.of_kind(Kind::VAR).into_iter().chain(self.btf.of_kind(Kind::FUNC)) {
            let name = is_extern(&id);
            let taken = name.and_then(|name| merger.symbols.get(&name)).and_then(|symbol| symbol.taken());
            if let Some(taken) = taken {
                gone.entry(id).or_insert(taken.btf_id);
            }
        }
        gone
    }

    /// One type for all sections of one name.
    fn join_sections(
        &mut self,
        merger: &Merger<'_>,
        gone: &HashMap<TypeId, Option<TypeId>>,
    ) -> Result<Vec<(String, TypeId)>, Error> {
        struct Joined {
            id: TypeId,
            size: u32,
            vars: Vec<SecVar>,
        }
        let mut order: Vec<String> = Vec::new();
        let mut joined: HashMap<String, Joined> = HashMap::new();
        let mut superfluous = Vec::new();
        for input in 0..self.inputs.len() {
            self.sections(input, |name, id, vars| {
                let once = matches!(name, "license" | "version");
                let into = match joined.get_mut(name) {
                    Some(_) if once => {
                        superfluous.push(id);
                        superfluous.extend(vars.iter().map(|var| var.type_id));
                        return;
                    }
                    Some(into) => {
                        superfluous.push(id);
                        into
                    }
                    None => {
                        order.push(name.to_owned());
                        joined.entry(name.to_owned()).or_insert(Joined { id, size: 0, vars: Vec::new() })
                    }
                };
                // Externs of the kernel have no places yet.
                let placeless = matches!(name, ".ksyms" | ".kconfig");
                let base = match merger.data.base_of_section(input, name) {
                    Some(base) => base,
                    None if placeless => 0,
                    None => into.size.next_multiple_of(8),
                };
                for var in vars {
                    if gone.contains_key(&var.type_id)
                        || placeless && into.vars.iter().any(|it| it.type_id == var.type_id)
                    {
                        continue;
                    }
                    let offset = base.saturating_add(var.offset);
                    into.size = into.size.max(if placeless { 0 } else { offset.saturating_add(var.size) });
                    into.vars.push(SecVar { offset, ..var });
                }
                into.size = merger.data.size(name).unwrap_or(into.size);
            });
        }
        for id in superfluous {
            self.builder.replace(id, TypeDef::Ptr(TypeId::VOID)).map_err(damaged)?;
        }
        let mut ids = Vec::new();
        for name in order {
            let Some(mut it) = joined.remove(&name) else { continue };
            it.vars.sort_by_key(|var| var.offset);
            self.builder
                .replace(it.id, TypeDef::Datasec { name: &name, size: it.size, vars: &it.vars })
                .map_err(damaged)?;
            ids.push((name, it.id));
        }
        Ok(ids)
    }
}

impl Finished {
    /// The number that a type of an object has now.
    pub(super) fn id(&self, input: usize, id: TypeId) -> Option<TypeId> {
        let appended = self.inputs.get(input)?.as_ref()?;
        Some(self.last.type_id(self.common.type_id(appended.type_id(id))))
    }

    /// The number that a common one became.
    pub(super) fn last(&self, common: TypeId) -> TypeId {
        self.last.type_id(common)
    }

    /// The section called `name`.
    pub(super) fn section(&self, name: &str) -> Option<TypeId> {
        self.sections.get(name).copied()
    }
}

fn damaged(err: skep_btf::Error) -> Error {
    Error::new(format!("the types cannot be linked: {err}"))
}

/// The variable behind a symbol, by its common number.
pub(super) fn variable_of(variables: &Variables, spec: &Spec, thing: Thing) -> Option<TypeId> {
    let find = |section: &str, name: &str, offset: Option<u32>| {
        let found = variables.get(&(section.to_owned(), name.to_owned()))?;
        found.iter().find(|it| offset.is_none_or(|offset| it.offset == offset)).map(|it| it.id)
    };
    match thing {
        Thing::Function(_) => None,
        Thing::Variable { map, index } => {
            let map = spec.maps.get(map.0 as usize)?;
            let variable = map.data_section()?.variables.get(index)?;
            find(super::data::section_of(map), &variable.name, Some(variable.off_bytes))
        }
        Thing::Map(map) => {
            let name = &spec.maps.get(map.0 as usize)?.name;
            [".maps", ".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link"]
                .into_iter()
                .find_map(|section| find(section, name, None))
        }
    }
}
