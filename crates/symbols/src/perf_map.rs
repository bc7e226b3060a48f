//! `/tmp/perf-PID.map`: the names that just-in-time compilers give their code.

use std::fs;
use std::io::Read;
use std::path::Path;

/// A process may write anything into its file; of a large one the beginning serves.
const MOST_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug, Default)]
pub(crate) struct PerfMap {
    /// Start, size, name; by start.
    functions: Vec<(u64, u64, String)>,
}

impl PerfMap {
    /// The file of a process under its own root; empty when there is none.
    pub(crate) fn read(pid: u32, root: Option<&Path>) -> PerfMap {
        let name = format!("tmp/perf-{}.map", number_inside(pid).unwrap_or(pid));
        let path = root.unwrap_or(Path::new("/")).join(name);
        let mut text = Vec::new();
        if let Ok(file) = fs::File::open(path) {
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

/// The process's number in its own namespace, by which it names its file.
fn number_inside(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().next_back()?.parse().ok())
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
}
