//! Maps, data sections included.

use skep_btf::TypeId;
use skep_insn::InsnIdx;

use crate::function::Linkage;
use crate::{ExternId, FuncId, ProgId};

/// Position in [`Spec::maps`](crate::Spec::maps).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapId(pub u32);

/// `enum bpf_map_type` (include/uapi/linux/bpf.h, 6.18); a number that we do not know stays representable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapType(pub u32);

macro_rules! map_types {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl MapType {
            $(#[doc = concat!("`BPF_MAP_TYPE_", stringify!($name), "`")] pub const $name: MapType = MapType($value);)*

            /// Every type that this build knows, in the kernel's order.
            pub const ALL: &'static [MapType] = &[$(MapType::$name),*];

            /// The name that bpftool prints, such as `percpu_hash`; `None` for a number that this build does not know.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some($text),)* _ => None }
            }
        }
    };
}

map_types! {
    UNSPEC = 0, "unspec";
    HASH = 1, "hash";
    ARRAY = 2, "array";
    PROG_ARRAY = 3, "prog_array";
    PERF_EVENT_ARRAY = 4, "perf_event_array";
    PERCPU_HASH = 5, "percpu_hash";
    PERCPU_ARRAY = 6, "percpu_array";
    STACK_TRACE = 7, "stack_trace";
    CGROUP_ARRAY = 8, "cgroup_array";
    LRU_HASH = 9, "lru_hash";
    LRU_PERCPU_HASH = 10, "lru_percpu_hash";
    LPM_TRIE = 11, "lpm_trie";
    ARRAY_OF_MAPS = 12, "array_of_maps";
    HASH_OF_MAPS = 13, "hash_of_maps";
    DEVMAP = 14, "devmap";
    SOCKMAP = 15, "sockmap";
    CPUMAP = 16, "cpumap";
    XSKMAP = 17, "xskmap";
    SOCKHASH = 18, "sockhash";
    CGROUP_STORAGE = 19, "cgroup_storage";
    REUSEPORT_SOCKARRAY = 20, "reuseport_sockarray";
    PERCPU_CGROUP_STORAGE = 21, "percpu_cgroup_storage";
    QUEUE = 22, "queue";
    STACK = 23, "stack";
    SK_STORAGE = 24, "sk_storage";
    DEVMAP_HASH = 25, "devmap_hash";
    STRUCT_OPS = 26, "struct_ops";
    RINGBUF = 27, "ringbuf";
    INODE_STORAGE = 28, "inode_storage";
    TASK_STORAGE = 29, "task_storage";
    BLOOM_FILTER = 30, "bloom_filter";
    USER_RINGBUF = 31, "user_ringbuf";
    CGRP_STORAGE = 32, "cgrp_storage";
    ARENA = 33, "arena";
    INSN_ARRAY = 34, "insn_array";
}

impl MapType {
    /// Whether its values belong to something else (sockets, tasks, cgroups), so that it has no number of entries.
    pub fn is_storage(self) -> bool {
        matches!(
            self,
            MapType::SK_STORAGE
                | MapType::INODE_STORAGE
                | MapType::TASK_STORAGE
                | MapType::CGRP_STORAGE
                | MapType::CGROUP_STORAGE
                | MapType::PERCPU_CGROUP_STORAGE
        )
    }
}

impl std::fmt::Debug for MapType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::fmt::Display for MapType {
    /// The kernel's word, or `type 99` for an unknown number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "type {}", self.0),
        }
    }
}

/// A map as the object declares it. Sizes that depend on the machine (CPU count, page size) are left as declared: the
/// engine settles them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Variable name, or section name for data sections (`.rodata`, `.data.counters`).
    pub name: String,
    /// Type.
    pub map_type: MapType,
    /// Key size, in bytes.
    pub key_size: u32,
    /// Value size, in bytes (for all CPUs the same: the size of one CPU's value).
    pub value_size: u32,
    /// Number of entries; bytes for ring buffers, pages for arenas; 0 when the application is meant to choose.
    pub max_entries: u32,
    /// `BPF_F_*` map creation flags.
    pub flags: u32,
    /// Type-specific extra (bloom filter: number of hashes; arena: user address).
    pub map_extra: u64,
    /// NUMA node; `None` for any.
    pub numa_node: Option<u32>,
    /// Key type in the object's BTF.
    pub key_type: Option<TypeId>,
    /// Value type in the object's BTF. For ring and perf buffers this is the type of an event.
    pub value_type: Option<TypeId>,
    /// How it is shared through bpffs.
    pub pinning: Pinning,
    /// Shape of the maps inside a map of maps.
    pub inner: Option<Box<Map>>,
    /// What it holds from the start.
    pub contents: MapContents,
    /// Where the object declares it.
    pub origin: MapOrigin,
    /// Name of the only program that may use it (kernel 6.18), set by [`Spec::make_exclusive`](crate::Spec::make_exclusive).
    pub exclusive_to: Option<String>,
    /// Who may see it.
    pub linkage: Linkage,
    /// Created when the object is loaded; switch off to leave it out.
    pub autocreate: bool,
}

/// `BPF_F_RDONLY_PROG`: programs cannot write (include/uapi/linux/bpf.h).
pub const BPF_F_RDONLY_PROG: u32 = 1 << 7;
/// `BPF_F_MMAPABLE`: user space can map the value (kernel 5.5).
pub const BPF_F_MMAPABLE: u32 = 1 << 10;
/// `BPF_F_LINK`: a struct_ops map that is registered through a link (kernel 6.4).
pub const BPF_F_LINK: u32 = 1 << 13;

impl Map {
    /// A map that no file declared, without flags, types or contents.
    pub fn new(name: &str, map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Map {
        Map {
            name: name.to_owned(),
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            map_extra: 0,
            numa_node: None,
            key_type: None,
            value_type: None,
            pinning: Pinning::None,
            inner: None,
            contents: MapContents::Empty,
            origin: MapOrigin::Made,
            exclusive_to: None,
            linkage: Linkage::Global,
            autocreate: true,
        }
    }

    /// The globals that it holds; `None` for maps that are not data sections.
    pub fn data_section(&self) -> Option<&DataSection> {
        match &self.origin {
            MapOrigin::Data(section) | MapOrigin::Arena(section) => Some(section),
            _ => None,
        }
    }

    /// As [`Map::data_section`], to be edited.
    pub fn data_section_mut(&mut self) -> Option<&mut DataSection> {
        match &mut self.origin {
            MapOrigin::Data(section) | MapOrigin::Arena(section) => Some(section),
            _ => None,
        }
    }

    /// The whole value at key 0 as the object has it, `value_size` bytes; `None` when the object gives it none, which
    /// means zeroes for data sections.
    pub fn initial_value(&self) -> Option<Vec<u8>> {
        match &self.contents {
            MapContents::Data(bytes) => {
                let mut value = bytes.clone();
                if self.map_type != MapType::ARENA {
                    value.resize(self.value_size as usize, 0);
                }
                Some(value)
            }
            _ => None,
        }
    }
}

/// How a map is shared through bpffs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// Not at all.
    None,
    /// `LIBBPF_PIN_BY_NAME`: under its name in the pin folder; reused when it is there already.
    ByName,
}

/// Where a map comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapOrigin {
    /// A variable in `.maps`, described by BTF.
    Btf,
    /// A `struct bpf_map_def` in the old `maps` section.
    Legacy,
    /// A data section.
    Data(DataSection),
    /// A variable in `.maps` of type arena that also holds the globals of `.addr_space.1`.
    Arena(DataSection),
    /// The values of the kernel's configuration.
    Kconfig,
    /// A variable in `.struct_ops` or `.struct_ops.link`.
    StructOps,
    /// A jump table.
    JumpTable,
    /// Made by an editor of the Spec.
    Made,
}

/// A data section that became an array map of one entry, or an arena's globals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSection {
    /// What the program may do with it.
    pub kind: DataKind,
    /// What its first variable's address must be a multiple of, when sections are put behind each other.
    pub align_bytes: u32,
    /// Its `DATASEC` in the object's BTF.
    pub datasec: Option<TypeId>,
    /// Its variables, by offset.
    pub variables: Vec<Variable>,
}

/// Kinds of data sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// `.rodata*`: frozen before programs load, so that the verifier sees constants.
    Rodata,
    /// `.data*`.
    Data,
    /// `.bss*`.
    Bss,
    /// `.addr_space.1`.
    Arena,
}

/// A global variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Name.
    pub name: String,
    /// Offset in the section, in bytes.
    pub off_bytes: u32,
    /// Size, in bytes.
    pub size_bytes: u32,
    /// Type (not the `VAR`); `None` when the object has no BTF for it.
    pub type_id: Option<TypeId>,
    /// Whether users of the loaded object may see it; statics and hidden ones are not part of a skeleton.
    pub global: bool,
    /// Whether objects that it is linked with may see it.
    pub linkage: Linkage,
}

/// What a map holds from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MapContents {
    /// Nothing.
    Empty,
    /// The value at key 0 (data sections; for arenas the bytes of their globals). Bytes missing at the end are zero, which
    /// [`Map::initial_value`] fills in.
    Data(Vec<u8>),
    /// Slots of a map of maps or of a program array, by index.
    Slots(Vec<(u32, Slot)>),
    /// The kernel structure of a struct_ops map.
    StructOps(StructOps),
    /// Targets of an indirect jump, inside one function.
    JumpTable {
        /// The function.
        function: FuncId,
        /// Where entry 0, 1, ... leads.
        targets: Vec<InsnIdx>,
    },
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// Another map.
    Map(MapId),
    /// A program.
    Program(ProgId),
    /// A map or a program of another object, which is not linked in.
    Extern(ExternId),
}

/// A struct_ops variable: bytes in the layout of the object's own type, and the programs that its members name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StructOps {
    /// The object's type of the variable.
    pub type_id: TypeId,
    /// Initial bytes of the variable.
    pub data: Vec<u8>,
    /// Function members: byte offset of the member, and the program that fills it.
    pub programs: Vec<(u32, ProgId)>,
    /// Function members that a program of another object fills, until that is linked in ([`merge`](crate::merge)).
    pub externs: Vec<(u32, ExternId)>,
    /// In `.struct_ops.link`: registered by a link instead of by the map's update.
    pub link: bool,
}
