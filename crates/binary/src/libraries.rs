//! Which files a program is going to map as code when it starts: itself, its dynamic linker, and the libraries that these need.
//!
//! A guess ahead of the dynamic linker, found as it finds them: the folders that the file names (`DT_RUNPATH`, `DT_RPATH`), then as
//! [`search`] finds a library. What is loaded later (`dlopen`, `LD_PRELOAD`) is not among them.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, elf};

use crate::search;

/// How many files are looked at.
const MOST_FILES: usize = 1000;
/// How long a program is that is read for this, in bytes.
const MAX_FILE: u64 = 1 << 30;

/// The files, the program first.
pub fn of_program(path: &Path) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut left = VecDeque::from([path.to_owned()]);
    while let Some(path) = left.pop_front() {
        let known = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        if found.len() == MOST_FILES || !seen.insert(known) {
            continue;
        }
        left.extend(needed(&path).unwrap_or_default());
        found.push(path);
    }
    found
}

/// The dynamic linker and the libraries that a file names; `None` when it is no program of this machine's kind.
fn needed(path: &Path) -> Option<Vec<PathBuf>> {
    let facts = fs::metadata(path).ok()?;
    if !facts.is_file() || facts.len() > MAX_FILE {
        return None;
    }
    let data = fs::read(path).ok()?;
    let data = &data[..];
    let header = elf::FileHeader64::<Endianness>::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let mut found = Vec::new();
    let mut dynamic = &[][..];
    for segment in segments {
        if let Ok(Some(linker)) = segment.interpreter(endian, data) {
            found.push(PathBuf::from(std::ffi::OsStr::from_bytes(linker)));
        }
        if let Ok(Some(entries)) = segment.dynamic(endian, data) {
            dynamic = entries;
        }
    }
    let value = |tag| dynamic.iter().find(|entry| entry.d_tag(endian) == tag).map(|entry| entry.d_val(endian));
    let strings = value(elf::DT_STRTAB).and_then(|address| {
        segments.iter().find_map(|segment| segment.data_range(endian, data, address, value(elf::DT_STRSZ)?).ok()?)
    });
    let strings = strings.unwrap_or_default();
    let text = |at: u64| {
        let rest = strings.get(usize::try_from(at).ok()?..)?;
        std::str::from_utf8(rest.split(|byte| *byte == 0).next()?).ok()
    };
    let folders = value(elf::DT_RUNPATH).or_else(|| value(elf::DT_RPATH)).and_then(text).unwrap_or_default();
    let origin = path.parent().unwrap_or(Path::new(".")).to_string_lossy();
    let folders: Vec<String> = folders
        .split(':')
        .filter(|folder| !folder.is_empty())
        .map(|folder| folder.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin))
        .collect();
    for entry in dynamic.iter().filter(|entry| entry.d_tag(endian) == elf::DT_NEEDED) {
        let Some(name) = text(entry.d_val(endian)) else { continue };
        let named = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
        found.extend(named.or_else(|| search::resolve(name, None).ok()));
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_needs_its_linker_and_its_libraries() {
        let Ok(shell) = search::resolve("bash", None) else {
            eprintln!("skipped: needs bash");
            return;
        };
        let found = of_program(&shell);
        assert_eq!(found[0], shell);
        let has = |name: &str| found.iter().any(|path| path.to_string_lossy().contains(name));
        assert!(has("/libc.so.6") && has("/ld-linux"), "{found:?}");
        assert_eq!(of_program(Path::new("/etc/passwd")), [Path::new("/etc/passwd")]);
    }
}
