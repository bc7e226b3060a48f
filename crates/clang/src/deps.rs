//! Which files an object was made from, and whether they are still the same.
//!
//! Clang writes the files it read as a make rule (`-MD`). An object in the cache is good as long as all of them are
//! unchanged, *and* no file has appeared that would now be found first: a new `vmlinux.h` beside the source shadows ours. So
//! for each file read, the places before it in the user's include folders where it might also have been are kept as
//! "absent".
//!
//! A file is unchanged if its length and time of change are the same, or else if its content hash is. A time of change
//! younger than two seconds when the record was made proves nothing (a later write may carry the same one on a coarse
//! file system), so it is recorded as 0 and the content decides.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::hash::{Digest, digest};

/// The prerequisites of a make rule: everything after the first colon that ends a word.
pub(crate) fn parse_rule(text: &[u8]) -> Vec<PathBuf> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut word: Vec<u8> = Vec::new();
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match (byte, bytes.peek().copied()) {
            (b'\\', Some(b'\n')) => {
                bytes.next();
                words.push(std::mem::take(&mut word));
            }
            // Clang escapes spaces and number signs with a backslash, a dollar sign by doubling it.
            (b'\\', Some(next @ (b' ' | b'#'))) => {
                bytes.next();
                word.push(next);
            }
            (b'$', Some(b'$')) => {
                bytes.next();
                word.push(b'$');
            }
            (b' ' | b'\n' | b'\t', _) => words.push(std::mem::take(&mut word)),
            _ => word.push(byte),
        }
    }
    words.push(word);
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    // The target, `out.o:`.
    words.by_ref().find(|word| word.ends_with(b":"));
    words.map(|word| PathBuf::from(OsStr::from_bytes(&word))).collect()
}

/// One file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dep {
    path: PathBuf,
    len: u64,
    changed_ns: i128,
    content: String,
}

impl Dep {
    /// `None` when the file has gone already.
    pub(crate) fn record(path: &Path, now: SystemTime) -> Option<Dep> {
        let found = fs::metadata(path).ok()?;
        let settled =
            found.modified().is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > Duration::from_secs(2)));
        let changed_ns = if settled { changed_ns(&found) } else { 0 };
        let content = content(path)?.to_string();
        Some(Dep { path: path.to_owned(), len: found.len(), changed_ns, content })
    }

    pub(crate) fn unchanged(&self) -> bool {
        let Ok(found) = fs::metadata(&self.path) else { return false };
        if found.len() != self.len {
            return false;
        }
        (self.changed_ns != 0 && changed_ns(&found) == self.changed_ns)
            || content(&self.path).is_some_and(|now| now.to_string() == self.content)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `None` for a path that does not fit on a line; such an object is not cached.
    pub(crate) fn line(&self) -> Option<String> {
        let path = self.path.to_str().filter(|path| !path.contains('\n'))?;
        Some(format!("{} {} {} {path}", self.len, self.changed_ns, self.content))
    }

    pub(crate) fn parse(line: &str) -> Option<Dep> {
        let mut words = line.splitn(4, ' ');
        Some(Dep {
            len: words.next()?.parse().ok()?,
            changed_ns: words.next()?.parse().ok()?,
            content: words.next()?.to_owned(),
            path: PathBuf::from(words.next()?),
        })
    }
}

fn changed_ns(found: &fs::Metadata) -> i128 {
    i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec())
}

fn content(path: &Path) -> Option<Digest> {
    Some(digest(&fs::read(path).ok()?))
}

/// Where a file that was read might also be found, and is not: the ends of its path (one to three names) below each of the
/// folders.
pub(crate) fn absent_places(deps: &[PathBuf], folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for dep in deps {
        let names: Vec<&OsStr> = dep.iter().collect();
        for take in 1..=names.len().min(3) {
            let end: PathBuf = names[names.len() - take..].iter().collect();
            if end.is_absolute() {
                continue;
            }
            places.extend(folders.iter().map(|folder| folder.join(&end)).filter(|place| !place.exists()));
        }
    }
    places.sort_unstable();
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_make_rule_is_taken_apart() {
        let text = b"/tmp/a b/out.o: prog.bpf.c \\\n  /usr/include/linux/bpf.h a\\ b.h \\\n  price$$.h x\\#y.h\n";
        let names: Vec<PathBuf> =
            ["prog.bpf.c", "/usr/include/linux/bpf.h", "a b.h", "price$.h", "x#y.h"].map(PathBuf::from).into();
        assert_eq!(parse_rule(text), names);
        assert_eq!(parse_rule(b""), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_changed_file_is_noticed_even_with_its_old_time() {
        let path = std::env::temp_dir().join(format!("skep-deps-{}", std::process::id()));
        fs::write(&path, "one").unwrap();
        let dep = Dep::record(&path, SystemTime::now()).unwrap();
        assert!(dep.unchanged());
        assert_eq!(Dep::parse(&dep.line().unwrap()), Some(dep.clone()));
        fs::write(&path, "two").unwrap();
        assert!(!dep.unchanged(), "same length, within two seconds");
        fs::write(&path, "one").unwrap();
        assert!(dep.unchanged(), "only the time differs");
        fs::remove_file(&path).unwrap();
        assert!(!dep.unchanged());
    }

    #[test]
    fn places_that_would_shadow_are_listed() {
        let folder = std::env::temp_dir().join(format!("skep-absent-{}", std::process::id()));
        let deps = [PathBuf::from("/no/such/skep/vmlinux.h")];
        let places = absent_places(&deps, std::slice::from_ref(&folder));
        assert!(places.contains(&folder.join("vmlinux.h")));
        assert!(places.contains(&folder.join("skep/vmlinux.h")));
    }
}
