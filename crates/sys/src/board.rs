//! A board: memory by which tasks of another process tell something and wait for an answer, without a system call that stops them.
//!
//! A task takes one of the [`SLOTS`], writes who and where it is, and posts it. Whoever looks takes what was posted, reads it, and answers; then the
//! task goes on and gives the slot back. Nobody is woken: a task posts only while somebody looks ([`Board::look`]), waits for some microseconds, and
//! withdraws if nobody came. The code of the tasks' side is the caller's; this is the layout that both share:
//!
//! - [`LOOK_OFF`]: 32 bits, not 0 while somebody looks;
//! - [`FREE_OFF`]: 64 bits, one for each slot that is free;
//! - [`SLOTS_OFF`]: the slots, of [`SLOT_BYTES`] each: [`WORDS`] words, then at [`STATE_OFF`] the state and at [`TID_OFF`] the task, of 32 bits each.
//!
//! The memory may be written by the other side at any time, so what is read here is checked where it is used.

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use crate::Errno;
use crate::mmap::SharedMap;

/// Where the word is that tells whether somebody looks.
pub const LOOK_OFF: usize = 0;
/// Where the bits of free slots are.
pub const FREE_OFF: usize = 64;
/// Where the slots begin.
pub const SLOTS_OFF: usize = 4096;
/// How many there are.
pub const SLOTS: usize = 32;
/// Bytes of one, as a power of two.
pub const SLOT_SHIFT: u8 = 8;
/// Bytes of one.
pub const SLOT_BYTES: usize = 1 << SLOT_SHIFT;
/// Words of what is told.
pub const WORDS: usize = 21;
/// Where the state is in a slot.
pub const STATE_OFF: usize = 176;
/// Where the task's id is.
pub const TID_OFF: usize = 180;
/// Bytes of a board.
pub const BOARD_BYTES: usize = SLOTS_OFF + SLOTS * SLOT_BYTES;

/// `MFD_ALLOW_SEALING` of `include/uapi/linux/memfd.h`.
pub const ALLOW_SEALING: u64 = 2;

/// States of a slot: nobody has told anything.
pub const IDLE: u32 = 0;
/// Something was told.
pub const POSTED: u32 = 1;
/// Somebody looks at it.
pub const TAKEN: u32 = 2;
/// The task may go on.
pub const DONE: u32 = 3;
/// It has to tell in another way.
pub const REFUSED: u32 = 4;

/// A board that other processes have as well.
#[derive(Debug)]
pub struct Board {
    map: SharedMap,
}

/// What a task told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    /// In which slot.
    pub slot: usize,
    /// Who.
    pub tid: u32,
    /// What.
    pub words: [u64; WORDS],
}

impl Board {
    /// Makes a board of the memory of a descriptor, of memfd_create(2) with [`ALLOW_SEALING`]: it gets the length of one for ever, so that
    /// nobody can take its pages away.
    ///
    /// # Errors
    ///
    /// Those of ftruncate(2), fcntl(2) and mmap(2).
    pub fn new(memory: BorrowedFd<'_>) -> Result<Board, Errno> {
        use rustix::fs::SealFlags;
        rustix::fs::ftruncate(memory, BOARD_BYTES as u64)?;
        rustix::fs::fcntl_add_seals(memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = SharedMap::new(memory, 0, BOARD_BYTES, true)?;
        map.u64_at(FREE_OFF).store((1 << SLOTS) - 1, Ordering::Release);
        Ok(Board { map })
    }

    /// Says whether somebody looks from now on.
    pub fn look(&self, look: bool) {
        // Before the slots are looked at for the last time.
        self.map.u32_at(LOOK_OFF).store(look.into(), Ordering::SeqCst);
    }

    fn state(&self, slot: usize) -> &std::sync::atomic::AtomicU32 {
        self.map.u32_at(SLOTS_OFF + slot * SLOT_BYTES + STATE_OFF)
    }

    fn claimed(&self) -> impl Iterator<Item = usize> {
        let free = self.map.u64_at(FREE_OFF).load(Ordering::SeqCst);
        let mut claimed = !free & ((1 << SLOTS) - 1);
        std::iter::from_fn(move || {
            let slot = claimed.trailing_zeros() as usize;
            claimed &= claimed.wrapping_sub(1);
            (slot < SLOTS).then_some(slot)
        })
    }

    /// Takes something that was posted, if there is anything: it has to be answered.
    pub fn take(&self) -> Option<Posted> {
        let take = |slot: &usize| {
            let state = self.state(*slot);
            state.load(Ordering::Relaxed) == POSTED
                && state.compare_exchange(POSTED, TAKEN, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let slot = self.claimed().find(take)?;
        let at = SLOTS_OFF + slot * SLOT_BYTES;
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.map.u64_at(at + 8 * index).load(Ordering::Relaxed);
        }
        Some(Posted { slot, tid: self.map.u32_at(at + TID_OFF).load(Ordering::Relaxed), words })
    }

    /// Lets the task of a slot that was taken go on; if it was not understood, it has to tell in another way.
    pub fn answer(&self, slot: usize, understood: bool) {
        self.state(slot).store(if understood { DONE } else { REFUSED }, Ordering::Release);
    }

    /// A task has ended: what it had is free.
    pub fn forget(&self, tid: u32) {
        for slot in self.claimed() {
            let of = self.map.u32_at(SLOTS_OFF + slot * SLOT_BYTES + TID_OFF);
            if of.compare_exchange(tid, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                self.state(slot).store(IDLE, Ordering::Release);
                self.map.u64_at(FREE_OFF).fetch_or(1 << slot, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn board() -> Board {
        let memory = rustix::fs::memfd_create("board", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
        Board::new(memory.as_fd()).unwrap()
    }

    /// Posts as a task does.
    fn post(board: &Board, slot: usize, tid: u32) {
        let at = SLOTS_OFF + slot * SLOT_BYTES;
        board.map.u64_at(FREE_OFF).fetch_and(!(1 << slot), Ordering::SeqCst);
        board.map.u64_at(at + 8 * (WORDS - 1)).store(7, Ordering::Relaxed);
        board.map.u32_at(at + TID_OFF).store(tid, Ordering::Relaxed);
        board.state(slot).store(POSTED, Ordering::Release);
    }

    #[test]
    fn what_is_posted_is_taken_once() {
        let board = board();
        assert_eq!(board.take(), None);
        post(&board, 31, 5);
        let posted = board.take().unwrap();
        assert_eq!((posted.slot, posted.tid, posted.words[WORDS - 1]), (31, 5, 7));
        assert_eq!(board.take(), None);
        board.answer(31, true);
        assert_eq!(board.state(31).load(Ordering::Acquire), DONE);
        assert_eq!(board.take(), None);
    }

    #[test]
    fn slots_of_the_dead_are_free() {
        let board = board();
        post(&board, 0, 5);
        post(&board, 3, 6);
        board.forget(5);
        assert_eq!(board.claimed().collect::<Vec<_>>(), [3]);
        assert_eq!(board.take().unwrap().tid, 6);
        board.answer(3, false);
        assert_eq!(board.state(3).load(Ordering::Acquire), REFUSED);
    }

    #[test]
    fn a_slot_has_room_for_all() {
        const { assert!(8 * WORDS <= STATE_OFF && TID_OFF + 4 <= SLOT_BYTES && SLOTS <= 64) };
    }
}
