//! `ringbuf`: records in the order of their reservation (kernel/bpf/ringbuf.c, Linux 6.18).
//!
//! # Layout
//!
//! The space for records is the kernel's: positions count bytes from the start, a record takes 8 bytes and its length, rounded up to
//! 8, and there must be at most `size - 1` bytes between the oldest record that nobody consumed and the end of the newest.
//! So the same programs find the buffer full at the same record.
//!
//! The kernel maps its pages twice in a row, so that a record that runs over the end is in one piece. Here the block has twice the
//! size: such a record goes on behind the end, in bytes that no other record has, and its share at the start stays unused.
//!
//! Which records there are and how far each one is, is not in the programs' memory, but in a queue behind a lock; the 8 bytes in
//! front of a record are left alone. So a program that writes wildly can spoil what its records say, and no more.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bell::Bell;
use super::{MapError, MapSpec, Store};
use crate::{Block, Space};

const HEADER_BYTES: u64 = 8;
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;

#[derive(Debug)]
pub(crate) struct Ring {
    block: Block,
    size: u64,
    state: Mutex<State>,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct State {
    /// From the oldest to the newest, without gaps.
    records: VecDeque<Record>,
    /// Where the oldest starts.
    consumed: u64,
    /// Behind the newest.
    produced: u64,
}

#[derive(Debug)]
struct Record {
    start: u64,
    len: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Reserved,
    Submitted,
    Discarded,
}

impl Ring {
    pub(crate) fn new(spec: &MapSpec, space: &Arc<Space>, bell: &Arc<Bell>) -> Result<Ring, MapError> {
        let size = u64::from(spec.max_entries);
        if spec.key_size != 0 || spec.value_size != 0 || !size.is_power_of_two() || size < 4096 {
            return Err(MapError::Invalid(
                "a ringbuf has neither keys nor values, and its size is a power of two, a page at least",
            ));
        }
        Ok(Ring { block: space.allocate(2 * size, true)?, size, state: Mutex::default(), bell: bell.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where programs find the bytes of the record that starts there.
    fn data(&self, start: u64) -> u64 {
        (start & (self.size - 1)) + HEADER_BYTES
    }

    /// A record of `len` bytes, and its address; `None` when it does not fit.
    pub(crate) fn reserve(&self, len: u64) -> Option<u64> {
        let len = u32::try_from(len).ok().filter(|len| u64::from(*len) <= self.size - HEADER_BYTES)?;
        let whole = (HEADER_BYTES + u64::from(len)).next_multiple_of(8);
        let mut state = self.lock();
        let start = state.produced;
        if start + whole - state.consumed > self.size - 1 {
            return None;
        }
        state.produced += whole;
        state.records.push_back(Record { start, len, stage: Stage::Reserved });
        Some(self.block.addr() + self.data(start))
    }

    /// Ends the work on a record that a program reserved; `None` when there is none at this address.
    #[must_use]
    pub(crate) fn finish(&self, addr: u64, flags: u64, submit: bool) -> Option<()> {
        let mut state = self.lock();
        let place = addr.checked_sub(self.block.addr())?.checked_sub(HEADER_BYTES)?;
        // Records that wait are less than a size apart, so the place says which one it is.
        let round = state.consumed & !(self.size - 1);
        let start = round + place + if round + place < state.consumed { self.size } else { 0 };
        let index = state.records.binary_search_by_key(&start, |record| record.start).ok()?;
        let oldest = state.records.iter().take(index).all(|record| record.stage != Stage::Reserved);
        let record = state.records.get_mut(index).filter(|record| record.stage == Stage::Reserved)?;
        record.stage = if submit { Stage::Submitted } else { Stage::Discarded };
        drop(state);
        // A reader that is behind comes here by itself.
        if flags & FORCE_WAKEUP != 0 || flags & NO_WAKEUP == 0 && oldest {
            self.bell.ring();
        }
        Some(())
    }

    /// Reserves, copies and submits.
    pub(crate) fn output(&self, data: &[u8], flags: u64) -> Result<(), MapError> {
        let addr = self.reserve(data.len() as u64).ok_or(MapError::Again)?;
        let written = self.block.write(addr - self.block.addr(), data);
        let finished = self.finish(addr, flags, true);
        written.and(finished).ok_or(MapError::Again)
    }

    /// Bytes between the oldest record and the end of the newest, the size, and the two positions.
    pub(crate) fn query(&self) -> [u64; 4] {
        let state = self.lock();
        [state.produced - state.consumed, self.size, state.consumed, state.produced]
    }

    /// Gives every record that is ready to `sink`, up to the first that is still being worked on; how many.
    pub(crate) fn consume(&self, sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> usize {
        let mut given = 0;
        loop {
            let mut state = self.lock();
            let Some(record) = state.records.front() else { return given };
            let (start, len, stage) = (record.start, record.len, record.stage);
            if stage == Stage::Reserved {
                return given;
            }
            let data =
                if stage == Stage::Submitted { Some(self.block.bytes(self.data(start), len as usize)) } else { None };
            state.records.pop_front();
            state.consumed += (HEADER_BYTES + u64::from(len)).next_multiple_of(8);
            drop(state);
            if let Some(data) = data {
                given += 1;
                if sink(&data).is_break() {
                    return given;
                }
            }
        }
    }
}

impl Store for Ring {}
