//! The script's maps: reading, printing, clearing.
//!
//! A map that a script both prints and clears while it runs is two maps, and a number says which of them the programs use.
//! To print and clear without losing a count, the number is changed first, and programs that have read it before are waited for:
//! the old map then holds still.

use skep_engine::{Entry as RawEntry, Error, MapHandle, MapId, Session};
use skep_script::plan::{Map, Switch};
use skep_view::script::{Entry, ScriptView, Total};

use super::Format;

/// Reads a map, every CPU's values put together. Empty when the map was not made.
pub(super) fn read(session: &dyn Session, map: &Map, generation: &Generation) -> Result<Vec<Entry>, Error> {
    let Some(handle) = session.map(generation.current(map)) else { return Ok(Vec::new()) };
    let entries = handle.entries()?;
    Ok(entries.into_iter().filter_map(|(key, value)| entry(map, key, &value)).collect())
}

fn entry(map: &Map, key: Vec<u8>, value: &[u8]) -> Option<Entry> {
    // An array's one value is there from the start.
    let (value, used) = match map.mark {
        Some(mark) => {
            let mark = mark as usize;
            let cpus = || value.chunks_exact(mark + 8);
            let values: Vec<u8> = cpus().flat_map(|cpu| cpu[..mark].to_vec()).collect();
            (Total::of(&map.value, &values), cpus().any(|cpu| cpu[mark..] != [0; 8]))
        }
        None => {
            let total = Total::of(&map.value, value);
            let used = !(map.array && total.is_untouched());
            (total, used)
        }
    };
    used.then_some(Entry { key, value })
}

/// Writes a map in the run's format.
pub(super) fn write(
    view: ScriptView<'_>,
    format: Format,
    map: &Map,
    entries: &mut Vec<Entry>,
    (top, div): (u32, u32),
    out: &mut Vec<u8>,
) {
    match format {
        Format::Text => view.map_text(map, entries, top, div, out),
        Format::Json => view.map_json(map, entries, top, div, out),
        Format::Csv => view.map_csv(map, entries, top, div, out),
    }
}

/// Removes every key; an array's value becomes zero.
pub(super) fn clear(session: &dyn Session, map: &Map, generation: &mut Generation) -> Result<(), Error> {
    let old = generation.current(map);
    generation.swap(session, map)?;
    clear_one(session, map, old)
}

/// Empties one of the two maps.
pub(super) fn clear_one(session: &dyn Session, map: &Map, id: MapId) -> Result<(), Error> {
    let Some(handle) = session.map(id) else { return Ok(()) };
    if map.array {
        return zero_all(handle, None);
    }
    for key in keys(handle)? {
        handle.delete(&key)?;
    }
    Ok(())
}

/// Sets every value to zero.
pub(super) fn zero(session: &dyn Session, map: &Map, generation: &Generation) -> Result<(), Error> {
    session.map(generation.current(map)).map_or(Ok(()), |handle| zero_all(handle, map.mark))
}

/// Zeroes all values, but for the u64 at `keep` of each.
fn zero_all(handle: &dyn MapHandle, keep: Option<u32>) -> Result<(), Error> {
    /// `BPF_EXIST`: a key that was deleted meanwhile does not come back.
    const EXIST: u64 = 2;
    let per_cpu = handle.facts().values_per_key > 1;
    for (key, value) in handle.entries()? {
        let mut zeroes = vec![0; value.len()];
        if let Some(mark) = keep.map(|mark| mark as usize) {
            for (to, from) in zeroes.chunks_exact_mut(mark + 8).zip(value.chunks_exact(mark + 8)) {
                to[mark..].copy_from_slice(&from[mark..]);
            }
        }
        if let Err(error) = handle.update(&key, &zeroes, EXIST)
            && (per_cpu || handle.lookup(&key)?.is_some())
        {
            return Err(error);
        }
    }
    Ok(())
}

fn keys(handle: &dyn MapHandle) -> Result<Vec<Vec<u8>>, Error> {
    Ok(handle.entries()?.into_iter().map(|(key, _): RawEntry| key).collect())
}

/// The value of one key; `None` when it is absent.
pub(super) fn element(session: &dyn Session, map: &Map, generation: &Generation, key: &[u8]) -> Option<Total> {
    let value = session.map(generation.current(map))?.lookup(key).ok()??;
    Some(Total::of(&map.value, &value))
}

/// Which of a map's two maps the programs use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Generation(bool);

impl Generation {
    /// The map that the programs use.
    pub(super) fn current(self, map: &Map) -> MapId {
        match map.other {
            Some((other, _)) if self.0 => other,
            _ => map.map,
        }
    }

    /// Lets the programs use the other map; nothing for a map that is only one.
    pub(super) fn swap(&mut self, session: &dyn Session, map: &Map) -> Result<(), Error> {
        let Some((_, Switch { map: data, off })) = map.other else { return Ok(()) };
        let Some(handle) = session.map(data) else { return Ok(()) };
        let key = 0u32.to_ne_bytes();
        // The data holds the switches of other maps too, but nobody else writes to it.
        if let Some(mut value) = handle.lookup(&key)?
            && let Some(place) = value.get_mut(off as usize..off as usize + 8)
        {
            self.0 = !self.0;
            place.copy_from_slice(&u64::from(self.0).to_ne_bytes());
            handle.update(&key, &value, 0)?;
            session.settle();
        }
        Ok(())
    }
}
