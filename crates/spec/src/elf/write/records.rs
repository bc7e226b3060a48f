//! `.BTF` and `.BTF.ext`: the types, and per section what they say about its instructions.

use object::SectionKind;
use skep_btf::{BtfExt, Builder, CoreRelo, CoreReloKind, ExtSection, FuncInfo, LineInfo};

use super::Writer;
use crate::{Error, Function};

impl Writer<'_> {
    pub(super) fn write_types(&mut self) -> Result<(), Error> {
        let Some(mut types) = self.types.take() else { return Ok(()) };
        let ext = self.ext(&mut types).map_err(|err| Error::new(err.to_string()).in_section(".BTF.ext"))?;
        let bytes = types.finish(self.spec.endian).map_err(|err| Error::new(err.to_string()).in_section(".BTF"))?;
        let section = self.section(".BTF", SectionKind::Other);
        self.object.append_section_data(section, &bytes, 4);
        // libbpf takes no section without records.
        if ext == BtfExt::default() {
            return Ok(());
        }
        let section = self.section(".BTF.ext", SectionKind::Other);
        self.object.append_section_data(section, &ext.to_bytes(self.spec.endian), 4);
        Ok(())
    }

    fn ext(&self, types: &mut Builder) -> Result<BtfExt, skep_btf::Error> {
        let mut ext = BtfExt::default();
        let mut names: Vec<&str> = self.places.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let mut functions: Vec<(u32, &Function)> = self
                .places
                .iter()
                .zip(&self.aliases)
                .zip(&self.spec.functions)
                .filter(|(((section, _), alias), _)| section == name && !**alias)
                .map(|(((_, off), _), function)| (*off as u32, function))
                .collect();
            functions.sort_by_key(|(off, _)| *off);
            let name_off = types.string(name)?;
            let func_info = functions
                .iter()
                .filter_map(|(off, function)| Some(FuncInfo { insn_off_bytes: *off, type_id: function.btf_func? }))
                .collect();
            let line_info = functions
                .iter()
                .flat_map(|(off, function)| {
                    function.lines.iter().map(move |line| LineInfo {
                        insn_off_bytes: off + line.insn.0 * 8,
                        file_name_off: line.file_name_off,
                        line_off: line.line_off,
                        line_col: line.line_col,
                    })
                })
                .collect();
            let mut core_relo = Vec::new();
            for (off, function) in &functions {
                for relo in &function.core_relos {
                    core_relo.push(CoreRelo {
                        insn_off_bytes: off + relo.insn.0 * 8,
                        type_id: relo.type_id,
                        access_str_off: types.string(&relo.access)?,
                        kind: CoreReloKind(relo.kind),
                    });
                }
            }
            push(&mut ext.func_info, name_off, func_info);
            push(&mut ext.line_info, name_off, line_info);
            push(&mut ext.core_relo, name_off, core_relo);
        }
        Ok(ext)
    }
}

fn push<T>(sections: &mut Vec<ExtSection<T>>, name_off: u32, records: Vec<T>) {
    if !records.is_empty() {
        sections.push(ExtSection { name_off, records });
    }
}
