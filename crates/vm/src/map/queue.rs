//! `queue` and `stack` (kernel/bpf/queue_stack_maps.c, Linux 6.18).
//!
//! Values are copied in and out, no program has a pointer to one: so they lie outside of the programs' memory, behind a lock.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{MapError, MapKind, MapSpec, Mode, Store};

#[derive(Debug)]
pub(crate) struct Queue {
    values: Mutex<VecDeque<Box<[u8]>>>,
    max_entries: usize,
    last_first: bool,
}

impl Queue {
    pub(crate) fn new(spec: &MapSpec) -> Result<Queue, MapError> {
        if spec.key_size != 0 || spec.value_size == 0 || spec.max_entries == 0 {
            return Err(MapError::Invalid("a queue or stack has no keys, but values and at least one entry"));
        }
        let last_first = spec.kind == MapKind::Stack;
        Ok(Queue { values: Mutex::default(), max_entries: spec.max_entries as usize, last_first })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Box<[u8]>>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Queue {
    /// Puts a value in; with `Exist` the oldest one makes room.
    fn push(&self, value: &[u8], mode: Mode) -> Result<(), MapError> {
        if mode == Mode::NoExist {
            return Err(MapError::Invalid("values are pushed with the flags BPF_ANY or BPF_EXIST"));
        }
        let mut values = self.lock();
        if values.len() == self.max_entries {
            if mode != Mode::Exist {
                return Err(MapError::Full);
            }
            values.pop_front();
        }
        values.push_back(value.into());
        Ok(())
    }

    fn pop(&self) -> Result<Vec<u8>, MapError> {
        let mut values = self.lock();
        let value = if self.last_first { values.pop_back() } else { values.pop_front() };
        Ok(value.ok_or(MapError::NotFound)?.into())
    }

    fn peek(&self, _: &[u8]) -> Result<Vec<u8>, MapError> {
        let values = self.lock();
        let value = if self.last_first { values.back() } else { values.front() };
        Ok(value.ok_or(MapError::NotFound)?.to_vec())
    }

    fn delete(&self, _: &[u8]) -> Result<(), MapError> {
        Err(MapError::Invalid("a queue or stack has no keys"))
    }

    fn next_key(&self, _: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        Err(MapError::Invalid("a queue or stack has no keys"))
    }
}
