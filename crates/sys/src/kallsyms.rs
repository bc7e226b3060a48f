//! `/proc/kallsyms`: the kernel's symbols, read in one pass for a few names.
//!
//! The file is text made on the fly: about 120,000 lines (5 MB) that cost the kernel 40 ms, at most a page for each
//! `read(2)`. What can be saved is everything on this side: lines are walked as bytes in one buffer, nothing is
//! allocated for a line that nobody asked for, and a caller that knows when it is done stops the pass.
//!
//! A line is `ADDRESS TYPE NAME[\t[MODULE]]`. Without CAP_SYSLOG (see `kptr_restrict`) all addresses read as zero.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;

/// One line of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// The address; zero if the reader may not know it.
    pub address: u64,
    /// The letter of nm(1): `t` and `T` are code, `d`, `b`, `r` data; upper case is global.
    pub kind: u8,
    /// The name, without the module.
    pub name: &'a [u8],
    /// The module, without its brackets; `None` for the kernel itself.
    pub module: Option<&'a [u8]>,
}

impl Symbol<'_> {
    /// Whether this is code: what a kprobe could be set on, other reasons apart.
    pub fn is_code(&self) -> bool {
        matches!(self.kind, b't' | b'T' | b'w' | b'W')
    }
}

/// Walks all symbols in the file's order until `visit` breaks.
pub fn for_each(visit: impl FnMut(Symbol<'_>) -> ControlFlow<()>) -> io::Result<()> {
    scan(File::open("/proc/kallsyms")?, visit)
}

/// The addresses of `names`, from one pass over the file; each with every address it has, in the file's order, since a
/// static name may occur more than once. A name that is absent has no entry.
pub fn addresses<'n>(names: impl IntoIterator<Item = &'n str>) -> io::Result<HashMap<&'n str, Vec<u64>>> {
    find(File::open("/proc/kallsyms")?, names)
}

fn find<'n>(source: impl Read, names: impl IntoIterator<Item = &'n str>) -> io::Result<HashMap<&'n str, Vec<u64>>> {
    let wanted: Vec<&str> = names.into_iter().collect();
    // A bit per (length, first byte) hash turns most lines away before any comparison.
    let mut filter = [0u64; 64];
    let slot = |name: &[u8]| -> (usize, u64) {
        let first = usize::from(name.first().copied().unwrap_or(0));
        (name.len() & 63, 1u64 << (first & 63))
    };
    for name in &wanted {
        let (row, bit) = slot(name.as_bytes());
        filter[row] |= bit;
    }
    let mut found: HashMap<&str, Vec<u64>> = HashMap::new();
    scan(source, |symbol| {
        let (row, bit) = slot(symbol.name);
        if filter[row] & bit != 0 {
            for name in &wanted {
                if name.as_bytes() == symbol.name {
                    let addresses = found.entry(name).or_default();
                    if !addresses.contains(&symbol.address) {
                        addresses.push(symbol.address);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// Walks the lines of `source`. A line that is not of the expected form is passed over.
fn scan(mut source: impl Read, mut visit: impl FnMut(Symbol<'_>) -> ControlFlow<()>) -> io::Result<()> {
    let mut buffer = vec![0u8; 64 * 1024];
    let mut filled = 0;
    loop {
        let got = match source.read(&mut buffer[filled..]) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        filled += got;
        let mut rest = &buffer[..filled];
        while let Some(end) = newline(rest) {
            if let Some(symbol) = parse(&rest[..end])
                && visit(symbol).is_break()
            {
                return Ok(());
            }
            rest = &rest[end + 1..];
        }
        let left = rest.len();
        if got == 0 {
            if let Some(symbol) = parse(rest) {
                let _ = visit(symbol);
            }
            return Ok(());
        }
        // A line longer than the whole buffer cannot come from the kernel (KSYM_NAME_LEN is 512): drop it.
        let start = if left == buffer.len() { filled } else { filled - left };
        buffer.copy_within(start..filled, 0);
        filled -= start;
    }
}

/// The place of the first newline, eight bytes at a time: the standard library's search on a slice is bytewise, and
/// this is the inner loop over 5 MB.
fn newline(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let mut chunks = bytes.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        // A byte of `x` is zero where the text has a newline.
        let x = u64::from_le_bytes(word) ^ (ONES * u64::from(b'\n'));
        let hit = x.wrapping_sub(ONES) & !x & HIGHS;
        if hit != 0 {
            return Some(at + (hit.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    chunks.remainder().iter().position(|&b| b == b'\n').map(|i| at + i)
}

fn parse(line: &[u8]) -> Option<Symbol<'_>> {
    let mut address = 0u64;
    let mut at = 0;
    while let Some(&byte) = line.get(at) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b' ' => break,
            _ => return None,
        };
        if at == 16 {
            return None;
        }
        address = address << 4 | u64::from(digit);
        at += 1;
    }
    let rest = line.get(at..)?;
    let [b' ', kind, b' ', name @ ..] = rest else {
        return None;
    };
    if at == 0 || name.is_empty() {
        return None;
    }
    // Only a module's symbol has a tab, and then the line ends in a bracket.
    if name.last() == Some(&b']')
        && let Some(tab) = name.iter().position(|&b| b == b'\t')
    {
        let module = name.get(tab + 2..name.len() - 1)?;
        return Some(Symbol { address, kind: *kind, name: &name[..tab], module: Some(module) });
    }
    Some(Symbol { address, kind: *kind, name, module: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "ffffffff81000000 T _text\nffffffff81000010 t foo\nnonsense\nffffffff81000020 t foo\n\
        ffffffffc0000000 t bar\t[ext4]\n0000000000000000 D jiffies";

    /// Gives out one byte at a time, so that every line is cut everywhere.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            into[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn list(source: impl Read) -> Vec<String> {
        let mut lines = Vec::new();
        scan(source, |s| {
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            lines.push(format!(
                "{:x} {} {} {}",
                s.address,
                char::from(s.kind),
                text(s.name),
                s.module.map(text).unwrap_or_default()
            ));
            ControlFlow::Continue(())
        })
        .unwrap();
        lines
    }

    #[test]
    fn lines_are_split_wherever_a_read_ends() {
        let expected = [
            "ffffffff81000000 T _text ",
            "ffffffff81000010 t foo ",
            "ffffffff81000020 t foo ",
            "ffffffffc0000000 t bar ext4",
            "0 D jiffies ",
        ];
        assert_eq!(list(TEXT.as_bytes()), expected);
        assert_eq!(list(Drip(TEXT.as_bytes())), expected);
    }

    #[test]
    fn a_name_has_all_its_addresses_and_an_absent_one_none() {
        let found = find(TEXT.as_bytes(), ["foo", "bar", "fo", "zoo"]).unwrap();
        assert_eq!(found["foo"], [0xffff_ffff_8100_0010, 0xffff_ffff_8100_0020]);
        assert_eq!(found["bar"], [0xffff_ffff_c000_0000]);
        assert!(!found.contains_key("fo") && !found.contains_key("zoo"));
    }

    #[test]
    fn a_line_longer_than_the_buffer_is_passed_over() {
        let mut text = vec![b'x'; 200_000];
        text.extend_from_slice(b"\nffffffff81000000 T _text\n");
        assert_eq!(list(&text[..]), ["ffffffff81000000 T _text "]);
    }

    #[test]
    fn the_running_kernel_has_a_text_symbol() {
        assert!(addresses(["_text"]).unwrap().contains_key("_text"));
    }
}
