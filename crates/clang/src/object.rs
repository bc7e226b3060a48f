//! Compiled objects in the cache: one file each, so that it is whole or absent.
//!
//! The file's name is the hash of everything known before reading a single source line: the source's absolute path, the
//! flags, the compiler, our headers, and clang's environment variables. Inside stand the files that were read
//! ([`crate::deps`]), whether vmlinux.h was one of them and from which BTF, the warnings, and the object:
//!
//! ```text
//! skep object 1
//! vmlinux 0123...            (or `vmlinux -`)
//! dep 1234 1700000000000000000 89ab... /home/me/prog.bpf.c
//! absent /home/me/vmlinux.h
//! warnings 0
//! object 5678
//!                            (an empty line, then the two contents)
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::cache::Cache;
use crate::deps::Dep;
use crate::vmlinux::Vmlinux;

/// What a compile gives.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Object {
    /// The ELF file, with BTF and without DWARF.
    pub bytes: Vec<u8>,
    /// Clang's warnings, each as it printed it; empty if there are none. They are repeated for a cached object.
    pub warnings: String,
    /// Whether no compiler was started.
    pub cached: bool,
    /// The user's own files that went into it, the source first: what to watch for changes.
    pub sources: Vec<PathBuf>,
}

/// The parts of an entry, as they go into the file.
pub(crate) struct Entry<'a> {
    pub(crate) vmlinux: Option<String>,
    pub(crate) deps: &'a [Dep],
    pub(crate) absent: &'a [PathBuf],
    pub(crate) warnings: &'a str,
    pub(crate) object: &'a [u8],
}

/// Writes an entry; does nothing for paths that the format cannot hold.
pub(crate) fn store(cache: &Cache, path: &Path, entry: &Entry<'_>) -> Result<(), Error> {
    let mut head = format!("skep object 1\nvmlinux {}\n", entry.vmlinux.as_deref().unwrap_or("-"));
    for dep in entry.deps {
        let Some(line) = dep.line() else { return Ok(()) };
        head.push_str(&format!("dep {line}\n"));
    }
    for place in entry.absent {
        let Some(place) = place.to_str().filter(|place| !place.contains('\n')) else { return Ok(()) };
        head.push_str(&format!("absent {place}\n"));
    }
    head.push_str(&format!("warnings {}\nobject {}\n\n", entry.warnings.len(), entry.object.len()));
    cache.put(path, &[head.as_bytes(), entry.warnings.as_bytes(), entry.object])
}

/// The object, if it is there and everything it was made from is unchanged. A damaged entry counts as absent.
pub(crate) fn load(path: &Path, vmlinux: Option<&Vmlinux<'_>>) -> Option<Object> {
    let bytes = fs::read(path).ok()?;
    let split = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    let head = std::str::from_utf8(&bytes[..split]).ok()?;
    let body = &bytes[split + 2..];
    let mut lines = head.lines();
    if lines.next()? != "skep object 1" {
        return None;
    }
    let made_from = lines.next()?.strip_prefix("vmlinux ")?;
    let mut sources = Vec::new();
    let mut lengths = [None, None];
    for line in lines {
        let (word, rest) = line.split_once(' ')?;
        match word {
            "dep" => {
                let dep = Dep::parse(rest)?;
                if !dep.unchanged() {
                    return None;
                }
                sources.push(dep.path().to_owned());
            }
            "absent" if Path::new(rest).exists() => return None,
            "absent" => {}
            "warnings" => lengths[0] = rest.parse().ok(),
            "object" => lengths[1] = rest.parse().ok(),
            _ => return None,
        }
    }
    let (warnings, object): (usize, usize) = (lengths[0]?, lengths[1]?);
    if warnings.checked_add(object)? != body.len() {
        return None;
    }
    // Last, because it may hash the kernel's BTF.
    if made_from != "-" && vmlinux.is_none_or(|vmlinux| vmlinux.digest().to_string() != made_from) {
        return None;
    }
    let warnings_text = String::from_utf8(body[..warnings].to_vec()).ok()?;
    sources.retain(|path| !is_system(path));
    Some(Object { bytes: body[warnings..].to_vec(), warnings: warnings_text, cached: true, sources })
}

/// Headers that belong to the machine rather than to the program.
pub(crate) fn is_system(path: &Path) -> bool {
    path.starts_with("/usr/include") || path.starts_with("/usr/lib")
}
