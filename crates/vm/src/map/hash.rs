//! `hash`, `percpu_hash`, `lru_hash` and `lru_percpu_hash` (kernel/bpf/hashtab.c, Linux 6.18).
//!
//! A [`Table`] finds an element, which knows where its value is among the [`Values`]; lookups lock nothing. An update of a key puts a new element
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
use super::table::{Element, Table};
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
        let table = Table::new(spec.key_size, count, |number| values.addr(number, 0).unwrap_or(0))?;
        Ok(Hash { table, values, max_entries: spec.max_entries, percpu, lru: spec.kind.is_lru() })
    }
}

impl Hash {
    /// The key of the element whose value is at an address.
    pub(crate) fn key_at(&self, value: u64) -> Option<Vec<u8>> {
        let element = self.table.element(self.values.index_at(value)?)?;
        let key = self.table.key_bytes(element);
        (self.table.find(&self.table.key(&key)) == Some(element)).then_some(key)
    }

    /// Where a program on a CPU finds the value of an element that it found.
    #[inline]
    fn found(&self, element: Element, cpu: u32) -> Option<u64> {
        if self.lru {
            self.table.mark_used(element);
        }
        self.value(element, cpu)
    }

    #[inline]
    fn value(&self, element: Element, cpu: u32) -> Option<u64> {
        self.values.of_cpu(self.table.own(element), cpu)
    }

    /// A copy of the value of an element for user space.
    fn read(&self, element: Element) -> Vec<u8> {
        self.values.read(self.table.number(element), self.percpu)
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
        self.table.find_words(words).and_then(|element| self.found(element, cpu)).unwrap_or(0)
    }
}

impl Store for Hash {
    #[inline]
    fn find(&self, key: &[u8], cpu: u32) -> Option<u64> {
        self.found(self.table.find(&self.table.key(key))?, cpu)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        // Under the lock, so that it is one element's value.
        let table = self.table.lock();
        Ok(table.find(&self.table.key(key)).map(|element| self.read(element)))
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
                self.values.write(self.table.number(old), value, true, who, false);
                return Ok(());
            }
            (Some(_), _) => {}
            (None, _) if table.live() < self.max_entries => {}
            (None, _) if self.lru => table.evict(),
            (None, _) => return Err(MapError::Full),
        }
        let element = table.take().ok_or(MapError::NoMemory)?;
        self.values.write(self.table.number(element), value, self.percpu, who, true);
        table.link(element, &key);
        if let Some(old) = old {
            table.unlink(old);
        }
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let mut table = self.table.lock();
        let element = table.find(&self.table.key(key)).ok_or(MapError::NotFound)?;
        table.unlink(element);
        Ok(())
    }

    fn take(&self, key: &[u8]) -> Result<Vec<u8>, MapError> {
        let mut table = self.table.lock();
        let element = table.find(&self.table.key(key)).ok_or(MapError::NotFound)?;
        let value = self.read(element);
        table.unlink(element);
        Ok(value)
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        let key = key.map(|key| self.table.key(key));
        Ok(self.table.lock().next_key(key.as_ref()))
    }

    fn entries(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, MapError> {
        let table = self.table.lock();
        let members = (0..self.table.buckets()).flat_map(|bucket| table.members(bucket));
        Ok(members.map(|it| (self.table.key_bytes(it.element), self.read(it.element))).collect())
    }

    /// Of elements that come meanwhile some may be passed over, and those that were taken out by then are.
    fn walk(&self, cpu: u32, visit: &mut dyn FnMut(&[u8], u64) -> Result<bool, Stop>) -> Result<Option<u64>, Stop> {
        let mut visited = 0;
        for bucket in 0..self.table.buckets() {
            let members = self.table.lock().members(bucket);
            for seen in members {
                let key = self.table.key_bytes(seen.element);
                let Some(addr) = self.value(seen.element, cpu).filter(|_| self.table.is_still(seen)) else {
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
