//! Maps: what programs keep, and share with each other and with user space.
//!
//! # Layout
//!
//! Values that programs reach by pointer lie in blocks of their [`Space`]; so a lookup gives an address, and what a program or compiled
//! code does with it needs no more care than any other access. Keys, lists, counters, and the values of kinds that copy them in and
//! out lie in memory of this process that no program reaches. A wild program can spoil values of its own object, not a map.
//!
//! To a program a map is a [handle](Map::handle); a wide load of a map is bound to it ([`Image::binds`](crate::Image::binds)), one of a
//! map's value to [`Map::value_addr`] plus the offset. Helpers turn handles back into maps (the module `registry`).
//!
//! # Concurrency
//!
//! Maps may be used by several processors and by user space at once. Lookups by programs in arrays and hash maps take no lock (module
//! `table`). Writers of one map take turns. Values are plain memory: two who write the same value at once race, as in the
//! kernel, and per-CPU values are free of races as long as no two processors with the same number run at once.
//!
//! # Errors
//!
//! What is refused, and with which number, is the kernel's choice: a [`MapError`] has the number, and words.

mod arena;
mod array;
mod bell;
mod bloom;
mod error;
mod hash;
mod lpm;
mod nested;
mod perf;
mod programs;
mod queue;
mod registry;
mod ring;
mod stack_trace;
mod table;
mod targets;
mod task_storage;
mod user_ring;
mod values;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use arena::{Arena, PAGE_BYTES};
pub use bell::{Bell, Listener};
pub use error::MapError;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use hash::Hash;
pub(crate) use perf::PerfArray;
pub(crate) use programs::Programs;
pub(crate) use registry::{Known, Registry};
pub(crate) use ring::Ring;
pub(crate) use stack_trace::{MAX_DEPTH, StackTraces};
#[cfg(target_arch = "x86_64")]
pub(crate) use table::{MULTIPLIER, Places};
pub(crate) use task_storage::TaskStorage;
pub(crate) use user_ring::UserRing;
#[cfg(target_arch = "x86_64")]
pub(crate) use values::Values;

use crate::timers::{TIMER_BYTES, Timers};
use crate::{Access, Program, Space, Stop};

/// No memory for elements ahead of time (`BPF_F_NO_PREALLOC`); tries must say so.
pub const F_NO_PREALLOC: u32 = 1;
/// Programs may only read (`BPF_F_RDONLY_PROG`).
pub const F_RDONLY_PROG: u32 = 1 << 7;
/// An array inside of other maps may have any number of entries (`BPF_F_INNER_MAP`).
const F_INNER_MAP: u32 = 1 << 12;
/// With the lock of the value held (`BPF_F_LOCK`).
const F_LOCK: u64 = 4;
/// How often a lock is tried that a running program holds, by whoever may not wait for ever.
const MAX_ATTEMPTS: u32 = 1 << 16;

macro_rules! kinds {
    ($($(#[$default:ident])? $kind:ident = $number:literal, $name:literal;)*) => {
        /// Kinds of maps.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum MapKind {
            $($(#[$default])? #[doc = concat!("`", $name, "`")] $kind = $number,)*
        }

        impl MapKind {
            /// All of them.
            pub const ALL: &[MapKind] = &[$(MapKind::$kind),*];

            /// The kernel's name, without its prefix and in small letters.
            pub fn name(self) -> &'static str {
                match self { $(MapKind::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    Hash = 1, "hash";
    #[default] Array = 2, "array";
    ProgArray = 3, "prog_array";
    PerfEventArray = 4, "perf_event_array";
    PerCpuHash = 5, "percpu_hash";
    PerCpuArray = 6, "percpu_array";
    StackTrace = 7, "stack_trace";
    LruHash = 9, "lru_hash";
    LruPerCpuHash = 10, "lru_percpu_hash";
    LpmTrie = 11, "lpm_trie";
    ArrayOfMaps = 12, "array_of_maps";
    HashOfMaps = 13, "hash_of_maps";
    DevMap = 14, "devmap";
    CpuMap = 16, "cpumap";
    XskMap = 17, "xskmap";
    Queue = 22, "queue";
    Stack = 23, "stack";
    DevMapHash = 25, "devmap_hash";
    Ringbuf = 27, "ringbuf";
    TaskStorage = 29, "task_storage";
    BloomFilter = 30, "bloom_filter";
    UserRingbuf = 31, "user_ringbuf";
    Arena = 33, "arena";
}

impl MapKind {
    /// The kind with a number of `enum bpf_map_type`; `None` for one that this machine has not.
    pub fn from_number(number: u32) -> Option<MapKind> {
        MapKind::ALL.iter().copied().find(|kind| *kind as u32 == number)
    }

    /// Whether each key has a value for each CPU.
    pub fn is_per_cpu(self) -> bool {
        matches!(self, MapKind::PerCpuHash | MapKind::PerCpuArray | MapKind::LruPerCpuHash)
    }

    /// Whether `bpf_redirect_map` takes it.
    pub fn is_of_targets(self) -> bool {
        matches!(self, MapKind::DevMap | MapKind::CpuMap | MapKind::XskMap | MapKind::DevMapHash)
    }

    pub(crate) fn is_lru(self) -> bool {
        matches!(self, MapKind::LruHash | MapKind::LruPerCpuHash)
    }
}

/// What a map is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapSpec {
    /// Its name, for messages.
    pub name: String,
    /// Its kind.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, of one CPU's.
    pub value_size: u32,
    /// Most elements; bytes of a ring buffer.
    pub max_entries: u32,
    /// The kernel's `BPF_F_*` for maps. Those that say where memory comes from mean nothing here.
    pub flags: u32,
    /// The kernel's `map_extra`: how many hashes a bloom filter has.
    pub extra: u64,
    /// Where the `struct bpf_spin_lock` of a value is, in bytes; only arrays, hash maps and storage of tasks have one.
    pub lock_off: Option<u32>,
    /// Where the `struct bpf_timer` of a value is, in bytes; only arrays, hash maps and LRU hash maps have one.
    pub timer_off: Option<u32>,
    /// What the maps inside of a map of maps are like.
    pub inner: Option<Box<MapSpec>>,
}

impl MapSpec {
    pub(crate) fn programs_write(&self) -> bool {
        self.flags & F_RDONLY_PROG == 0
    }
}

/// What an update does to an element that is there, and to one that is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Sets it (`BPF_ANY`).
    Any,
    /// Only makes a new one (`BPF_NOEXIST`).
    NoExist,
    /// Only changes an old one (`BPF_EXIST`).
    Exist,
}

impl Mode {
    pub(crate) fn from_flags(flags: u64) -> Result<Mode, MapError> {
        match flags {
            0 => Ok(Mode::Any),
            1 => Ok(Mode::NoExist),
            2 => Ok(Mode::Exist),
            _ => Err(MapError::Invalid("flags of an update are BPF_ANY, BPF_NOEXIST or BPF_EXIST")),
        }
    }
}

/// Who changes a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    User,
    Program { cpu: u32 },
}

/// What is called for each element: with its key and the address of its value; `false` ends the walk.
pub(crate) type Visit<'a> = &'a mut dyn FnMut(&[u8], u64) -> Result<bool, Stop>;

/// What a kind of map can do. Keys and values have the right length by the time that they come here.
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// What a program on `cpu` gets for a key: the address of its value.
    fn find(&self, _key: &[u8], _cpu: u32) -> Option<u64> {
        None
    }

    /// A copy of a value for user space.
    fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        Err(MapError::Unsupported)
    }

    fn set(&self, _key: &[u8], _value: &[u8], _mode: Mode, _who: Who) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    fn delete(&self, _key: &[u8]) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    /// A copy of a value, which is deleted in the same step.
    fn take(&self, _key: &[u8]) -> Result<Vec<u8>, MapError> {
        Err(MapError::Unsupported)
    }

    fn next_key(&self, _key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        Err(MapError::Unsupported)
    }

    fn entries(&self) -> Result<Vec<Entry>, MapError> {
        let mut entries = Vec::new();
        let mut key = self.next_key(None)?;
        while let Some(now) = key {
            if let Some(value) = self.get(&now)? {
                entries.push((now.clone(), value));
            }
            key = self.next_key(Some(&now))?;
        }
        Ok(entries)
    }

    /// Visits the elements for a program; how many, or `None` for kinds that cannot be walked.
    fn walk(&self, _cpu: u32, _visit: Visit<'_>) -> Result<Option<u64>, Stop> {
        Ok(None)
    }

    fn push(&self, _value: &[u8], _mode: Mode) -> Result<(), MapError> {
        Err(MapError::Unsupported)
    }

    fn pop(&self) -> Result<Vec<u8>, MapError> {
        Err(MapError::Unsupported)
    }

    /// The next value; `value` is what was in its place, which a bloom filter looks for.
    fn peek(&self, _value: &[u8]) -> Result<Vec<u8>, MapError> {
        Err(MapError::Unsupported)
    }
}

/// A key and its value, as user space sees them.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A number of 4 bytes: the key of an array.
pub(crate) fn index_of(key: &[u8]) -> Option<u32> {
    key.first_chunk().copied().map(u32::from_ne_bytes)
}

#[derive(Debug)]
enum Content {
    Array(array::Array),
    Hash(hash::Hash),
    Targets(targets::Targets),
    LpmTrie(lpm::LpmTrie),
    Nested(nested::Nested),
    Programs(Programs),
    Queue(queue::Queue),
    Bloom(bloom::Bloom),
    Ring(Ring),
    PerfArray(PerfArray),
    StackTraces(StackTraces),
    TaskStorage(TaskStorage),
    UserRing(UserRing),
    Arena(Arena),
}

/// A map. Its methods are for user space: what they take and give are copies.
#[derive(Debug)]
pub struct Map {
    id: u32,
    spec: MapSpec,
    /// Bytes of a value as user space sees it.
    user_value_len: usize,
    values_per_key: u32,
    space: Arc<Space>,
    timers: Arc<Timers>,
    content: Content,
    frozen: AtomicBool,
}

/// What the maps of a machine share.
#[derive(Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) space: &'a Arc<Space>,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) bell: &'a Arc<Bell>,
    pub(crate) timers: &'a Arc<Timers>,
    pub(crate) cpus: u32,
}

impl Map {
    /// See [`Machine::create_map`](crate::Machine::create_map).
    pub(crate) fn new(id: u32, spec: &MapSpec, around: Surroundings<'_>) -> Result<Map, MapError> {
        let Surroundings { space, registry, bell, timers, cpus } = around;
        let content = match spec.kind {
            MapKind::Array | MapKind::PerCpuArray => Content::Array(array::Array::new(spec, space, cpus)?),
            MapKind::Hash | MapKind::PerCpuHash | MapKind::LruHash | MapKind::LruPerCpuHash => {
                Content::Hash(hash::Hash::new(spec, space, cpus)?)
            }
            MapKind::DevMap | MapKind::CpuMap | MapKind::XskMap | MapKind::DevMapHash => {
                Content::Targets(targets::Targets::new(spec, space)?)
            }
            MapKind::LpmTrie => Content::LpmTrie(lpm::LpmTrie::new(spec, space)?),
            MapKind::ArrayOfMaps | MapKind::HashOfMaps => Content::Nested(nested::Nested::new(spec, registry)?),
            MapKind::ProgArray => Content::Programs(Programs::new(spec)?),
            MapKind::Queue | MapKind::Stack => Content::Queue(queue::Queue::new(spec)?),
            MapKind::BloomFilter => Content::Bloom(bloom::Bloom::new(spec)?),
            MapKind::Ringbuf => Content::Ring(Ring::new(spec, space, bell)?),
            MapKind::PerfEventArray => Content::PerfArray(PerfArray::new(spec, cpus, bell)?),
            MapKind::StackTrace => Content::StackTraces(StackTraces::new(spec)?),
            MapKind::TaskStorage => Content::TaskStorage(TaskStorage::new(spec, space)?),
            MapKind::UserRingbuf => Content::UserRing(UserRing::new(spec, space)?),
            MapKind::Arena => Content::Arena(Arena::new(spec, space)?),
        };
        let value_len = spec.value_size as usize;
        let (user_value_len, values_per_key) = match spec.kind.is_per_cpu() {
            true => (value_len.next_multiple_of(8) * cpus as usize, cpus),
            false => (value_len, 1),
        };
        let lock_fits = spec.lock_off.is_none_or(|off| {
            let known = matches!(spec.kind, MapKind::Array | MapKind::Hash | MapKind::TaskStorage);
            known && off.is_multiple_of(4) && off.checked_add(4).is_some_and(|end| end <= spec.value_size)
        });
        if !lock_fits {
            return Err(MapError::Invalid(
                "a lock is in the values of an array, a hash map or a task_storage, at a multiple of 4 bytes",
            ));
        }
        let timer_fits = spec.timer_off.is_none_or(|off| {
            let known = matches!(spec.kind, MapKind::Array | MapKind::Hash | MapKind::LruHash);
            known && off.is_multiple_of(8) && off.checked_add(TIMER_BYTES).is_some_and(|end| end <= spec.value_size)
        });
        if !timer_fits {
            return Err(MapError::Invalid(
                "a timer is in the values of an array or a hash map (an LRU one, too), at a multiple of 8 bytes",
            ));
        }
        Ok(Map {
            id,
            spec: spec.clone(),
            user_value_len,
            values_per_key,
            space: space.clone(),
            timers: timers.clone(),
            content,
            frozen: AtomicBool::new(false),
        })
    }

    pub(crate) fn store(&self) -> &dyn Store {
        match &self.content {
            Content::Array(it) => it,
            Content::Hash(it) => it,
            Content::Targets(it) => it,
            Content::LpmTrie(it) => it,
            Content::Nested(it) => it,
            Content::Programs(it) => it,
            Content::Queue(it) => it,
            Content::Bloom(it) => it,
            Content::Ring(it) => it,
            Content::PerfArray(it) => it,
            Content::StackTraces(it) => it,
            Content::TaskStorage(it) => it,
            Content::UserRing(it) => it,
            Content::Arena(it) => it,
        }
    }

    pub(crate) fn ring(&self) -> Option<&Ring> {
        if let Content::Ring(ring) = &self.content { Some(ring) } else { None }
    }

    pub(crate) fn perf_array(&self) -> Option<&PerfArray> {
        if let Content::PerfArray(array) = &self.content { Some(array) } else { None }
    }

    pub(crate) fn stack_traces(&self) -> Option<&StackTraces> {
        if let Content::StackTraces(stacks) = &self.content { Some(stacks) } else { None }
    }

    pub(crate) fn task_storage(&self) -> Option<&TaskStorage> {
        if let Content::TaskStorage(storage) = &self.content { Some(storage) } else { None }
    }

    pub(crate) fn user_ring(&self) -> Option<&UserRing> {
        if let Content::UserRing(ring) = &self.content { Some(ring) } else { None }
    }

    pub(crate) fn arena(&self) -> Option<&Arena> {
        if let Content::Arena(arena) = &self.content { Some(arena) } else { None }
    }

    pub(crate) fn programs(&self) -> Option<&Programs> {
        if let Content::Programs(programs) = &self.content { Some(programs) } else { None }
    }

    /// Address of the value of a key for a program on `cpu`.
    #[inline]
    pub(crate) fn find(&self, key: &[u8], cpu: u32) -> Option<u64> {
        // The two that most programs use, without a call through a table.
        match &self.content {
            Content::Array(array) => array.find(key, cpu),
            Content::Hash(hash) => hash.find(key, cpu),
            _ => self.store().find(key, cpu),
        }
    }

    /// Its number in the machine, from 1.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// What programs hold for it.
    pub fn handle(&self) -> u64 {
        registry::handle_of(self.id)
    }

    /// What it was made from.
    pub fn spec(&self) -> &MapSpec {
        &self.spec
    }

    /// How many values a key has: the number of the machine's CPUs for per-CPU kinds, else 1.
    pub fn values_per_key(&self) -> u32 {
        self.values_per_key
    }

    /// Where the values of an array start, the address of global data, or an arena. `None` for other kinds.
    pub fn value_addr(&self) -> Option<u64> {
        match &self.content {
            Content::Array(array) => Some(array.values.block().addr()),
            Content::Arena(arena) => Some(arena.block.addr()),
            _ => None,
        }
    }

    /// Bytes from [`Map::value_addr`] on; 0 when there are none.
    pub fn memory_len(&self) -> u64 {
        match &self.content {
            Content::Array(array) => array.values.block().len(),
            Content::Arena(arena) => arena.block.len(),
            _ => 0,
        }
    }

    /// Puts globals at the start of an arena; their pages belong to nobody else.
    pub fn fill(&self, globals: &[u8]) -> Result<(), MapError> {
        self.arena().ok_or(MapError::Unsupported)?.fill(globals)
    }

    /// Sends a record to the programs that drain a `user_ringbuf`.
    pub fn send(&self, record: &[u8]) -> Result<(), MapError> {
        self.user_ring().ok_or(MapError::Unsupported)?.send(record)
    }

    /// The values of an array or a hash map.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(crate) fn values(&self) -> Option<&values::Values> {
        match &self.content {
            Content::Array(array) => Some(&array.values),
            Content::Hash(hash) => Some(&hash.values),
            _ => None,
        }
    }

    /// A hash map, of any of its kinds.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(crate) fn hash(&self) -> Option<&Hash> {
        if let Content::Hash(hash) = &self.content { Some(hash) } else { None }
    }

    fn check_key(&self, key: &[u8]) -> Result<(), MapError> {
        let fits = key.len() == self.spec.key_size as usize;
        if fits { Ok(()) } else { Err(MapError::Invalid("the key has not the length of the map's keys")) }
    }

    fn check_value(&self, value: &[u8]) -> Result<(), MapError> {
        let fits = value.len() == self.user_value_len;
        if fits { Ok(()) } else { Err(MapError::Invalid("the value has not the length of the map's values")) }
    }

    fn check_not_frozen(&self) -> Result<(), MapError> {
        if self.frozen.load(Ordering::Acquire) { Err(MapError::Frozen) } else { Ok(()) }
    }

    /// The value of a key; `None` when there is none. A per-CPU map gives those of all CPUs, each rounded up to 8 bytes. A queue or
    /// stack, whose key is empty, gives the next one out. A map of maps gives an id.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.check_key(key)?;
        match &self.content {
            Content::Queue(queue) => found(queue.peek(&[])),
            _ => Ok(self.store().get(key)?.map(|value| self.shown(value))),
        }
    }

    /// Whether a bloom filter may have a value.
    pub fn may_contain(&self, value: &[u8]) -> Result<bool, MapError> {
        self.check_value(value)?;
        match &self.content {
            Content::Bloom(bloom) => Ok(found(bloom.peek(value))?.is_some()),
            _ => Err(MapError::Unsupported),
        }
    }

    /// Sets the value of a key, in the form that [`Map::lookup`] gives. `flags` are `BPF_ANY`, `BPF_NOEXIST` or `BPF_EXIST`,
    /// with `BPF_F_LOCK` if the lock of the value is to be held. To a
    /// queue, a stack or a bloom filter it adds the value.
    pub fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapError> {
        self.check_not_frozen()?;
        self.check_key(key)?;
        self.check_value(value)?;
        match &self.content {
            Content::Queue(_) | Content::Bloom(_) => self.store().push(value, Mode::from_flags(flags)?),
            _ => self.set(key, value, flags, Who::User),
        }
    }

    /// Sets a value, with which the timer of the old one ends.
    pub(crate) fn set(&self, key: &[u8], value: &[u8], flags: u64, who: Who) -> Result<(), MapError> {
        if self.spec.timer_off.is_none() {
            return self.put(key, value, flags, who);
        }
        let mut value = value.to_vec();
        self.hide_timer(&mut value);
        let old = self.timer_of(key);
        self.put(key, &value, flags, who)?;
        // One of an element that an LRU map dropped may have been where the new one is.
        for timer in old.into_iter().chain(self.timer_of(key)) {
            self.timers.forget(timer);
        }
        Ok(())
    }

    /// Deletes a key, with whose value its timer ends.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<(), MapError> {
        let timer = self.timer_of(key);
        self.store().delete(key)?;
        if let Some(timer) = timer {
            self.timers.forget(timer);
        }
        Ok(())
    }

    /// Where the timer of a key is.
    fn timer_of(&self, key: &[u8]) -> Option<u64> {
        let off = self.spec.timer_off?;
        self.store().find(key, 0).map(|value| value.wrapping_add(off.into()))
    }

    fn hide_timer(&self, value: &mut [u8]) {
        let timer = self.spec.timer_off.map(|off| off as usize);
        if let Some(timer) = timer.and_then(|off| value.get_mut(off..off + TIMER_BYTES as usize)) {
            timer.fill(0);
        }
    }

    /// The key of the element whose value is at an address; `None` when there is none.
    pub(crate) fn key_at(&self, value: u64) -> Option<Vec<u8>> {
        match &self.content {
            Content::Array(array) => array.key_at(value),
            Content::Hash(hash) => hash.key_at(value),
            _ => None,
        }
    }

    /// Sets a value. The lock in it stays what it is, and is held meanwhile if the flags say so.
    fn put(&self, key: &[u8], value: &[u8], flags: u64, who: Who) -> Result<(), MapError> {
        let mode = Mode::from_flags(flags & !F_LOCK)?;
        let Some(off) = self.spec.lock_off else {
            return match flags & F_LOCK {
                0 => self.store().set(key, value, mode, who),
                _ => Err(MapError::Invalid("BPF_F_LOCK, but the values of this map have no lock")),
            };
        };
        let at = self.store().find(key, 0);
        let word = at.and_then(|at| self.space.near().atomic32(at.wrapping_add(off.into()), Access::Atomic));
        let mut value = value.to_vec();
        let lock = off as usize..off as usize + 4;
        match (at, word, &self.content) {
            (Some(at), Some(word), _) if flags & F_LOCK != 0 && mode != Mode::NoExist => {
                let free = |_| {
                    let taken = word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
                    if !taken {
                        std::thread::yield_now();
                    }
                    taken
                };
                if !(0..MAX_ATTEMPTS).any(free) {
                    return Err(MapError::Again);
                }
                let before = self.space.write(at, &value[..lock.start]);
                let behind = self.space.write(at.wrapping_add(lock.end as u64), &value[lock.end..]);
                word.store(0, Ordering::Release);
                before.and(behind).map_err(|_| MapError::Again)
            }
            // In its place.
            (_, Some(word), Content::Array(_)) => {
                value[lock].copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
                self.store().set(key, &value, mode, who)
            }
            // A new one.
            _ => {
                value[lock].fill(0);
                self.store().set(key, &value, mode, who)
            }
        }
    }

    /// A value as user space sees it: without the state of its lock and its timer.
    fn shown(&self, mut value: Vec<u8>) -> Vec<u8> {
        self.hide_timer(&mut value);
        if let Some(lock) = self.spec.lock_off.and_then(|off| value.get_mut(off as usize..off as usize + 4)) {
            lock.fill(0);
        }
        value
    }

    /// Deletes a key.
    pub fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        self.check_not_frozen()?;
        self.check_key(key)?;
        self.remove(key)
    }

    /// The value of a key, which is deleted in the same step; of a queue or stack the next one out. `None` when there is none.
    pub fn take(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.check_not_frozen()?;
        self.check_key(key)?;
        match &self.content {
            Content::Queue(queue) => found(queue.pop()),
            _ => {
                let timer = self.timer_of(key);
                let taken = found(self.store().take(key))?;
                if let (Some(timer), Some(_)) = (timer, &taken) {
                    self.timers.forget(timer);
                }
                Ok(taken.map(|value| self.shown(value)))
            }
        }
    }

    /// The key behind `key`, in an order of the map's own; the first one for `None` and for a key that is not there; `None` at the end.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        if let Some(key) = key {
            self.check_key(key)?;
        }
        self.store().next_key(key)
    }

    /// All elements. Hash maps stand still meanwhile; of other kinds those that come or go may be missed.
    pub fn entries(&self) -> Result<Vec<Entry>, MapError> {
        Ok(self.store().entries()?.into_iter().map(|(key, value)| (key, self.shown(value))).collect())
    }

    /// From now on only programs may write.
    pub fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
    }

    /// Sets which program a `prog_array` goes on with; `None` takes it out.
    pub fn set_program(&self, index: u32, program: Option<Arc<Program>>) -> Result<(), MapError> {
        self.check_not_frozen()?;
        self.programs().ok_or(MapError::Unsupported)?.put(index, program).map(drop)
    }

    /// Gives every record of a ring buffer that is ready to `sink`, until it breaks off; how many. The record with which it breaks off
    /// counts as consumed.
    pub fn consume(&self, sink: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) -> Result<usize, MapError> {
        Ok(self.ring().ok_or(MapError::Unsupported)?.consume(sink))
    }

    /// Opens a buffer of so many bytes at a slot of a `perf_event_array`; the slot is the number of a CPU.
    pub fn open_buffer(&self, slot: u32, bytes: usize) -> Result<(), MapError> {
        self.perf_array().ok_or(MapError::Unsupported)?.open(slot, bytes)
    }

    /// Gives every record of a `perf_event_array` to `sink`, with its slot, until it breaks off; how many.
    pub fn consume_slots(&self, sink: &mut dyn FnMut(u32, &[u8]) -> ControlFlow<()>) -> Result<usize, MapError> {
        let array = self.perf_array().ok_or(MapError::Unsupported)?;
        let mut given = 0;
        for slot in 0..array.len() {
            while let Some(record) = array.take(slot) {
                given += 1;
                if sink(slot, &record).is_break() {
                    return Ok(given);
                }
            }
        }
        Ok(given)
    }

    /// How many records a slot of a `perf_event_array` had no room for since this was asked last.
    pub fn take_lost(&self, slot: u32) -> u64 {
        self.perf_array().map_or(0, |array| array.take_lost(slot))
    }
}

/// `None` in place of the error that says that there is nothing.
fn found<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(MapError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}
