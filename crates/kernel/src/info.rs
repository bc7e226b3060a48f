//! What the kernel tells about maps and programs, in terms that need no other call to be understood.

use std::os::fd::BorrowedFd;

use skep_engine::Error;
use skep_spec::{MapType, ProgType};
use skep_sys::bpf;

use crate::map::failed;

/// What the kernel tells about a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapInfo {
    /// Its id.
    pub id: u32,
    /// Its name as the kernel keeps it: 15 bytes.
    pub name: String,
    /// Type.
    pub map_type: MapType,
    /// Key size, in bytes.
    pub key_size: u32,
    /// Value size, in bytes, of one CPU's value.
    pub value_size: u32,
    /// Number of entries that fit; bytes for ring buffers, pages for arenas.
    pub max_entries: u32,
    /// `BPF_F_*` flags.
    pub flags: u32,
    /// Type-specific extra: hashes of a bloom filter, the address of an arena (kernel 5.16).
    pub extra: u64,
    /// Id of the types (BTF) that describe key and value; `None` without any.
    pub btf_id: Option<u32>,
    /// Number of the key's type there; `None` when it has none.
    pub key_type: Option<u32>,
    /// Number of the value's type there; `None` when it has none.
    pub value_type: Option<u32>,
    /// Whether only programs may write ([`freeze`](skep_engine::MapHandle::freeze)).
    pub frozen: bool,
    /// Bytes of memory that it takes, as the kernel counts or estimates them; `None` when it does not tell.
    pub memory_bytes: Option<u64>,
    /// Type of the programs in a program array, once it has had one.
    pub owner: Option<ProgType>,
    /// Index of the network device that it was made for; 0 for none.
    pub ifindex: u32,
}

impl MapInfo {
    /// What the kernel tells about the map of a descriptor. `name` is for messages.
    ///
    /// # Errors
    ///
    /// When the descriptor is no map, or the kernel does not tell.
    pub fn of(fd: BorrowedFd<'_>, name: &str) -> Result<MapInfo, Error> {
        let what = |errno| failed(&format!("the kernel does not tell about map `{name}`"), errno);
        let info = bpf::MapInfo::of(fd).map_err(what)?;
        // Without /proc the rest is still worth having.
        let more = bpf::MapFdInfo::of(fd).unwrap_or_default();
        let some = |number: u32| (number != 0).then_some(number);
        Ok(MapInfo {
            id: info.id.0,
            name: info.name,
            map_type: MapType(info.map_type),
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.map_flags,
            extra: info.map_extra,
            btf_id: some(info.btf_id.0),
            key_type: some(info.btf_key_type_id),
            value_type: some(info.btf_value_type_id),
            frozen: more.frozen,
            memory_bytes: more.memlock_bytes,
            owner: more.owner_prog_type.map(ProgType),
            ifindex: info.ifindex,
        })
    }
}
