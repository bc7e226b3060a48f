//! `array` and `percpu_array`: values by index, all there from the start (kernel/bpf/arraymap.c, Linux 6.18).
//!
//! There is nothing but the values, so a lookup is a compare and a multiplication, and nothing locks. An update copies over
//! the old value while others may read it, as in the kernel.

use std::sync::Arc;

use super::values::Values;
use super::{MapError, MapSpec, Mode, Store, Who, index_of};
use crate::Space;

#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) values: Values,
    len: u32,
    percpu: bool,
}

impl Array {
    pub(crate) fn new(spec: &MapSpec, space: &Arc<Space>, cpus: u32) -> Result<Array, MapError> {
        if spec.key_size != 4 || spec.value_size == 0 || spec.max_entries == 0 {
            return Err(MapError::Invalid("an array has keys of 4 bytes, values, and at least one entry"));
        }
        let percpu = spec.kind.is_per_cpu();
        let cpus = if percpu { cpus } else { 1 };
        let values = Values::new(space, spec.max_entries, spec.value_size, cpus, spec.programs_write())?;
        Ok(Array { values, len: spec.max_entries, percpu })
    }

    /// The key of the value at an address.
    pub(crate) fn key_at(&self, value: u64) -> Option<Vec<u8>> {
        self.values.index_at(value).map(|index| index.to_ne_bytes().to_vec())
    }

    #[inline]
    fn index(&self, key: &[u8]) -> Option<u32> {
        index_of(key).filter(|index| *index < self.len)
    }
}

impl Store for Array {
    #[inline]
    fn find(&self, key: &[u8], cpu: u32) -> Option<u64> {
        self.values.addr(self.index(key)?, cpu)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        Ok(self.index(key).map(|index| self.values.read(index, self.percpu)))
    }

    fn set(&self, key: &[u8], value: &[u8], mode: Mode, who: Who) -> Result<(), MapError> {
        let index = self.index(key).ok_or(MapError::Full)?;
        if mode == Mode::NoExist {
            return Err(MapError::Exists);
        }
        self.values.write(index, value, self.percpu, who, false);
        Ok(())
    }

    fn delete(&self, _: &[u8]) -> Result<(), MapError> {
        Err(MapError::Invalid("elements of an array cannot be deleted"))
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        Ok(next_index(key, self.len))
    }

    fn walk(
        &self,
        cpu: u32,
        visit: &mut dyn FnMut(&[u8], u64) -> Result<bool, crate::Stop>,
    ) -> Result<Option<u64>, crate::Stop> {
        for index in 0..self.len {
            let Some(addr) = self.values.addr(index, cpu) else { break };
            if !visit(&index.to_ne_bytes(), addr)? {
                return Ok(Some(u64::from(index) + 1));
            }
        }
        Ok(Some(self.len.into()))
    }
}

/// The index behind a key; the first one behind none, and behind one that is too large.
pub(crate) fn next_index(key: Option<&[u8]>, len: u32) -> Option<Vec<u8>> {
    let next = key.and_then(index_of).filter(|index| *index < len).map_or(0, |index| index + 1);
    (next < len).then(|| next.to_ne_bytes().to_vec())
}
