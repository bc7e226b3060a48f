//! Maps that are read a part at a time.

use std::marker::PhantomData;

use skep_engine::{BatchCursor, Entry};
use zerocopy::FromBytes;

use crate::{Error, Map};

/// Keys, each with the values of all possible CPUs.
pub type PerCpuBatch<K, V> = Vec<(K, Vec<V>)>;

/// The entries of a map, some hundred at a time: one system call for each batch where the kernel has them (5.6, hashes and arrays),
/// and memory for one batch only.
///
/// ```no_run
/// # fn main() -> Result<(), skep::Error> {
/// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
/// let flows = loaded.map("flows")?;
/// let mut batches = flows.batches::<u64, [u64; 2]>();
/// while let Some(batch) = batches.next(512)? {
///     for (flow, [packets, bytes]) in batch {
///         println!("{flow:x}: {packets} packets, {bytes} bytes");
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Batches<'m, K, V> {
    map: &'m Map<'m>,
    cursor: BatchCursor,
    take: bool,
    typed: PhantomData<fn() -> (K, V)>,
}

impl<'m, K: FromBytes, V: FromBytes> Batches<'m, K, V> {
    pub(crate) fn new(map: &'m Map<'m>, take: bool) -> Batches<'m, K, V> {
        Batches { map, cursor: BatchCursor::default(), take, typed: PhantomData }
    }

    /// The next `room` entries or so; `None` at the end. A hash is read by whole buckets, so there may be some more. Entries that
    /// come or go meanwhile may be missed.
    ///
    /// # Errors
    ///
    /// When `K` or `V` is not of the map's size, or the kernel refuses.
    pub fn next(&mut self, room: usize) -> Result<Option<Vec<(K, V)>>, Error> {
        let Some(entries) = self.entries(room)? else { return Ok(None) };
        let map = self.map;
        entries.iter().map(|(key, value)| Ok((map.key_of(key)?, map.value(value)?))).collect::<Result<_, _>>().map(Some)
    }

    /// As [`Batches::next`], for per-CPU maps: with the values of all possible CPUs.
    ///
    /// # Errors
    ///
    /// As [`Batches::next`].
    pub fn next_per_cpu(&mut self, room: usize) -> Result<Option<PerCpuBatch<K, V>>, Error> {
        let Some(entries) = self.entries(room)? else { return Ok(None) };
        let map = self.map;
        entries
            .iter()
            .map(|(key, value)| Ok((map.key_of(key)?, map.values(value)?)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn entries(&mut self, room: usize) -> Result<Option<Vec<Entry>>, Error> {
        if self.cursor.done {
            return Ok(None);
        }
        let entries = self.map.handle().batch(&mut self.cursor, room, self.take)?;
        Ok((!entries.is_empty()).then_some(entries))
    }
}
