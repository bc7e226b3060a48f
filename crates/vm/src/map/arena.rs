//! `arena`: pages that programs ask for and give back, with pointers between them (kernel/bpf/arena.c, Linux 6.18).
//!
//! All of an arena is memory of the programs from the start; a page that nobody asked for reads as zeros, as in the kernel, where a program
//! that writes there loses what it wrote. Which pages are somebody's is counted in `bpf_arena_alloc_pages` and
//! `bpf_arena_free_pages`, and a page is zero again as soon as it is given back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{MapError, MapSpec, Store};
use crate::{Block, SPACE_BYTES, Space};

/// Bytes of a page.
pub(crate) const PAGE_BYTES: u64 = 4096;
/// `BPF_F_MMAPABLE`, which an arena must have.
const F_MMAPABLE: u32 = 1 << 10;

#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) block: Block,
    /// Which pages are somebody's.
    taken: Mutex<Vec<bool>>,
}

impl Arena {
    pub(crate) fn new(spec: &MapSpec, space: &Arc<Space>) -> Result<Arena, MapError> {
        let wrong = spec.key_size != 0 || spec.value_size != 0 || spec.max_entries == 0;
        if wrong || spec.flags & F_MMAPABLE == 0 {
            return Err(MapError::Invalid(
                "an arena has neither keys nor values, a page at least, and the flag BPF_F_MMAPABLE",
            ));
        }
        let len = u64::from(spec.max_entries) * PAGE_BYTES;
        if len > SPACE_BYTES {
            return Err(MapError::Full);
        }
        let block = space.allocate(len, true)?;
        Ok(Arena { block, taken: Mutex::new(vec![false; spec.max_entries as usize]) })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<bool>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page that an address, short or whole, is in the first byte of.
    fn page(&self, addr: u64) -> Option<usize> {
        let off = u64::from((addr as u32).wrapping_sub(self.block.addr() as u32));
        (off % PAGE_BYTES == 0 && off < self.block.len()).then_some((off / PAGE_BYTES) as usize)
    }

    /// Takes pages: those at an address, or the first that are free if it is 0. Gives where they are, 0 when they are not to be had.
    pub(crate) fn allocate(&self, at: u64, count: u64) -> u64 {
        let mut taken = self.lock();
        let Ok(count) = usize::try_from(count) else { return 0 };
        if count == 0 || count > taken.len() {
            return 0;
        }
        let free = |taken: &[bool], start: usize| {
            taken.get(start..start + count).is_some_and(|pages| pages.iter().all(|page| !page))
        };
        let start = match at {
            0 => (0..=taken.len() - count).find(|start| free(&taken, *start)),
            at => self.page(at).filter(|start| free(&taken, *start)),
        };
        let Some(start) = start else { return 0 };
        taken[start..start + count].fill(true);
        self.block.addr() + start as u64 * PAGE_BYTES
    }

    /// Gives pages back, as far as they are of this arena.
    pub(crate) fn free(&self, at: u64, count: u64) {
        let mut taken = self.lock();
        let Some(start) = self.page(at) else { return };
        let end = (start as u64).saturating_add(count).min(taken.len() as u64) as usize;
        taken[start..end].fill(false);
        let cleared = self.block.zero(start as u64 * PAGE_BYTES, (end - start) * PAGE_BYTES as usize);
        debug_assert!(cleared.is_some(), "the pages are the block's");
    }

    /// Puts globals at the start, whose pages are taken.
    pub(crate) fn fill(&self, bytes: &[u8]) -> Result<(), MapError> {
        self.block.write(0, bytes).ok_or(MapError::Full)?;
        self.lock()[..bytes.len().div_ceil(PAGE_BYTES as usize)].fill(true);
        Ok(())
    }
}

impl Store for Arena {}
