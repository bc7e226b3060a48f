//! A map, with keys and values as Rust types.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use skep_engine::{MapFacts, MapHandle, MapId, RecordSource, Session};
use skep_kernel::{KernelMap, Records};
use skep_spec::map::Slot;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Error, Events, Program};

/// A map of a [`Loaded`](crate::Loaded) object, or one that is in the kernel already.
///
/// Keys and values are any type whose bytes may be read and written as they are (`zerocopy`'s `FromBytes` and `IntoBytes`):
/// integers, arrays, and `#[repr(C)]` structs that derive them. A size that is not the map's is an error, not a guess.
#[derive(Clone)]
pub struct Map<'a> {
    place: Place<'a>,
}

#[derive(Clone)]
enum Place<'a> {
    Session(&'a dyn Session, MapId, &'a dyn MapHandle),
    Kernel(Arc<KernelMap>),
}

impl std::fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Map").field(&self.name()).finish()
    }
}

impl Map<'static> {
    /// A map that is pinned in a bpffs.
    ///
    /// ```no_run
    /// use skep::Map;
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let counts = Map::from_pinned("/sys/fs/bpf/counts")?;
    /// for (pid, count) in counts.entries::<u32, u64>()? {
    ///     println!("{pid}: {count}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When there is nothing at `path`, or something else.
    pub fn from_pinned(path: impl AsRef<Path>) -> Result<Map<'static>, Error> {
        KernelMap::from_pinned(path.as_ref()).map(Map::of)
    }

    /// A map by its id, as `bpftool map` numbers them. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    ///
    /// When there is none of that id, or the right is missing.
    pub fn from_id(id: u32) -> Result<Map<'static>, Error> {
        KernelMap::from_id(id).map(Map::of)
    }

    fn of(map: KernelMap) -> Map<'static> {
        Map { place: Place::Kernel(Arc::new(map)) }
    }
}

impl<'a> Map<'a> {
    pub(crate) fn new(session: &'a dyn Session, id: MapId) -> Result<Map<'a>, Error> {
        let name = &session.spec().map(id).name;
        let handle = session
            .map(id)
            .ok_or_else(|| Error::new(format!("map `{name}` was switched off before the object was loaded")))?;
        Ok(Map { place: Place::Session(session, id, handle) })
    }

    /// Its name. The kernel keeps 15 bytes of it, and those are what a map has that was pinned.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Session(session, id, _) => session.spec().map(*id).name.clone(),
            Place::Kernel(map) => map.facts().name,
        }
    }

    /// Type, sizes and number of entries, as created.
    pub fn facts(&self) -> MapFacts {
        self.handle().facts()
    }

    pub(crate) fn handle(&self) -> &dyn MapHandle {
        match &self.place {
            Place::Session(_, _, handle) => *handle,
            Place::Kernel(map) => &**map,
        }
    }

    /// Its descriptor.
    ///
    /// # Errors
    ///
    /// When the engine has no descriptors.
    pub fn fd(&self) -> Result<BorrowedFd<'_>, Error> {
        self.handle().fd().ok_or_else(|| Error::new(format!("map `{}` is not in the kernel", self.name())))
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
        let Some(bytes) = self.handle().lookup(self.key(key)?)? else { return Ok(None) };
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
        let Some(bytes) = self.handle().lookup(self.key(key)?)? else { return Ok(None) };
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
        self.handle().update(self.key(key)?, value.as_bytes(), 0)
    }

    /// Sets the values at `key` of all possible CPUs, in their order.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
    /// let counts = loaded.map("counts")?;
    /// let cpus = counts.facts().values_per_key as usize;
    /// counts.set_per_cpu(&0u32, &vec![0u64; cpus])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Map::set`], and when there are not as many values as the map has per key.
    pub fn set_per_cpu<K, V>(&self, key: &K, values: &[V]) -> Result<(), Error>
    where
        K: IntoBytes + Immutable + ?Sized,
        V: IntoBytes + Immutable,
    {
        let facts = self.facts();
        if values.len() != facts.values_per_key as usize {
            let (wanted, given) = (facts.values_per_key, values.len());
            return Err(Error::new(format!("map `{}` has {wanted} values at a key, not {given}", self.name())));
        }
        let size = facts.value_size as usize;
        let mut bytes = Vec::new();
        for value in values {
            let value = value.as_bytes();
            if value.len() != size {
                return Err(self.wrong_size("value", size, value.len()));
            }
            bytes.extend_from_slice(value);
            if facts.values_per_key > 1 {
                bytes.resize(bytes.len().next_multiple_of(8), 0);
            }
        }
        self.handle().update(self.key(key)?, &bytes, 0)
    }

    /// The value at `key`, removed in the same step; `None` when there is none. Hash maps need kernel 5.14. For queues and
    /// stacks, whose key is `()`, the next one out.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn take<K, V>(&self, key: &K) -> Result<Option<V>, Error>
    where
        K: IntoBytes + Immutable + ?Sized,
        V: FromBytes,
    {
        let Some(bytes) = self.handle().take(self.key(key)?)? else { return Ok(None) };
        self.value(&bytes).map(Some)
    }

    /// Sets many entries, in one call where the kernel can (5.6).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
    /// let ports: Vec<(u16, u8)> = [22, 80, 443].map(|port| (port, 1)).to_vec();
    /// loaded.map("allowed_ports")?.set_many(&ports)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Map::set`]; the message says how many were set before.
    pub fn set_many<K, V>(&self, entries: &[(K, V)]) -> Result<(), Error>
    where
        K: IntoBytes + Immutable,
        V: IntoBytes + Immutable,
    {
        let entries = entries
            .iter()
            .map(|(key, value)| Ok((self.key(key)?.to_vec(), value.as_bytes().to_vec())))
            .collect::<Result<Vec<_>, Error>>()?;
        self.handle().update_many(&entries, 0)
    }

    /// Deletes many keys, in one call where the kernel can (5.6). Those that are absent are passed over.
    ///
    /// # Errors
    ///
    /// As [`Map::remove`].
    pub fn remove_many<K: IntoBytes + Immutable>(&self, keys: &[K]) -> Result<(), Error> {
        let keys = keys.iter().map(|key| Ok(self.key(key)?.to_vec())).collect::<Result<Vec<_>, Error>>()?;
        self.handle().delete_many(&keys)
    }

    /// All entries, taken out while they are read (kernel 5.6 in one step): nothing is counted twice, and nothing is lost
    /// between reading and clearing.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn drain<K: FromBytes, V: FromBytes>(&self) -> Result<Vec<(K, V)>, Error> {
        let entries = self.handle().drain()?;
        entries.iter().map(|(key, value)| Ok((self.typed("key", key)?, self.value(value)?))).collect()
    }

    /// From now on only programs may write (kernel 5.2).
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn freeze(&self) -> Result<(), Error> {
        self.handle().freeze()
    }

    /// Gives it a name in a bpffs, where it outlives this process.
    ///
    /// # Errors
    ///
    /// When the path is not in a bpffs, or taken.
    pub fn pin(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.handle().pin(path.as_ref())
    }

    /// Opens a reader on it, when it is a ring buffer or a perf event array. For several at once there is
    /// [`Loaded::events`](crate::Loaded::events).
    ///
    /// # Errors
    ///
    /// When it is of another type.
    pub fn events(&self) -> Result<Events, Error> {
        let source: Box<dyn RecordSource> = match &self.place {
            Place::Session(session, id, _) => session.records(&[*id], false)?,
            Place::Kernel(map) => {
                let mut records = Records::new()?;
                records.add_map(MapId(0), map)?;
                Box::new(records)
            }
        };
        Ok(Events::new(source))
    }

    /// Deletes `key`; `false` when it was not there.
    ///
    /// # Errors
    ///
    /// When `K` is not of the map's size, or entries of this type of map cannot be deleted.
    pub fn remove<K: IntoBytes + Immutable + ?Sized>(&self, key: &K) -> Result<bool, Error> {
        self.handle().delete(self.key(key)?)
    }

    /// All entries. Those that come or go meanwhile may be missed.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn entries<K: FromBytes, V: FromBytes>(&self) -> Result<Vec<(K, V)>, Error> {
        let entries = self.handle().entries()?;
        entries.iter().map(|(key, value)| Ok((self.typed("key", key)?, self.value(value)?))).collect()
    }

    /// Puts a program into slot `index` of a program array.
    ///
    /// # Errors
    ///
    /// When this is no program array, the index is too large, or the kernel finds the program of another kind than those
    /// that are there.
    pub fn set_program(&self, index: u32, program: &Program<'_>) -> Result<(), Error> {
        match &self.place {
            Place::Session(session, id, _) if let Some(program) = program.id_in(*session) => {
                session.set_slot(*id, index, Slot::Program(program))
            }
            _ => self.set(&index, &(program.fd()?.as_raw_fd() as u32)),
        }
    }

    /// Puts a map into slot `index` of an array of maps.
    ///
    /// # Errors
    ///
    /// When this is no map of maps, or the map is not of its inner shape.
    pub fn set_map(&self, index: u32, map: &Map<'_>) -> Result<(), Error> {
        match (&self.place, &map.place) {
            (Place::Session(session, id, _), Place::Session(other, inner, _))
                if std::ptr::addr_eq(*session, *other) =>
            {
                session.set_slot(*id, index, Slot::Map(*inner))
            }
            _ => self.set(&index, &(map.fd()?.as_raw_fd() as u32)),
        }
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
