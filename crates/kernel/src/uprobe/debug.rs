//! Debugging information of executables and libraries: in the file itself, or in the file that it was split off into, which
//! distributions install by build id (`/usr/lib/debug/.build-id/ab/cdef.debug`) or by name and checksum (`.gnu_debuglink`).

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};

use object::read::elf::{ElfFile, FileHeader};
use object::{Endianness, Object, ObjectSection, ReadRef, elf};
use skep_binary::with_elf;
use skep_engine::Error;
use skep_script::target::{Architecture, DebugInfo};
use skep_spec::target::TargetError;

use super::elf::Binary;

/// Where distributions put what was split off.
const DEBUG_FOLDER: &str = "/usr/lib/debug";

/// The largest section that is read, in bytes. Debug builds of browsers come near.
const SECTION_LEN_BYTES: u64 = 2 << 30;

/// A file with DWARF.
pub(crate) struct DebugFile {
    binary: Binary,
    architecture: Architecture,
    big_endian: bool,
}

/// The file that has the debugging information of `path`; `None` when there is none.
pub(crate) fn find(path: &Path) -> Result<Option<DebugFile>, Error> {
    let binary = Binary::open(path)?;
    let names = match look(&binary)? {
        Look::Here(architecture, big_endian) => return Ok(Some(DebugFile { binary, architecture, big_endian })),
        Look::Elsewhere(names) => names,
    };
    let (id, link) = (names.build_id, names.link);
    for candidate in candidates(path, link.as_ref().map(|link| link.name.as_str()), id.as_deref()) {
        let Ok(binary) = Binary::open(&candidate) else { continue };
        // What only has the right name may belong to another build.
        let right = match (&id, &link) {
            (Some(_), _) => build_id(&binary) == id,
            (None, Some(link)) => checksum(&candidate).is_ok_and(|found| found == link.checksum),
            (None, None) => false,
        };
        if !right {
            continue;
        }
        if let Ok(Look::Here(architecture, big_endian)) = look(&binary) {
            return Ok(Some(DebugFile { binary, architecture, big_endian }));
        }
    }
    Ok(None)
}

enum Look {
    Here(Architecture, bool),
    Elsewhere(Names),
}

/// What a file says about where its debugging information is.
struct Names {
    link: Option<Link>,
    build_id: Option<Vec<u8>>,
}

/// `.gnu_debuglink`.
struct Link {
    name: String,
    /// CRC-32 of the whole file that is meant.
    checksum: u32,
}

fn look(binary: &Binary) -> Result<Look, Error> {
    with_elf!(binary, file => {
        if has_dwarf(&file) {
            let endian = file.endian();
            let architecture = match (file.elf_header().e_machine(endian), file.is_64()) {
                (elf::EM_X86_64, true) => Architecture::X86_64,
                (elf::EM_AARCH64, true) => Architecture::Aarch64,
                _ => Architecture::Other,
            };
            return Ok(Look::Here(architecture, endian == Endianness::Big));
        }
        let link = file.gnu_debuglink().ok().flatten();
        let link = link.and_then(|(name, checksum)| {
            Some(Link { name: std::str::from_utf8(name).ok()?.to_owned(), checksum })
        });
        let build_id = file.build_id().ok().flatten().map(<[u8]>::to_vec);
        Ok(Look::Elsewhere(Names { link, build_id }))
    })
}

fn build_id(binary: &Binary) -> Option<Vec<u8>> {
    let read = || with_elf!(binary, file => Ok(file.build_id().ok().flatten().map(<[u8]>::to_vec)));
    read().ok().flatten()
}

/// CRC-32 of a file, as gdb and objcopy reckon it.
fn checksum(path: &Path) -> std::io::Result<u32> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            got => hasher.update(&buffer[..got]),
        }
    }
}

fn has_dwarf<'d, H, R>(file: &ElfFile<'d, H, R>) -> bool
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'d>,
{
    // A file of which only the headers are left has sections without bytes.
    file.section_by_name(".debug_info")
        .is_some_and(|section| section.compressed_file_range().is_ok_and(|it| it.compressed_size > 0))
}

fn candidates(path: &Path, link: Option<&str>, build_id: Option<&[u8]>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if let Some([first, rest @ ..]) = build_id.filter(|id| id.len() > 1) {
        let mut name = format!("{DEBUG_FOLDER}/.build-id/{first:02x}/");
        for byte in rest {
            let _ = write!(name, "{byte:02x}");
        }
        found.push(PathBuf::from(name + ".debug"));
    }
    // A link is one file name.
    if let Some(link) = link.filter(|link| !link.is_empty() && !link.contains('/'))
        && let Some(folder) = std::fs::canonicalize(path).ok().as_deref().and_then(Path::parent)
    {
        found.push(folder.join(link));
        found.push(folder.join(".debug").join(link));
        found.push(Path::new(DEBUG_FOLDER).join(folder.strip_prefix("/").unwrap_or(folder)).join(link));
    }
    found.retain(|it| it != path);
    found
}

impl DebugInfo for DebugFile {
    fn architecture(&self) -> Architecture {
        self.architecture
    }

    fn big_endian(&self) -> bool {
        self.big_endian
    }

    fn section(&self, name: &str) -> Result<Vec<u8>, TargetError> {
        let binary = &self.binary;
        let read = || {
            with_elf!(binary, file => {
                let Some(section) = file.section_by_name(name) else { return Ok(Vec::new()) };
                let data = section.compressed_data().map_err(|error| binary.broken(error))?;
                if data.uncompressed_size > SECTION_LEN_BYTES {
                    return Err(binary.broken(format_args!("its section {name} has more than 2 GB")));
                }
                data.decompress().map(|bytes| bytes.into_owned()).map_err(|error| binary.broken(error))
            })
        };
        Ok(read()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_its_own_debugging_information() {
        // Tests are built with tables of lines; the images of virtual machines leave them out.
        let me = std::env::current_exe().unwrap();
        let Some(found) = find(&me).unwrap() else {
            println!("skipped: needs debugging information in the test itself");
            return;
        };
        assert!(found.section(".debug_info").unwrap().len() > 1000);
        assert_eq!(found.section(".no_such_section").unwrap(), Vec::<u8>::new());
        assert!(find(Path::new("/etc/passwd")).is_err());
    }

    #[test]
    fn split_files_are_looked_for_by_id_and_by_name() {
        let found = candidates(Path::new("/proc/self/exe"), Some("x.debug"), Some(&[0xab, 0xcd, 0x01]));
        assert_eq!(found[0], Path::new("/usr/lib/debug/.build-id/ab/cd01.debug"));
        assert_eq!(found.len(), 4);
        assert_eq!(candidates(Path::new("/bin/true"), Some("../x"), None), Vec::<PathBuf>::new());
    }
}
