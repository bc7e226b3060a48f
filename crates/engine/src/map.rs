//! Maps of a loaded object.

use skep_spec::MapType;

use crate::Error;

/// A map that exists. Keys and values are bytes in the map's layout; for per-CPU types a value is all CPUs' values one
/// after another, each rounded up to 8 bytes.
pub trait MapHandle {
    /// Its facts.
    fn facts(&self) -> MapFacts;

    /// The value at `key`; `None` when there is none.
    fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Sets the value at `key`; `flags` are the kernel's (`BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`).
    fn update(&self, key: &[u8], value: &[u8], flags: u64) -> Result<(), Error>;

    /// Deletes `key`; `false` when it was not there.
    fn delete(&self, key: &[u8]) -> Result<bool, Error>;

    /// The key after `key`, the first one for `None`; `None` at the end.
    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, Error>;

    /// Every entry, in the engine's order, by the fastest way there is. Entries that come or go meanwhile may be missed,
    /// none is given twice.
    fn entries(&self) -> Result<Vec<Entry>, Error>;
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// What a created map is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapFacts {
    /// Name that the engine knows it by.
    pub name: String,
    /// Engine's id; 0 where it has none.
    pub id: u32,
    /// Type.
    pub map_type: MapType,
    /// Key size, in bytes.
    pub key_size: u32,
    /// Value size, in bytes, of one CPU's value.
    pub value_size: u32,
    /// Number of entries, as created.
    pub max_entries: u32,
    /// How many values a lookup gives: the number of possible CPUs for per-CPU types, else 1.
    pub values_per_key: u32,
}
