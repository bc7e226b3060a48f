//! The raw ELF file: sections, symbols and relocations, checked once so that the rest need not.
//!
//! BPF objects are 64-bit relocatable files of machine 247 (`EM_BPF`), of either byte order. Only names, sizes and
//! relations are read here; what a section means is decided by the files beside this one.
//!
//! Memory stays within a small multiple of the file: the contents of sections must lie inside the file and may not
//! overlap in sum ([`ElfFile::parse`] refuses more bytes of sections than the file has), and everything else is read
//! from them.

use std::borrow::Cow;
use std::collections::HashMap;

use object::elf;
use object::read::elf::{FileHeader as _, Rel as _, Rela as _, SectionHeader as _, Sym as _};
use object::{Endianness, SectionIndex};
use skep_insn::Endian;

use crate::Error;

pub(super) type Header = elf::FileHeader64<Endianness>;

/// `EM_NONE`: very old compilers wrote it for BPF.
const EM_NONE: u16 = 0;
const EM_BPF: u16 = 247;
const ET_REL: u16 = 1;
/// Longest name, in bytes. Many entries may share one, so a longer one would multiply.
pub(crate) const MAX_NAME_BYTES: usize = 1024;

pub(crate) const SHT_PROGBITS: u32 = 1;
pub(crate) const SHT_RELA: u32 = 4;
pub(crate) const SHT_NOBITS: u32 = 8;
pub(crate) const SHT_REL: u32 = 9;
pub(crate) const SHF_EXECINSTR: u64 = 4;

pub(crate) const STB_LOCAL: u8 = 0;
pub(crate) const STB_WEAK: u8 = 2;
pub(crate) const STT_NOTYPE: u8 = 0;
pub(crate) const STT_OBJECT: u8 = 1;
pub(crate) const STT_FUNC: u8 = 2;
pub(crate) const STT_SECTION: u8 = 3;
pub(crate) const STT_FILE: u8 = 4;
pub(crate) const STV_INTERNAL: u8 = 1;
pub(crate) const STV_HIDDEN: u8 = 2;

/// The relocation types of machine 247 (`llvm/include/llvm/BinaryFormat/ELFRelocs/BPF.def`).
pub(crate) mod reloc_type {
    /// Nothing.
    pub(crate) const R_BPF_NONE: u32 = 0;
    /// Both immediates of a wide load.
    pub(crate) const R_BPF_64_64: u32 = 1;
    /// An eight-byte word of data.
    pub(crate) const R_BPF_64_ABS64: u32 = 2;
    /// A four-byte word of data.
    pub(crate) const R_BPF_64_ABS32: u32 = 3;
    /// A four-byte word of `.BTF` and `.BTF.ext`, left alone by dynamic linkers.
    pub(crate) const R_BPF_64_NODYLD32: u32 = 4;
    /// The immediate of a call.
    pub(crate) const R_BPF_64_32: u32 = 10;
}

/// An object file.
#[derive(Debug)]
pub(crate) struct ElfFile<'a> {
    pub(crate) endian: Endian,
    /// Sections by index; entry 0 is the null section.
    pub(crate) sections: Vec<Section<'a>>,
    /// Symbols by index; entry 0 is the null symbol.
    pub(crate) symbols: Vec<Symbol<'a>>,
    /// The first section of each name: a damaged file may hold so many that looking through them is too slow.
    by_name: HashMap<Cow<'a, str>, usize>,
    /// The symbols defined in each section, in the order of the table.
    by_section: Vec<Vec<usize>>,
}

#[derive(Debug)]
pub(crate) struct Section<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    /// Size in bytes, which for a section without bytes (`SHT_NOBITS`) may be anything.
    pub(crate) size: u64,
    /// What its address must be a multiple of; 0 and 1 are the same.
    pub(crate) align: u64,
    /// Its bytes; empty for a section without bytes.
    pub(crate) data: &'a [u8],
    /// Relocations that apply to it, by offset.
    pub(crate) relocs: Vec<Reloc>,
}

impl Section<'_> {
    pub(crate) fn is_code(&self) -> bool {
        self.kind == SHT_PROGBITS && self.flags & SHF_EXECINSTR != 0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Reloc {
    /// Offset in the section that it applies to, in bytes.
    pub(crate) offset: u64,
    /// Index into [`ElfFile::symbols`].
    pub(crate) symbol: usize,
    pub(crate) r_type: u32,
    /// Only in `SHT_RELA` sections, which compilers for BPF do not write; else the addend is in the place itself.
    pub(crate) addend: Option<i64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Symbol<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: u64,
    pub(crate) size: u64,
    pub(crate) binding: u8,
    pub(crate) kind: u8,
    pub(crate) visibility: u8,
    /// Section that it is defined in; `None` when undefined, absolute or common.
    pub(crate) section: Option<usize>,
    pub(crate) undefined: bool,
}

impl Symbol<'_> {
    pub(crate) fn is_local(&self) -> bool {
        self.binding == STB_LOCAL
    }

    pub(crate) fn is_weak(&self) -> bool {
        self.binding == STB_WEAK
    }

    pub(crate) fn is_hidden(&self) -> bool {
        matches!(self.visibility, STV_HIDDEN | STV_INTERNAL)
    }
}

impl<'a> ElfFile<'a> {
    /// Reads the tables of `bytes`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<ElfFile<'a>, Error> {
        identify(bytes)?;
        let header = Header::parse(bytes).map_err(|err| refused(err, "the file header"))?;
        let endianness = header.endian().map_err(|err| refused(err, "the file header"))?;
        let endian = match endianness {
            Endianness::Little => Endian::Little,
            Endianness::Big => Endian::Big,
        };
        let machine = header.e_machine(endianness).0;
        if machine != EM_BPF && machine != EM_NONE {
            return Err(Error::new(format!("not BPF: the file is for machine {machine}, and BPF is {EM_BPF}"))
                .hint("compile with `clang -target bpf -g -O2 -c`"));
        }
        let e_type = header.e_type(endianness).0;
        if e_type != ET_REL {
            return Err(Error::new(format!("the file is of type {e_type}, not a relocatable object"))
                .hint("compile with `-c`, without linking"));
        }
        let table = header.sections(endianness, bytes).map_err(|err| refused(err, "the section table"))?;

        let mut sections = Vec::with_capacity(table.len());
        let mut total = 0u64;
        for (index, header) in table.enumerate() {
            let at = |err| refused(err, &format!("section {}", index.0));
            let name = text(table.section_name(endianness, header).map_err(at)?)?;
            let data: &[u8] =
                header.data(endianness, bytes).map_err(|err| refused(err, "its bytes").in_section(&name))?;
            total = total.saturating_add(data.len() as u64);
            if total > bytes.len() as u64 {
                return Err(Error::new("sections overlap: together they are larger than the file").in_section(&name));
            }
            sections.push(Section {
                name,
                kind: header.sh_type(endianness).0,
                flags: header.sh_flags(endianness).0,
                size: header.sh_size(endianness),
                align: header.sh_addralign(endianness),
                data,
                relocs: Vec::new(),
            });
        }

        let table_symbols =
            table.symbols(endianness, bytes, elf::SHT_SYMTAB).map_err(|err| refused(err, "the symbol table"))?;
        let mut symbols = Vec::with_capacity(table_symbols.len());
        for (index, sym) in table_symbols.enumerate() {
            let at = |err| refused(err, &format!("symbol {}", index.0)).in_section(".symtab");
            let section = table_symbols.symbol_section(endianness, sym, index).map_err(at)?;
            let section = section.map(|SectionIndex(section)| section).filter(|&section| section != 0);
            if let Some(section) = section.filter(|&section| section >= sections.len()) {
                return Err(Error::new(format!("symbol {} is in section {section}, which does not exist", index.0))
                    .in_section(".symtab"));
            }
            let kind = sym.st_type().0;
            let name = match section {
                Some(section) if kind == STT_SECTION => sections[section].name.clone(),
                _ => text(table_symbols.symbol_name(endianness, sym).map_err(at)?)?,
            };
            symbols.push(Symbol {
                name,
                value: sym.st_value(endianness),
                size: sym.st_size(endianness),
                binding: sym.st_bind().0,
                kind,
                visibility: sym.st_visibility().0,
                section,
                undefined: sym.is_undefined(endianness),
            });
        }

        for header in table.iter() {
            read_relocs(header, endianness, bytes, &mut sections, symbols.len())?;
        }
        for section in &mut sections {
            section.relocs.sort_by_key(|reloc| reloc.offset);
        }
        let mut by_name = HashMap::new();
        for (index, section) in sections.iter().enumerate().skip(1) {
            by_name.entry(section.name.clone()).or_insert(index);
        }
        let mut by_section = vec![Vec::new(); sections.len()];
        for (index, symbol) in symbols.iter().enumerate() {
            if let Some(section) = symbol.section {
                by_section[section].push(index);
            }
        }
        Ok(ElfFile { endian, sections, symbols, by_name, by_section })
    }

    /// The symbols that section `section` defines.
    pub(crate) fn symbols_in(&self, section: usize) -> impl Iterator<Item = &Symbol<'a>> {
        self.by_section.get(section).into_iter().flatten().map(|&index| &self.symbols[index])
    }

    /// The first section called `name`.
    pub(crate) fn section_named(&self, name: &str) -> Option<(usize, &Section<'a>)> {
        let index = *self.by_name.get(name)?;
        Some((index, &self.sections[index]))
    }
}

/// Whether a section of this name holds DWARF, which nothing here reads.
pub(super) fn is_debug(name: &[u8]) -> bool {
    name.starts_with(b".debug")
}

/// Adds what one `SHT_REL` or `SHT_RELA` section holds to the section that it applies to.
fn read_relocs(
    header: &elf::SectionHeader64<Endianness>,
    endianness: Endianness,
    bytes: &[u8],
    sections: &mut [Section<'_>],
    n_symbols: usize,
) -> Result<(), Error> {
    let kind = header.sh_type(endianness).0;
    if kind != SHT_REL && kind != SHT_RELA {
        return Ok(());
    }
    let target = header.sh_info(endianness) as usize;
    let Some(section) = sections.get_mut(target).filter(|_| target != 0) else {
        return Err(Error::new(format!("relocations for section {target}, which does not exist")));
    };
    if is_debug(section.name.as_bytes()) || section.name == ".eh_frame" {
        return Ok(());
    }
    let name = section.name.clone();
    let bad = |err| refused(err, "its relocations").in_section(&name);
    let mut push = |offset: u64, symbol: u32, r_type: u32, addend: Option<i64>| {
        let symbol = symbol as usize;
        if symbol >= n_symbols {
            return Err(Error::new(format!("a relocation names symbol {symbol}, but there are {n_symbols}"))
                .in_section(&name)
                .at(offset));
        }
        section.relocs.push(Reloc { offset, symbol, r_type, addend });
        Ok(())
    };
    if let Some((rels, _)) = header.rel(endianness, bytes).map_err(bad)? {
        for rel in rels {
            push(rel.r_offset(endianness), rel.r_sym(endianness), rel.r_type(endianness).0, None)?;
        }
    }
    if let Some((relas, _)) = header.rela(endianness, bytes).map_err(bad)? {
        for rela in relas {
            push(
                rela.r_offset(endianness),
                rela.r_sym(endianness, false),
                rela.r_type(endianness, false).0,
                Some(rela.r_addend(endianness)),
            )?;
        }
    }
    Ok(())
}

/// Says what a file is that is not a 64-bit ELF file.
fn identify(bytes: &[u8]) -> Result<(), Error> {
    match bytes {
        [0x7f, b'E', b'L', b'F', 2, ..] => Ok(()),
        [0x7f, b'E', b'L', b'F', 1, ..] => {
            Err(Error::new("a 32-bit ELF file; BPF objects are 64-bit")
                .hint("compile with `clang -target bpf -g -O2 -c`"))
        }
        [] => Err(Error::new("the file is empty")),
        [b'B', b'C', 0xc0, 0xde, ..] => {
            Err(Error::new("LLVM bitcode, not an object").hint("compile without `-emit-llvm` and without `-flto`"))
        }
        _ => Err(Error::new("not an ELF file").hint("compile with `clang -target bpf -g -O2 -c`")),
    }
}

/// A name. Names longer than any compiler's are refused, since many entries may share one.
fn text(bytes: &[u8]) -> Result<Cow<'_, str>, Error> {
    if bytes.len() > MAX_NAME_BYTES {
        return Err(Error::new(format!("a name of {} bytes is too long", bytes.len())));
    }
    Ok(String::from_utf8_lossy(bytes))
}

fn refused(err: object::read::Error, what: &str) -> Error {
    Error::new(format!("{what} cannot be read, the file is damaged or cut short: {}", lower_first(&err.to_string())))
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !text.starts_with("ELF") => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
