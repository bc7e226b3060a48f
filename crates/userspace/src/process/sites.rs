//! The places where breakpoints are wanted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::mappings::Mapping;
use crate::probe::{FileId, Probe};

/// A place in a file, which is a place in the code of everybody who maps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    pub(crate) file: FileId,
    pub(crate) off_bytes: u64,
}

/// What is wanted of a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moments {
    pub(super) entry: bool,
    pub(super) ret: bool,
}

/// What is wanted of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfFile {
    /// By offset.
    pub(super) places: BTreeMap<u64, Moments>,
    /// Which probes each place is of, and whether at the return.
    names: BTreeMap<u64, Vec<(Arc<str>, bool)>>,
    /// Offsets of counters that tell the program that somebody looks.
    pub(super) semaphores: Vec<u64>,
}

/// Places of breakpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sites {
    files: HashMap<FileId, OfFile>,
}

impl Sites {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Adds those of a probe.
    pub(crate) fn add(&mut self, probe: &Probe) {
        let file = self.files.entry(probe.file).or_default();
        let name: Arc<str> = probe.described.as_str().into();
        for spot in &probe.spots {
            let moments = file.places.entry(spot.off_bytes).or_default();
            moments.entry |= probe.at_entry();
            moments.ret |= probe.at_return();
            file.names.entry(spot.off_bytes).or_default().push((Arc::clone(&name), probe.at_return()));
            file.semaphores.extend(spot.semaphore_off_bytes);
        }
        file.semaphores.sort_unstable();
        file.semaphores.dedup();
    }

    /// The probes that a place is of: all of them, or those at the return only.
    pub(super) fn names(&self, site: Site, returns: bool) -> Vec<Arc<str>> {
        let names = self.files.get(&site.file).and_then(|file| file.names.get(&site.off_bytes));
        names.into_iter().flatten().filter(|(_, ret)| *ret || !returns).map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Whether there is one at a place.
    pub(super) fn has(&self, site: Site) -> bool {
        self.files.get(&site.file).is_some_and(|file| file.places.contains_key(&site.off_bytes))
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.files.values().map(|file| file.places.len() as u64).sum()
    }

    /// Whether some of them tell the program that somebody looks.
    pub(super) fn have_semaphores(&self) -> bool {
        self.files.values().any(|file| !file.semaphores.is_empty())
    }

    /// What is wanted of the file that is mapped here.
    pub(super) fn of(&self, pid: u32, mapping: &Mapping) -> Option<(FileId, &OfFile)> {
        if mapping.file.inode == 0 {
            return None;
        }
        self.files.iter().find(|(id, _)| mapping.is_of(pid, **id)).map(|(id, file)| (*id, file))
    }
}
