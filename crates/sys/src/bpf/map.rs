//! Maps: create, elements, batches, freezing.
//!
//! # Safety
//!
//! The kernel copies as many bytes as the *map* says, whatever the caller's buffer holds. So every element command hangs
//! on [`MapFd`], which learnt the sizes from the kernel, and checks the buffer against them before the call. Sizes of a
//! map never change after its creation, and a `MapFd` owns its descriptor, so what was learnt stays true.
#![expect(unsafe_code, reason = "passes buffers of the checked size to bpf(2)")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::attr::{self, Attr as _};
use super::{MapId, MapInfo, addr, addr_mut, call, call_fd, cmd, fd_newtype, flags, obj_name, raw, raw_or_zero};
use crate::{Errno, cpu};

/// Types whose values are one per possible CPU, seen from user space.
const PER_CPU: [u32; 4] = [5, 6, 10, 21];
/// No elements at all: their bytes are reached by mmap.
const RINGBUF: [u32; 3] = [27, 31, 33];

/// What `BPF_MAP_CREATE` takes. Start from `Default` and set what differs.
#[derive(Clone, Copy, Debug, Default)]
pub struct MapCreate<'a> {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Greatest number of elements; bytes for ring buffers; pages for an arena.
    pub max_entries: u32,
    /// `flags::F_*` for maps.
    pub map_flags: u32,
    /// The template of a map of maps.
    pub inner_map: Option<BorrowedFd<'a>>,
    /// With `flags::F_NUMA_NODE`.
    pub numa_node: u32,
    /// Cut to 15 bytes. Leave empty before kernel 4.15.
    pub name: &'a str,
    /// Device that the map is offloaded to.
    pub ifindex: u32,
    /// BTF that describes key and value.
    pub btf: Option<BorrowedFd<'a>>,
    /// Type of the key in `btf`.
    pub btf_key_type_id: u32,
    /// Type of the value in `btf`.
    pub btf_value_type_id: u32,
    /// For struct_ops maps: the value's type in the kernel's BTF.
    pub btf_vmlinux_value_type_id: u32,
    /// Bloom filter: number of hashes. Arena: user address.
    pub map_extra: u64,
    /// For struct_ops of a module: the module's BTF, together with `flags::F_VTYPE_BTF_OBJ_FD`.
    pub value_type_btf: Option<BorrowedFd<'a>>,
    /// A delegated right, together with `flags::F_TOKEN_FD`.
    pub token: Option<BorrowedFd<'a>>,
    /// SHA-256 of the only program that may use the map (kernel 6.18; older ones say `E2BIG`).
    pub exclusive_hash: Option<&'a [u8; 32]>,
}

impl MapCreate<'_> {
    /// Makes the map. `EPERM` may mean a missing capability or, before kernel 5.11, too little `RLIMIT_MEMLOCK`.
    pub fn create(&self) -> Result<MapFd, Errno> {
        let mut a = attr::MapCreate::zeroed();
        a.map_type = self.map_type;
        a.key_size = self.key_size;
        a.value_size = self.value_size;
        a.max_entries = self.max_entries;
        a.map_flags = self.map_flags;
        a.inner_map_fd = raw_or_zero(self.inner_map);
        a.numa_node = self.numa_node;
        a.map_name = obj_name(self.name);
        a.map_ifindex = self.ifindex;
        a.btf_fd = raw_or_zero(self.btf);
        a.btf_key_type_id = self.btf_key_type_id;
        a.btf_value_type_id = self.btf_value_type_id;
        a.btf_vmlinux_value_type_id = self.btf_vmlinux_value_type_id;
        a.map_extra = self.map_extra;
        if let Some(btf) = self.value_type_btf {
            a.value_type_btf_obj_fd = btf.as_raw_fd();
            a.map_flags |= flags::F_VTYPE_BTF_OBJ_FD;
        }
        if let Some(token) = self.token {
            a.map_token_fd = token.as_raw_fd();
            a.map_flags |= flags::F_TOKEN_FD;
        }
        if let Some(hash) = self.exclusive_hash {
            a.excl_prog_hash = addr(hash.as_slice());
            a.excl_prog_hash_size = hash.len() as u32;
        }
        // SAFETY: the only address is that of the hash, with its length, borrowed for the call; the command returns a
        // descriptor.
        let fd = unsafe { call_fd(cmd::MAP_CREATE, &mut a)? };
        // The kernel keeps these as they were given (it answers with an error otherwise), so one call is saved, except
        // for struct_ops, whose value size is that of the kernel's type.
        Ok(MapFd::new(fd, self.map_type, self.key_size, self.value_size))
    }
}

/// How far a batch command came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchCount {
    /// Elements done.
    pub count: u32,
    /// The kernel says that there are no more.
    pub last: bool,
}

/// A map's descriptor together with the sizes of what is copied through it.
#[derive(Debug)]
pub struct MapFd {
    fd: OwnedFd,
    map_type: u32,
    key_len: usize,
    value_len: usize,
}

fd_newtype!(MapFd);

impl MapFd {
    fn new(fd: OwnedFd, map_type: u32, key_size: u32, value_size: u32) -> MapFd {
        let value_len = if PER_CPU.contains(&map_type) {
            (value_size as usize).next_multiple_of(8) * cpu::possible_count()
        } else {
            value_size as usize
        };
        MapFd { fd, map_type, key_len: key_size as usize, value_len }
    }

    /// The SHA-256 of what it holds, which the kernel computes now and keeps for programs to compare (kernel 6.18, arrays only). `EINVAL` on
    /// older kernels and for other maps.
    pub fn digest(&self) -> Result<[u8; 32], Errno> {
        MapInfo::digest(self.as_fd())
    }

    /// Takes a descriptor from elsewhere (another process, a parent) and asks the kernel what it is. `EINVAL` when it is
    /// not a map.
    pub fn from_fd(fd: OwnedFd) -> Result<MapFd, Errno> {
        let info = MapInfo::of(fd.as_fd())?;
        Ok(MapFd::new(fd, info.map_type, info.key_size, info.value_size))
    }

    /// Opens a map by its id. Needs `CAP_SYS_ADMIN`.
    pub fn from_id(id: MapId) -> Result<MapFd, Errno> {
        MapFd::from_fd(super::id::open(cmd::MAP_GET_FD_BY_ID, id.0, 0)?)
    }

    /// Another descriptor for the same map.
    pub fn try_clone(&self) -> Result<MapFd, Errno> {
        Ok(MapFd {
            fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)?,
            map_type: self.map_type,
            key_len: self.key_len,
            value_len: self.value_len,
        })
    }

    /// What the kernel says about the map.
    pub fn info(&self) -> Result<MapInfo, Errno> {
        MapInfo::of_map(self.fd.as_fd())
    }

    /// `enum bpf_map_type`.
    pub fn map_type(&self) -> u32 {
        self.map_type
    }

    /// Bytes of a key; 0 for queues, stacks and bloom filters.
    pub fn key_len(&self) -> usize {
        self.key_len
    }

    /// Bytes that a lookup gives and an update takes: for per-CPU maps one value per possible CPU, each rounded up to 8.
    pub fn value_len(&self) -> usize {
        self.value_len
    }

    /// Whether values are one per CPU.
    pub fn is_per_cpu(&self) -> bool {
        PER_CPU.contains(&self.map_type)
    }

    fn elem(&self, key: Option<&[u8]>) -> Result<attr::MapElem, Errno> {
        let mut a = attr::MapElem::zeroed();
        a.map_fd = raw(self.fd.as_fd());
        match key {
            Some(key) if key.len() == self.key_len => a.key = addr(key),
            None => {}
            Some(_) => return Err(Errno::EINVAL),
        }
        Ok(a)
    }

    fn check_value(&self, value: &[u8]) -> Result<(), Errno> {
        let fits = value.len() == self.value_len && !RINGBUF.contains(&self.map_type);
        if fits { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// Copies the value of `key` into `value`, whose length must be [`MapFd::value_len`]. `ENOENT` when absent.
    /// `flags::F_LOCK` takes the value's spin lock.
    pub fn lookup(&self, key: &[u8], value: &mut [u8], elem_flags: u64) -> Result<(), Errno> {
        self.check_value(value)?;
        let mut a = self.elem(Some(key))?;
        a.value = addr_mut(value);
        a.flags = elem_flags;
        // SAFETY: key and value have the map's lengths (checked above), so the kernel's copies stay inside them.
        unsafe { call(cmd::MAP_LOOKUP_ELEM, &mut a) }.map(drop)
    }

    /// Copies the value out and removes the element in one step. Queues and stacks have no key: pass an empty one.
    /// Hash maps need kernel 5.14.
    pub fn lookup_and_delete(&self, key: &[u8], value: &mut [u8], elem_flags: u64) -> Result<(), Errno> {
        self.check_value(value)?;
        let mut a = self.elem(Some(key))?;
        a.value = addr_mut(value);
        a.flags = elem_flags;
        // SAFETY: key and value have the map's lengths (checked above), so the kernel's copies stay inside them.
        unsafe { call(cmd::MAP_LOOKUP_AND_DELETE_ELEM, &mut a) }.map(drop)
    }

    /// Sets the value of `key`. `elem_flags` is `flags::ANY`, `NOEXIST` or `EXIST`, with `F_LOCK` if wanted.
    pub fn update(&self, key: &[u8], value: &[u8], elem_flags: u64) -> Result<(), Errno> {
        self.check_value(value)?;
        let mut a = self.elem(Some(key))?;
        a.value = addr(value);
        a.flags = elem_flags;
        // SAFETY: key and value have the map's lengths (checked above), so the kernel's copies stay inside them.
        unsafe { call(cmd::MAP_UPDATE_ELEM, &mut a) }.map(drop)
    }

    /// Removes `key`. `ENOENT` when absent.
    pub fn delete(&self, key: &[u8]) -> Result<(), Errno> {
        let mut a = self.elem(Some(key))?;
        // SAFETY: the key has the map's key length.
        unsafe { call(cmd::MAP_DELETE_ELEM, &mut a) }.map(drop)
    }

    /// Writes the key after `key` into `next` (the first key when `key` is `None`). `false` at the end. A hash map that
    /// is changed meanwhile may start again from its first key when `key` has been deleted.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> Result<bool, Errno> {
        if next.len() != self.key_len {
            return Err(Errno::EINVAL);
        }
        let mut a = self.elem(key)?;
        a.value = addr_mut(next);
        // SAFETY: both keys have the map's key length.
        match unsafe { call(cmd::MAP_GET_NEXT_KEY, &mut a) } {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Bytes that a batch cursor needs: a hash map's is a bucket number, an array's a key, and some write a whole key.
    pub fn cursor_len(&self) -> usize {
        self.key_len.max(4)
    }

    /// `BPF_MAP_LOOKUP_BATCH`, or with `delete` `BPF_MAP_LOOKUP_AND_DELETE_BATCH` (kernel 5.6): fills `keys` and `values`
    /// with as many elements as fit in both. `cursor` is an opaque position of [`MapFd::cursor_len`] bytes, `None` to
    /// start; the new position is written to `next`.
    ///
    /// `ENOSPC`: a hash bucket holds more elements than fit; come again with more room.
    pub fn lookup_batch(
        &self,
        cursor: Option<&[u8]>,
        next: &mut [u8],
        keys: &mut [u8],
        values: &mut [u8],
        delete: bool,
        elem_flags: u64,
    ) -> Result<BatchCount, Errno> {
        let cursor_len = self.cursor_len();
        if next.len() != cursor_len || cursor.is_some_and(|c| c.len() != cursor_len) {
            return Err(Errno::EINVAL);
        }
        let mut a = attr::MapBatch::zeroed();
        a.in_batch = cursor.map_or(0, addr);
        a.out_batch = addr_mut(next);
        a.count = self.batch_room(keys.len(), values.len())?;
        a.keys = addr_mut(keys);
        a.values = addr_mut(values);
        a.map_fd = raw(self.fd.as_fd());
        a.elem_flags = elem_flags;
        let command = if delete { cmd::MAP_LOOKUP_AND_DELETE_BATCH } else { cmd::MAP_LOOKUP_BATCH };
        // SAFETY: `count` elements of the map's key and value lengths fit in both buffers, and the cursors have the
        // greatest length that any map type writes.
        let result = unsafe { call(command, &mut a) };
        match result {
            Ok(_) => Ok(BatchCount { count: a.count, last: false }),
            Err(Errno::ENOENT) => Ok(BatchCount { count: a.count, last: true }),
            Err(errno) => Err(errno),
        }
    }

    /// `BPF_MAP_UPDATE_BATCH`: sets as many elements as `keys` and `values` hold. Returns how many were done, and the
    /// error that stopped it.
    pub fn update_batch(&self, keys: &[u8], values: &[u8], elem_flags: u64) -> (u32, Result<(), Errno>) {
        let mut a = attr::MapBatch::zeroed();
        a.count = match self.batch_room(keys.len(), values.len()) {
            Ok(count) => count,
            Err(errno) => return (0, Err(errno)),
        };
        a.keys = addr(keys);
        a.values = addr(values);
        a.map_fd = raw(self.fd.as_fd());
        a.elem_flags = elem_flags;
        // SAFETY: `count` elements of the map's key and value lengths are in both buffers.
        let result = unsafe { call(cmd::MAP_UPDATE_BATCH, &mut a) };
        Self::partial(a.count, result)
    }

    /// `BPF_MAP_DELETE_BATCH`: removes as many elements as `keys` holds. Returns how many were done, and the error that
    /// stopped it.
    pub fn delete_batch(&self, keys: &[u8], elem_flags: u64) -> (u32, Result<(), Errno>) {
        let mut a = attr::MapBatch::zeroed();
        a.count = match self.batch_room(keys.len(), usize::MAX) {
            Ok(count) => count,
            Err(errno) => return (0, Err(errno)),
        };
        a.keys = addr(keys);
        a.map_fd = raw(self.fd.as_fd());
        a.elem_flags = elem_flags;
        // SAFETY: `count` keys of the map's key length are in the buffer.
        let result = unsafe { call(cmd::MAP_DELETE_BATCH, &mut a) };
        Self::partial(a.count, result)
    }

    /// The kernel writes the count back unless it could not read the attribute (`EFAULT`) or refused the call outright
    /// (`EINVAL`, `ENOTSUPP`, `EPERM`), where the number is still the one asked for.
    fn partial(count: u32, result: Result<i32, Errno>) -> (u32, Result<(), Errno>) {
        match result {
            Ok(_) => (count, Ok(())),
            Err(e @ (Errno::EFAULT | Errno::EINVAL | Errno::ENOTSUPP | Errno::EPERM | Errno::EBADF)) => (0, Err(e)),
            Err(errno) => (count, Err(errno)),
        }
    }

    fn batch_room(&self, key_bytes: usize, value_bytes: usize) -> Result<u32, Errno> {
        if self.key_len == 0 || self.value_len == 0 || RINGBUF.contains(&self.map_type) {
            return Err(Errno::EINVAL);
        }
        let room = (key_bytes / self.key_len).min(value_bytes / self.value_len);
        if room == 0 { Err(Errno::EINVAL) } else { Ok(u32::try_from(room).unwrap_or(u32::MAX)) }
    }

    /// `BPF_MAP_FREEZE`: from now on only programs may write (and the verifier may fold a read-only map's values). `EBUSY`
    /// while it is mapped writable.
    pub fn freeze(&self) -> Result<(), Errno> {
        let mut a = attr::Single::zeroed();
        a.value = raw(self.fd.as_fd());
        // SAFETY: no addresses in this attribute.
        unsafe { call(cmd::MAP_FREEZE, &mut a) }.map(drop)
    }
}
