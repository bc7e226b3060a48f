//! `user_ringbuf`: records that user space sends to programs (kernel/bpf/ringbuf.c, Linux 6.18).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{MapError, MapSpec, Store};
use crate::{Block, Space};

const HEADER_BYTES: usize = 8;

#[derive(Debug)]
pub(crate) struct UserRing {
    size: usize,
    waiting: Mutex<VecDeque<Vec<u8>>>,
    /// Some program is at it.
    busy: AtomicBool,
    /// The record that a callback looks at.
    sample: Block,
    /// What it gets to look at it.
    pub(crate) dynptr: Block,
}

impl UserRing {
    pub(crate) fn new(spec: &MapSpec, space: &Arc<Space>) -> Result<UserRing, MapError> {
        let size = spec.max_entries;
        if spec.key_size != 0 || spec.value_size != 0 || !size.is_power_of_two() || size < 4096 {
            return Err(MapError::Invalid(
                "a user_ringbuf has neither keys nor values, and its size is a power of two, a page at least",
            ));
        }
        Ok(UserRing {
            size: size as usize,
            waiting: Mutex::default(),
            busy: AtomicBool::new(false),
            sample: space.allocate(size.into(), false)?,
            dynptr: space.allocate(16, true)?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<u8>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record behind the others.
    pub(crate) fn send(&self, record: &[u8]) -> Result<(), MapError> {
        let bytes = |len: usize| (len + HEADER_BYTES).next_multiple_of(8);
        if bytes(record.len()) > self.size {
            return Err(MapError::Full);
        }
        let mut waiting = self.lock();
        let used: usize = waiting.iter().map(|record| bytes(record.len())).sum();
        if used + bytes(record.len()) > self.size {
            return Err(MapError::NoSpace);
        }
        waiting.push_back(record.to_vec());
        Ok(())
    }

    /// Whether nobody else is at it; then [`UserRing::release`] must follow.
    pub(crate) fn acquire(&self) -> bool {
        !self.busy.swap(true, Ordering::Acquire)
    }

    pub(crate) fn release(&self) {
        self.busy.store(false, Ordering::Release);
    }

    /// The next record: where it is for programs, and its length.
    pub(crate) fn next(&self) -> Option<(u64, u64)> {
        let record = self.lock().pop_front()?;
        self.sample.write(0, &record)?;
        Some((self.sample.addr(), record.len() as u64))
    }
}

impl Store for UserRing {}
