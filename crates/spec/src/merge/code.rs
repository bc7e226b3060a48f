//! Functions and programs, and what their instructions refer to now.

use std::collections::HashMap;

use super::Merger;
use super::symbols::{Definition, Thing};
use super::types::{Finished, Types};
use crate::function::{CoreRelo, LineInfo, RefTarget, Reference};
use crate::{ExternId, FuncId, Function, MapId, ProgId, Program};

/// Where everything but maps went.
#[derive(Default)]
pub(super) struct Places {
    pub(super) functions: HashMap<(usize, FuncId), FuncId>,
    /// Programs by the new number of their function.
    pub(super) programs: HashMap<FuncId, ProgId>,
    /// Externs that nobody defines, by name.
    pub(super) externs: HashMap<String, ExternId>,
    pub(super) kconfig_bytes: u64,
}

/// A line record with the texts of its file and its line.
pub(super) type LineText = (LineInfo, Vec<u8>, Vec<u8>);

impl Merger<'_> {
    /// Gives every function that stays its number: one object after the other.
    pub(super) fn number_functions(&mut self) {
        let mut next = 0;
        for (input, it) in self.inputs.iter().enumerate() {
            for id in (0..it.spec.functions.len() as u32).map(FuncId) {
                if self.symbols.instead_of(input, Thing::Function(id)).is_none() {
                    self.places.functions.insert((input, id), FuncId(next));
                    next += 1;
                }
            }
        }
    }

    /// The number that a function has now, that of the one that took its place if it gave way.
    pub(super) fn function(&self, input: usize, id: FuncId) -> Option<FuncId> {
        match self.symbols.instead_of(input, Thing::Function(id)) {
            Some(Definition { input, thing: Thing::Function(other), .. }) => {
                self.places.functions.get(&(*input, *other)).copied()
            }
            Some(_) => None,
            None => self.places.functions.get(&(input, id)).copied(),
        }
    }

    /// The number that a program has now.
    pub(super) fn program(&self, input: usize, id: ProgId) -> Option<ProgId> {
        let entry = self.inputs[input].spec.programs.get(id.0 as usize)?.entry;
        self.places.programs.get(&self.function(input, entry)?).copied()
    }

    /// The line records of all functions, by object and function.
    pub(super) fn lines(&self, types: &Types) -> Vec<Vec<Vec<LineText>>> {
        let of_function = |input: usize, function: &Function| -> Vec<LineText> {
            let text = |off| types.text(input, off);
            function.lines.iter().map(|line| (*line, text(line.file_name_off), text(line.line_off))).collect()
        };
        let inputs = self.inputs.iter().enumerate();
        inputs
            .map(|(input, it)| it.spec.functions.iter().map(|function| of_function(input, function)).collect())
            .collect()
    }

    pub(super) fn add_functions(&mut self, types: &Finished) {
        // Where the next object's part of a section begins.
        let mut ends: HashMap<&str, u64> = HashMap::new();
        for (input, it) in self.inputs.iter().enumerate() {
            let starts = ends.clone();
            for (index, function) in it.spec.functions.iter().enumerate() {
                let start = starts.get(&*function.section).copied().unwrap_or(0);
                let section_off_bytes = start.saturating_add(function.section_off_bytes);
                let end = ends.entry(&function.section).or_default();
                *end = (*end).max(section_off_bytes.saturating_add(function.insns.len() as u64 * 8));
                if !self.places.functions.contains_key(&(input, FuncId(index as u32))) {
                    continue;
                }
                let mut references = Vec::with_capacity(function.references.len());
                for reference in &function.references {
                    match self.target(input, function, reference) {
                        Some(target) => references.push(Reference { target, insn: reference.insn }),
                        None => {
                            let what = format!("instruction {} refers to something that is not there", reference.insn);
                            self.problem(input, &function.name, &what);
                        }
                    }
                }
                let core_relos = function.core_relos.iter().map(|relo| CoreRelo {
                    type_id: types.id(input, relo.type_id).unwrap_or(relo.type_id),
                    ..relo.clone()
                });
                let lines = types.lines.get(input).and_then(|it| it.get(index)).cloned().unwrap_or_default();
                self.spec.functions.push(Function {
                    section_off_bytes,
                    btf_func: function.btf_func.and_then(|id| types.id(input, id)),
                    references,
                    core_relos: core_relos.collect(),
                    lines,
                    ..function.clone()
                });
            }
        }
    }

    pub(super) fn add_programs(&mut self) {
        let several = self.spec.functions.len() > 1;
        for (input, it) in self.inputs.iter().enumerate() {
            for program in &it.spec.programs {
                let Some(&entry) = self.places.functions.get(&(input, program.entry)) else { continue };
                // A lone function in `.text` is a program only where it is alone.
                if several && program.section == ".text" {
                    self.no_programs.push(program.name.clone());
                    continue;
                }
                let id = ProgId(self.spec.programs.len() as u32);
                self.places.programs.insert(entry, id);
                self.spec.programs.push(Program { entry, ..program.clone() });
            }
        }
    }

    fn target(&self, input: usize, function: &Function, reference: &Reference) -> Option<RefTarget> {
        Some(match reference.target {
            RefTarget::Map(id) => RefTarget::Map(self.map(input, id)?),
            RefTarget::JumpTable(id) => RefTarget::JumpTable(self.map(input, id)?),
            RefTarget::MapValue { map, off_bytes } => self.value(input, map, off_bytes)?,
            RefTarget::Call(id) => RefTarget::Call(self.function(input, id)?),
            RefTarget::FuncAddr(id) => RefTarget::FuncAddr(self.function(input, id)?),
            RefTarget::Extern(id) => {
                let name = &self.inputs[input].spec.externs.get(id.0 as usize)?.name;
                match self.symbols.get(name)?.taken() {
                    None => RefTarget::Extern(*self.places.externs.get(name)?),
                    Some(taken) => {
                        let addend = function.insns.get(reference.insn.0 as usize)?.imm;
                        self.defined(taken, addend)?
                    }
                }
            }
            RefTarget::ExternCall(id) => {
                let name = &self.inputs[input].spec.externs.get(id.0 as usize)?.name;
                match self.symbols.get(name)?.taken() {
                    None => RefTarget::ExternCall(*self.places.externs.get(name)?),
                    Some(taken) => match taken.thing {
                        Thing::Function(id) => RefTarget::Call(self.function(taken.input, id)?),
                        Thing::Variable { .. } | Thing::Map(_) => return None,
                    },
                }
            }
        })
    }

    /// The address of a definition, and `addend` bytes more.
    fn defined(&self, taken: &Definition, addend: i32) -> Option<RefTarget> {
        Some(match taken.thing {
            Thing::Function(id) => RefTarget::FuncAddr(self.function(taken.input, id)?),
            Thing::Map(id) => RefTarget::Map(self.map(taken.input, id)?),
            Thing::Variable { map, index } => {
                let data = self.inputs[taken.input].spec.maps.get(map.0 as usize)?.data_section()?;
                let off = data.variables.get(index)?.off_bytes.checked_add_signed(addend)?;
                self.placed(taken.input, map, off)?
            }
        })
    }

    /// An address in a data map, or in the variable that took the place of the one there.
    fn value(&self, input: usize, map: MapId, off: u32) -> Option<RefTarget> {
        if let Some((index, inside)) = self.data.given_up(input, map, off) {
            let taken = self.symbols.instead_of(input, Thing::Variable { map, index })?;
            return self.defined(taken, i32::try_from(inside).ok()?);
        }
        self.placed(input, map, off)
    }

    fn placed(&self, input: usize, map: MapId, off: u32) -> Option<RefTarget> {
        let off_bytes = self.data.base(input, map).checked_add(off)?;
        Some(RefTarget::MapValue { map: self.map(input, map)?, off_bytes })
    }
}
