//! The folder that keeps headers, `vmlinux.h`, precompiled headers and compiled objects.
//!
//! It is `$XDG_CACHE_HOME/skep`, else `~/.cache/skep`, else `skep-UID` in the folder for temporary files. A folder is only
//! taken if it belongs to the user that skep runs as and nobody else may write to it: what lies there is loaded into the
//! kernel, so root must not take it from a folder that another user controls (`sudo` that keeps `$HOME` is such a case).
//!
//! Files appear whole or not at all: they are written under a name of their own in `tmp/` and renamed. Two runs at the same
//! time at worst do the same work twice. Everything in the folder may be deleted at any time.

use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use crate::Error;

/// A folder for files that can be made again.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// Compiled objects that are kept; the least recently written go first.
const MAX_OBJECTS: usize = 512;
/// Kernels and flag sets whose vmlinux.h is kept (3 MB each, and some 20 MB when precompiled).
const MAX_VMLINUX: usize = 8;
/// Notes about compilers that are kept.
const MAX_NOTES: usize = 256;
/// Leftovers of killed runs are removed after this time.
const STALE: Duration = Duration::from_secs(3600);

impl Cache {
    /// The user's cache folder, made if it is not there.
    ///
    /// # Errors
    ///
    /// When neither the user's folder nor the one for temporary files can be written to.
    pub fn open() -> Result<Cache, Error> {
        let wanted = choose(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"));
        if let Some(root) = wanted {
            match Cache::at(&root) {
                // Somebody else's folder, or a read-only one: go on elsewhere.
                Err(Error::Cache { cause, .. })
                    if matches!(
                        cause.kind(),
                        io::ErrorKind::PermissionDenied
                            | io::ErrorKind::ReadOnlyFilesystem
                            | io::ErrorKind::NotADirectory
                            | io::ErrorKind::NotFound
                    ) => {}
                done => return done,
            }
        }
        Cache::at(&std::env::temp_dir().join(format!("skep-{}", own_uid()?)))
    }

    /// A cache in a folder of the caller's choice, made if it is not there.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made or belongs to somebody else.
    pub fn at(root: &Path) -> Result<Cache, Error> {
        let cache = Cache { root: root.to_owned() };
        make_folder(&cache.root)?;
        let found = fs::metadata(root).map_err(Error::cache(root, "use the cache folder"))?;
        if found.uid() != own_uid()? || found.mode() & 0o022 != 0 {
            let cause = io::Error::new(io::ErrorKind::PermissionDenied, "others may write to it");
            return Err(Error::Cache { path: root.to_owned(), doing: "use the cache folder", cause });
        }
        for folder in ["tmp", "objects", "vmlinux", "compilers"] {
            make_folder(&root.join(folder))?;
        }
        Ok(cache)
    }

    /// Where the cache is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A name in `tmp/` that no other run uses; it is deleted when the guard goes, unless it was moved before.
    pub(crate) fn scratch(&self, name: &str) -> Scratch {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        Scratch(self.root.join("tmp").join(format!("{}-{n}-{name}", std::process::id())))
    }

    /// Puts a whole file in place, and its folder where needed.
    pub(crate) fn put(&self, target: &Path, parts: &[&[u8]]) -> Result<(), Error> {
        let scratch = self.scratch("put");
        let write = || -> io::Result<()> {
            use io::Write as _;
            let mut file = fs::File::create(&scratch.0)?;
            for part in parts {
                file.write_all(part)?;
            }
            Ok(())
        };
        write().map_err(Error::cache(target, "write"))?;
        scratch.move_to(target)
    }

    /// Removes the oldest entries beyond what is worth keeping. Called after something new was stored, so that the cost
    /// falls on runs that have just started a compiler anyway. Failures do not matter.
    pub(crate) fn tidy(&self) {
        keep_newest(&self.path("objects"), MAX_OBJECTS);
        keep_newest(&self.path("vmlinux"), MAX_VMLINUX);
        keep_newest(&self.path("compilers"), MAX_NOTES);
        let Some(limit) = SystemTime::now().checked_sub(STALE) else { return };
        for (path, written) in entries(&self.path("tmp")) {
            if written < limit {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// A file under construction.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn move_to(self, target: &Path) -> Result<(), Error> {
        if let Some(folder) = target.parent() {
            make_folder(folder)?;
        }
        fs::rename(&self.0, target).map_err(Error::cache(target, "write"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn choose(xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    // The XDG base directory specification: a relative path is to be ignored.
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(xdg).or_else(|| absolute(home).map(|home| home.join(".cache"))).map(|folder| folder.join("skep"))
}

fn make_folder(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::cache(path, "make the cache folder"))
}

/// The effective user id, without a system call wrapper: /proc/self belongs to it.
fn own_uid() -> Result<u32, Error> {
    Ok(fs::metadata("/proc/self").map_err(Error::cache("/proc/self", "look at"))?.uid())
}

fn entries(folder: &Path) -> Vec<(PathBuf, SystemTime)> {
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    listing.flatten().filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?))).collect()
}

fn keep_newest(folder: &Path, keep: usize) {
    let mut all = entries(folder);
    if all.len() <= keep {
        return;
    }
    all.sort_by_key(|(_, written)| std::cmp::Reverse(*written));
    for (path, _) in &all[keep..] {
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_follows_the_xdg_rules() {
        let some = |text: &str| Some(OsString::from(text));
        assert_eq!(choose(some("/x"), some("/home/me")), Some(PathBuf::from("/x/skep")));
        assert_eq!(choose(None, some("/home/me")), Some(PathBuf::from("/home/me/.cache/skep")));
        assert_eq!(choose(some("relative"), some("/home/me")), Some(PathBuf::from("/home/me/.cache/skep")));
        assert_eq!(choose(None, None), None);
    }
}
