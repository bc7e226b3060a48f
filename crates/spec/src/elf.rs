//! ELF in: from an object's bytes to a [`Spec`], and out again ([`write()`]).
//!
//! The order of reading matters, since later parts refer to earlier ones by index:
//!
//! 1. the file's tables ([`file`](self): sections, symbols, relocations), the only step that can fail;
//! 2. types: `.BTF`, with the sizes and offsets of its data sections taken from the ELF symbols, as libbpf does;
//! 3. functions, one for each symbol of a code section, and the programs among them;
//! 4. maps: legacy, BTF-defined, data sections, externs (`.kconfig`, `.ksyms`), struct_ops, in libbpf's order;
//! 5. references: the relocations of code, now that everything they may name has an index;
//! 6. `.BTF.ext`: function types, source lines and CO-RE records, handed to the functions that they lie in.
//!
//! Whatever is odd after step 1 becomes a warning ([`Spec::warnings`]) or, where an instruction depends on it, a
//! [`Fault`](crate::function::Fault) of its function, so that the rest of the object stays usable.

mod btf_maps;
mod code;
mod data;
mod ext;
mod externs;
mod file;
mod jump_tables;
mod legacy_maps;
mod needed;
mod refs;
mod struct_ops;
pub(crate) mod types;
mod write;

use std::collections::HashMap;

use skep_btf::Btf;

pub(crate) use self::btf_maps::number_of;
pub(crate) use self::data::ARENA_SECTION;
pub(crate) use self::externs::{arrange, kconfig_map};
use self::file::ElfFile;
pub use self::needed::{read_needed, without_dwarf};
pub use self::write::write;
use crate::function::Linkage;
use crate::section::SectionTable;
use crate::{Diagnostic, Error, ExternId, FuncId, Map, MapId, ProgId, Spec};

/// More than any object or source that people make, in bytes, and little enough to read by mistake: the limit for those who
/// read files.
pub const MAX_OBJECT_BYTES: u64 = 256 << 20;

/// How to read an object.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What section names mean.
    pub sections: SectionTable,
}

impl Spec {
    /// Reads an object file. `name` is its file name, which gives data maps the start of their names.
    ///
    /// Either byte order is read on any machine. An object that no kernel would take still opens: see
    /// [`Spec::warnings`].
    ///
    /// # Errors
    ///
    /// When `bytes` are no BPF object, or its tables are damaged.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Spec, Error> {
        Spec::parse_with(bytes, name, &Options::default())
    }

    /// As [`Spec::parse`], with section names of one's own.
    ///
    /// # Errors
    ///
    /// As [`Spec::parse`].
    pub fn parse_with(bytes: &[u8], name: &str, options: &Options) -> Result<Spec, Error> {
        let elf = ElfFile::parse(bytes)?;
        let mut reader = Reader::new(&elf, object_name(name), options, bytes.len());
        reader.read_types();
        reader.read_license_and_version();
        reader.read_functions()?;
        reader.read_legacy_maps();
        reader.read_btf_maps();
        reader.read_data_sections();
        reader.read_externs();
        reader.read_struct_ops();
        reader.read_map_slots();
        reader.read_references();
        reader.read_ext();
        reader.fill_aliases();
        Ok(reader.spec)
    }
}

/// The file's stem up to the first dot, as libbpf takes it (`bpf_object__new`).
fn object_name(file_name: &str) -> String {
    let base = file_name.rsplit('/').next().unwrap_or(file_name);
    base.split('.').next().unwrap_or(base).to_owned()
}

/// An object being read.
struct Reader<'e, 'a> {
    elf: &'e ElfFile<'a>,
    options: &'e Options,
    spec: Spec,
    /// Functions by section and offset.
    function_at: HashMap<(usize, u64), FuncId>,
    /// Functions of each section by offset, for finding the one that an offset lies in.
    functions_in: HashMap<usize, Vec<FuncId>>,
    /// Functions that share their place with an earlier one.
    aliases: Vec<(FuncId, FuncId)>,
    /// Section of each function.
    section_of: Vec<usize>,
    /// Programs by their function.
    program_of: HashMap<FuncId, ProgId>,
    /// Map definitions by section and offset.
    map_at: HashMap<(usize, u64), MapId>,
    /// Data maps, and the arena, by section.
    map_of_section: HashMap<usize, MapId>,
    /// Externs by symbol.
    extern_of_symbol: HashMap<usize, ExternId>,
    /// Who may see the shared symbols of a section, by place and name, once asked for.
    symbol_at: HashMap<usize, HashMap<(u64, &'e str), Linkage>>,
    /// Jump tables by function, and place and size in `.jumptables`.
    jump_tables: HashMap<(FuncId, u64, u64), MapId>,
    /// Sizes of jump tables by place, from their symbols, once asked for.
    table_sizes: Option<HashMap<u64, u64>>,
    /// Map definitions with slots to be filled by relocations.
    slotted: Vec<btf_maps::Slotted>,
    /// How many instruction slots and jump targets may be copied out of the file; aliases of functions share a place in it, so the file's
    /// size alone is no bound.
    slots_left: usize,
}

impl<'e, 'a> Reader<'e, 'a> {
    fn new(elf: &'e ElfFile<'a>, name: String, options: &'e Options, file_len: usize) -> Reader<'e, 'a> {
        Reader {
            elf,
            options,
            spec: Spec { endian: elf.endian, ..Spec::new(&name) },
            function_at: HashMap::new(),
            functions_in: HashMap::new(),
            aliases: Vec::new(),
            section_of: Vec::new(),
            program_of: HashMap::new(),
            map_at: HashMap::new(),
            map_of_section: HashMap::new(),
            extern_of_symbol: HashMap::new(),
            symbol_at: HashMap::new(),
            jump_tables: HashMap::new(),
            table_sizes: None,
            slotted: Vec::new(),
            slots_left: file_len / 2,
        }
    }

    fn warn(&mut self, subject: impl Into<String>, message: impl Into<String>) {
        self.warn_with(subject, message, None);
    }

    fn warn_with(&mut self, subject: impl Into<String>, message: impl Into<String>, hint: Option<String>) {
        let warning = Diagnostic { subject: shorten(subject.into()), message: shorten(message.into()), hint };
        // A damaged file may hold the same fault a million times; a person reads a few.
        if self.spec.warnings.len() < MAX_WARNINGS {
            self.spec.warnings.push(warning);
        }
    }

    fn btf(&self) -> Option<Btf> {
        self.spec.btf.clone()
    }

    fn add_map(&mut self, map: Map) -> MapId {
        let id = MapId(self.spec.maps.len() as u32);
        self.spec.maps.push(map);
        id
    }

    fn read_license_and_version(&mut self) {
        if let Some((_, section)) = self.elf.section_named("license") {
            let text = section.data.split(|&byte| byte == 0).next().unwrap_or_default();
            self.spec.license = Some(String::from_utf8_lossy(text).into_owned());
        }
        if let Some((_, section)) = self.elf.section_named("version") {
            match <[u8; 4]>::try_from(section.data) {
                Ok(word) => self.spec.kernel_version = Some(u32_from(word, self.elf.endian)),
                Err(_) => self.warn("version", "the section must hold a 32-bit number; it is ignored"),
            }
        }
    }

    /// The 32-bit word at `off` of section `section`; `None` past its end.
    fn word32(&self, section: usize, off: u64) -> Option<u32> {
        let off = usize::try_from(off).ok()?;
        let bytes = self.elf.sections.get(section)?.data.get(off..off.checked_add(4)?)?;
        Some(u32_from(bytes.try_into().ok()?, self.elf.endian))
    }

    /// The 64-bit word at `off` of section `section`; `None` past its end.
    fn word64(&self, section: usize, off: u64) -> Option<u64> {
        let (first, second) = (self.word32(section, off)?, self.word32(section, off.checked_add(4)?)?);
        Some(match self.elf.endian {
            skep_insn::Endian::Little => u64::from(second) << 32 | u64::from(first),
            skep_insn::Endian::Big => u64::from(first) << 32 | u64::from(second),
        })
    }
}

const MAX_WARNINGS: usize = 1000;
const MAX_WARNING_BYTES: usize = 2000;

/// Names in a damaged file may be megabytes long.
fn shorten(mut text: String) -> String {
    if text.len() > MAX_WARNING_BYTES {
        let end = (0..=MAX_WARNING_BYTES).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.shrink_to_fit();
    }
    text
}

fn u32_from(word: [u8; 4], endian: skep_insn::Endian) -> u32 {
    match endian {
        skep_insn::Endian::Little => u32::from_le_bytes(word),
        skep_insn::Endian::Big => u32::from_be_bytes(word),
    }
}

/// For fuzzers and mutation tests: opens `bytes` and goes over everything that a user of the result would.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    if let Ok(spec) = Spec::parse(bytes, "fuzz.bpf.o") {
        let _ = format!("{spec}");
        let _ = spec.btf_for_load();
        let target = crate::resolve::Mirror(&spec);
        let resolved = crate::resolve::resolve(&spec, &target);
        let _ = resolved.btf_for_load(&spec);
        let input = crate::merge::Input { file: "fuzz.bpf.o", spec: &spec };
        if let Ok(merged) = crate::merge::merge("fuzz", &[input]) {
            let _ = format!("{merged}");
            let _ = merged.btf_for_load();
        }
        let _ = crate::merge::merge("fuzz", &[input, input]);
        for (id, map) in spec.maps() {
            let _ = spec.kernel_map_name(id);
            // Zero-filled sections may claim any size: the sizes are the file's word, the bytes are not made.
            if map.value_size < 1 << 20 {
                let _ = map.initial_value();
            }
        }
    }
}
