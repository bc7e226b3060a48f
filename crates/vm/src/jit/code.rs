//! Executable memory: written first, executable afterwards, never both.
//!
//! # Safety
//!
//! A [`CodeBlock`] owns one private mapping. It is writable only inside of [`CodeBlock::new`], before anybody has its address;
//! from then on it is readable and executable until it is dropped. Whoever jumps into it vouches for the bytes.
#![expect(unsafe_code, reason = "maps executable memory")]

use std::ptr::NonNull;

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};

/// Some code that the processor may run.
#[derive(Debug)]
pub(super) struct CodeBlock {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is not bound to a thread, and nobody writes it.
unsafe impl Send for CodeBlock {}
// SAFETY: as above.
unsafe impl Sync for CodeBlock {}

impl CodeBlock {
    /// Makes a copy of `code` executable. A machine may forbid that, and says so here.
    pub(super) fn new(code: &[u8]) -> std::io::Result<CodeBlock> {
        let len = code.len().max(1).next_multiple_of(rustix::param::page_size());
        let (prot, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a fresh mapping at an address that the kernel picks.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len, prot, flags) }?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(std::io::ErrorKind::AddrNotAvailable)?;
        // From here on it is given back, whatever happens.
        let block = CodeBlock { start, len };
        // SAFETY: the mapping is at least as long, writable, and nobody else's.
        unsafe { start.as_ptr().copy_from_nonoverlapping(code.as_ptr(), code.len()) };
        // SAFETY: all of the mapping, to which no reference exists.
        unsafe { mprotect(start.as_ptr().cast(), len, MprotectFlags::READ | MprotectFlags::EXEC) }?;
        #[cfg(target_arch = "aarch64")]
        see_code(start.addr().get(), len);
        Ok(block)
    }

    /// Its addresses.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        let start = self.start.addr().get();
        start..start + self.len
    }

    /// The address of a byte of it.
    pub(super) fn at(&self, off: u32) -> *const u8 {
        debug_assert!((off as usize) < self.len, "a place in the code");
        self.start.as_ptr().wrapping_add(off as usize)
    }
}

impl Drop for CodeBlock {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; whoever runs it holds the program that owns it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Lets the processors see bytes that were written as instructions: their caches of instructions know nothing of those of
/// data (ARM ARM, section "Synchronization and coherency issues between data and instruction accesses").
#[cfg(target_arch = "aarch64")]
fn see_code(start: usize, len: usize) {
    use std::arch::asm;

    let caches: usize;
    // SAFETY: a register that says how long lines are; Linux lets everybody read it.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) caches, options(nomem, nostack, preserves_flags)) };
    let lines = |shift: usize| {
        let line = 4 << (caches >> shift & 0xf);
        (start & !(line - 1)..start + len).step_by(line)
    };
    // What was written gets to where instructions come from, unless the machine sees to that (bit 28).
    if caches >> 28 & 1 == 0 {
        for line in lines(16) {
            // SAFETY: cleans a line of the mapping that the caller owns.
            unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
    }
    // SAFETY: waits for it.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    // What was there before is forgotten, unless the machine sees to that (bit 29).
    if caches >> 29 & 1 == 0 {
        for line in lines(0) {
            // SAFETY: drops a line of the mapping that the caller owns.
            unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
    }
    // SAFETY: waits for it, and forgets what this processor has fetched ahead.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says about the mapping at an address.
    fn rights(addr: usize) -> Option<String> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
            range.contains(&addr).then(|| rest[..4].to_owned())
        })
    }

    #[test]
    fn code_is_executable_and_not_writable() {
        let block = CodeBlock::new(&[0xc3; 5000]).unwrap();
        for off in [0, 4999] {
            assert_eq!(rights(block.at(off).addr()).as_deref(), Some("r-xp"));
        }
    }
}
