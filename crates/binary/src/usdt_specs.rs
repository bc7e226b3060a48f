//! Descriptions of USDT arguments in the map that programs look into.
//!
//! A program that uses `usdt.bpf.h` has a map `__bpf_usdt_specs`, into which goes one description for each different way in which the
//! places of its probes keep their arguments; a place's cookie is the number of its description.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use skep_engine::Error;

use crate::usdt::Site;
use crate::usdt_args::{Args, Machine, SPEC_LEN_BYTES};

/// Which places of an object's `__bpf_usdt_specs` are taken. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct UsdtIds {
    taken: Arc<Mutex<BTreeSet<u32>>>,
}

impl UsdtIds {
    /// The lowest free place below `limit`, until the lease is dropped.
    fn take(&self, limit: u32) -> Option<Lease> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (0..limit).find(|id| !taken.contains(id))?;
        taken.insert(id);
        Some(Lease { ids: self.clone(), id })
    }
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub struct Lease {
    ids: UsdtIds,
    id: u32,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ids.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// What became of the places of a probe.
#[derive(Debug)]
pub struct Described {
    /// The number for each place, in their order.
    pub ids: Vec<u32>,
    /// What has to be kept while the probe is attached.
    pub leases: Vec<Lease>,
    /// Arguments that programs cannot read, for people.
    pub notes: BTreeSet<String>,
}

/// Writes the descriptions, one for each different one. `shape` is the bytes of a value and the number of entries of the map, `cookie` what
/// the program reads with `bpf_usdt_cookie`.
///
/// # Errors
///
/// When the map is another one or is full, the architecture's registers are not known, or `write` fails.
pub fn describe(
    ids: &UsdtIds,
    shape: (usize, u32),
    cookie: u64,
    sites: &[Site],
    mut write: impl FnMut(u32, &[u8; SPEC_LEN_BYTES]) -> Result<(), Error>,
) -> Result<Described, Error> {
    let (value_len, limit) = shape;
    let machine =
        Machine::host().ok_or_else(|| Error::new("the arguments of USDT probes are not known on this architecture"))?;
    if value_len != SPEC_LEN_BYTES {
        return Err(Error::new(format!(
            "its map `__bpf_usdt_specs` has values of {value_len} bytes, and {SPEC_LEN_BYTES} are meant"
        )));
    }
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut out = Described { ids: Vec::with_capacity(sites.len()), leases: Vec::new(), notes: BTreeSet::new() };
    for site in sites {
        if let Some(id) = numbers.get(site.args.as_str()) {
            out.ids.push(*id);
            continue;
        }
        let lease = ids.take(limit).ok_or_else(|| {
            Error::new(format!("its map `__bpf_usdt_specs` has no room for more than {limit} descriptions"))
                .with_hint("define BPF_USDT_MAX_SPEC_CNT before including `usdt.bpf.h`")
        })?;
        let args = Args::parse(machine, &site.args);
        out.notes.extend(args.unusable.iter().map(|arg| format!("{}:{}: {arg}", site.provider, site.name)));
        write(lease.id, &args.encode(cookie))?;
        numbers.insert(&site.args, lease.id);
        out.ids.push(lease.id);
        out.leases.push(lease);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_after_its_lease() {
        let ids = UsdtIds::default();
        let first = ids.take(2).unwrap();
        let second = ids.take(2).unwrap();
        assert_eq!((first.id, second.id), (0, 1));
        assert!(ids.take(2).is_none());
        drop(first);
        assert_eq!(ids.take(2).map(|lease| lease.id), Some(0));
    }
}
