//! `array_of_maps` and `hash_of_maps` (kernel/bpf/map_in_map.c, Linux 6.18).
//!
//! To programs the value of a key is another map: a lookup gives its handle. To user space it is the map's id, both ways. (In the
//! kernel user space writes a descriptor, and reads an id.) Only user space may change which map it is, and it must be
//! like the template. An inner map is not kept alive by the outer one: one that was removed from the machine is not found.

use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::array::next_index;
use super::registry::Registry;
use super::table::Table;
use super::{F_INNER_MAP, Map, MapError, MapKind, MapSpec, Mode, Store, Who, index_of};

#[derive(Debug)]
pub(crate) struct Nested {
    /// None for arrays.
    table: Option<Table>,
    maps: Box<[RwLock<Weak<Map>>]>,
    max_entries: u32,
    template: MapSpec,
    registry: Weak<Registry>,
}

impl Nested {
    pub(crate) fn new(spec: &MapSpec, registry: &Arc<Registry>) -> Result<Nested, MapError> {
        let hashed = spec.kind == MapKind::HashOfMaps;
        let key_fits = if hashed { spec.key_size != 0 } else { spec.key_size == 4 };
        if !key_fits || spec.value_size != 4 || spec.max_entries == 0 {
            return Err(MapError::Invalid(
                "a map of maps has values of 4 bytes, keys of its kind, and at least one entry",
            ));
        }
        let template = spec.inner.as_deref().ok_or(MapError::Invalid("a map of maps needs a template of its maps"))?;
        if template.inner.is_some() || template.kind == MapKind::ProgArray {
            return Err(MapError::Invalid("this kind of map cannot be inside of another"));
        }
        let count = spec.max_entries.checked_add(u32::from(hashed)).ok_or(MapError::Full)?;
        Ok(Nested {
            table: if hashed { Some(Table::new(spec.key_size, count, u64::from)?) } else { None },
            maps: (0..count).map(|_| RwLock::default()).collect(),
            max_entries: spec.max_entries,
            template: template.clone(),
            registry: Arc::downgrade(registry),
        })
    }

    fn index(&self, key: &[u8]) -> Option<u32> {
        match &self.table {
            Some(table) => table.find(&table.key(key)).map(|element| table.own(element) as u32),
            None => index_of(key).filter(|index| *index < self.max_entries),
        }
    }

    fn inner(&self, key: &[u8]) -> Option<Arc<Map>> {
        let slot = self.maps.get(self.index(key)? as usize)?;
        slot.read().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    fn put(&self, index: u32, map: Weak<Map>) {
        if let Some(slot) = self.maps.get(index as usize) {
            *slot.write().unwrap_or_else(PoisonError::into_inner) = map;
        }
    }

    /// What the kernel asks of an inner map (`bpf_map_meta_equal`, `array_map_meta_equal`).
    fn is_like_template(&self, map: &Map) -> bool {
        let (spec, like) = (map.spec(), &self.template);
        let array = matches!(spec.kind, MapKind::Array | MapKind::PerCpuArray);
        let any_size = !array || spec.flags & F_INNER_MAP != 0;
        (spec.kind, spec.key_size, spec.value_size, spec.flags)
            == (like.kind, like.key_size, like.value_size, like.flags)
            && (any_size || spec.max_entries == like.max_entries)
    }
}

impl Store for Nested {
    fn find(&self, key: &[u8], _: u32) -> Option<u64> {
        self.inner(key).map(|map| map.handle())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        Ok(self.inner(key).map(|map| map.id().to_ne_bytes().to_vec()))
    }

    fn set(&self, key: &[u8], value: &[u8], mode: Mode, who: Who) -> Result<(), MapError> {
        if who != Who::User {
            return Err(MapError::Unsupported);
        }
        let id = index_of(value).ok_or(MapError::Invalid("the value is the id of a map"))?;
        let map = self.registry.upgrade().and_then(|registry| registry.get(id));
        let map = map.ok_or(MapError::Invalid("no map has this id"))?;
        if !self.is_like_template(&map) {
            return Err(MapError::Invalid("the map is not like the template of the maps in this one"));
        }
        let map = Arc::downgrade(&map);
        let Some(table) = &self.table else {
            let index = self.index(key).ok_or(MapError::Full)?;
            if mode == Mode::NoExist {
                return Err(MapError::Exists);
            }
            self.put(index, map);
            return Ok(());
        };
        let key = table.key(key);
        let mut locked = table.lock();
        match (locked.find(&key), mode) {
            (Some(_), Mode::NoExist) => Err(MapError::Exists),
            (None, Mode::Exist) => Err(MapError::NotFound),
            (Some(element), _) => {
                self.put(table.number(element), map);
                Ok(())
            }
            (None, _) if locked.live() >= self.max_entries => Err(MapError::Full),
            (None, _) => {
                let element = locked.take().ok_or(MapError::NoMemory)?;
                self.put(table.number(element), map);
                locked.link(element, &key);
                Ok(())
            }
        }
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let Some(table) = &self.table else {
            let index = self.index(key).ok_or(MapError::Full)?;
            let there = self.inner(key).is_some();
            self.put(index, Weak::new());
            return if there { Ok(()) } else { Err(MapError::NotFound) };
        };
        let mut locked = table.lock();
        let element = locked.find(&table.key(key)).ok_or(MapError::NotFound)?;
        locked.unlink(element);
        self.put(table.number(element), Weak::new());
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        Ok(match &self.table {
            Some(table) => table.lock().next_key(key.map(|key| table.key(key)).as_ref()),
            None => next_index(key, self.max_entries),
        })
    }
}
