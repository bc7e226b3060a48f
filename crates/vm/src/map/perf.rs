//! `perf_event_array`: a buffer of records for each CPU (`bpf_perf_event_output`, kernel/trace/bpf_trace.c, Linux 6.18).
//!
//! In the kernel user space opens a perf event for a CPU and puts it into the map; here it opens a buffer for the slot
//! ([`Map::open_buffer`](super::Map::open_buffer)). Programs copy records in, so they lie outside of the programs' memory. A buffer
//! that is full refuses records and counts them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::array::next_index;
use super::bell::Bell;
use super::{MapError, MapSpec, Store, index_of};

#[derive(Debug)]
pub(crate) struct PerfArray {
    slots: Box<[Mutex<Option<Buffer>>]>,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Buffer {
    records: VecDeque<Box<[u8]>>,
    room: usize,
    lost: u64,
}

/// Bytes that a record takes beside its own: the kernel's header and length.
const RECORD_BYTES: usize = 12;

fn taken(len: usize) -> usize {
    (RECORD_BYTES + len).next_multiple_of(8)
}

impl PerfArray {
    pub(crate) fn new(spec: &MapSpec, cpus: u32, bell: &Arc<Bell>) -> Result<PerfArray, MapError> {
        if spec.key_size != 4 || spec.value_size != 4 {
            return Err(MapError::Invalid("a perf_event_array has keys and values of 4 bytes"));
        }
        // Loaders leave the number of CPUs to the machine.
        let count = if spec.max_entries == 0 { cpus } else { spec.max_entries };
        Ok(PerfArray { slots: (0..count).map(|_| Mutex::default()).collect(), bell: bell.clone() })
    }

    fn lock(&self, index: u32) -> Option<MutexGuard<'_, Option<Buffer>>> {
        Some(self.slots.get(index as usize)?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn open(&self, index: u32, bytes: usize) -> Result<(), MapError> {
        let mut slot = self.lock(index).ok_or(MapError::Full)?;
        *slot = Some(Buffer { records: VecDeque::new(), room: bytes, lost: 0 });
        Ok(())
    }

    pub(crate) fn is_open(&self, index: u32) -> bool {
        self.lock(index).is_some_and(|slot| slot.is_some())
    }

    /// Adds a record.
    pub(crate) fn output(&self, index: u32, data: Box<[u8]>) -> Result<(), MapError> {
        let mut slot = self.lock(index).ok_or(MapError::Full)?;
        let buffer = slot.as_mut().ok_or(MapError::NotFound)?;
        let Some(room) = buffer.room.checked_sub(taken(data.len())) else {
            buffer.lost += 1;
            return Err(MapError::NoSpace);
        };
        buffer.room = room;
        buffer.records.push_back(data);
        drop(slot);
        self.bell.ring();
        Ok(())
    }

    /// Takes the oldest record of a slot.
    pub(crate) fn take(&self, index: u32) -> Option<Box<[u8]>> {
        let mut slot = self.lock(index)?;
        let buffer = slot.as_mut()?;
        let record = buffer.records.pop_front()?;
        buffer.room += taken(record.len());
        Some(record)
    }

    pub(crate) fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// How many records were refused since it was asked last.
    pub(crate) fn take_lost(&self, index: u32) -> u64 {
        self.lock(index).and_then(|mut slot| slot.as_mut().map(|buffer| std::mem::take(&mut buffer.lost))).unwrap_or(0)
    }
}

impl Store for PerfArray {
    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let mut slot = index_of(key).and_then(|index| self.lock(index)).ok_or(MapError::Full)?;
        slot.take().map(drop).ok_or(MapError::NotFound)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        Ok(next_index(key, self.len()))
    }
}
