//! Debugging information: whatever the sections say, every question about a program has an answer or an error, and what is
//! answered can be walked.

use std::collections::HashMap;

use object::{Object, ObjectSection, ObjectSymbol};
use skep_script::dwarf::{Dwarf, Tag};
use skep_script::target::{Architecture, DebugInfo};
use skep_spec::target::TargetError;

/// The sections that are read; an input is an address, then sections: number here, length (u16), bytes.
const SECTIONS: [&str; 10] = [
    ".debug_info",
    ".debug_abbrev",
    ".debug_str",
    ".debug_line",
    ".debug_line_str",
    ".debug_types",
    ".debug_aranges",
    ".debug_ranges",
    ".debug_rnglists",
    ".debug_addr",
];

struct Sections(HashMap<&'static str, Vec<u8>>);

impl DebugInfo for Sections {
    fn architecture(&self) -> Architecture {
        Architecture::X86_64
    }

    fn big_endian(&self) -> bool {
        false
    }

    fn section(&self, name: &str) -> Result<Vec<u8>, TargetError> {
        Ok(self.0.get(name).cloned().unwrap_or_default())
    }
}

/// The sections of a program, once for each of its first functions; relocatable files have no addresses to ask for.
pub(crate) fn sections(file: &[u8]) -> Vec<Vec<u8>> {
    let Ok(elf) = object::File::parse(file) else { return Vec::new() };
    if elf.kind() == object::ObjectKind::Relocatable || elf.section_by_name(".debug_info").is_none() {
        return Vec::new();
    }
    let mut packed = Vec::new();
    for (number, name) in SECTIONS.iter().enumerate() {
        let Some(data) = elf.section_by_name(name).and_then(|section| section.data().ok()) else { continue };
        let Ok(len) = u16::try_from(data.len()) else { return Vec::new() };
        packed.push(number as u8);
        packed.extend(len.to_le_bytes());
        packed.extend(data);
    }
    let functions = elf.symbols().filter(|symbol| symbol.kind() == object::SymbolKind::Text && symbol.size() > 0);
    functions.take(8).map(|symbol| [&symbol.address().to_le_bytes()[..], &packed].concat()).collect()
}

/// Any sections, asked for everything that scripts ask for.
pub(crate) fn ask(data: &[u8]) {
    let Some((address, mut rest)) = data.split_first_chunk::<8>() else { return };
    let mut sections = HashMap::new();
    while let Some(([number, low, high], behind)) = rest.split_first_chunk::<3>() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(behind.len());
        let (bytes, behind) = behind.split_at(len);
        sections.insert(SECTIONS[usize::from(*number) % SECTIONS.len()], bytes.to_vec());
        rest = behind;
    }
    let Ok(Some(dwarf)) = Dwarf::open(&Sections(sections)) else { return };
    if let Ok(Some(function)) = dwarf.function(u64::from_le_bytes(*address)) {
        for param in &function.params {
            let _ = function.btf.size_of(param.ty);
        }
        walk(&function.btf);
    }
    for (tag, name) in [(Tag::Struct, "foo"), (Tag::Union, "either"), (Tag::Enum, "color"), (Tag::Typedef, "point_t")] {
        if let Ok(Some((btf, id))) = dwarf.type_named(tag, name) {
            let _ = btf.resolve(id);
            walk(&btf);
        }
    }
    for (line, column) in [(48, None), (48, Some(2)), (100, None)] {
        if let Ok(lines) = dwarf.lines("args.c", line, column) {
            assert!(lines.file || lines.places.is_empty(), "places in no file");
            assert!(lines.places.windows(2).all(|pair| pair[0].address < pair[1].address), "places are sorted");
        }
    }
}

fn walk(btf: &skep_btf::Btf) {
    btf.validate().expect("what was made is sound");
    let bytes = [0x5a; 64];
    for (id, _) in btf.types().take(64) {
        let _ = skep_btf::value::to_text(skep_btf::value::Value::new(btf, id, &bytes));
    }
}
