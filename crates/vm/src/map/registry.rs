//! The maps of a machine, by the numbers that programs hold for them.
//!
//! A wide load of a map gives its *handle*: a number with an upper half of its own, which is no address of any machine, so a map is
//! never taken for data; see [`Map::handle`](super::Map::handle). The lower half is the map's id, from 1, and
//! is never given again.
//!
//! Helpers get from a handle to the map through a processor's own copy of the list, without a lock. It is filled as handles
//! come, and emptied before a run when a map was removed meanwhile: so what is in use stays there until the run ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::Map;

const MAP: u64 = 0xba90_0000_0000_0000;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    maps: RwLock<Vec<Option<Arc<Map>>>>,
    removals: AtomicU64,
}

pub(crate) fn handle_of(id: u32) -> u64 {
    MAP | u64::from(id)
}

impl Registry {
    /// Adds what `make` makes for the next id.
    pub(crate) fn add<E>(&self, make: impl FnOnce(u32) -> Result<Map, E>) -> Result<Arc<Map>, E> {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        let map = Arc::new(make(maps.len() as u32 + 1)?);
        maps.push(Some(map.clone()));
        Ok(map)
    }

    pub(crate) fn get(&self, id: u32) -> Option<Arc<Map>> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        maps.get(id.checked_sub(1)? as usize)?.clone()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Map>> {
        self.maps.read().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect()
    }

    pub(crate) fn remove(&self, id: u32) {
        let mut maps = self.maps.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = id.checked_sub(1).and_then(|index| maps.get_mut(index as usize)) {
            *map = None;
            self.removals.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// For compiled code.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Registry {
    /// The map with a handle.
    pub(crate) fn with_handle(&self, handle: u64) -> Option<Arc<Map>> {
        self.get(u32::try_from(handle ^ MAP).ok()?)
    }

    /// The map among whose values an address is.
    pub(crate) fn with_value(&self, addr: u64) -> Option<Arc<Map>> {
        let maps = self.maps.read().unwrap_or_else(PoisonError::into_inner);
        maps.iter().flatten().find(|map| map.values().is_some_and(|values| values.has(addr, 0))).cloned()
    }

    /// How many maps were removed.
    #[inline]
    pub(crate) fn removals(&self) -> u64 {
        self.removals.load(Ordering::Relaxed)
    }

    /// Whether none of the maps was removed.
    pub(crate) fn has_all(&self, of: &[Arc<Map>]) -> bool {
        of.iter().all(|map| self.get(map.id()).is_some())
    }
}

/// A processor's copy.
#[derive(Debug, Default)]
pub(crate) struct Known {
    maps: Vec<Option<Arc<Map>>>,
    removals: u64,
}

impl Known {
    /// Before a run.
    #[inline]
    pub(crate) fn refresh(&mut self, registry: &Registry) {
        let removals = registry.removals.load(Ordering::Relaxed);
        if removals != self.removals {
            self.maps.clear();
            self.removals = removals;
        }
    }

    /// The map with a handle.
    #[inline]
    pub(crate) fn get(&mut self, registry: &Registry, handle: u64) -> Option<&Arc<Map>> {
        let id = u32::try_from(handle ^ MAP).ok()?;
        let index = id.checked_sub(1)? as usize;
        if self.maps.get(index).is_none_or(Option::is_none) {
            let map = registry.get(id)?;
            if self.maps.len() <= index {
                self.maps.resize(index + 1, None);
            }
            self.maps[index] = Some(map);
        }
        self.maps[index].as_ref()
    }
}
