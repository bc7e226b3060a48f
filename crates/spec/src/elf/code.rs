//! Code sections to functions, and functions to programs.
//!
//! A function is what a function symbol covers. Global functions outside `.text` are programs; static ones, wherever they
//! stand, and everything in `.text` are subprograms, except that a lone function in `.text` is a program, as in libbpf
//! (`prog_is_subprog`). Symbols without a size (hand-written assembly, compilers before LLVM 7) reach to the next symbol.

use std::collections::hash_map::Entry;

use skep_insn::slots_from_bytes;

use super::Reader;
use super::file::{STT_FUNC, STT_NOTYPE, Symbol};
use crate::function::Linkage;
use crate::{Error, FuncId, Function, ProgId, Program};

impl Reader<'_, '_> {
    pub(super) fn read_functions(&mut self) -> Result<(), Error> {
        let mut by_section: Vec<Vec<usize>> = vec![Vec::new(); self.elf.sections.len()];
        for (index, symbol) in self.elf.symbols.iter().enumerate() {
            if let Some(section) = symbol.section
                && matches!(symbol.kind, STT_FUNC | STT_NOTYPE)
                && self.elf.sections[section].is_code()
            {
                by_section[section].push(index);
            }
        }
        for (section, mut symbols) in by_section.into_iter().enumerate() {
            let code = &self.elf.sections[section];
            if !code.is_code() || code.data.is_empty() {
                continue;
            }
            if symbols.iter().any(|&symbol| self.elf.symbols[symbol].kind == STT_FUNC) {
                symbols.retain(|&symbol| self.elf.symbols[symbol].kind == STT_FUNC);
            } else {
                // Without function types, global labels are functions; local ones are jump targets.
                symbols.retain(|&symbol| !self.elf.symbols[symbol].is_local());
            }
            if symbols.is_empty() {
                self.warn(code.name.as_ref(), "holds code but no function symbol; it is ignored");
                continue;
            }
            symbols.sort_by_key(|&symbol| self.elf.symbols[symbol].value);
            self.read_section(section, &symbols)?;
        }
        self.find_programs();
        Ok(())
    }

    /// Cuts one section into functions. `symbols` are sorted by offset.
    fn read_section(&mut self, section: usize, symbols: &[usize]) -> Result<(), Error> {
        let code = &self.elf.sections[section];
        for (position, &index) in symbols.iter().enumerate() {
            let symbol = &self.elf.symbols[index];
            let next = symbols[position + 1..]
                .iter()
                .map(|&next| self.elf.symbols[next].value)
                .find(|&value| value > symbol.value)
                .unwrap_or(code.data.len() as u64);
            let size = if symbol.size == 0 { next.saturating_sub(symbol.value) } else { symbol.size };
            let range = usize::try_from(symbol.value)
                .ok()
                .zip(symbol.value.checked_add(size).and_then(|end| usize::try_from(end).ok()));
            let Some(bytes) = range.and_then(|(start, end)| code.data.get(start..end)) else {
                self.warn(
                    symbol.name.as_ref(),
                    format!(
                        "reaches from {} over {size} bytes of section `{}`, which has {}; it is ignored",
                        symbol.value,
                        code.name,
                        code.data.len()
                    ),
                );
                continue;
            };
            let insns = match slots_from_bytes(bytes, self.elf.endian) {
                Ok(insns) if symbol.value.is_multiple_of(8) && !insns.is_empty() => insns,
                _ => {
                    self.warn(
                        symbol.name.as_ref(),
                        format!(
                            "{size} bytes at offset {} of section `{}` are no instructions of 8 bytes; it is ignored",
                            symbol.value, code.name
                        ),
                    );
                    continue;
                }
            };
            self.slots_left = self.slots_left.checked_sub(insns.len()).ok_or_else(|| {
                Error::new("functions overlap more than any compiler makes them")
                    .in_section(&code.name)
                    .at(symbol.value)
                    .about(&symbol.name)
            })?;
            let id = FuncId(self.spec.functions.len() as u32);
            self.spec.functions.push(Function {
                section_off_bytes: symbol.value,
                linkage: linkage(symbol),
                hidden: !symbol.is_local() && symbol.is_hidden(),
                ..Function::new(&symbol.name, &code.name, insns)
            });
            self.section_of.push(section);
            match self.function_at.entry((section, symbol.value)) {
                Entry::Vacant(place) => {
                    place.insert(id);
                    self.functions_in.entry(section).or_default().push(id);
                }
                Entry::Occupied(first) => self.aliases.push((id, *first.get())),
            }
        }
        Ok(())
    }

    fn find_programs(&mut self) {
        let lone = self.spec.functions.len() == 1;
        for index in 0..self.spec.functions.len() {
            let function = &self.spec.functions[index];
            let text = function.section == ".text";
            // A hidden global function outside `.text` is still meant to be entered; it counts as static only when called.
            let entry = match function.linkage {
                Linkage::Static => false,
                Linkage::Global | Linkage::Weak => !text || lone && !function.hidden,
            };
            if !entry {
                continue;
            }
            let (name, section) = (function.name.clone(), function.section.clone());
            let (section, autoload) = match section.strip_prefix('?') {
                Some(rest) => (rest.to_owned(), false),
                None => (section, true),
            };
            let meaning = self.options.sections.lookup(&section);
            if let Some((message, hint)) = meaning.warning {
                self.warn_with(name.clone(), message, hint);
            }
            let (id, entry) = (ProgId(self.spec.programs.len() as u32), FuncId(index as u32));
            self.program_of.insert(entry, id);
            self.spec.programs.push(Program {
                name,
                entry,
                section,
                prog_type: meaning.prog_type,
                attach_type: meaning.attach_type,
                attach_type_required: meaning.attach_type_required,
                flags: meaning.flags,
                attach: meaning.attach,
                autoload,
            });
        }
    }

    /// Gives aliases what relocations and records said about the function whose place they share.
    pub(super) fn fill_aliases(&mut self) {
        for (alias, first) in std::mem::take(&mut self.aliases) {
            let first = self.spec.function(first);
            let n_insns = first.insns.len();
            // Compilers write less than one record for each instruction; more would multiply.
            if n_insns != self.spec.function(alias).insns.len()
                || first.lines.len().max(first.core_relos.len()) > n_insns
                || first.faults.len() > n_insns
            {
                continue;
            }
            let copy = Function { name: String::new(), section: String::new(), insns: Vec::new(), ..first.clone() };
            let alias = &mut self.spec.functions[alias.0 as usize];
            alias.btf_func = copy.btf_func;
            alias.references = copy.references;
            alias.core_relos = copy.core_relos;
            alias.lines = copy.lines;
            alias.faults = copy.faults;
        }
    }

    /// The function of `section` that `off_bytes` lies in, and the offset in it.
    pub(super) fn function_holding(&self, section: usize, off_bytes: u64) -> Option<(FuncId, u64)> {
        let functions = self.functions_in.get(&section)?;
        let after = functions.partition_point(|&id| self.spec.function(id).section_off_bytes <= off_bytes);
        let at = after.checked_sub(1)?;
        let function = self.spec.function(functions[at]);
        let inside = off_bytes - function.section_off_bytes;
        (inside < function.insns.len() as u64 * 8).then_some((functions[at], inside))
    }
}

pub(super) fn linkage(symbol: &Symbol<'_>) -> Linkage {
    if symbol.is_local() {
        Linkage::Static
    } else if symbol.is_weak() {
        Linkage::Weak
    } else {
        Linkage::Global
    }
}
