//! Which file a probe's section means, found as the dynamic linker and the shell find theirs.
//!
//! A path with a slash is itself; with `!/` in it, it is a member of an archive. A bare name is, in this order: a file that the process to be probed has mapped; for a
//! library (its name has `.so`) the folders of `LD_LIBRARY_PATH`, `/etc/ld.so.cache`, and the system's library folders;
//! for anything else the folders of `PATH`; and last a library named without its ending, `c` or `libc` for `libc.so.6`.
//! When a process of another mount namespace (a container) is to be probed, paths are looked up under its own root,
//! `/proc/PID/root`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use skep_engine::Error;

use skep_spec::nearest::did_you_mean;
use skep_sys::inside::{foreign_root, open_inside};

use super::archive;
use crate::near;

const CACHE: &str = "/etc/ld.so.cache";

/// A cache with a hundred thousand libraries is 10 MB; nothing larger is one.
const CACHE_LEN_MAX: u64 = 64 << 20;

/// How many libraries a short name may mean.
const MOST_FOUND: usize = 1000;

/// The file that `name` means, for every process or for process `pid`.
pub fn resolve(name: &str, pid: Option<u32>) -> Result<PathBuf, Error> {
    if name.is_empty() {
        return Err(Error::new("the section names no binary to probe")
            .with_hint("name it in the section, as in `uprobe/libc.so.6:malloc`, or with `--bin PATH`"));
    }
    let root = pid.and_then(foreign_root);
    if name.contains('/') {
        let path = match &root {
            Some(root) if name.starts_with('/') => join(root, Path::new(name)),
            _ => PathBuf::from(name),
        };
        return match fs::metadata(archive::file_of(&path)) {
            Ok(facts) if facts.is_file() => Ok(path),
            Ok(_) => Err(Error::new(format!("`{}` is not a file", path.display()))),
            Err(error) => Err(missing(&path, error)),
        };
    }
    if let Some(pid) = pid
        && let Some(path) = mapped(pid, name)
    {
        return Ok(path);
    }
    let root = root.as_deref();
    let found = if name.contains(".so") {
        library(name, root)
    } else {
        executable(name, root).or_else(|| short_library(name, root))
    };
    found.ok_or_else(|| {
        let error = Error::new(format!("no binary or library `{name}` found"));
        let cache = Cache::read(root);
        let names = cache.entries().filter_map(|(soname, _)| std::str::from_utf8(soname).ok());
        let names: BTreeSet<&str> = names.collect();
        match did_you_mean(name, names.iter().copied()) {
            Some(hint) => error.with_hint(hint),
            None => error
                .with_hint("looked in LD_LIBRARY_PATH, /etc/ld.so.cache, the library folders and PATH; give a path"),
        }
    })
}

fn missing(path: &Path, error: std::io::Error) -> Error {
    let message = Error::new(format!("cannot find `{}` to probe it", path.display())).with_source(error);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return message;
    };
    let names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .take(10_000)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    near::hint(message, name, names.iter().map(String::as_str))
}

/// An absolute path under another root.
fn join(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The file of that name that a process has mapped as code.
fn mapped(pid: u32, name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let root = foreign_root(pid);
    let mut seen = BTreeSet::new();
    for line in maps.lines() {
        // `START-END PERMS OFFSET DEV INODE   PATH`
        let Some(at) = line.find('/') else { continue };
        let path = &line[at..];
        if !seen.insert(path) {
            continue;
        }
        let Some(file) = path.rsplit('/').next() else { continue };
        if !names_file(name, file) {
            continue;
        }
        if path.ends_with(" (deleted)") {
            // The file is gone from its path, but the mapping still leads to it.
            let range = line.split(' ').next()?;
            return Some(PathBuf::from(format!("/proc/{pid}/map_files/{range}")));
        }
        let path = Path::new(path);
        return Some(root.as_deref().map_or_else(|| path.to_owned(), |root| join(root, path)));
    }
    None
}

/// Whether a person who says `name` means the file `file`: the same, or the library behind a short name.
fn names_file(name: &str, file: &str) -> bool {
    let file = file.strip_suffix(" (deleted)").unwrap_or(file);
    if file == name {
        return true;
    }
    let stem = |prefix: &str| file.strip_prefix(prefix).and_then(|rest| rest.strip_prefix(name));
    let is_ending = |rest: &str| rest.starts_with(".so") || (rest.starts_with('-') && rest.ends_with(".so"));
    !name.contains(".so") && (stem("").is_some_and(is_ending) || stem("lib").is_some_and(is_ending))
}

fn in_root(root: Option<&Path>, path: &Path) -> PathBuf {
    root.map_or_else(|| path.to_owned(), |root| join(root, path))
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.is_file())
}

fn folders(variable: &str) -> Vec<PathBuf> {
    let value = std::env::var_os(variable).unwrap_or_default();
    std::env::split_paths(&value).filter(|folder| !folder.as_os_str().is_empty()).collect()
}

fn library(name: &str, root: Option<&Path>) -> Option<PathBuf> {
    let by_folder = |folder: &Path| Some(in_root(root, &folder.join(name))).filter(|path| is_file(path));
    folders("LD_LIBRARY_PATH")
        .iter()
        .find_map(|folder| by_folder(folder))
        .or_else(|| {
            let cache = Cache::read(root);
            let (_, path) = cache.entries().find(|(soname, _)| *soname == name.as_bytes())?;
            Some(in_root(root, Path::new(OsStr::from_bytes(path)))).filter(|path| is_file(path))
        })
        .or_else(|| system_folders().iter().find_map(|folder| by_folder(Path::new(folder))))
}

fn executable(name: &str, root: Option<&Path>) -> Option<PathBuf> {
    let mut path = folders("PATH");
    path.extend(["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"].map(PathBuf::from));
    path.iter().map(|folder| in_root(root, &folder.join(name))).find(|path| is_file(path))
}

/// `c`, `libc`, `pthread`: the first library of the cache or the folders that has this name before its `.so`.
fn short_library(name: &str, root: Option<&Path>) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = Cache::read(root)
        .entries()
        .filter(|(soname, _)| std::str::from_utf8(soname).is_ok_and(|soname| names_file(name, soname)))
        .map(|(_, path)| in_root(root, Path::new(OsStr::from_bytes(path))))
        .filter(|path| is_file(path))
        .take(MOST_FOUND)
        .collect();
    if found.is_empty() {
        for folder in system_folders() {
            let folder = in_root(root, Path::new(&folder));
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_name().to_str().is_some_and(|file| names_file(name, file)) && is_file(&entry.path()) {
                    found.push(entry.path());
                }
            }
        }
    }
    // `libc.so.6` before `libc-2.31.so`, and the same answer every time.
    found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    found.into_iter().next()
}

fn system_folders() -> Vec<String> {
    let arch = std::env::consts::ARCH;
    let mut folders = Vec::new();
    for base in ["/usr/lib", "/lib", "/usr/local/lib"] {
        folders.push(format!("{base}/{arch}-linux-gnu"));
        folders.push(format!("{base}64"));
        folders.push(base.to_owned());
    }
    folders
}

/// The linker's cache, in its new format (glibc 2.2; `sysdeps/generic/dl-cache.h`): a header of 48 bytes, entries of 24, then
/// strings at offsets from the header. An old-format cache may stand before it.
pub struct Cache(Vec<u8>);

impl Cache {
    /// The cache under a root; empty when there is none. A container's is what the container says.
    fn read(root: Option<&Path>) -> Cache {
        let mut bytes = Vec::new();
        if let Ok(file) = open_inside(root.unwrap_or(Path::new("/")), Path::new(CACHE)) {
            // A part of it finds what it has.
            let _ = file.take(CACHE_LEN_MAX).read_to_end(&mut bytes);
        }
        Cache(bytes)
    }

    /// What a file with these bytes is.
    pub fn of_bytes(bytes: Vec<u8>) -> Cache {
        Cache(bytes)
    }

    /// The libraries of this machine's kind: name and path.
    pub fn entries(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
        const HEADER_LEN: usize = 48;
        const ENTRY_LEN: usize = 24;
        // `FLAG_ELF_LIBC6` with the architecture's bits; elsewhere every entry counts.
        const WANTED: Option<u32> = if cfg!(target_arch = "x86_64") {
            Some(0x0303)
        } else if cfg!(target_arch = "aarch64") {
            Some(0x0a03)
        } else {
            None
        };
        let start = self.0.windows(MAGIC.len()).position(|window| window == MAGIC);
        let base = start.map_or(&[][..], |start| &self.0[start..]);
        let word = |at: usize| -> Option<u32> { Some(u32::from_ne_bytes(base.get(at..at + 4)?.try_into().ok()?)) };
        let text = move |at: u32| -> Option<&[u8]> {
            let rest = base.get(at as usize..)?;
            let end = rest.iter().take(4096).position(|byte| *byte == 0)?;
            Some(&rest[..end])
        };
        let count = word(MAGIC.len()).unwrap_or(0) as usize;
        let count = count.min(base.len().saturating_sub(HEADER_LEN) / ENTRY_LEN);
        (0..count).filter_map(move |index| {
            let at = HEADER_LEN + index * ENTRY_LEN;
            let flags = word(at)?;
            if WANTED.is_some_and(|wanted| flags & 0xffff != wanted) {
                return None;
            }
            Some((text(word(at + 4)?)?, text(word(at + 8)?)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_mean_their_library() {
        assert!(names_file("c", "libc.so.6"));
        assert!(names_file("libc", "libc.so.6"));
        assert!(names_file("libc", "libc-2.31.so"));
        assert!(names_file("libc.so.6", "libc.so.6"));
        assert!(names_file("bash", "bash"));
        assert!(!names_file("c", "libcap.so.2"));
        assert!(!names_file("libc.so", "libc.so.6"));
    }

    #[test]
    fn the_c_library_is_found_by_each_of_its_names() {
        // A machine without glibc's cache and folders has no such library.
        if !Path::new(CACHE).exists() {
            eprintln!("skipped: needs /etc/ld.so.cache");
            return;
        }
        let full = resolve("libc.so.6", None).unwrap();
        assert!(full.ends_with("libc.so.6"), "{}", full.display());
        assert_eq!(fs::canonicalize(resolve("c", None).unwrap()).unwrap(), fs::canonicalize(&full).unwrap());
        assert_eq!(fs::canonicalize(resolve("libc", None).unwrap()).unwrap(), fs::canonicalize(&full).unwrap());
    }

    #[test]
    fn programs_are_found_in_the_path() {
        assert!(resolve("sh", None).unwrap().ends_with("bin/sh"));
    }

    #[test]
    fn a_mapped_file_wins_for_its_process() {
        let me = std::process::id();
        let exe = std::env::current_exe().unwrap();
        let name = exe.file_name().unwrap().to_str().unwrap();
        assert_eq!(resolve(name, Some(me)).unwrap(), exe);
    }

    #[test]
    fn a_missing_file_names_its_neighbours() {
        let error = resolve("/etc/passwdd", None).unwrap_err();
        assert!(error.hint().is_some_and(|hint| hint.contains("`passwd`")), "{error} {:?}", error.hint());
        assert!(resolve("", None).is_err());
        assert!(resolve("no-such-program-at-all", None).is_err());
    }

    #[test]
    fn hostile_caches_give_nothing() {
        let count = |bytes: &[u8]| Cache::of_bytes(bytes.to_vec()).entries().count();
        assert_eq!(count(b""), 0);
        assert_eq!(count(b"glibc-ld.so.cache1.1"), 0);
        let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
        bytes.extend_from_slice(&[0xff; 200]);
        assert_eq!(count(&bytes), 0);
    }

    /// A container may have anything where its cache should be; nobody writes into this pipe.
    #[test]
    fn a_pipe_is_no_cache() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let root = std::env::temp_dir().join(format!("skep-cache-{}", std::process::id()));
        fs::create_dir_all(root.join("etc")).unwrap();
        mknodat(CWD, in_root(Some(&root), Path::new(CACHE)), FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(library("libc.so.6", Some(&root)), None);
        fs::remove_dir_all(root).unwrap();
    }
}
