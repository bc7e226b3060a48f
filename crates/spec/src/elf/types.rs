//! `.BTF`, made complete.
//!
//! Compilers leave the sizes of data sections at 0 and the offsets of variables to relocations of `.BTF` itself; the
//! kernel wants both filled in, and so does everyone who reads a variable. This is libbpf's `btf_fixup_datasec`, with one
//! difference: offsets of static variables, too, come from the relocations.
//!
//! Type ids and string offsets stay what they were, since `.BTF.ext` and the instructions' records name them.

use std::collections::HashMap;

use skep_btf::{Btf, Kind, Type, TypeId, VarLinkage};
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
        let btf = match Btf::parse(bytes.clone()) {
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
        self.complete_datasecs(&btf, &mut bytes);
        match Btf::parse(bytes) {
            Ok(btf) => self.spec.btf = Some(btf),
            Err(err) => self.warn(".BTF", format!("the types cannot be completed and are ignored: {err}")),
        }
    }

    fn complete_datasecs(&mut self, btf: &Btf, bytes: &mut [u8]) {
        let datasecs: Vec<TypeId> =
            btf.types().filter(|(_, found)| matches!(found, Type::Datasec(_))).map(|(id, _)| id).collect();
        if datasecs.is_empty() {
            return;
        }
        let Some(layout) = Layout::of(btf, bytes) else { return };
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
            let at = layout.offset(id);
            let fix_offsets = datasec.size() == 0;
            let section = self.elf.section_named(name);
            if fix_offsets && let Some((_, section)) = section {
                write32(bytes, at + 8, section.size as u32, self.elf.endian);
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
                        write32(bytes, layout.offset(var.type_id) + 12, VarLinkage::STATIC.0, self.elf.endian);
                    }
                }
                entries.push((offset, var.type_id.0, var.size));
            }
            entries.sort_by_key(|entry| entry.0);
            for (index, (offset, type_id, size)) in entries.into_iter().enumerate() {
                let entry = at + 12 + index * 12;
                write32(bytes, entry, type_id, self.elf.endian);
                write32(bytes, entry + 4, offset, self.elf.endian);
                write32(bytes, entry + 8, size, self.elf.endian);
            }
        }
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

/// Where each type's record stands in the bytes.
pub(crate) struct Layout {
    offsets: Vec<usize>,
}

impl Layout {
    /// Walks the records of `bytes`, which are those of `btf` (not split); `None` when they do not agree.
    pub(crate) fn of(btf: &Btf, bytes: &[u8]) -> Option<Layout> {
        let endian = btf.endian();
        let mut at = read32(bytes, 4, endian)?.checked_add(read32(bytes, 8, endian)?)? as usize;
        let mut offsets = vec![0];
        for id in 1..btf.len() {
            offsets.push(at);
            let info = read32(bytes, at + 4, endian)?;
            let (kind, n) = (Kind((info >> 24 & 0x7f) as u8), (info & 0xff_ffff) as usize);
            at += 12
                + match kind {
                    Kind::INT | Kind::VAR | Kind::DECL_TAG => 4,
                    Kind::ARRAY => 12,
                    Kind::STRUCT | Kind::UNION | Kind::DATASEC | Kind::ENUM64 => 12 * n,
                    Kind::ENUM | Kind::FUNC_PROTO => 8 * n,
                    _ if kind.0 > Kind::MAX.0 => return None,
                    _ => 0,
                };
            debug_assert!(id < btf.len());
        }
        (at <= bytes.len()).then_some(Layout { offsets })
    }

    /// Offset of the record of `id` in the bytes.
    pub(crate) fn offset(&self, id: TypeId) -> usize {
        self.offsets.get(id.0 as usize).copied().unwrap_or(usize::MAX - 64)
    }
}

pub(crate) fn read32(bytes: &[u8], off: usize, endian: Endian) -> Option<u32> {
    let word: [u8; 4] = bytes.get(off..off.checked_add(4)?)?.try_into().ok()?;
    Some(super::u32_from(word, endian))
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
