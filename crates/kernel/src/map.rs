//! Maps in the kernel: a descriptor, the name by which the object knows the map, and access to its elements.
//!
//! [`KernelMap`] is a [`MapHandle`], so front ends and views need not know it. What only the kernel has (batches, freezing,
//! memory, pins, ids) is here as methods.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::OnceLock;

use skep_engine::{BatchCursor, Entry, Error, MapFacts, MapHandle};
use skep_spec::MapType;
use skep_sys::bpf::{self, MapFd, MapInfo, flags};
use skep_sys::mmap::SharedMap;
use skep_sys::{Errno, cpu, page_size};

/// A map that exists in the kernel. It lives as long as a descriptor, a pin, a program or another map holds it.
#[derive(Debug)]
pub struct KernelMap {
    fd: MapFd,
    facts: MapFacts,
    flags: u32,
    map_extra: u64,
    /// The arena's memory, mapped where its pointers point.
    arena: Option<SharedMap>,
    memory: OnceLock<Result<SharedMap, Errno>>,
}

impl KernelMap {
    pub(crate) fn new(fd: MapFd, info: &MapInfo, name: &str, arena: Option<SharedMap>) -> KernelMap {
        let facts = MapFacts {
            name: name.to_owned(),
            id: info.id.0,
            map_type: MapType(info.map_type),
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            values_per_key: if fd.is_per_cpu() { cpu::possible_count() as u32 } else { 1 },
        };
        KernelMap { fd, facts, flags: info.map_flags, map_extra: info.map_extra, arena, memory: OnceLock::new() }
    }

    /// A map by its id, as `bpftool map` numbers them. Needs `CAP_SYS_ADMIN`.
    pub fn from_id(id: u32) -> Result<KernelMap, Error> {
        let fd = MapFd::from_id(bpf::MapId(id)).map_err(|errno| match errno {
            Errno::ENOENT => Error::new(format!("there is no map with id {id}")).with_source(errno),
            _ => failed(&format!("cannot open the map with id {id}"), errno),
        })?;
        KernelMap::known(fd)
    }

    /// A map that is pinned in a bpffs.
    pub fn from_pinned(path: &Path) -> Result<KernelMap, Error> {
        KernelMap::from_pinned_with(path, 0)
    }

    /// As [`KernelMap::from_pinned`], for reading or writing alone: `file_flags` are `BPF_F_RDONLY` or `BPF_F_WRONLY`.
    pub fn from_pinned_with(path: &Path, file_flags: u32) -> Result<KernelMap, Error> {
        let what = || format!("cannot open the pinned map {}", path.display());
        match bpf::obj_get(None, &path_string(path)?, file_flags) {
            Ok(bpf::Object::Map(fd)) => KernelMap::known(fd),
            Ok(_) => Err(Error::new(format!("{} is pinned, but is not a map", path.display()))),
            Err(errno) => Err(failed(&what(), errno)),
        }
    }

    /// A map by a descriptor from elsewhere.
    pub fn from_fd(fd: OwnedFd) -> Result<KernelMap, Error> {
        KernelMap::known(MapFd::from_fd(fd).map_err(|errno| failed("this descriptor is no map", errno))?)
    }

    /// As [`KernelMap::from_fd`], with the name that an object has for it, of which the kernel keeps 15 bytes.
    pub fn named(fd: OwnedFd, name: &str) -> Result<KernelMap, Error> {
        let mut map = KernelMap::from_fd(fd)?;
        map.facts.name = name.to_owned();
        Ok(map)
    }

    pub(crate) fn known(fd: MapFd) -> Result<KernelMap, Error> {
        let info = fd.info().map_err(|errno| failed("the kernel does not tell about the map", errno))?;
        let name = info.name.clone();
        Ok(KernelMap::new(fd, &info, &name, None))
    }

    /// The descriptor with its sizes.
    pub fn fd(&self) -> &MapFd {
        &self.fd
    }

    /// What the kernel says about the map now.
    pub fn info(&self) -> Result<MapInfo, Error> {
        self.fd.info().map_err(|errno| self.failed("ask about", errno))
    }

    /// `BPF_F_*` flags that it was made with.
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Another handle for the same map.
    pub fn try_clone(&self) -> Result<KernelMap, Error> {
        let fd = self.fd.try_clone().map_err(|errno| self.failed("open", errno))?;
        let memory = OnceLock::new();
        Ok(KernelMap {
            fd,
            facts: self.facts.clone(),
            flags: self.flags,
            map_extra: self.map_extra,
            arena: None,
            memory,
        })
    }

    /// The values of a map made with `BPF_F_MMAPABLE` as memory (arrays since 5.5; arenas), mapped when first asked for:
    /// writable if the map allows that, else for reading.
    pub fn memory(&self) -> Result<&SharedMap, Error> {
        if let Some(arena) = &self.arena {
            return Ok(arena);
        }
        let memory = self.memory.get_or_init(|| {
            let facts = &self.facts;
            if facts.map_type == MapType::ARENA {
                return map_arena(self.fd.as_fd(), facts.max_entries, self.map_extra);
            }
            if self.flags & flags::F_MMAPABLE == 0 {
                return Err(Errno::EINVAL);
            }
            let map = |writable| SharedMap::array(self.fd.as_fd(), facts.value_size, facts.max_entries, writable);
            map(true).or_else(|_| map(false))
        });
        memory.as_ref().map_err(|&errno| match errno {
            Errno::EINVAL => Error::new(format!("map `{}` was not made to be mapped", self.facts.name))
                .with_hint("give it BPF_F_MMAPABLE in `map_flags`"),
            errno => self.failed("map the memory of", errno),
        })
    }

    /// In which ways it is not what an object declares, each as `what is this here and that there`; empty when an object could use it
    /// as its own.
    pub fn differences(&self, declared: &skep_spec::Map) -> Result<Vec<String>, Error> {
        Ok(crate::load::differences(declared, &self.info()?))
    }

    /// Key by key, as maps without batches are read.
    fn batch_by_key(&self, cursor: &mut BatchCursor, room: usize, take: bool) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut value = vec![0; self.fd.value_len()];
        let mut next = vec![0; self.fd.key_len()];
        while entries.len() < room && !cursor.done {
            let more = self.fd.next_key(cursor.at.as_deref(), &mut next).map_err(|errno| self.failed("walk", errno))?;
            if !more {
                cursor.done = true;
                break;
            }
            let found = if take { self.take(&next)? } else { self.lookup_into(&next, &mut value)? };
            entries.extend(found.map(|value| (next.clone(), value)));
            cursor.at = Some(next.clone());
        }
        Ok(entries)
    }

    fn lookup_into(&self, key: &[u8], value: &mut [u8]) -> Result<Option<Vec<u8>>, Error> {
        match self.fd.lookup(key, value, 0) {
            Ok(()) => Ok(Some(value.to_vec())),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("read", errno)),
        }
    }

    fn batches(&self, delete: bool) -> (Vec<Entry>, Result<(), Errno>) {
        let (key_len, value_len) = (self.fd.key_len(), self.fd.value_len());
        let mut entries = Vec::new();
        if key_len == 0 || value_len == 0 {
            return (entries, Err(Errno::ENOTSUPP));
        }
        let mut room = 512.min(self.facts.max_entries.max(1) as usize);
        let mut cursor: Option<Vec<u8>> = None;
        let mut next = vec![0; self.fd.cursor_len()];
        loop {
            let mut keys = vec![0; room * key_len];
            let mut values = vec![0; room * value_len];
            match self.fd.lookup_batch(cursor.as_deref(), &mut next, &mut keys, &mut values, delete, 0) {
                Ok(batch) => {
                    let count = batch.count as usize;
                    let pairs = keys.chunks_exact(key_len).zip(values.chunks_exact(value_len)).take(count);
                    entries.extend(pairs.map(|(key, value)| (key.to_vec(), value.to_vec())));
                    if batch.last {
                        return (entries, Ok(()));
                    }
                    cursor = Some(next.clone());
                }
                // One bucket of a hash holds more than there is room for.
                Err(Errno::ENOSPC) if room < (1 << 24) => room *= 4,
                Err(Errno::EINTR) => {}
                Err(errno) => return (entries, Err(errno)),
            }
        }
    }

    /// Key by key, for maps without batches. A key that is deleted while we stand on it would start the walk again from the
    /// front; the walk therefore ends after as many steps as the map can have elements, and gives no key twice.
    fn walk(&self) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut value = vec![0; self.fd.value_len()];
        let mut key: Option<Vec<u8>> = None;
        let mut next = vec![0; self.fd.key_len()];
        let limit = u64::from(self.facts.max_entries).max(1 << 16) * 2;
        for _ in 0..limit {
            let more = self.fd.next_key(key.as_deref(), &mut next).map_err(|errno| self.failed("walk", errno))?;
            if !more {
                break;
            }
            if seen.insert(next.clone()) {
                match self.fd.lookup(&next, &mut value, 0) {
                    Ok(()) => entries.push((next.clone(), value.clone())),
                    // Deleted meanwhile, or an empty slot of a map of descriptors.
                    Err(Errno::ENOENT) => {}
                    // Program arrays and the like show their keys but not their values.
                    Err(errno) => return Err(self.failed("read", errno)),
                }
            }
            key = Some(next.clone());
        }
        Ok(entries)
    }

    fn check_key(&self, key: &[u8]) -> Result<(), Error> {
        self.check("key", key.len(), self.fd.key_len())
    }

    fn check_value(&self, value: &[u8]) -> Result<(), Error> {
        self.check("value", value.len(), self.fd.value_len())
    }

    fn check(&self, what: &str, given: usize, wanted: usize) -> Result<(), Error> {
        if given == wanted {
            return Ok(());
        }
        Err(Error::new(format!("map `{}`: a {what} has {wanted} bytes, not {given}", self.facts.name)))
    }

    fn failed(&self, verb: &str, errno: Errno) -> Error {
        failed(&format!("cannot {verb} map `{}`", self.facts.name), errno)
    }

    fn partial(&self, verb: &str, done: usize, of: usize, errno: Errno) -> Error {
        let name = &self.facts.name;
        failed(&format!("cannot {verb} element {} of {of} in map `{name}`", done + 1), errno)
    }
}

impl MapHandle for KernelMap {
    /// Maps the buffer for each record; who sends many keeps a [`UserRing`](crate::UserRing).
    fn send(&self, record: &[u8]) -> Result<bool, Error> {
        crate::UserRing::new(self)?.send(record)
    }

    fn facts(&self) -> MapFacts {
        self.facts.clone()
    }

    fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.check_key(key)?;
        let mut value = vec![0; self.fd.value_len()];
        match self.fd.lookup(key, &mut value, 0) {
            Ok(()) => Ok(Some(value)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("read", errno)),
        }
    }

    fn lookup_with(&self, key: &[u8], elem_flags: u64) -> Result<Option<Vec<u8>>, Error> {
        self.check_key(key)?;
        let mut value = vec![0; self.fd.value_len()];
        match self.fd.lookup(key, &mut value, elem_flags) {
            Ok(()) => Ok(Some(value)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => {
                let error = self.failed("read", errno);
                let locking = elem_flags & flags::F_LOCK != 0 && errno == Errno::EINVAL;
                Err(if locking { error.with_hint("its value has no `struct bpf_spin_lock` to take") } else { error })
            }
        }
    }

    // Kernel 5.6 for hashes and arrays; others are read key by key.
    fn batch(&self, cursor: &mut BatchCursor, room: usize, take: bool) -> Result<Vec<Entry>, Error> {
        let (key_len, value_len) = (self.fd.key_len(), self.fd.value_len());
        let mut room = room.clamp(1, 1 << 24);
        if key_len == 0 || value_len == 0 {
            return Err(Error::new(format!("map `{}` has no keys to go through", self.facts.name)));
        }
        let mut next = vec![0; self.fd.cursor_len()];
        while !cursor.done && !cursor.by_key {
            let mut keys = vec![0; room * key_len];
            let mut values = vec![0; room * value_len];
            match self.fd.lookup_batch(cursor.at.as_deref(), &mut next, &mut keys, &mut values, take, 0) {
                Ok(batch) => {
                    cursor.done = batch.last;
                    cursor.at = Some(next.clone());
                    let pairs = keys.chunks_exact(key_len).zip(values.chunks_exact(value_len));
                    let pairs = pairs.take(batch.count as usize).map(|(key, value)| (key.to_vec(), value.to_vec()));
                    let entries: Vec<Entry> = pairs.collect();
                    if !entries.is_empty() {
                        return Ok(entries);
                    }
                }
                // One bucket of a hash holds more than there is room for.
                Err(Errno::ENOSPC) if room < (1 << 24) => room *= 4,
                Err(Errno::EINTR) => {}
                Err(errno) if cursor.at.is_none() && no_batches(errno) => cursor.by_key = true,
                Err(errno) => return Err(self.failed(if take { "drain" } else { "read" }, errno)),
            }
        }
        self.batch_by_key(cursor, room, take)
    }

    fn memory_len(&self) -> Result<usize, Error> {
        Ok(self.memory()?.len())
    }

    fn read_memory(&self, off_bytes: usize, out: &mut [u8]) -> Result<(), Error> {
        self.memory()?.read(off_bytes, out).map_err(|errno| self.failed("read the memory of", errno))
    }

    fn write_memory(&self, off_bytes: usize, bytes: &[u8]) -> Result<(), Error> {
        self.memory()?.write(off_bytes, bytes).map_err(|errno| self.failed("write the memory of", errno))
    }

    fn update(&self, key: &[u8], value: &[u8], elem_flags: u64) -> Result<(), Error> {
        self.check_key(key)?;
        self.check_value(value)?;
        self.fd.update(key, value, elem_flags).map_err(|errno| match errno {
            Errno::E2BIG if self.facts.map_type == MapType::ARRAY => {
                Error::new(format!("map `{}` has {} elements only", self.facts.name, self.facts.max_entries))
                    .with_source(errno)
            }
            Errno::E2BIG => {
                Error::new(format!("map `{}` is full with {} elements", self.facts.name, self.facts.max_entries))
                    .with_hint("raise its `max_entries`")
                    .with_source(errno)
            }
            Errno::EEXIST => Error::new(format!("map `{}` has this key already", self.facts.name)).with_source(errno),
            Errno::ENOENT if elem_flags & flags::EXIST != 0 => {
                Error::new(format!("map `{}` has no such key to replace", self.facts.name)).with_source(errno)
            }
            errno => self.failed("write", errno),
        })
    }

    fn delete(&self, key: &[u8]) -> Result<bool, Error> {
        self.check_key(key)?;
        match self.fd.delete(key) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.failed("delete from", errno)),
        }
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, Error> {
        if let Some(key) = key {
            self.check_key(key)?;
        }
        let mut next = vec![0; self.fd.key_len()];
        match self.fd.next_key(key, &mut next) {
            Ok(true) => Ok(Some(next)),
            Ok(false) => Ok(None),
            Err(errno) => Err(self.failed("walk", errno)),
        }
    }

    fn entries(&self) -> Result<Vec<Entry>, Error> {
        match self.batches(false) {
            (entries, Ok(())) => Ok(deduplicated(entries)),
            // No batches for this type or kernel, or a bucket that never fits.
            _ => self.walk(),
        }
    }

    // Hash maps need kernel 5.14.
    fn take(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.check_key(key)?;
        let mut value = vec![0; self.fd.value_len()];
        match self.fd.lookup_and_delete(key, &mut value, 0) {
            Ok(()) => Ok(Some(value)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.failed("take an element out of", errno)),
        }
    }

    // One call since 5.6 for arrays and hashes.
    fn update_many(&self, entries: &[Entry], elem_flags: u64) -> Result<(), Error> {
        for (key, value) in entries {
            self.check_key(key)?;
            self.check_value(value)?;
        }
        let keys: Vec<u8> = entries.iter().flat_map(|(key, _)| key.iter().copied()).collect();
        let values: Vec<u8> = entries.iter().flat_map(|(_, value)| value.iter().copied()).collect();
        let mut done = 0;
        if !entries.is_empty() && self.fd.key_len() > 0 {
            let (count, result) = self.fd.update_batch(&keys, &values, elem_flags);
            done = count as usize;
            match result {
                Ok(()) => return Ok(()),
                Err(errno) if done == 0 && no_batches(errno) => {}
                Err(errno) => return Err(self.partial("set", done, entries.len(), errno)),
            }
        }
        for (key, value) in &entries[done..] {
            self.fd.update(key, value, elem_flags).map_err(|errno| self.partial("set", done, entries.len(), errno))?;
            done += 1;
        }
        Ok(())
    }

    fn delete_many(&self, keys: &[Vec<u8>]) -> Result<(), Error> {
        for key in keys {
            self.check_key(key)?;
        }
        let mut at = 0;
        while at < keys.len() {
            let rest: Vec<u8> = keys[at..].iter().flatten().copied().collect();
            let (count, result) = self.fd.delete_batch(&rest, 0);
            match result {
                Ok(()) => return Ok(()),
                Err(errno) if count == 0 && no_batches(errno) => break,
                // The batch stops at an absent key.
                Err(Errno::ENOENT) => at += count as usize + 1,
                Err(errno) => return Err(self.partial("delete", at + count as usize, keys.len(), errno)),
            }
        }
        for (done, key) in keys.iter().enumerate().skip(at) {
            match self.fd.delete(key) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(self.partial("delete", done, keys.len(), errno)),
            }
        }
        Ok(())
    }

    // Kernel 5.6.
    fn drain(&self) -> Result<Vec<Entry>, Error> {
        let (entries, result) = self.batches(true);
        match result {
            Ok(()) => Ok(entries),
            Err(errno) if no_batches(errno) && entries.is_empty() => {
                let mut entries = self.walk()?;
                for (key, value) in &mut entries {
                    match self.fd.lookup_and_delete(key, value, 0) {
                        Ok(()) | Err(Errno::ENOENT) => {}
                        Err(_) => match self.fd.delete(key) {
                            Ok(()) | Err(Errno::ENOENT) => {}
                            Err(errno) => return Err(self.failed("clear", errno)),
                        },
                    }
                }
                Ok(entries)
            }
            Err(errno) => Err(self.failed("drain", errno)),
        }
    }

    fn freeze(&self) -> Result<(), Error> {
        self.fd.freeze().map_err(|errno| self.failed("freeze", errno))
    }

    fn pin(&self, path: &Path) -> Result<(), Error> {
        pin(self.fd.as_fd(), path, &format!("map `{}`", self.facts.name))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.fd.as_fd())
    }
}

impl AsFd for KernelMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Every map on the machine, in the order of ids. Needs `CAP_SYS_ADMIN`. What goes away while it is listed is passed over.
pub fn all() -> impl Iterator<Item = Result<KernelMap, Error>> {
    bpf::MapId::all().filter_map(|id| match id.and_then(MapFd::from_id) {
        Err(Errno::ENOENT) => None,
        Err(errno) => Some(Err(failed("cannot list the maps", errno))),
        Ok(fd) => Some(KernelMap::known(fd)),
    })
}

/// A hash whose elements move between buckets while it is read may show one twice.
fn deduplicated(mut entries: Vec<Entry>) -> Vec<Entry> {
    let mut seen = std::collections::HashSet::with_capacity(entries.len());
    entries.retain(|(key, _)| seen.insert(key.clone()));
    entries
}

/// What a kernel answers that has no batches, or none for this type.
fn no_batches(errno: Errno) -> bool {
    matches!(errno, Errno::EINVAL | Errno::ENOTSUPP | Errno::EOPNOTSUPP)
}

/// Maps an arena of `pages` pages: at `addr`, which its pointers mean, or where the kernel likes.
pub(crate) fn map_arena(fd: BorrowedFd<'_>, pages: u32, addr: u64) -> Result<SharedMap, Errno> {
    let len = (pages as usize).checked_mul(page_size()).ok_or(Errno::E2BIG)?;
    match usize::try_from(addr) {
        Ok(0) => SharedMap::new(fd, 0, len, true),
        Ok(addr) => SharedMap::at(fd, addr, len),
        Err(_) => Err(Errno::E2BIG),
    }
}

/// Gives an object a name in a bpffs. `what` names it in messages.
pub(crate) fn pin(fd: BorrowedFd<'_>, path: &Path, what: &str) -> Result<(), Error> {
    let text = path_string(path)?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty())
        && skep_sys::bpffs::contains(parent)
    {
        std::fs::create_dir_all(parent).map_err(|error| {
            Error::new(format!("cannot make {} to pin {what}", parent.display())).with_source(error)
        })?;
    }
    bpf::obj_pin(fd, None, &text).map_err(|errno| {
        let error = failed(&format!("cannot pin {what} as {}", path.display()), errno);
        match errno {
            Errno::EPERM | Errno::EINVAL | Errno::ENOENT if !skep_sys::bpffs::contains(path) => error.with_hint(
                "this is not in a bpffs: mount one with `mount -t bpf bpf /sys/fs/bpf`, or name a folder in one",
            ),
            Errno::EEXIST => error.with_hint(format!("remove {} first, or choose another name", path.display())),
            _ => error,
        }
    })
}

/// What a name in a bpffs holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pin {
    /// A map.
    Map,
    /// A program.
    Program,
    /// A link.
    Link,
}

/// What is pinned at `path`.
///
/// # Errors
///
/// When there is nothing, or nothing of BPF.
pub fn pinned(path: &Path) -> Result<Pin, Error> {
    match bpf::obj_get(None, &path_string(path)?, 0) {
        Ok(bpf::Object::Map(_)) => Ok(Pin::Map),
        Ok(bpf::Object::Prog(_)) => Ok(Pin::Program),
        Ok(bpf::Object::Link(_)) => Ok(Pin::Link),
        Err(errno) => Err(failed(&format!("cannot open what is pinned at {}", path.display()), errno)),
    }
}

/// A path as the kernel takes it.
pub(crate) fn path_string(path: &Path) -> Result<CString, Error> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(format!("the path {} has a zero byte in it", path.display())))
}

/// An error with its cause: `cannot read map `x`: permission denied (EACCES)`.
pub(crate) fn failed(what: &str, errno: Errno) -> Error {
    Error::new(format!("{what}: {errno}")).with_source(errno)
}
