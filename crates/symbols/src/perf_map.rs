//! `/tmp/perf-PID.map`: the names that just-in-time compilers give their code.
//!
//! Everybody may write into `/tmp`, so a file counts when it belongs to the user of the process, or to root.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use skep_sys::inside::open_inside;

/// A process may write anything into its file; of a large one the beginning serves.
const MOST_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug, Default)]
pub(crate) struct PerfMap {
    /// Start, size, name; by start.
    functions: Vec<(u64, u64, String)>,
}

/// Whose file it has to be, and its name: noted while the process is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    /// Real, effective, saved and of files.
    users: Vec<u32>,
    /// The process's number in its own namespace, by which it names its file.
    number_inside: Option<u32>,
}

impl Credentials {
    pub(crate) fn read(pid: u32) -> Credentials {
        Credentials::parse(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
    }

    fn parse(status: &str) -> Credentials {
        let numbers = |key: &str| -> Vec<u32> {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
        };
        Credentials { users: numbers("Uid:"), number_inside: numbers("NSpid:").pop() }
    }
}

impl PerfMap {
    /// The file of a process under its own root; empty when there is none. Of a process that has ended and had no `foreign` root, it is
    /// still there under ours.
    pub(crate) fn read(pid: u32, credentials: &Credentials, foreign: bool) -> PerfMap {
        let path = format!("tmp/perf-{}.map", credentials.number_inside.unwrap_or(pid));
        let its_root = format!("/proc/{pid}/root");
        let roots = [Some(its_root.as_str()), (!foreign).then_some("/")];
        let mut text = Vec::new();
        let opened = roots.into_iter().flatten().find_map(|root| open_inside(Path::new(root), Path::new(&path)).ok());
        if let Some(file) = opened
            && file.metadata().is_ok_and(|facts| facts.uid() == 0 || credentials.users.contains(&facts.uid()))
        {
            // What could be read before a failure serves too.
            let _ = file.take(MOST_BYTES).read_to_end(&mut text);
        }
        PerfMap::parse(&String::from_utf8_lossy(&text))
    }

    /// Lines `START SIZE NAME`, numbers in hex (tools/perf/Documentation/jit-interface.txt).
    fn parse(text: &str) -> PerfMap {
        let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok();
        let mut functions: Vec<(u64, u64, String)> = text
            .lines()
            .filter_map(|line| {
                let mut words = line.splitn(3, ' ');
                Some((hex(words.next()?)?, hex(words.next()?)?, words.next()?.to_owned()))
            })
            .collect();
        // The file grows: of several functions at one place the last one is there now.
        functions.reverse();
        functions.sort_by_key(|(start, ..)| *start);
        functions.dedup_by_key(|(start, ..)| *start);
        PerfMap { functions }
    }

    pub(crate) fn find(&self, address: u64) -> Option<(String, u64)> {
        let after = self.functions.partition_point(|(start, ..)| *start <= address);
        let (start, size, name) = self.functions.get(after.checked_sub(1)?)?;
        (address - start < *size).then(|| (name.clone(), address - start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_found_by_their_range() {
        let map = PerfMap::parse("1000 10 first\n0x2000 20 second with words\nnonsense\n1000 8 newer\n");
        assert_eq!(map.find(0x1004), Some(("newer".to_owned(), 4)));
        assert_eq!(map.find(0x200f), Some(("second with words".to_owned(), 15)));
        assert_eq!((map.find(0x1008), map.find(0x10)), (None, None));
    }

    #[test]
    fn credentials_are_read_from_the_status() {
        let found = Credentials::parse("Name:\tx\nUid:\t1000\t0\t0\t0\nNSpid:\t4711\t7\n");
        assert_eq!((found.users, found.number_inside), (vec![1000, 0, 0, 0], Some(7)));
        let none = Credentials::parse("");
        assert_eq!((none.users, none.number_inside), (vec![], None));
    }

    #[test]
    fn only_a_file_of_the_process_or_of_root_counts() {
        use rustix::fs::{CWD, FileType, Mode, chownat, mknodat};
        // A number that no process has: the file is looked for under our own root.
        let pid = u32::MAX - std::process::id();
        let path = format!("/tmp/perf-{pid}.map");
        let _ = fs::remove_file(&path);
        let own = rustix::process::geteuid().as_raw();
        let credentials = Credentials { users: vec![own], number_inside: None };
        fs::write(&path, "1000 10 compiled\n").unwrap();
        let found = |credentials: &Credentials| PerfMap::read(pid, credentials, false).find(0x1000).is_some();
        assert!(found(&credentials));
        assert!(PerfMap::read(pid, &credentials, true).functions.is_empty(), "it has another root");
        if rustix::process::geteuid().is_root() {
            chownat(CWD, &path, Some(rustix::fs::Uid::from_raw(4242)), None, rustix::fs::AtFlags::empty()).unwrap();
            assert!(!found(&credentials));
            assert!(found(&Credentials { users: vec![4242], number_inside: None }));
        }
        fs::remove_file(&path).unwrap();
        // A pipe has no end while nobody writes.
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(!found(&credentials));
        fs::remove_file(&path).unwrap();
    }
}
