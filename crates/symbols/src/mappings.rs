//! What a process has mapped where.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;

use crate::perf_map::PerfMap;
use crate::{FilePlace, Symbol};

/// More mappings than the kernel lets a process have by default (`vm.max_map_count`).
const MOST_MAPPINGS: usize = 1 << 17;

/// The executable mappings of one process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: u32,
    /// `/proc/PID/root` when the process sees other mounts than we do.
    root: Option<PathBuf>,
    mappings: Vec<Mapping>,
    /// What a just-in-time compiler says about its code; read at the first address in no file.
    perf_map: Option<PerfMap>,
    /// An address was outside of everything: libraries may have been loaded since, so they are read again once in a while.
    rereads: u8,
}

#[derive(Clone, Debug)]
struct Mapping {
    start: u64,
    end: u64,
    off_bytes: u64,
    path: String,
}

impl Process {
    pub(crate) fn read(pid: u32) -> Option<Process> {
        let mut process = Process { root: foreign_root(pid), ..Process::empty(pid) };
        process.reread().then_some(process)
    }

    pub(crate) fn empty(pid: u32) -> Process {
        Process { pid, root: None, mappings: Vec::new(), perf_map: None, rereads: 0 }
    }

    /// The same for a process that was made from this one.
    pub(crate) fn forked(&self, pid: u32) -> Process {
        Process { pid, rereads: 0, perf_map: None, ..self.clone() }
    }

    /// A process after an exec: it has nothing yet.
    pub(crate) fn started(pid: u32) -> Process {
        Process { root: foreign_root(pid), ..Process::empty(pid) }
    }

    /// Adds a mapping over whatever was there.
    pub(crate) fn add(&mut self, start: u64, end: u64, off_bytes: u64, path: &str) {
        if start < end && self.mappings.len() < MOST_MAPPINGS {
            self.mappings.retain(|old| old.end <= start || old.start >= end);
            self.mappings.push(Mapping { start, end, off_bytes, path: path.to_owned() });
        }
    }

    fn reread(&mut self) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{}/maps", self.pid)) else { return false };
        let mappings = parse(&text);
        // A process that is about to end has none left; what was known is better.
        if !mappings.is_empty() {
            self.mappings = mappings;
        }
        true
    }

    /// Where a file's first mapping begins.
    #[cfg(test)]
    pub(crate) fn first_of(&self, path: &str) -> Option<u64> {
        self.mappings.iter().filter(|it| it.path == path).map(|it| it.start).min()
    }

    fn mapping(&mut self, address: u64) -> Option<Mapping> {
        let find = |mappings: &[Mapping]| mappings.iter().find(|it| (it.start..it.end).contains(&address)).cloned();
        if let Some(found) = find(&self.mappings) {
            return Some(found);
        }
        // Libraries come and go while a process runs; an address that is nowhere must not cost a read each time.
        if self.rereads < 16 {
            self.rereads += 1;
            self.reread();
        }
        find(&self.mappings)
    }

    pub(crate) fn place(&mut self, address: u64) -> Option<FilePlace> {
        let mapping = self.mapping(address)?;
        let shown = mapping.path.strip_suffix(" (deleted)").unwrap_or(&mapping.path);
        if !shown.starts_with('/') {
            return None;
        }
        let path = if shown.len() < mapping.path.len() {
            // The file is gone from its path, but the mapping still leads to it.
            PathBuf::from(format!("/proc/{}/map_files/{:x}-{:x}", self.pid, mapping.start, mapping.end))
        } else {
            match &self.root {
                Some(root) => root.join(shown.trim_start_matches('/')),
                None => PathBuf::from(shown),
            }
        };
        Some(FilePlace { path, shown: shown.to_owned(), off_bytes: address - mapping.start + mapping.off_bytes })
    }

    /// The name that a just-in-time compiler has written down for its code.
    pub(crate) fn jitted(&mut self, address: u64) -> Option<Symbol<'static>> {
        if self.mapping(address).is_some_and(|mapping| mapping.path.starts_with('/')) {
            return None;
        }
        let (pid, root) = (self.pid, &self.root);
        let perf_map = self.perf_map.get_or_insert_with(|| PerfMap::read(pid, root.as_deref()));
        let (name, off_bytes) = perf_map.find(address)?;
        Some(Symbol { name: Cow::Owned(name), off_bytes, module: None, line: None, inlined: Vec::new() })
    }
}

/// `/proc/PID/root`, if the process has its files in another mount namespace than we.
fn foreign_root(pid: u32) -> Option<PathBuf> {
    let ours = fs::read_link("/proc/self/ns/mnt").ok()?;
    let theirs = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?;
    (ours != theirs).then(|| PathBuf::from(format!("/proc/{pid}/root")))
}

/// Lines `START-END PERMS OFFSET DEV INODE   PATH` (proc_pid_maps(5)); only executable ones.
fn parse(text: &str) -> Vec<Mapping> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    text.lines()
        .filter_map(|line| {
            let mut words = line.splitn(6, ' ');
            let (start, end) = words.next()?.split_once('-')?;
            if words.next()?.as_bytes().get(2) != Some(&b'x') {
                return None;
            }
            let off_bytes = hex(words.next()?)?;
            let path = words.nth(2).unwrap_or_default().trim_start().to_owned();
            Some(Mapping { start: hex(start)?, end: hex(end)?, off_bytes, path })
        })
        .take(MOST_MAPPINGS)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0-55d8 r--p 00000000 08:01 123                  /usr/bin/cat
55d8-55e0 r-xp 00000008 08:01 123                  /usr/bin/cat
7000-7100 r-xp 00000000 08:01 124                  /tmp/my lib.so (deleted)
8000-8100 rwxp 00000000 00:00 0 
nonsense
";

    #[test]
    fn code_is_found_in_its_file() {
        let mut process = Process { mappings: parse(MAPS), rereads: 16, ..Process::empty(7) };
        let place = process.place(0x55da).unwrap();
        assert_eq!((place.shown.as_str(), place.off_bytes), ("/usr/bin/cat", 10));
        assert_eq!(process.place(0x7001).unwrap().path, PathBuf::from("/proc/7/map_files/7000-7100"));
        // Data, anonymous memory, and nothing at all.
        assert_eq!((process.place(0x55d0), process.place(0x8001), process.place(1)), (None, None, None));
    }

    #[test]
    fn a_new_mapping_replaces_what_was_there() {
        let mut process = Process { mappings: parse(MAPS), rereads: 16, ..Process::empty(7) };
        process.add(0x55d0, 0x5600, 0x1000, "/bin/new");
        assert_eq!(process.place(0x55da).unwrap().off_bytes, 0x100a);
        process.add(9, 3, 0, "/bin/backwards");
        assert_eq!(process.place(4), None);
    }
}
