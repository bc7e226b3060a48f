//! Maps of a loaded object.

use std::os::fd::BorrowedFd;
use std::path::Path;

use skep_spec::MapType;

use crate::{Error, ErrorKind};

/// A map that exists. Keys and values are bytes in the map's layout; for per-CPU types a value is all CPUs' values one
/// after another, each rounded up to 8 bytes. Any thread may use it.
pub trait MapHandle: Send + Sync {
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

    /// As [`MapHandle::lookup`], with the kernel's flags: `BPF_F_LOCK` takes the value's spin lock (kernel 5.1).
    ///
    /// # Errors
    ///
    /// When the engine or the map does not take the flags.
    fn lookup_with(&self, key: &[u8], flags: u64) -> Result<Option<Vec<u8>>, Error> {
        if flags == 0 { self.lookup(key) } else { Err(unsupported(&self.facts(), "read with flags")) }
    }

    /// About `room` entries behind those that `cursor` has passed, and with `take` takes them out. Empty only at the end
    /// ([`BatchCursor::done`]). There may be more of them than asked for: a hash is read by whole buckets. Entries that come or go
    /// meanwhile may be missed or, where a hash is without batches, be given twice.
    fn batch(&self, cursor: &mut BatchCursor, room: usize, take: bool) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        while entries.len() < room.max(1) && !cursor.done {
            let Some(key) = self.next_key(cursor.at.as_deref())? else {
                cursor.done = true;
                break;
            };
            // The key after one that is gone would be the first again, which is right only when all before it were taken.
            let value = if take { self.take(&key)? } else { self.lookup(&key)? };
            if let Some(value) = value {
                entries.push((key.clone(), value));
            }
            cursor.at = Some(key);
        }
        Ok(entries)
    }

    /// The value at `key`, removed in the same step; `None` when there is none. For queues and stacks, whose key is empty, the
    /// next one out.
    fn take(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let value = self.lookup(key)?;
        if value.is_some() {
            self.delete(key)?;
        }
        Ok(value)
    }

    /// Sets many entries, in one step where the engine can. Stops at the first that fails; the error says how many were done.
    fn update_many(&self, entries: &[Entry], flags: u64) -> Result<(), Error> {
        let of = entries.len();
        entries.iter().enumerate().try_for_each(|(done, (key, value))| {
            self.update(key, value, flags).map_err(|error| error.about(format_args!("entry {} of {of}", done + 1)))
        })
    }

    /// Deletes many entries, as [`MapHandle::update_many`] sets them. Those that are absent are passed over.
    fn delete_many(&self, keys: &[Vec<u8>]) -> Result<(), Error> {
        keys.iter().try_for_each(|key| self.delete(key).map(drop))
    }

    /// Every entry, taken out while it is read: what a sampling reader wants, since nothing is counted twice and nothing is lost
    /// between reading and clearing.
    fn drain(&self) -> Result<Vec<Entry>, Error> {
        let mut taken = Vec::new();
        for (key, _) in self.entries()? {
            if let Some(value) = self.take(&key)? {
                taken.push((key, value));
            }
        }
        Ok(taken)
    }

    /// Sends a record to the programs that drain a `user_ringbuf` (`bpf_user_ringbuf_drain`, kernel 6.1); `false` when there is no room now. One
    /// thread at a time may send.
    ///
    /// # Errors
    ///
    /// When the map is none, or the record is larger than the whole of it.
    fn send(&self, record: &[u8]) -> Result<bool, Error> {
        let _ = record;
        Err(unsupported(&self.facts(), "sent records to"))
    }

    /// From now on only programs may write.
    fn freeze(&self) -> Result<(), Error> {
        Err(unsupported(&self.facts(), "frozen"))
    }

    /// Some bytes of the map's memory: the values of an array one after the other, or an arena.
    ///
    /// # Errors
    ///
    /// When the map was not made for it (`BPF_F_MMAPABLE`, kernel 5.5; data sections with a global variable are), or the range lies outside.
    fn read_memory(&self, off_bytes: usize, out: &mut [u8]) -> Result<(), Error> {
        let _ = (off_bytes, out);
        Err(unsupported(&self.facts(), "read as memory"))
    }

    /// Bytes of the map's memory, rounded up to pages.
    ///
    /// # Errors
    ///
    /// As [`MapHandle::read_memory`].
    fn memory_len(&self) -> Result<usize, Error> {
        Err(unsupported(&self.facts(), "read as memory"))
    }

    /// Changes some bytes of the map's memory and leaves the others to the programs.
    ///
    /// # Errors
    ///
    /// As [`MapHandle::read_memory`], and when the map is frozen.
    fn write_memory(&self, off_bytes: usize, bytes: &[u8]) -> Result<(), Error> {
        let _ = (off_bytes, bytes);
        Err(unsupported(&self.facts(), "written as memory"))
    }

    /// Gives it a name in a bpffs, where it outlives this process.
    ///
    /// # Errors
    ///
    /// When the path is not in a bpffs or is taken, or the engine has nothing that outlives it.
    fn pin(&self, path: &Path) -> Result<(), Error> {
        let _ = path;
        Err(unsupported(&self.facts(), "pinned"))
    }

    /// Its descriptor, where it has one.
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

fn unsupported(map: &MapFacts, done: &str) -> Error {
    Error::new(format!("map `{}` cannot be {done} in this engine", map.name)).with_kind(ErrorKind::Unsupported)
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A place in a map that is read in batches. `Default` is the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchCursor {
    /// Where the next batch begins, in the engine's own terms.
    pub at: Option<Vec<u8>>,
    /// Whether `at` is a key, since the map is read key by key.
    pub by_key: bool,
    /// Whether everything was given.
    pub done: bool,
}

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
