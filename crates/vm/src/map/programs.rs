//! `prog_array`: the programs that `bpf_tail_call` goes on with (kernel/bpf/arraymap.c, Linux 6.18).
//!
//! Programs are set by [`Map::set_program`](super::Map::set_program); they have no numbers, so user space cannot read or write them as
//! bytes. What is set is kept until it is taken out or the machine goes away.

use std::sync::{Arc, PoisonError, RwLock};

use super::array::next_index;
use super::{MapError, MapSpec, Store, index_of};
use crate::Program;

#[derive(Debug)]
pub(crate) struct Programs {
    slots: Box<[RwLock<Option<Arc<Program>>>]>,
}

impl Programs {
    pub(crate) fn new(spec: &MapSpec) -> Result<Programs, MapError> {
        if spec.key_size != 4 || spec.value_size != 4 || spec.max_entries == 0 {
            return Err(MapError::Invalid("a prog_array has keys and values of 4 bytes, and at least one entry"));
        }
        Ok(Programs { slots: (0..spec.max_entries).map(|_| RwLock::default()).collect() })
    }

    pub(crate) fn get(&self, index: u32) -> Option<Arc<Program>> {
        self.slots.get(index as usize)?.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was there before.
    pub(crate) fn put(&self, index: u32, program: Option<Arc<Program>>) -> Result<Option<Arc<Program>>, MapError> {
        let slot = self.slots.get(index as usize).ok_or(MapError::Full)?;
        Ok(std::mem::replace(&mut *slot.write().unwrap_or_else(PoisonError::into_inner), program))
    }
}

impl Store for Programs {
    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let index = index_of(key).ok_or(MapError::Full)?;
        self.put(index, None)?.map(drop).ok_or(MapError::NotFound)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        Ok(next_index(key, self.slots.len() as u32))
    }
}
