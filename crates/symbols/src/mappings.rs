//! What a process has mapped where.

use std::borrow::Cow;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use skep_sys::inside::foreign_root;

use crate::perf_map::{Credentials, PerfMap};
use crate::{FilePlace, Symbol};

/// More mappings than the kernel lets a process have by default (`vm.max_map_count`).
const MOST_MAPPINGS: usize = 1 << 17;

/// How long a process is taken for the one that it was: the many addresses of one stack cost one look.
pub(crate) const IDENTITY_HOLDS: Duration = Duration::from_millis(10);

/// The executable mappings of one process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pid: u32,
    /// `None` for one that was never there to be looked at.
    identity: Option<Identity>,
    looked: Instant,
    /// `/proc/PID/root` when the process sees other mounts than we do.
    root: Option<PathBuf>,
    credentials: Credentials,
    mappings: Vec<Mapping>,
    /// Those of the program that it ran before, for addresses that were collected then.
    before: Vec<Mapping>,
    /// What a just-in-time compiler says about its code; read at the first address in no file.
    perf_map: Option<PerfMap>,
    /// An address was outside of everything: libraries may have been loaded since, so they are read again once in a while.
    rereads: u8,
}

/// What tells a process from another one that has its number later, and a program from the one that it was replaced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    /// When it was forked, in clock ticks since boot.
    started: u64,
    /// Where the kernel has put program and stack: execve(2) moves both, by chance where addresses are randomized.
    program: [u64; 3],
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
        // Before what it holds for: what is read afterwards is never older.
        let identity = Identity::read(pid);
        let root = foreign_root(pid);
        let credentials = Credentials::read(pid);
        let mut process = Process { identity, root, credentials, ..Process::empty(pid) };
        process.reread().then_some(process)
    }

    pub(crate) fn empty(pid: u32) -> Process {
        Process {
            pid,
            identity: None,
            looked: Instant::now(),
            root: None,
            credentials: Credentials::default(),
            mappings: Vec::new(),
            before: Vec::new(),
            perf_map: None,
            rereads: 0,
        }
    }

    /// Reads everything again when another process has the number now, or when this one runs another program. One that has ended
    /// stays as it was seen.
    pub(crate) fn refresh(&mut self) {
        let Some(known) = self.identity else { return };
        if self.looked.elapsed() < IDENTITY_HOLDS {
            return;
        }
        self.looked = Instant::now();
        let Some(now) = Identity::read(self.pid).filter(|now| *now != known) else { return };
        if let Some(mut new) = Process::read(self.pid) {
            if new.mappings.is_empty() {
                // On its way out, or in the middle of execve: what was known is better.
                return;
            }
            if now.started == known.started {
                new.before = std::mem::take(&mut self.mappings);
            }
            *self = new;
        }
    }

    /// The same for a process that was made from this one. The kernel tells what becomes of it, so nobody looks again.
    pub(crate) fn forked(&self, pid: u32) -> Process {
        Process { pid, identity: None, rereads: 0, perf_map: None, ..self.clone() }
    }

    /// A process behind an execve(2) that the kernel told of: it has nothing yet but what it was before.
    pub(crate) fn executed(pid: u32, before: Option<Process>) -> Process {
        let root = foreign_root(pid);
        let credentials = Credentials::read(pid);
        let before = before.map(|process| process.mappings).unwrap_or_default();
        Process { root, credentials, before, ..Process::empty(pid) }
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
        find(&self.mappings).or_else(|| find(&self.before))
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
        Some(FilePlace {
            path,
            root: self.root.clone(),
            shown: shown.to_owned(),
            off_bytes: (address - mapping.start).wrapping_add(mapping.off_bytes),
        })
    }

    /// The name that a just-in-time compiler has written down for its code.
    pub(crate) fn jitted(&mut self, address: u64) -> Option<Symbol<'static>> {
        if self.mapping(address).is_some_and(|mapping| is_file(&mapping.path)) {
            return None;
        }
        let (pid, credentials) = (self.pid, &self.credentials);
        let foreign = self.root.is_some();
        let perf_map = self.perf_map.get_or_insert_with(|| PerfMap::read(pid, credentials, foreign));
        let (name, off_bytes) = perf_map.find(address)?;
        Some(Symbol { name: Cow::Owned(name), off_bytes, module: None, line: None, inlined: Vec::new() })
    }
}

impl Identity {
    fn read(pid: u32) -> Option<Identity> {
        Identity::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The fields 22 and 26 to 28 of proc_pid_stat(5). The second one, the name, may have blanks and parentheses in it.
    fn parse(stat: &str) -> Option<Identity> {
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(22 - 3);
        let mut next = |skipped: usize| fields.nth(skipped)?.trim_end().parse().ok();
        Some(Identity { started: next(0)?, program: [next(26 - 23)?, next(0)?, next(0)?] })
    }
}

/// Whether code of a mapping with this path comes from a file. Memory has a path, too, where it is shared: compilers map it twice,
/// to write to it at one place and run it at another (`/dev/zero` and `/memfd:NAME`, mm/shmem.c).
fn is_file(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("/memfd:") && !matches!(path, "/dev/zero" | "/dev/zero (deleted)")
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
    fn shared_memory_is_no_file() {
        for memory in ["", "[heap]", "/dev/zero (deleted)", "/memfd:doublemapper (deleted)"] {
            assert!(!is_file(memory), "{memory}");
        }
        for file in ["/usr/bin/cat", "/tmp/my lib.so (deleted)", "/dev/zeroes"] {
            assert!(is_file(file), "{file}");
        }
    }

    #[test]
    fn a_new_mapping_replaces_what_was_there() {
        let mut process = Process { mappings: parse(MAPS), rereads: 16, ..Process::empty(7) };
        process.add(0x55d0, 0x5600, 0x1000, "/bin/new");
        assert_eq!(process.place(0x55da).unwrap().off_bytes, 0x100a);
        process.add(9, 3, 0, "/bin/backwards");
        assert_eq!(process.place(4), None);
    }

    #[test]
    fn identities_are_read_behind_any_name() {
        let stat = "7 (a) b ) S 1 7 7 0 -1 4194304 9 0 0 0 1 2 3 4 20 0 1 0 555 1000 20 184 11 22 33 0 0 0 0\n";
        assert_eq!(Identity::parse(stat), Some(Identity { started: 555, program: [11, 22, 33] }));
        assert_eq!(Identity::parse("7 (a) S 1"), None);
        assert_eq!(Identity::read(std::process::id()), Identity::read(std::process::id()));
        assert!(Identity::read(std::process::id()).is_some());
    }
}
