//! Variables of `.struct_ops`, `.struct_ops.link` and their `?` forms: kernel structures filled with programs.

use skep_btf::Type;

use super::Reader;
use super::btf_maps::blank;
use super::file::MAX_NAME_BYTES;
use crate::external::{ExternId, ExternKind};
use crate::map::{BPF_F_LINK, MapContents, MapOrigin, MapType, StructOps};

impl Reader<'_, '_> {
    pub(super) fn read_struct_ops(&mut self) {
        for name in [".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link"] {
            if let Some((index, _)) = self.elf.section_named(name) {
                self.read_struct_ops_section(index, name);
            }
        }
    }

    fn read_struct_ops_section(&mut self, section: usize, name: &str) {
        let elf = self.elf;
        let Some(btf) = self.btf() else {
            self.warn_with(name, "cannot be read: the object has no types", Some("compile with `-g`".to_owned()));
            return;
        };
        let Some(Ok(Type::Datasec(datasec))) = self.datasec(name).map(|id| btf.type_by_id(id)) else {
            self.warn_with(name, "the object's types do not describe it", Some("compile with `-g`".to_owned()));
            return;
        };
        let data = elf.sections[section].data;
        let mut left = data.len();
        for entry in datasec.vars() {
            let Ok(Type::Var(var)) = btf.type_by_id(entry.type_id) else { continue };
            if var.name().len() > MAX_NAME_BYTES {
                continue;
            }
            left = match left.checked_sub(entry.size as usize) {
                Some(left) => left,
                None => {
                    self.warn(name, "its variables overlap; the rest of them is ignored");
                    return;
                }
            };
            let (off, size) = (entry.offset as usize, entry.size as usize);
            let bytes = off.checked_add(size).and_then(|end| data.get(off..end));
            let (Ok((type_id, Type::Struct(_))), Some(bytes)) = (btf.resolve(var.type_id()), bytes) else {
                self.warn(var.name(), format!("is no structure inside of section `{name}`"));
                continue;
            };
            let (mut programs, mut externs) = (Vec::new(), Vec::new());
            let start = elf.sections[section].relocs.partition_point(|reloc| reloc.offset < off as u64);
            for reloc in
                elf.sections[section].relocs[start..].iter().take_while(|reloc| reloc.offset < (off + size) as u64)
            {
                let symbol = &elf.symbols[reloc.symbol];
                let addend =
                    reloc.addend.or_else(|| self.word64(section, reloc.offset).map(|word| word as i64)).unwrap_or(0);
                let place = symbol.section.zip(symbol.value.checked_add_signed(addend));
                let member = (reloc.offset - off as u64) as u32;
                let external = self.extern_of_symbol.get(&reloc.symbol).copied();
                let external = external.or_else(|| self.untyped_extern(reloc.symbol, MapType::PROG_ARRAY));
                let is_function = |id: &ExternId| matches!(self.spec.external(*id).kind, ExternKind::Function { .. });
                match (place.and_then(|place| self.program_at(place)), external.filter(is_function)) {
                    (Some(program), _) => programs.push((member, program)),
                    (None, Some(external)) if place.is_none() => externs.push((member, external)),
                    _ => self.warn(
                        var.name(),
                        format!(
                            "the member at byte {} names `{}`, which is no program",
                            reloc.offset - off as u64,
                            symbol.name
                        ),
                    ),
                }
            }
            let link = name.ends_with(".link");
            let mut map = blank(var.name());
            map.map_type = MapType::STRUCT_OPS;
            (map.key_size, map.value_size, map.max_entries) = (4, entry.size, 1);
            map.flags = if link { BPF_F_LINK } else { 0 };
            map.contents = MapContents::StructOps(StructOps { type_id, data: bytes.to_vec(), programs, externs, link });
            map.origin = MapOrigin::StructOps;
            map.autocreate = !name.starts_with('?');
            self.add_map(map);
        }
    }
}
