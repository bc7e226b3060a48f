//! `hash`, `percpu_hash`, `lru_hash` and `lru_percpu_hash` (kernel/bpf/hashtab.c, Linux 6.18).
//!
//! A [`Table`] finds the number of an element, [`Values`] has its value; lookups lock nothing. An update of a key puts a new element
//! in front of the old one and then takes that away, so that whoever looks the key up meanwhile finds one of the two,
//! and a pointer to the old value does not see the new one come piece by piece. For this there is one element more than
//! `max_entries`. Per-CPU values are updated in place: nobody else writes that of this CPU.
//!
//! A full LRU map drops the element whose last lookup by a program is long ago, by a hand that goes round. (The kernel keeps lists for
//! each CPU and drops up to 128 elements at once; that none is dropped before the map is full is no promise of its.)
//! Lookups of user space do not count as use.

use std::sync::Arc;

#[cfg(target_arch = "x86_64")]
use super::table::Places;
use super::table::Table;
use super::values::Values;
use super::{MapError, MapSpec, Mode, Store, Who};
use crate::{Space, Stop};

#[derive(Debug)]
pub(crate) struct Hash {
    table: Table,
    pub(crate) values: Values,
    max_entries: u32,
    percpu: bool,
    lru: bool,
}

impl Hash {
    pub(crate) fn new(spec: &MapSpec, space: &Arc<Space>, cpus: u32) -> Result<Hash, MapError> {
        if spec.key_size == 0 || spec.value_size == 0 || spec.max_entries == 0 {
            return Err(MapError::Invalid("a hash map has keys, values, and at least one entry"));
        }
        let count = spec.max_entries.checked_add(1).ok_or(MapError::Full)?;
        let percpu = spec.kind.is_per_cpu();
        let cpus = if percpu { cpus } else { 1 };
        // First what may not fit.
        let values = Values::new(space, count, spec.value_size, cpus, spec.programs_write())?;
        let table = Table::new(spec.key_size, count);
        Ok(Hash { table, values, max_entries: spec.max_entries, percpu, lru: spec.kind.is_lru() })
    }
}

impl Hash {
    /// The key of the element whose value is at an address.
    pub(crate) fn key_at(&self, value: u64) -> Option<Vec<u8>> {
        let index = self.values.index_at(value)?;
        let key = self.table.key_bytes(index);
        (self.table.find(&self.table.key(&key)) == Some(index)).then_some(key)
    }
}

/// For compiled code.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Hash {
    /// Where the table is, and whether an element that is found has to be marked.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn places(&self) -> (Places, bool) {
        (self.table.places(), self.lru)
    }

    /// As [`Store::find`], for a key of some whole words; 0 when there is none.
    #[inline]
    pub(crate) fn find_words<const WORDS: usize>(&self, words: [u64; WORDS], cpu: u32) -> u64 {
        let Some(index) = self.table.find_words(words) else { return 0 };
        if self.lru {
            self.table.mark_used(index);
        }
        self.values.addr(index, cpu).unwrap_or(0)
    }
}

impl Store for Hash {
    #[inline]
    fn find(&self, key: &[u8], cpu: u32) -> Option<u64> {
        let index = self.table.find(&self.table.key(key))?;
        if self.lru {
            self.table.mark_used(index);
        }
        self.values.addr(index, cpu)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        // Under the lock, so that it is one element's value.
        let table = self.table.lock();
        let index = table.find(&self.table.key(key));
        Ok(index.map(|index| self.values.read(index, self.percpu)))
    }

    fn set(&self, key: &[u8], value: &[u8], mode: Mode, who: Who) -> Result<(), MapError> {
        let key = self.table.key(key);
        let mut table = self.table.lock();
        let old = table.find(&key);
        match (old, mode) {
            (Some(_), Mode::NoExist) => return Err(MapError::Exists),
            (None, Mode::Exist) => return Err(MapError::NotFound),
            (Some(old), _) if self.percpu => {
                self.table.mark_used(old);
                self.values.write(old, value, true, who, false);
                return Ok(());
            }
            (Some(_), _) => {}
            (None, _) if table.live() < self.max_entries => {}
            (None, _) if self.lru => table.evict(),
            (None, _) => return Err(MapError::Full),
        }
        let index = table.take().ok_or(MapError::NoMemory)?;
        self.values.write(index, value, self.percpu, who, true);
        table.link(index, &key);
        if let Some(old) = old {
            table.unlink(old);
        }
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let mut table = self.table.lock();
        let index = table.find(&self.table.key(key)).ok_or(MapError::NotFound)?;
        table.unlink(index);
        Ok(())
    }

    fn take(&self, key: &[u8]) -> Result<Vec<u8>, MapError> {
        let mut table = self.table.lock();
        let index = table.find(&self.table.key(key)).ok_or(MapError::NotFound)?;
        let value = self.values.read(index, self.percpu);
        table.unlink(index);
        Ok(value)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        let key = key.map(|key| self.table.key(key));
        Ok(self.table.lock().next_key(key.as_ref()))
    }

    fn entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MapError> {
        let table = self.table.lock();
        let members = (0..self.table.buckets()).flat_map(|bucket| table.members(bucket));
        Ok(members.map(|it| (self.table.key_bytes(it.index), self.values.read(it.index, self.percpu))).collect())
    }

    /// Of elements that come meanwhile some may be passed over, and those that were taken out by then are.
    fn walk(&self, cpu: u32, visit: &mut dyn FnMut(&[u8], u64) -> Result<bool, Stop>) -> Result<Option<u64>, Stop> {
        let mut visited = 0;
        for bucket in 0..self.table.buckets() {
            let members = self.table.lock().members(bucket);
            for seen in members {
                let key = self.table.key_bytes(seen.index);
                let Some(addr) = self.values.addr(seen.index, cpu).filter(|_| self.table.is_still(seen)) else {
                    continue;
                };
                visited += 1;
                if !visit(&key, addr)? {
                    return Ok(Some(visited));
                }
            }
        }
        Ok(Some(visited))
    }
}
