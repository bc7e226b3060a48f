//! A map of a loaded object, with keys and values as Rust types.

use skep_engine::{MapFacts, MapHandle, MapId, Session};
use skep_spec::map::Slot;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Error, Program};

/// A map of a [`Loaded`](crate::Loaded) object.
///
/// Keys and values are any type whose bytes may be read and written as they are (`zerocopy`'s `FromBytes` and `IntoBytes`):
/// integers, arrays, and `#[repr(C)]` structs that derive them. A size that is not the map's is an error, not a guess.
#[derive(Clone, Copy)]
pub struct Map<'a> {
    session: &'a dyn Session,
    id: MapId,
    handle: &'a dyn MapHandle,
}

impl std::fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Map").field(&self.name()).finish()
    }
}

impl<'a> Map<'a> {
    pub(crate) fn new(session: &'a dyn Session, id: MapId) -> Result<Map<'a>, Error> {
        let name = &session.spec().map(id).name;
        let handle = session
            .map(id)
            .ok_or_else(|| Error::new(format!("map `{name}` was switched off before the object was loaded")))?;
        Ok(Map { session, id, handle })
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.session.spec().map(self.id).name
    }

    /// Type, sizes and number of entries, as created.
    pub fn facts(&self) -> MapFacts {
        self.handle.facts()
    }

    /// The value at `key`; `None` when there is none. For per-CPU maps use [`Map::get_per_cpu`].
    ///
    /// # Errors
    ///
    /// When `K` or `V` is not of the map's size, or the kernel refuses.
    pub fn get<K, V>(&self, key: &K) -> Result<Option<V>, Error>
    where
        K: IntoBytes + Immutable + ?Sized,
        V: FromBytes,
    {
        let Some(bytes) = self.handle.lookup(self.key(key)?)? else { return Ok(None) };
        self.value(&bytes).map(Some)
    }

    /// The values at `key` of all possible CPUs; `None` when there is none.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn get_per_cpu<K, V>(&self, key: &K) -> Result<Option<Vec<V>>, Error>
    where
        K: IntoBytes + Immutable + ?Sized,
        V: FromBytes,
    {
        let Some(bytes) = self.handle.lookup(self.key(key)?)? else { return Ok(None) };
        let size = self.facts().value_size as usize;
        let one = |bytes: &[u8]| self.value(bytes.get(..size).unwrap_or(bytes));
        bytes.chunks(size.next_multiple_of(8).max(8)).map(one).collect::<Result<Vec<V>, _>>().map(Some)
    }

    /// Sets the value at `key`.
    ///
    /// # Errors
    ///
    /// When `K` or `V` is not of the map's size, or the map is full or read-only.
    pub fn set<K, V>(&self, key: &K, value: &V) -> Result<(), Error>
    where
        K: IntoBytes + Immutable + ?Sized,
        V: IntoBytes + Immutable + ?Sized,
    {
        self.handle.update(self.key(key)?, value.as_bytes(), 0)
    }

    /// Deletes `key`; `false` when it was not there.
    ///
    /// # Errors
    ///
    /// When `K` is not of the map's size, or entries of this type of map cannot be deleted.
    pub fn remove<K: IntoBytes + Immutable + ?Sized>(&self, key: &K) -> Result<bool, Error> {
        self.handle.delete(self.key(key)?)
    }

    /// All entries. Those that come or go meanwhile may be missed.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn entries<K: FromBytes, V: FromBytes>(&self) -> Result<Vec<(K, V)>, Error> {
        let entries = self.handle.entries()?;
        entries.iter().map(|(key, value)| Ok((self.typed("key", key)?, self.value(value)?))).collect()
    }

    /// Puts a program into slot `index` of a program array.
    ///
    /// # Errors
    ///
    /// When this is no program array, the index is too large, or the kernel finds the program of another kind than those
    /// that are there.
    pub fn set_program(&self, index: u32, program: &Program<'_>) -> Result<(), Error> {
        self.session.set_slot(self.id, index, Slot::Program(program.id()))
    }

    /// Puts a map into slot `index` of an array of maps.
    ///
    /// # Errors
    ///
    /// When this is no map of maps, or the map is not of its inner shape.
    pub fn set_map(&self, index: u32, map: &Map<'_>) -> Result<(), Error> {
        self.session.set_slot(self.id, index, Slot::Map(map.id))
    }

    fn key<'k, K: IntoBytes + Immutable + ?Sized>(&self, key: &'k K) -> Result<&'k [u8], Error> {
        let bytes = key.as_bytes();
        let size = self.facts().key_size as usize;
        if bytes.len() == size { Ok(bytes) } else { Err(self.wrong_size("key", size, bytes.len())) }
    }

    fn value<V: FromBytes>(&self, bytes: &[u8]) -> Result<V, Error> {
        self.typed("value", bytes)
    }

    fn typed<T: FromBytes>(&self, what: &str, bytes: &[u8]) -> Result<T, Error> {
        T::read_from_bytes(bytes).map_err(|_| self.wrong_size(what, bytes.len(), size_of::<T>()))
    }

    fn wrong_size(&self, what: &str, wanted: usize, given: usize) -> Error {
        Error::new(format!("a {what} of map `{}` has {wanted} bytes, not {given}", self.name()))
    }
}
