//! `.BTF`, made complete.
//!
//! Compilers leave the sizes of data sections at 0 and the offsets of variables to relocations of `.BTF` itself; the
//! kernel wants both filled in, and so does everyone who reads a variable. This is libbpf's `btf_fixup_datasec`, with one
//! difference: offsets of static variables, too, come from the relocations.
//!
//! Type ids and string offsets stay what they were, since `.BTF.ext` and the instructions' records name them.

use std::collections::HashMap;

use skep_btf::{Btf, Edit, Kind, SecVar, Type, TypeId, VarLinkage};
use skep_insn::Endian;

use super::Reader;
use super::file::{STT_FILE, STT_FUNC, STT_SECTION, reloc_type};

impl Reader<'_, '_> {
    pub(super) fn read_types(&mut self) {
        let Some((index, section)) = self.elf.section_named(".BTF") else { return };
        if section.data.is_empty() {
            return;
        }
        let mut bytes = section.data.to_vec();
        for reloc in &section.relocs {
            if !matches!(reloc.r_type, reloc_type::R_BPF_64_ABS32 | reloc_type::R_BPF_64_NODYLD32) {
                continue;
            }
            let symbol = &self.elf.symbols[reloc.symbol];
            let addend = match reloc.addend {
                Some(addend) => addend as u32,
                None => self.word32(index, reloc.offset).unwrap_or_default(),
            };
            write32(&mut bytes, reloc.offset as usize, addend.wrapping_add(symbol.value as u32), self.elf.endian);
        }
        let btf = match Btf::parse(bytes) {
            Ok(btf) if btf.endian() != self.elf.endian => {
                self.warn(".BTF", "has another byte order than the file; the types are ignored");
                return;
            }
            Ok(btf) => btf,
            Err(err) => {
                self.warn(".BTF", format!("the types cannot be read and are ignored: {err}"));
                return;
            }
        };
        match self.complete_datasecs(&btf).map_or(Ok(btf), Btf::parse) {
            Ok(btf) => self.spec.btf = Some(btf),
            Err(err) => self.warn(".BTF", format!("the types cannot be completed and are ignored: {err}")),
        }
    }

    /// The bytes with every data section complete; `None` when there is none.
    fn complete_datasecs(&self, btf: &Btf) -> Option<Vec<u8>> {
        let datasecs = btf.of_kind(Kind::DATASEC);
        if datasecs.is_empty() {
            return None;
        }
        let mut edit = Edit::new(btf);
        let mut variables: HashMap<&str, usize> = HashMap::new();
        for (index, symbol) in self.elf.symbols.iter().enumerate() {
            if symbol.section.is_some()
                && !matches!(symbol.kind, STT_SECTION | STT_FILE | STT_FUNC)
                && !symbol.is_local()
            {
                variables.insert(symbol.name.as_ref(), index);
            }
        }
        for id in datasecs {
            let Ok(Type::Datasec(datasec)) = btf.type_by_id(id) else { continue };
            let name = datasec.name();
            // Externs have no place yet; see `Spec::btf_for_load`.
            if matches!(name, ".ksyms" | ".kconfig") {
                continue;
            }
            let fix_offsets = datasec.size() == 0;
            let section = self.elf.section_named(name);
            if fix_offsets && let Some((_, section)) = section {
                edit.set_size(id, section.size as u32);
            }
            let mut entries = Vec::new();
            for var in datasec.vars() {
                let mut offset = var.offset;
                if let Ok(Type::Var(variable)) = btf.type_by_id(var.type_id)
                    && variable.linkage() == VarLinkage::GLOBAL
                    && let Some(&symbol) = variables.get(variable.name())
                {
                    let symbol = &self.elf.symbols[symbol];
                    if fix_offsets {
                        offset = symbol.value as u32;
                    }
                    if symbol.is_hidden() {
                        edit.set_var_linkage(var.type_id, VarLinkage::STATIC);
                    }
                }
                entries.push(SecVar { offset, ..var });
            }
            entries.sort_by_key(|entry| entry.offset);
            for (index, entry) in entries.into_iter().enumerate() {
                edit.set_section_var(id, index, entry);
            }
        }
        Some(edit.finish())
    }

    /// The `DATASEC` of a section; of several sections with one name, the types describe the first.
    pub(super) fn datasec_of(&self, section: usize) -> Option<TypeId> {
        let name = &self.elf.sections.get(section)?.name;
        let (first, _) = self.elf.section_named(name)?;
        if first == section { self.datasec(name) } else { None }
    }

    /// The data section of the object's types called `name`.
    pub(super) fn datasec(&self, name: &str) -> Option<TypeId> {
        self.spec.btf.as_ref()?.find(name, Kind::DATASEC)
    }
}

/// Writes a word; past the end nothing happens.
pub(crate) fn write32(bytes: &mut [u8], off: usize, value: u32, endian: Endian) {
    let Some(end) = off.checked_add(4) else { return };
    if let Some(place) = bytes.get_mut(off..end) {
        place.copy_from_slice(&match endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    }
}
