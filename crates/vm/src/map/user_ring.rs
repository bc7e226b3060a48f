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
    waiting: Mutex<Waiting>,
    /// Some program is at it.
    busy: AtomicBool,
    /// The record that a callback looks at.
    sample: Block,
    /// What it gets to look at it.
    pub(crate) dynptr: Block,
}

/// Records that nobody has read.
#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Vec<u8>>,
    /// Bytes that they take in a ring.
    used: usize,
}

/// Bytes that a record takes in a ring.
fn taken(record: &[u8]) -> usize {
    (record.len() + HEADER_BYTES).next_multiple_of(8)
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

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record behind the others.
    pub(crate) fn send(&self, record: &[u8]) -> Result<(), MapError> {
        let bytes = taken(record);
        if bytes > self.size {
            return Err(MapError::Full);
        }
        let mut waiting = self.lock();
        if waiting.used + bytes > self.size {
            return Err(MapError::NoSpace);
        }
        waiting.used += bytes;
        waiting.records.push_back(record.to_vec());
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
        let record = {
            let mut waiting = self.lock();
            let record = waiting.records.pop_front()?;
            waiting.used -= taken(&record);
            record
        };
        self.sample.write(0, &record)?;
        Some((self.sample.addr(), record.len() as u64))
    }
}

impl Store for UserRing {}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_full_ring_takes_as_much_again_as_was_read() {
        const BYTES: u32 = 16 << 20;
        let spec = MapSpec { key_size: 0, value_size: 0, max_entries: BYTES, ..MapSpec::default() };
        let ring = UserRing::new(&spec, &Space::new().unwrap()).unwrap();
        assert!(matches!(ring.send(&vec![0; BYTES as usize]), Err(MapError::Full)));
        let start = Instant::now();
        let mut sent = 0;
        while ring.send(&[7; 3]).is_ok() {
            sent += 1;
        }
        // As many as in the kernel's, and the last one as quickly as the first: a walk over those that wait would take hours.
        assert_eq!(sent, BYTES / 16);
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
        assert_eq!(ring.next().map(|(_, len)| len), Some(3));
        assert!(ring.send(&[7; 9]).is_err(), "24 bytes, where 16 are free");
        assert!(ring.send(&[7; 8]).is_ok() && ring.send(&[]).is_err());
    }
}
