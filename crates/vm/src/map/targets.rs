//! `devmap`, `devmap_hash`, `cpumap` and `xskmap`: where packets are redirected to (kernel/bpf/devmap.c, cpumap.c, Linux 6.18).
//!
//! There are no devices here: what user space put in is kept and looked up, and a redirect is noted at the packet
//! ([`Redirect`](crate::Redirect)). All but `devmap_hash` have keys from 0, below their size.

use std::sync::Arc;

use super::hash::Hash;
use super::{MapError, MapKind, MapSpec, Mode, Store, Who, index_of};
use crate::Space;

#[derive(Debug)]
pub(crate) struct Targets {
    values: Hash,
    /// What keys must be below.
    len: Option<u32>,
}

impl Targets {
    pub(crate) fn new(spec: &MapSpec, space: &Arc<Space>) -> Result<Targets, MapError> {
        if spec.key_size != 4 || !matches!(spec.value_size, 4 | 8) || spec.max_entries == 0 {
            return Err(MapError::Invalid(
                "a map of redirects has keys of 4 bytes, values of 4 or 8, and an entry at least",
            ));
        }
        let len = (spec.kind != MapKind::DevMapHash).then_some(spec.max_entries);
        // Programs may only read them.
        let like = MapSpec { kind: MapKind::Hash, flags: spec.flags | super::F_RDONLY_PROG, ..spec.clone() };
        Ok(Targets { values: Hash::new(&like, space, 1)?, len })
    }
}

impl Store for Targets {
    fn find(&self, key: &[u8], cpu: u32) -> Option<u64> {
        self.values.find(key, cpu)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.values.get(key)
    }

    fn set(&self, key: &[u8], value: &[u8], mode: Mode, who: Who) -> Result<(), MapError> {
        if who != Who::User {
            return Err(MapError::Unsupported);
        }
        if let Some(len) = self.len {
            if index_of(key).is_none_or(|index| index >= len) {
                return Err(MapError::Full);
            }
            if mode == Mode::NoExist {
                return Err(MapError::Exists);
            }
        }
        self.values.set(key, value, mode, who)
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        if self.len.is_some_and(|len| index_of(key).is_none_or(|index| index >= len)) {
            return Err(MapError::Invalid("no such index"));
        }
        match (self.values.delete(key), self.len) {
            (Err(MapError::NotFound), Some(_)) => Ok(()),
            (done, _) => done,
        }
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        match self.len {
            Some(len) => Ok(super::array::next_index(key, len)),
            None => self.values.next_key(key),
        }
    }
}
