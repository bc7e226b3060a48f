//! Libraries inside zip archives: `base.apk!/lib/arm64-v8a/libfoo.so`.
//!
//! Android maps libraries straight out of packages, and Java its agents. That works for members that are stored and not
//! compressed: their bytes are a piece of the archive, and a uprobe on the archive's file at the right offset is one on the
//! library. So a name with `!/` in it is an archive and its member, as in libbpf, unless there is a file of that whole name.
//!
//! Source: APPNOTE.TXT 6.3.10 (PKWARE), sections 4.3.7, 4.3.12 and 4.3.16. Archives of 4 GiB and more (zip64) are refused.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use skep_engine::Error;

/// Between an archive and the member in it.
const SEPARATOR: &str = "!/";
/// Sizes without what follows them: the record at the end, a member's entry in the list, and the header before its bytes.
const END_LEN: usize = 22;
const ENTRY_LEN: usize = 46;
const HEADER_LEN: usize = 30;
const END_MAGIC: &[u8] = b"PK\x05\x06";
const ENTRY_MAGIC: &[u8] = b"PK\x01\x02";
const HEADER_MAGIC: &[u8] = b"PK\x03\x04";
/// A comment at the end has at most so many bytes.
const COMMENT_MAX: usize = 0xffff;
/// The list of an archive with some hundred thousand members.
const LIST_MAX: usize = 64 << 20;

/// A piece of a file, read as if it were one.
#[derive(Debug)]
pub struct Part {
    file: File,
    start: u64,
    len: u64,
    at: u64,
}

impl Part {
    /// Opens a file, or the member of an archive.
    pub fn open(path: &Path) -> Result<Part, Error> {
        let open =
            |path: &Path| {
                // A pipe in the place of a file would hold us until somebody writes.
                let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
                std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
                    Error::new(format!("cannot open `{}` to probe it", path.display())).with_source(error)
                })
            };
        let Some((archive, member)) = split(path) else {
            let file = open(path)?;
            // A device says 0, and has no ELF either.
            let len = file.metadata().map_or(0, |facts| facts.len());
            return Ok(Part { file, start: 0, len, at: 0 });
        };
        let file = open(&archive)?;
        let found = find(&file, &member)
            .map_err(|error| Error::new(format!("cannot read the archive `{}`: {error}", archive.display())))?;
        match found {
            Some(Member { stored: true, start, len }) => Ok(Part { file, start, len, at: 0 }),
            Some(_) => Err(Error::new(format!("`{member}` in `{}` is compressed", archive.display()))
                .with_hint("only stored members are mapped as they are: pack it with `zip -0`, or probe it unpacked")),
            None => Err(Error::new(format!("no `{member}` in `{}`", archive.display()))
                .with_hint(format!("`unzip -l {}` lists what there is", archive.display()))),
        }
    }

    /// Where it begins in the file that the kernel knows, in bytes.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Where it ends there.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buf.len().min(left);
        let read = self.file.read_at(&mut buf[..wanted], self.start.saturating_add(self.at))?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

/// An archive and the member in it, when the path names those.
pub fn split(path: &Path) -> Option<(PathBuf, String)> {
    let (archive, member) = path.to_str()?.split_once(SEPARATOR)?;
    (!path.is_file()).then(|| (PathBuf::from(archive), member.to_owned()))
}

/// The file that the kernel is told: the archive of a member, else the path itself.
pub fn file_of(path: &Path) -> PathBuf {
    split(path).map_or_else(|| path.to_owned(), |(archive, _)| archive)
}

/// A member's bytes in the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    start: u64,
    len: u64,
    /// They are the file itself: neither compressed nor encrypted.
    stored: bool,
}

fn find(file: &File, name: &str) -> Result<Option<Member>, String> {
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    let read = |at: u64, len: usize| -> Result<Vec<u8>, String> {
        let fits = at.checked_add(len as u64).is_some_and(|end| end <= size);
        let mut bytes = vec![0; if fits { len } else { 0 }];
        if !fits {
            return Err("it is cut short".to_owned());
        }
        file.read_exact_at(&mut bytes, at).map_err(|error| error.to_string())?;
        Ok(bytes)
    };
    let tail_len = size.min((END_LEN + COMMENT_MAX) as u64);
    let tail = read(size - tail_len, tail_len as usize)?;
    // The last one: a comment may hold anything.
    let last = (0..tail.len().saturating_sub(END_LEN - 1)).rev();
    let end = last.map(|at| &tail[at..]).find(|bytes| bytes.starts_with(END_MAGIC)).ok_or("it is no zip archive")?;
    let (count, list_len, list_at) = (half(end, 10), word(end, 12) as usize, word(end, 16));
    if count == u16::MAX || list_at == u32::MAX {
        return Err("zip64 archives are not read".to_owned());
    }
    if list_len > LIST_MAX {
        return Err("its list of members is too large".to_owned());
    }
    let list = read(list_at.into(), list_len)?;
    let mut rest = &list[..];
    for _ in 0..count {
        if rest.len() < ENTRY_LEN || !rest.starts_with(ENTRY_MAGIC) {
            return Err("its list of members is damaged".to_owned());
        }
        let (name_len, extra_len, comment_len) = (half(rest, 28), half(rest, 30), half(rest, 32));
        let name_end = ENTRY_LEN + usize::from(name_len);
        if rest.get(ENTRY_LEN..name_end) == Some(name.as_bytes()) {
            let (flags, method) = (half(rest, 8), half(rest, 10));
            let (len, header_at) = (u64::from(word(rest, 20)), u64::from(word(rest, 42)));
            let header = read(header_at, HEADER_LEN)?;
            if !header.starts_with(HEADER_MAGIC) {
                return Err(format!("the header of `{name}` is damaged"));
            }
            // Name and extra field are there once more, the latter of another length.
            let before = HEADER_LEN as u64 + u64::from(half(&header, 26)) + u64::from(half(&header, 28));
            let start = header_at + before;
            if start + len > size {
                return Err("it is cut short".to_owned());
            }
            return Ok(Some(Member { start, len, stored: flags & 1 == 0 && method == 0 }));
        }
        rest = rest.get(name_end + usize::from(extra_len) + usize::from(comment_len)..).unwrap_or_default();
    }
    Ok(None)
}

/// A little-endian number of a record whose length was looked at.
fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// An archive of stored members, for tests; each begins at a multiple of `align`.
pub fn stored(members: &[(&str, &[u8])], align: usize) -> Vec<u8> {
    let (mut bytes, mut list) = (Vec::new(), Vec::new());
    let halves = |out: &mut Vec<u8>, words: &[u16]| words.iter().for_each(|word| out.extend(word.to_le_bytes()));
    let words = |out: &mut Vec<u8>, words: &[u32]| words.iter().for_each(|word| out.extend(word.to_le_bytes()));
    for (name, data) in members {
        let (at, len, name_len) = (bytes.len() as u32, data.len() as u32, name.len() as u16);
        let before = bytes.len() + HEADER_LEN + name.len();
        let padding = before.next_multiple_of(align) - before;
        bytes.extend(HEADER_MAGIC);
        halves(&mut bytes, &[10, 0, 0, 0, 0]);
        words(&mut bytes, &[0, len, len]);
        halves(&mut bytes, &[name_len, padding as u16]);
        bytes.extend(name.as_bytes());
        bytes.resize(bytes.len() + padding, 0);
        bytes.extend_from_slice(data);
        list.extend(ENTRY_MAGIC);
        halves(&mut list, &[10, 10, 0, 0, 0, 0]);
        words(&mut list, &[0, len, len]);
        halves(&mut list, &[name_len, 0, 0, 0, 0]);
        words(&mut list, &[0, at]);
        list.extend(name.as_bytes());
    }
    let (at, count) = (bytes.len() as u32, members.len() as u16);
    let len = list.len() as u32;
    bytes.extend(list);
    bytes.extend(END_MAGIC);
    halves(&mut bytes, &[0, 0, count, count]);
    words(&mut bytes, &[len, at]);
    halves(&mut bytes, &[0]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(name: &str, archive: &[u8], member: &str) -> Result<(u64, Vec<u8>), String> {
        let path = std::env::temp_dir().join(format!("skep-{name}-{}.zip", std::process::id()));
        std::fs::write(&path, archive).unwrap();
        let result = Part::open(Path::new(&format!("{}!/{member}", path.display())));
        let result = result.map_err(|error| error.to_string().replace(&path.display().to_string(), "ARCHIVE"));
        std::fs::remove_file(path).unwrap();
        let mut part = result?;
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).unwrap();
        Ok((part.start(), bytes))
    }

    #[test]
    fn a_stored_member_is_a_piece_of_the_archive() {
        let archive = stored(&[("a.txt", b"first"), ("lib/b.so", b"second")], 4096);
        assert_eq!(open("piece", &archive, "a.txt"), Ok((4096, b"first".to_vec())));
        assert_eq!(open("piece", &archive, "lib/b.so"), Ok((8192, b"second".to_vec())));
        assert_eq!(open("piece", &archive, "b.so"), Err("no `b.so` in `ARCHIVE`".to_owned()));
        let commented = [&archive[..archive.len() - 2], &[4, 0], b"PK\x05\x06"].concat();
        assert_eq!(open("piece", &commented, "a.txt"), Ok((4096, b"first".to_vec())));
    }

    #[test]
    fn what_is_not_mapped_as_it_is_is_refused() {
        let mut archive = stored(&[("a", b"packed")], 1);
        let entry = archive.windows(4).position(|bytes| bytes == ENTRY_MAGIC).unwrap();
        archive[entry + 10] = 8;
        assert_eq!(open("packed", &archive, "a"), Err("`a` in `ARCHIVE` is compressed".to_owned()));
    }

    #[test]
    fn damaged_archives_are_errors() {
        let whole = stored(&[("a", b"first"), ("b", b"second")], 1);
        for len in 0..whole.len() {
            let error = open("cut", &whole[..len], "b").unwrap_err();
            assert!(error.starts_with("cannot read the archive `ARCHIVE`: "), "{len}: {error}");
        }
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] = 0xff;
            // Another answer or an error, but an answer.
            let _ = open("broken", &broken, "b");
        }
    }

    #[test]
    fn a_path_with_the_separator_may_be_a_file() {
        assert_eq!(split(Path::new("/x.apk!/lib/a.so")), Some((PathBuf::from("/x.apk"), "lib/a.so".to_owned())));
        assert_eq!(split(Path::new("/bin/sh")), None);
        let folder = std::env::temp_dir().join(format!("skep-odd-{}!", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        std::fs::write(&path, b"x").unwrap();
        assert_eq!(split(&path), None);
        assert_eq!(file_of(&path), path);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
