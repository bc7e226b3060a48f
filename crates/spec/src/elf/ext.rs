//! `.BTF.ext`: function types, source lines and CO-RE records, handed to the functions that they lie in.

use skep_btf::BtfExt;
use skep_insn::InsnIdx;

use super::Reader;
use super::file::reloc_type;
use super::types::write32;
use crate::function::{CoreRelo, LineInfo};

impl Reader<'_, '_> {
    pub(super) fn read_ext(&mut self) {
        let Some((index, section)) = self.elf.section_named(".BTF.ext") else { return };
        let Some(btf) = self.btf() else { return };
        if section.data.is_empty() {
            return;
        }
        let mut bytes = section.data.to_vec();
        for reloc in &section.relocs {
            if matches!(reloc.r_type, reloc_type::R_BPF_64_ABS32 | reloc_type::R_BPF_64_NODYLD32) {
                let addend =
                    reloc.addend.map(|it| it as u32).or_else(|| self.word32(index, reloc.offset)).unwrap_or_default();
                let value = addend.wrapping_add(self.elf.symbols[reloc.symbol].value as u32);
                write32(&mut bytes, reloc.offset as usize, value, self.elf.endian);
            }
        }
        let ext = match BtfExt::parse(&bytes) {
            Ok(ext) => ext,
            Err(err) => {
                self.warn(".BTF.ext", format!("lines and CO-RE records cannot be read and are ignored: {err}"));
                return;
            }
        };

        let mut lost = 0usize;
        for group in &ext.func_info {
            let Some(section) = self.section_of_group(&btf, group.name_off) else { continue };
            for record in &group.records {
                // Aliases share a place, and with it their type.
                match self.function_at.get(&(section, u64::from(record.insn_off_bytes))) {
                    Some(id) => self.spec.functions[id.0 as usize].btf_func = Some(record.type_id),
                    None => lost += 1,
                }
            }
        }
        for group in &ext.line_info {
            let Some(section) = self.section_of_group(&btf, group.name_off) else { continue };
            for record in &group.records {
                let Some((id, inside)) = self.function_holding(section, u64::from(record.insn_off_bytes)) else {
                    lost += 1;
                    continue;
                };
                self.spec.functions[id.0 as usize].lines.push(LineInfo {
                    insn: InsnIdx((inside / 8) as u32),
                    file_name_off: record.file_name_off,
                    line_off: record.line_off,
                    line_col: record.line_col,
                });
            }
        }
        for group in &ext.core_relo {
            let Some(section) = self.section_of_group(&btf, group.name_off) else { continue };
            for record in &group.records {
                let place = self.function_holding(section, u64::from(record.insn_off_bytes));
                let access = btf.string(record.access_str_off).ok().filter(|access| access.len() <= MAX_ACCESS_BYTES);
                let (Some((id, inside)), Some(access)) = (place.filter(|(_, inside)| inside % 8 == 0), access) else {
                    self.warn(
                        self.elf.sections[section].name.as_ref(),
                        format!("the CO-RE record for offset {} is damaged; it is ignored", record.insn_off_bytes),
                    );
                    continue;
                };
                self.spec.functions[id.0 as usize].core_relos.push(CoreRelo {
                    insn: InsnIdx((inside / 8) as u32),
                    type_id: record.type_id,
                    access: access.to_owned(),
                    kind: record.kind.0,
                });
            }
        }
        if lost > 0 {
            self.warn(".BTF.ext", format!("{lost} records lie in no function; they are ignored"));
        }
        for function in &mut self.spec.functions {
            function.lines.sort_by_key(|line| line.insn);
            function.core_relos.sort_by_key(|relo| relo.insn);
        }
    }

    fn section_of_group(&mut self, btf: &skep_btf::Btf, name_off: u32) -> Option<usize> {
        let name = btf.string(name_off).unwrap_or_default();
        let found = self.elf.section_named(name).map(|(index, _)| index);
        if found.is_none() {
            self.warn(".BTF.ext", format!("describes section `{name}`, which does not exist"));
        }
        found
    }
}

/// No type is nested deeper than a string of this length can say.
const MAX_ACCESS_BYTES: usize = 512;
