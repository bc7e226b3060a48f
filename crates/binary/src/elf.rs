//! Functions of an ELF file and where they are in it.
//!
//! Names are looked for in `.dynsym` first and then in `.symtab`, as libbpf does, so that a library's exported function
//! wins over a static one of the same name. Only what is needed is read from the file: its tables, not its code.

use std::path::{Path, PathBuf};

use object::elf;
use object::read::elf::{ElfFile, FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, ReadCache, ReadRef};
use skep_engine::Error;
use skep_spec::glob;

use super::archive::Part;
use crate::{decode, near};

/// A function in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name, without a version.
    pub name: String,
    /// Where it is in the file, in bytes: what a uprobe takes.
    pub off_bytes: u64,
    /// Its size, in bytes; 0 when the file does not tell.
    pub size_bytes: u64,
}

/// A loadable piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// As linked.
    pub address: u64,
    /// In memory.
    pub size_bytes: u64,
    /// In the file that the kernel knows.
    pub off_bytes: u64,
    /// It is code.
    pub executable: bool,
}

/// An ELF file that can be probed.
pub struct Binary {
    path: PathBuf,
    cache: ReadCache<Part>,
    /// Where it begins in the file that the kernel knows, in bytes.
    start: u64,
}

/// A symbol as the walk sees it.
struct Symbol<'a> {
    name: &'a str,
    version: Option<&'a str>,
    /// The version that a program gets which names none (`@@`).
    is_default: bool,
    is_indirect: bool,
    is_global: bool,
    address: u64,
    size_bytes: u64,
}

/// Runs a block with `$file` bound to the file of either class; what is no ELF file is an error.
#[macro_export]
macro_rules! with_elf {
    ($binary:expr, $file:ident => $body:expr) => {
        match object::FileKind::parse($binary.cache()) {
            Ok(object::FileKind::Elf64) => {
                let $file = object::read::elf::ElfFile::<object::elf::FileHeader64<object::Endianness>, _>::parse(
                    $binary.cache(),
                )
                .map_err(|error| $binary.broken(error))?;
                $body
            }
            Ok(object::FileKind::Elf32) => {
                let $file = object::read::elf::ElfFile::<object::elf::FileHeader32<object::Endianness>, _>::parse(
                    $binary.cache(),
                )
                .map_err(|error| $binary.broken(error))?;
                $body
            }
            _ => Err($binary.broken("it is no ELF file")),
        }
    };
}

impl Binary {
    /// Opens a file, or a stored member of a zip archive (`ARCHIVE!/MEMBER`). That it is ELF shows at the first question.
    pub fn open(path: &Path) -> Result<Binary, Error> {
        let part = Part::open(path)?;
        Ok(Binary { path: path.to_owned(), start: part.start(), cache: ReadCache::new(part) })
    }

    /// Where it begins in the file that the kernel knows, in bytes: 0, but for members of archives.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes, read as they are asked for; see [`with_elf`].
    pub fn cache(&self) -> &ReadCache<Part> {
        &self.cache
    }

    /// An error that names the file.
    pub fn broken(&self, error: impl std::fmt::Display) -> Error {
        Error::new(format!("cannot read `{}`: {error}", self.path.display()))
    }

    /// The place of a function, written `name`, `name@VERSION` or `name@@VERSION`.
    ///
    /// Errors: no such function (with the nearest names), several static ones of that name, or an indirect function,
    /// whose address is that of its resolver.
    pub fn find(&self, function: &str) -> Result<Place, Error> {
        let (name, version) = match function.split_once('@') {
            Some((name, version)) => (name, Some(version.trim_start_matches('@'))),
            None => (function, None),
        };
        with_elf!(self, file => {
            for dynamic in [true, false] {
                let mut found: Vec<(u8, Place)> = Vec::new();
                let mut indirect = false;
                self.walk(&file, dynamic, &mut |symbol| {
                    if symbol.name != name || version.is_some_and(|version| symbol.version != Some(version)) {
                        return;
                    }
                    if symbol.is_indirect {
                        indirect = true;
                        return;
                    }
                    let rank = match (symbol.is_global, symbol.is_default) {
                        (true, true) => 3,
                        (true, false) => 2,
                        (false, _) => 1,
                    };
                    let place = Place {
                        name: name.to_owned(),
                        off_bytes: symbol.address,
                        size_bytes: symbol.size_bytes,
                    };
                    if !found.iter().any(|(_, other)| other.off_bytes == symbol.address) {
                        found.push((rank, place));
                    }
                })?;
                let best = found.iter().map(|(rank, _)| *rank).max().unwrap_or(0);
                found.retain(|(rank, _)| *rank == best);
                match found.len() {
                    0 if indirect => {
                        return Err(Error::new(format!(
                            "`{name}` in `{}` is an indirect function: its implementation is chosen when the library is loaded",
                            self.path.display()
                        ))
                        .with_hint(format!("probe the implementations: `*{name}*` with uprobe.multi, or by offset")));
                    }
                    0 => {}
                    1 => {
                        let (_, mut place) = found.swap_remove(0);
                        place.off_bytes = self.offset_in(&self.segments_of(&file), place.off_bytes)?;
                        return Ok(place);
                    }
                    n => {
                        return Err(Error::new(format!(
                            "`{}` has {n} static functions `{name}`: one cannot tell which is meant",
                            self.path.display()
                        ))
                        .with_hint(format!("use uprobe.multi for all of them, or an offset: {}", found
                            .iter()
                            .take(4)
                            .filter_map(|(_, place)| self.offset_in(&self.segments_of(&file), place.off_bytes).ok())
                            .map(|offset| format!("`{}:{offset:#x}`", self.path.display()))
                            .collect::<Vec<_>>()
                            .join(", "))));
                    }
                }
            }
            let mut names = Vec::new();
            for dynamic in [true, false] {
                self.walk(&file, dynamic, &mut |symbol| names.push(symbol.name.to_owned()))?;
            }
            let error = Error::new(format!("no function `{function}` in `{}`", self.path.display()));
            Err(near::hint(error, name, names.iter().map(String::as_str)))
        })
    }

    /// Every function whose name matches a glob of `*` and `?`, by name; a place that has several names comes once.
    pub fn matching(&self, pattern: &str) -> Result<Vec<Place>, Error> {
        with_elf!(self, file => {
            let segments = self.segments_of(&file);
            let mut places: Vec<Place> = Vec::new();
            for dynamic in [true, false] {
                self.walk(&file, dynamic, &mut |symbol| {
                    if !symbol.is_indirect
                        && glob::matches(pattern, symbol.name)
                        && let Ok(off_bytes) = self.offset_in(&segments, symbol.address)
                    {
                        places.push(Place {
                            name: symbol.name.to_owned(),
                            off_bytes,
                            size_bytes: symbol.size_bytes,
                        });
                    }
                })?;
            }
            places.sort_by(|a, b| (a.off_bytes, &a.name).cmp(&(b.off_bytes, &b.name)));
            places.dedup_by_key(|place| place.off_bytes);
            places.sort_by(|a, b| a.name.cmp(&b.name));
            if places.is_empty() {
                return Err(Error::new(format!("no function of `{}` matches `{pattern}`", self.path.display())));
            }
            Ok(places)
        })
    }

    /// Every function under each of its names, by name.
    pub fn functions(&self) -> Result<Vec<Place>, Error> {
        with_elf!(self, file => {
            let segments = self.segments_of(&file);
            let mut places: Vec<Place> = Vec::new();
            for dynamic in [true, false] {
                self.walk(&file, dynamic, &mut |symbol| {
                    if !symbol.is_indirect && let Ok(off_bytes) = self.offset_in(&segments, symbol.address) {
                        places.push(Place { name: symbol.name.to_owned(), off_bytes, size_bytes: symbol.size_bytes });
                    }
                })?;
            }
            places.sort_by(|a, b| (&a.name, a.off_bytes).cmp(&(&b.name, b.off_bytes)));
            places.dedup_by(|a, b| a.name == b.name && a.off_bytes == b.off_bytes);
            Ok(places)
        })
    }

    /// Address as linked and size of a symbol of any kind, code or data; `None` when neither table has it.
    pub fn symbol(&self, name: &str) -> Result<Option<(u64, u64)>, Error> {
        with_elf!(self, file => Ok(symbol_of(&file, name)))
    }

    /// Where the instruction begins that the byte `off` of a function belongs to, from the beginning of the function, whose address
    /// as linked is `address`. `None` when that cannot be told: another architecture than x86-64, or instructions on the way that
    /// [`decode`] does not know.
    pub fn instruction_at(&self, address: u64, off: u64) -> Result<Option<u64>, Error> {
        /// Longer functions are generated, and nobody counts bytes in them.
        const FUNCTION_MAX: u64 = 1 << 20;
        let segments = with_elf!(self, file => {
            let x86_64 = file.elf_header().e_machine(file.endian()) == elf::EM_X86_64 && file.elf_header().is_class_64();
            Ok(if x86_64 { self.segments_of(&file) } else { Vec::new() })
        })?;
        let Some((start, true)) = file_offset(&segments, address).filter(|_| off < FUNCTION_MAX) else {
            return Ok(None);
        };
        let start = start.saturating_sub(self.start);
        let data = self.cache();
        let len = (off + decode::MAX_LEN as u64).min(data.len().unwrap_or_default().saturating_sub(start));
        let code = data.read_bytes_at(start, len).map_err(|()| self.broken("the code of the function is not in it"))?;
        let mut at = 0;
        while at < off {
            let Some(Ok(insn)) = code.get(at as usize..).map(decode::decode) else { return Ok(None) };
            let end = at + u64::from(insn.len);
            if end > off {
                break;
            }
            at = end;
        }
        Ok(Some(at))
    }

    /// The loadable pieces.
    pub fn segments(&self) -> Result<Vec<Segment>, Error> {
        with_elf!(self, file => Ok(self.segments_of(&file)))
    }

    /// Whether it is loaded anywhere (shared libraries and position-independent programs), or where it says.
    pub fn is_relocated(&self) -> Result<bool, Error> {
        with_elf!(self, file => Ok(file.elf_header().e_type(file.endian()) == elf::ET_DYN))
    }

    /// Whether the Go toolchain made it (it leaves a section with its version, which `strip` keeps).
    pub fn is_go(&self) -> Result<bool, Error> {
        with_elf!(self, file => Ok([".go.buildinfo", ".gopclntab"].iter().any(|name| section(&file, name).is_some())))
    }

    /// As [`Binary::segments`], of the file that was opened already.
    pub fn segments_of<'d, H, R>(&self, file: &ElfFile<'d, H, R>) -> Vec<Segment>
    where
        H: FileHeader<Endian = Endianness>,
        R: ReadRef<'d>,
    {
        let endian = file.endian();
        file.elf_program_headers()
            .iter()
            .filter(|header| header.p_type(endian) == elf::PT_LOAD)
            .map(|header| Segment {
                address: header.p_vaddr(endian).into(),
                size_bytes: header.p_memsz(endian).into(),
                off_bytes: self.start.saturating_add(header.p_offset(endian).into()),
                executable: header.p_flags(endian).0 & elf::PF_X.0 != 0,
            })
            .collect()
    }

    fn offset_in(&self, segments: &[Segment], address: u64) -> Result<u64, Error> {
        file_offset(segments, address)
            .map(|(offset, _)| offset)
            .ok_or_else(|| self.broken(format_args!("address {address:#x} is in no loadable segment")))
    }

    /// Calls `visit` for every function that is defined in one of the two symbol tables.
    fn walk<'d, H, R>(
        &self,
        file: &ElfFile<'d, H, R>,
        dynamic: bool,
        visit: &mut dyn FnMut(Symbol<'_>),
    ) -> Result<(), Error>
    where
        H: FileHeader<Endian = Endianness>,
        R: ReadRef<'d>,
    {
        let endian = file.endian();
        let table = if dynamic { file.elf_dynamic_symbol_table() } else { file.elf_symbol_table() };
        let versions =
            if dynamic { file.elf_section_table().versions(endian, file.data()).ok().flatten() } else { None };
        let is_arm = file.elf_header().e_machine(endian) == elf::EM_ARM;
        for (index, symbol) in table.enumerate() {
            let kind = symbol.st_type();
            let is_indirect = kind == elf::STT_GNU_IFUNC;
            let address: u64 = symbol.st_value(endian).into();
            if !(kind == elf::STT_FUNC || is_indirect) || symbol.is_undefined(endian) || address == 0 {
                continue;
            }
            let Some(name) = table.symbol_name(endian, symbol).ok().and_then(|name| std::str::from_utf8(name).ok())
            else {
                continue;
            };
            let mut version = None;
            let mut is_default = true;
            if let Some(versions) = &versions {
                let versym = versions.version_index(endian, index);
                is_default = !versym.is_hidden();
                version = versions
                    .version(versym.index())
                    .ok()
                    .flatten()
                    .and_then(|version| std::str::from_utf8(version.name()).ok());
            }
            visit(Symbol {
                name,
                version,
                is_default,
                is_indirect,
                is_global: symbol.st_bind() == elf::STB_GLOBAL,
                // Bit 0 of an ARM address only says that the code is Thumb.
                address: if is_arm { address & !1 } else { address },
                size_bytes: symbol.st_size(endian).into(),
            });
        }
        Ok(())
    }
}

fn symbol_of<'d, H, R>(file: &ElfFile<'d, H, R>, name: &str) -> Option<(u64, u64)>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'d>,
{
    let endian = file.endian();
    [file.elf_symbol_table(), file.elf_dynamic_symbol_table()].into_iter().find_map(|table| {
        let symbol = table.iter().find(|symbol| {
            !symbol.is_undefined(endian)
                && matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_OBJECT | elf::STT_NOTYPE)
                && table.symbol_name(endian, symbol).is_ok_and(|found| found == name.as_bytes())
        })?;
        Some((symbol.st_value(endian).into(), symbol.st_size(endian).into()))
    })
}

/// The address of a variable, where all that the file has of this name are one: sources may have one each for themselves.
pub(crate) fn only_value<'d, H, R>(file: &ElfFile<'d, H, R>, name: &str) -> Option<u64>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'d>,
{
    let endian = file.endian();
    let mut only = None;
    for table in [file.elf_symbol_table(), file.elf_dynamic_symbol_table()] {
        for symbol in table.iter() {
            if symbol.is_undefined(endian)
                || !matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_OBJECT | elf::STT_NOTYPE)
                || !table.symbol_name(endian, symbol).is_ok_and(|found| found == name.as_bytes())
            {
                continue;
            }
            let value: u64 = symbol.st_value(endian).into();
            if only.is_some_and(|only| only != value) {
                return None;
            }
            only = Some(value);
        }
    }
    only
}

/// Where an address is in the file, and whether it is code.
pub fn file_offset(segments: &[Segment], address: u64) -> Option<(u64, bool)> {
    let segment = segments
        .iter()
        .find(|segment| address.checked_sub(segment.address).is_some_and(|inside| inside < segment.size_bytes))?;
    let offset = (address - segment.address).checked_add(segment.off_bytes)?;
    Some((offset, segment.executable))
}

/// The bytes and the address of a section, if the file has it.
pub fn section<'d, H, R>(file: &ElfFile<'d, H, R>, name: &str) -> Option<(&'d [u8], u64)>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'d>,
{
    let endian = file.endian();
    let (_, header) = file.elf_section_table().section_by_name(endian, name.as_bytes())?;
    let data = header.data(endian, file.data()).ok()?;
    Some((data, header.sh_addr(endian).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_through_its_segment() {
        let segments = [
            Segment { address: 0, size_bytes: 0x100, off_bytes: 0, executable: false },
            Segment { address: 0x1100, size_bytes: 0x80, off_bytes: 0x100, executable: true },
        ];
        assert_eq!(file_offset(&segments, 0x1110), Some((0x110, true)));
        assert_eq!(file_offset(&segments, 0x10), Some((0x10, false)));
        assert_eq!(file_offset(&segments, 0x1180), None);
    }

    #[test]
    fn a_hostile_segment_does_not_wrap() {
        let segments = [Segment { address: 0, size_bytes: u64::MAX, off_bytes: u64::MAX, executable: true }];
        assert_eq!(file_offset(&segments, 0x10), None);
    }

    #[test]
    fn what_is_no_elf_file_says_so() {
        let error = Binary::open(Path::new("/etc/passwd")).unwrap().find("main").unwrap_err();
        assert!(error.to_string().contains("no ELF file"), "{error}");
        assert!(Binary::open(Path::new("/no/such/file")).is_err());
    }
}
