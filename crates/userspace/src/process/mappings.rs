//! What a process has mapped where (`/proc/PID/maps`).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;

use super::procfs;
use crate::probe::FileId;

/// The lowest address that is taken for something of ours: below it the kernel may allow nothing.
const LOWEST: u64 = 0x1_0000;
/// The end of what user space has on every machine.
const HIGHEST: u64 = 0x7fff_0000_0000;
/// What is left free between a heap and something of ours.
const HEAP_ROOM: u64 = 64 << 20;

/// A piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) writes: bool,
    pub(super) executes: bool,
    pub(super) shared: bool,
    pub(super) off_bytes: u64,
    pub(super) file: FileId,
    /// Of a file, or a name in brackets.
    pub(super) name: String,
}

impl Mapping {
    fn parse(line: &str) -> Option<Mapping> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let rights = fields.next()?;
        let off_bytes = hex(fields.next()?)?;
        let (major, minor) = fields.next()?.split_once(':')?;
        let file = FileId {
            major: u32::try_from(hex(major)?).ok()?,
            minor: u32::try_from(hex(minor)?).ok()?,
            inode: fields.next()?.parse().ok()?,
        };
        Some(Mapping {
            start: hex(start)?,
            end: hex(end)?,
            writes: rights.contains('w'),
            executes: rights.contains('x'),
            shared: rights.contains('s'),
            off_bytes,
            file,
            name: fields.next().unwrap_or_default().trim_start().to_owned(),
        })
    }

    /// The address of a place in the file.
    pub(super) fn address(&self, off_bytes: u64) -> Option<u64> {
        let inside = off_bytes.checked_sub(self.off_bytes)?;
        (inside < self.end - self.start).then(|| self.start + inside)
    }

    /// Whether it maps a file. Some file systems have other numbers for mappings than for stat(2): there the path decides.
    pub(super) fn is_of(&self, pid: u32, file: FileId) -> bool {
        if self.file == file {
            return true;
        }
        if self.file.inode == 0 || !self.name.starts_with('/') {
            return false;
        }
        let path = PathBuf::from(format!("/proc/{pid}/root{}", self.name));
        self.file.inode == file.inode && FileId::of(&path) == Some(file)
    }
}

/// How a process's memory is written: the file is where the kernel lets a tracer write everywhere.
pub(super) fn memory_of(pid: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(format!("/proc/{}/mem", with_memory(pid)))
}

/// A task that has the memory of a process: the first may have ended before the others, and has none then.
pub(super) fn with_memory(pid: u32) -> u32 {
    if procfs::has_memory(pid) {
        return pid;
    }
    procfs::threads(pid).into_iter().find(|tid| procfs::has_memory(*tid)).unwrap_or(pid)
}

/// All mappings of a task's process, by their addresses; empty when it is gone.
pub(super) fn read(pid: u32) -> Vec<Mapping> {
    let text = procfs::read(pid, "maps").unwrap_or_default();
    String::from_utf8_lossy(&text).lines().filter_map(Mapping::parse).collect()
}

/// A free place of so many bytes, near below a mapping or near above it.
pub(super) fn room(all: &[Mapping], near: &Mapping, len: u64) -> Option<u64> {
    let at = all.iter().position(|mapping| mapping.start == near.start)?;
    let below = (0..=at).rev().find_map(|index| {
        let end = all[index].start;
        let (start, margin) = match index.checked_sub(1).map(|before| &all[before]) {
            Some(before) if before.name == "[heap]" => (before.end, HEAP_ROOM),
            Some(before) => (before.end, 0),
            None => (LOWEST, 0),
        };
        (end.checked_sub(start)? >= len.checked_add(margin)?).then(|| end - len)
    });
    let above = || {
        (at..all.len()).find_map(|index| {
            let start = all[index].end;
            // A heap grows up, a stack grows down.
            let next = all.get(index + 1);
            if all[index].name == "[heap]" || next.is_some_and(|next| next.name == "[stack]") {
                return None;
            }
            let end = next.map_or(HIGHEST, |next| next.start);
            (end.checked_sub(start)? >= len).then_some(start)
        })
    };
    below.or_else(above)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Mapping> {
        text.lines().filter_map(Mapping::parse).collect()
    }

    #[test]
    fn lines_are_read_with_blanks_in_paths() {
        let line = "7f12a000-7f12c000 r-xp 00002000 fe:01 1234                       /tmp/a file (deleted)";
        let mapping = Mapping::parse(line).unwrap();
        assert_eq!((mapping.start, mapping.end, mapping.off_bytes), (0x7f12_a000, 0x7f12_c000, 0x2000));
        assert!(mapping.executes && !mapping.writes && !mapping.shared);
        assert_eq!(mapping.file, FileId { major: 0xfe, minor: 1, inode: 1234 });
        assert_eq!(mapping.name, "/tmp/a file (deleted)");
        assert_eq!(mapping.address(0x2010), Some(0x7f12_a010));
        assert_eq!((mapping.address(0x1fff), mapping.address(0x4000)), (None, None));
        assert_eq!(Mapping::parse("7f12a000-7f12c000 r-xp"), None);
    }

    #[test]
    fn room_is_found_below_and_heaps_keep_theirs() {
        let text = "400000-401000 r-xp 0 0:1 1 /a\n500000-501000 rw-p 0 0:0 0 [heap]\n7f0000000000-7f0000001000 r-xp 0 0:1 2 /b\n";
        let all = all(text);
        assert_eq!(room(&all, &all[0], 0x2000), Some(0x3f_e000));
        assert_eq!(room(&all, &all[2], 0x2000), Some(0x7eff_ffff_e000));
        let tight = "10000-20000 r-xp 0 0:1 1 /a\n20000-21000 rw-p 0 0:0 0 \n";
        let tight = self::all(tight);
        assert_eq!(room(&tight, &tight[0], 0x1000), Some(0x2_1000));
    }

    #[test]
    fn our_own_code_is_mapped() {
        let exe = std::env::current_exe().unwrap();
        let id = FileId::of(&exe).unwrap();
        let pid = std::process::id();
        assert!(read(pid).iter().any(|mapping| mapping.executes && mapping.is_of(pid, id)));
    }
}
