//! Code that has been copied with breakpoints in it.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use skep_binary::decode::{self, Insn};
use skep_sys::page_size;
use skep_sys::patches::BREAKPOINT;
use skep_sys::ptrace;

use super::{Breakpoints, memory_of};
use crate::process::mappings::{self, Mapping};
use crate::process::sites::Site;

/// Bytes behind a breakpoint that tell which one it is a copy of, at least.
const TELLING_BYTES: usize = 4;
/// Bytes of code without a file that are looked through for copies, at most.
const MAX_SCANNED: u64 = 256 << 20;

/// What is at a place of a file where no breakpoint is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Original {
    pub(super) bytes: [u8; decode::MAX_LEN],
    /// So many of them could be read.
    pub(super) len: usize,
    pub(super) insn: Insn,
}

impl Original {
    /// Whether a breakpoint hides this, of which some bytes from there on were read. What stands behind it may have breakpoints too.
    pub(super) fn is_hidden_in(&self, bytes: &[u8]) -> bool {
        let count = TELLING_BYTES.max(usize::from(self.insn.len) - 1);
        let Some([BREAKPOINT, behind @ ..]) = bytes.get(..=count) else { return false };
        let own = self.bytes.get(1..=count).filter(|_| count < self.len);
        own.is_some_and(|own| own.iter().zip(behind).all(|(own, it)| own == it || *it == BREAKPOINT))
    }
}

/// The bytes of a task's code from an address on, as many as an instruction may have.
pub(super) fn code_at(tid: u32, addr: u64) -> ([u8; decode::MAX_LEN], usize) {
    let mut bytes = [0; decode::MAX_LEN];
    // The next page may not be there.
    let in_page = page_size() - (addr % page_size() as u64) as usize;
    let mut len = 0;
    for part in [..in_page.min(bytes.len()), ..bytes.len()] {
        let read = bytes.get_mut(len..part.end).map(|to| ptrace::read_memory(tid, addr + len as u64, to));
        len += read.and_then(Result::ok).unwrap_or(0);
    }
    (bytes, len)
}

/// A search for copies of breakpoints.
#[derive(Debug, Default)]
pub(super) struct Scan<'a> {
    bytes: u64,
    /// By what stands behind the breakpoint.
    telling: HashMap<[u8; TELLING_BYTES], Vec<&'a Original>>,
}

impl<'a> Scan<'a> {
    /// Tells of those in a mapping.
    pub(super) fn look(
        &mut self,
        tid: u32,
        mapping: &Mapping,
        originals: &'a HashMap<Site, Original>,
        found: impl Fn(u64, &Original),
    ) {
        const PIECE: usize = 1 << 20;
        if self.telling.is_empty() {
            for original in originals.values() {
                if let Some(behind) = original.bytes[1..].first_chunk() {
                    self.telling.entry(*behind).or_default().push(original);
                }
            }
        }
        let mut piece = vec![0; PIECE];
        let mut at = mapping.start;
        while at < mapping.end && self.bytes < MAX_SCANNED {
            let len = PIECE.min((mapping.end - at) as usize);
            // What was never touched has no code.
            let Ok(read @ 1..) = ptrace::read_memory(tid, at, &mut piece[..len]) else { break };
            self.bytes += read as u64;
            for (off, _) in piece[..read].iter().enumerate().filter(|(_, byte)| **byte == BREAKPOINT) {
                let here = &piece[off..read];
                let list = here[1..].first_chunk().and_then(|behind| self.telling.get(behind));
                if let Some(original) = list.into_iter().flatten().find(|it| it.is_hidden_in(here)) {
                    found(at + off as u64, original);
                }
            }
            // The next piece begins with what was cut here.
            let cut = if at + read as u64 == mapping.end { 0 } else { decode::MAX_LEN.min(read - 1) };
            at += (read - cut) as u64;
        }
    }
}

/// Whether what is mapped may be a copy of code that a process made: no file, or one in memory only. What a file on a disk has is its own.
pub(super) fn may_be_copy(mapping: &Mapping) -> bool {
    mapping.executes && (mapping.file.inode == 0 || mapping.name.starts_with("/memfd:"))
}

impl Breakpoints {
    /// Puts the instruction back that a copy of a breakpoint hides; `None` if there is none, but an instruction of the process's own.
    pub(super) fn uncover(&mut self, pid: u32, tid: u32, addr: u64) -> Option<()> {
        let (bytes, len) = code_at(tid, addr);
        let original = self.originals.values().find(|it| it.is_hidden_in(&bytes[..len]))?;
        let all = mappings::read(tid);
        let mapping = all.iter().find(|mapping| (mapping.start..mapping.end).contains(&addr))?;
        may_be_copy(mapping).then_some(())?;
        memory_of(pid).and_then(|memory| memory.write_all_at(&original.bytes[..1], addr)).ok()
    }
}
