//! A map, with keys and values as Rust types.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use skep_engine::{MapFacts, MapHandle, MapId, RecordSource, Session};
use skep_kernel::info::MapInfo;
use skep_kernel::readers::{PerfOptions, PerfReader, RingReader};
use skep_kernel::{KernelMap, Records, UserRing};
use skep_spec::map::{self as spec_map, Slot};
use skep_sys::bpf::flags;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::{Batches, Error, Events, Memory, Program};

/// How an element is looked up or set: the kernel's flags for it, to be joined with `|`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ElemFlags(pub u64);

impl ElemFlags {
    /// `BPF_ANY`: whether or not the key is there.
    pub const ANY: ElemFlags = ElemFlags(flags::ANY);
    /// `BPF_NOEXIST`: only a new key.
    pub const CREATE: ElemFlags = ElemFlags(flags::NOEXIST);
    /// `BPF_EXIST`: only a key that is there.
    pub const REPLACE: ElemFlags = ElemFlags(flags::EXIST);
    /// `BPF_F_LOCK`: with the value's `struct bpf_spin_lock` held (kernel 5.1), so that it is never torn.
    pub const LOCK: ElemFlags = ElemFlags(flags::F_LOCK);
}

impl std::ops::BitOr for ElemFlags {
    type Output = ElemFlags;

    fn bitor(self, other: ElemFlags) -> ElemFlags {
        ElemFlags(self.0 | other.0)
    }
}

/// What a pinned map is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Reading and writing.
    #[default]
    ReadWrite,
    /// Reading alone, as far as this process goes.
    Read,
    /// Writing alone, as far as this process goes.
    Write,
}

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

    /// As [`Map::from_pinned`], for reading or writing alone: for those who may not do both.
    ///
    /// # Errors
    ///
    /// As [`Map::from_pinned`].
    pub fn from_pinned_with(path: impl AsRef<Path>, access: Access) -> Result<Map<'static>, Error> {
        let file_flags = match access {
            Access::ReadWrite => 0,
            Access::Read => flags::F_RDONLY,
            Access::Write => flags::F_WRONLY,
        };
        KernelMap::from_pinned_with(path.as_ref(), file_flags).map(Map::of)
    }

    /// As [`Map::from_pinned`], and of the shape that `declared` has on this machine.
    ///
    /// ```no_run
    /// use skep::{Map, Object};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// let object = Object::open("count.bpf.o")?;
    /// let declared = object.spec().map_named("counts").map(|id| object.spec().map(id)).expect("the object has it");
    /// let counts = Map::from_pinned_as("/sys/fs/bpf/counts", declared)?;
    /// # drop(counts);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Map::from_pinned`], and when type, sizes, flags or extra differ: the message names each.
    pub fn from_pinned_as(path: impl AsRef<Path>, declared: &spec_map::Map) -> Result<Map<'static>, Error> {
        let path = path.as_ref();
        let map = KernelMap::from_pinned(path)?;
        let differences = map.differences(declared)?;
        if differences.is_empty() {
            return Ok(Map::of(map));
        }
        let (name, path, differences) = (&declared.name, path.display(), differences.join(", "));
        Err(Error::new(format!("map `{name}` does not fit the one pinned at {path}: {differences}")))
    }

    /// A map by a descriptor from elsewhere: another process, a parent.
    ///
    /// # Errors
    ///
    /// When it is no map.
    pub fn from_fd(fd: OwnedFd) -> Result<Map<'static>, Error> {
        KernelMap::from_fd(fd).map(Map::of)
    }

    /// A map by its id, as `bpftool map` numbers them. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    ///
    /// When there is none of that id, or the right is missing.
    pub fn from_id(id: u32) -> Result<Map<'static>, Error> {
        KernelMap::from_id(id).map(Map::of)
    }

    /// Every map on the machine, in the order of ids, whoever made it. Needs `CAP_SYS_ADMIN`. What goes away while it is listed is
    /// passed over.
    pub fn all() -> impl Iterator<Item = Result<Map<'static>, Error>> {
        skep_kernel::map::all().map(|map| map.map(Map::of))
    }

    pub(crate) fn of(map: KernelMap) -> Map<'static> {
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

    /// What the kernel tells about it now: its flags and types, whether it is frozen, the memory that it takes.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// let info = skep::Map::from_pinned("/sys/fs/bpf/counts")?.info()?;
    /// println!("{} of {} entries takes {} bytes", info.map_type, info.max_entries, info.memory_bytes.unwrap_or_default());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn info(&self) -> Result<MapInfo, Error> {
        MapInfo::of(self.fd()?, &self.name())
    }

    /// In which ways it is not what an object declares, each as `what is this here and that there`; empty when an object can use it
    /// ([`Object::replace_map`](crate::Object::replace_map)).
    ///
    /// # Errors
    ///
    /// When the kernel does not tell.
    pub fn differences(&self, declared: &spec_map::Map) -> Result<Vec<String>, Error> {
        self.kernel()?.differences(declared)
    }

    /// The same map, apart from the object that it came with: it may be kept when that is gone, and given to other threads.
    ///
    /// # Errors
    ///
    /// When it is not in the kernel, or there are too many open files.
    pub fn to_owned(&self) -> Result<Map<'static>, Error> {
        match &self.place {
            Place::Kernel(map) => Ok(Map { place: Place::Kernel(Arc::clone(map)) }),
            Place::Session(..) => self.kernel().map(Map::of),
        }
    }

    pub(crate) fn kernel(&self) -> Result<KernelMap, Error> {
        let name = self.name();
        let fd = self.fd()?.try_clone_to_owned();
        KernelMap::named(fd.map_err(|cause| Error::new(format!("cannot open map `{name}` again: {cause}")))?, &name)
    }

    /// Its memory, when it was made for that: `BPF_F_MMAPABLE` (arrays since kernel 5.5), or an arena.
    ///
    /// # Errors
    ///
    /// When it was not.
    pub fn memory(&self) -> Result<Memory<'_>, Error> {
        Memory::new(self)
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
        self.values(&bytes).map(Some)
    }

    /// As [`Map::get`], with flags: [`ElemFlags::LOCK`].
    ///
    /// # Errors
    ///
    /// As [`Map::get`], and when the map does not take the flags.
    pub fn get_with<K, V>(&self, key: &K, flags: ElemFlags) -> Result<Option<V>, Error>
    where
        K: IntoBytes + Immutable + ?Sized,
        V: FromBytes,
    {
        let Some(bytes) = self.handle().lookup_with(self.key(key)?, flags.0)? else { return Ok(None) };
        self.value(&bytes).map(Some)
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
        self.set_with(key, value, ElemFlags::ANY)
    }

    /// As [`Map::set`], with flags.
    ///
    /// ```no_run
    /// use skep::ElemFlags;
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
    /// // The first one to come gets the slot.
    /// let mine = loaded.map("owners")?.set_with(&80u16, &std::process::id(), ElemFlags::CREATE);
    /// # drop(mine);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Map::set`], and when the key is there ([`ElemFlags::CREATE`], `EEXIST`) or is not ([`ElemFlags::REPLACE`], `ENOENT`):
    /// [`errno_of`](crate::errno_of) tells them apart.
    pub fn set_with<K, V>(&self, key: &K, value: &V, flags: ElemFlags) -> Result<(), Error>
    where
        K: IntoBytes + Immutable + ?Sized,
        V: IntoBytes + Immutable + ?Sized,
    {
        self.handle().update(self.key(key)?, value.as_bytes(), flags.0)
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
        self.handle().update(self.key(key)?, &self.per_cpu(values)?, 0)
    }

    /// As [`Map::set_many`], for per-CPU maps: with the values of all possible CPUs (in one call since kernel 5.13).
    ///
    /// # Errors
    ///
    /// As [`Map::set_many`] and [`Map::set_per_cpu`].
    pub fn set_many_per_cpu<K, V>(&self, entries: &[(K, Vec<V>)]) -> Result<(), Error>
    where
        K: IntoBytes + Immutable,
        V: IntoBytes + Immutable,
    {
        let entries = entries
            .iter()
            .map(|(key, values)| Ok((self.key(key)?.to_vec(), self.per_cpu(values)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        self.handle().update_many(&entries, 0)
    }

    /// Values as the kernel wants them: each in a slot of a multiple of 8 bytes.
    fn per_cpu<V: IntoBytes + Immutable>(&self, values: &[V]) -> Result<Vec<u8>, Error> {
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
        Ok(bytes)
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
        self.set_many_with(entries, ElemFlags::ANY)
    }

    /// As [`Map::set_many`], with flags.
    ///
    /// # Errors
    ///
    /// As [`Map::set_many`] and [`Map::set_with`].
    pub fn set_many_with<K, V>(&self, entries: &[(K, V)], flags: ElemFlags) -> Result<(), Error>
    where
        K: IntoBytes + Immutable,
        V: IntoBytes + Immutable,
    {
        let entries = entries
            .iter()
            .map(|(key, value)| Ok((self.key(key)?.to_vec(), value.as_bytes().to_vec())))
            .collect::<Result<Vec<_>, Error>>()?;
        self.handle().update_many(&entries, flags.0)
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

    /// Opens a reader of a ring buffer that lends one record at a time, without copying it. One reader of a map at a time.
    ///
    /// ```no_run
    /// use std::time::{Duration, Instant};
    ///
    /// use skep::Next;
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
    /// let mut reader = loaded.map("events")?.ring_reader()?;
    /// reader.set_deadline(Some(Instant::now() + Duration::from_secs(1)));
    /// while let Next::Record(record) = reader.read()? {
    ///     println!("{} bytes", record.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is no ring buffer.
    pub fn ring_reader(&self) -> Result<RingReader, Error> {
        RingReader::open(self.kernel()?)
    }

    /// Opens a reader of a perf event array with its controls: when it is woken, pausing, buffers that are written over, what remains
    /// on a CPU. One reader of a map at a time.
    ///
    /// ```no_run
    /// use skep::{Next, PerfOptions, PerfRecord, Wakeup};
    ///
    /// # fn main() -> Result<(), skep::Error> {
    /// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
    /// let options = PerfOptions { bytes_per_cpu: 1 << 20, wakeup: Wakeup::Bytes(64 << 10), ..PerfOptions::default() };
    /// let mut reader = loaded.map("events")?.perf_reader(&options)?;
    /// // Another thread, or a handler of signals, ends the reading: everything that is there is given before.
    /// let flusher = reader.flusher();
    /// # drop(flusher);
    /// while let Next::Record(record) = reader.read()? {
    ///     match record {
    ///         PerfRecord::Event { cpu, data, .. } => println!("CPU {cpu}: {} bytes", data.len()),
    ///         PerfRecord::Lost { cpu, count, .. } => eprintln!("CPU {cpu}: lost {count} events"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is no perf event array, or the events cannot be opened (`CAP_PERFMON`).
    pub fn perf_reader(&self, options: &PerfOptions) -> Result<PerfReader, Error> {
        PerfReader::open(self.kernel()?, options)
    }

    /// The sending end of a user ring buffer, out of which a program takes samples with `bpf_user_ringbuf_drain` (kernel 6.1).
    ///
    /// ```no_run
    /// # fn main() -> Result<(), skep::Error> {
    /// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
    /// let commands = loaded.map("commands")?.user_ring()?;
    /// if let Some(mut sample) = commands.reserve(8)? {
    ///     sample.bytes().copy_from_slice(&42u64.to_ne_bytes());
    ///     sample.submit();
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn user_ring(&self) -> Result<UserRing, Error> {
        UserRing::new(&self.kernel()?)
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

    /// As [`Map::entries`], for per-CPU maps: with the values of all possible CPUs.
    ///
    /// # Errors
    ///
    /// As [`Map::get`].
    pub fn entries_per_cpu<K: FromBytes, V: FromBytes>(&self) -> Result<Vec<(K, Vec<V>)>, Error> {
        let entries = self.handle().entries()?;
        entries.iter().map(|(key, value)| Ok((self.key_of(key)?, self.values(value)?))).collect()
    }

    /// All entries, a part at a time: for maps that are too large to be read at once.
    pub fn batches<K: FromBytes, V: FromBytes>(&self) -> Batches<'_, K, V> {
        Batches::new(self, false)
    }

    /// As [`Map::batches`], and takes the entries out while they are read, as [`Map::drain`] does.
    pub fn drain_batches<K: FromBytes, V: FromBytes>(&self) -> Batches<'_, K, V> {
        Batches::new(self, true)
    }

    /// The key after `key`, the first one for `None`; `None` at the end. The key after one that is gone is the first of a hash.
    ///
    /// # Errors
    ///
    /// When `K` is not of the map's size, or the map has no keys.
    pub fn next_key<K: FromBytes + IntoBytes + Immutable>(&self, key: Option<&K>) -> Result<Option<K>, Error> {
        let key = key.map(|key| self.key(key)).transpose()?;
        let Some(next) = self.handle().next_key(key)? else { return Ok(None) };
        self.key_of(&next).map(Some)
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

    pub(crate) fn key_of<K: FromBytes>(&self, bytes: &[u8]) -> Result<K, Error> {
        self.typed("key", bytes)
    }

    /// The values of all CPUs, each in its slot of a multiple of 8 bytes.
    pub(crate) fn values<V: FromBytes>(&self, bytes: &[u8]) -> Result<Vec<V>, Error> {
        let size = self.facts().value_size as usize;
        let one = |bytes: &[u8]| self.value(bytes.get(..size).unwrap_or(bytes));
        bytes.chunks(size.next_multiple_of(8).max(8)).map(one).collect()
    }

    pub(crate) fn value<V: FromBytes>(&self, bytes: &[u8]) -> Result<V, Error> {
        self.typed("value", bytes)
    }

    fn typed<T: FromBytes>(&self, what: &str, bytes: &[u8]) -> Result<T, Error> {
        T::read_from_bytes(bytes).map_err(|_| self.wrong_size(what, bytes.len(), size_of::<T>()))
    }

    fn wrong_size(&self, what: &str, wanted: usize, given: usize) -> Error {
        Error::new(format!("a {what} of map `{}` has {wanted} bytes, not {given}", self.name()))
    }
}
