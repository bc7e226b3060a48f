//! `lpm_trie`: the longest prefix that covers a key (kernel/bpf/lpm_trie.c, Linux 6.18).
//!
//! A key is the length of a prefix in bits (`u32`), then its bytes, of which bits behind the length do not count. A lookup gives the
//! longest prefix, up to the key's own length, that the key starts with.
//!
//! # Order instead of a trie
//!
//! The prefixes are kept in the order in which the kernel's trie is walked for `next_key`: with a 0 bit before with a 1 bit, and whatever
//! continues a prefix before the prefix itself. In this order a prefix comes behind all that it covers. So the first one
//! at or behind a key is the answer, if it covers the key. If it does not, the two have `c` bits in common, and what covers the key
//! is not longer than `c`: look again for the key cut to `c` bits. Each round is a search in a balanced tree, and cuts a bit at least.
//!
//! Readers share a lock, writers have it alone. An update takes a new value, as in `hash`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::values::Values;
use super::{F_NO_PREALLOC, MapError, MapSpec, Mode, Store, Who};
use crate::Space;

/// Longest prefix, in bytes.
const MAX_BYTES: u32 = 256;

#[derive(Debug)]
pub(crate) struct LpmTrie {
    values: Values,
    max_entries: u32,
    max_bits: u32,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers of values, and the bytes that were given, which `next_key` gives back.
    prefixes: BTreeMap<Prefix, (u32, Vec<u8>)>,
    /// Numbers of values that were given back; those from `fresh` on were never used.
    free: Vec<u32>,
    fresh: u32,
}

/// Some bits; those behind them are zero.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prefix {
    bits: u32,
    bytes: Vec<u8>,
}

impl Prefix {
    fn new(bits: u32, bytes: &[u8]) -> Prefix {
        let whole = bits as usize / 8;
        let mut cut = vec![0; bytes.len()];
        cut[..whole].copy_from_slice(&bytes[..whole]);
        if !bits.is_multiple_of(8) {
            cut[whole] = bytes[whole] & !(0xff >> (bits % 8));
        }
        Prefix { bits, bytes: cut }
    }

    /// How many bits the two start with alike.
    fn common(&self, other: &Prefix) -> u32 {
        let differ = self.bytes.iter().zip(&other.bytes).position(|(one, two)| one != two);
        let common = differ.map_or(u32::MAX, |at| at as u32 * 8 + (self.bytes[at] ^ other.bytes[at]).leading_zeros());
        common.min(self.bits).min(other.bits)
    }
}

impl Ord for Prefix {
    fn cmp(&self, other: &Prefix) -> Ordering {
        let common = self.common(other);
        if common == self.bits || common == other.bits {
            return other.bits.cmp(&self.bits);
        }
        let bit = |prefix: &Prefix| prefix.bytes[common as usize / 8] << (common % 8) & 0x80;
        bit(self).cmp(&bit(other))
    }
}

impl PartialOrd for Prefix {
    fn partial_cmp(&self, other: &Prefix) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl State {
    fn longest(&self, mut key: Prefix) -> Option<u32> {
        loop {
            let (prefix, (value, _)) = self.prefixes.range(&key..).next()?;
            let common = prefix.common(&key);
            if common == prefix.bits {
                return Some(*value);
            }
            key = Prefix::new(common, &key.bytes);
        }
    }
}

impl LpmTrie {
    pub(crate) fn new(spec: &MapSpec, space: &Arc<Space>) -> Result<LpmTrie, MapError> {
        let bytes = spec.key_size.checked_sub(4).filter(|bytes| (1..=MAX_BYTES).contains(bytes));
        let Some(bytes) = bytes.filter(|_| spec.max_entries != 0 && spec.value_size != 0) else {
            return Err(MapError::Invalid(
                "keys of an lpm_trie are a u32 and 1 to 256 bytes; it has values and entries",
            ));
        };
        if spec.flags & F_NO_PREALLOC == 0 {
            return Err(MapError::Invalid("an lpm_trie needs the flag BPF_F_NO_PREALLOC"));
        }
        let count = spec.max_entries.checked_add(1).ok_or(MapError::Full)?;
        let values = Values::new(space, count, spec.value_size, 1, spec.programs_write())?;
        Ok(LpmTrie { values, max_entries: spec.max_entries, max_bits: bytes * 8, state: RwLock::default() })
    }

    fn prefix(&self, key: &[u8]) -> Option<Prefix> {
        let (bits, bytes) = key.split_first_chunk::<4>()?;
        let bits = u32::from_ne_bytes(*bits);
        (bits <= self.max_bits).then(|| Prefix::new(bits, bytes))
    }

    fn index(&self, key: &[u8]) -> Option<u32> {
        let key = self.prefix(key)?;
        self.state.read().unwrap_or_else(PoisonError::into_inner).longest(key)
    }
}

impl Store for LpmTrie {
    fn find(&self, key: &[u8], _: u32) -> Option<u64> {
        self.values.addr(self.index(key)?, 0)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        Ok(self.index(key).map(|index| self.values.read(index, false)))
    }

    fn set(&self, key: &[u8], value: &[u8], mode: Mode, who: Who) -> Result<(), MapError> {
        let prefix = self.prefix(key).ok_or(MapError::Invalid("the prefix is longer than the key"))?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let old = state.prefixes.get(&prefix).map(|(index, _)| *index);
        match (old, mode) {
            (Some(_), Mode::NoExist) => return Err(MapError::Exists),
            (None, Mode::Exist) => return Err(MapError::NotFound),
            (None, _) if state.prefixes.len() as u64 >= u64::from(self.max_entries) => return Err(MapError::NoSpace),
            _ => {}
        }
        let index = state.free.pop().unwrap_or(state.fresh);
        state.fresh = state.fresh.max(index + 1);
        self.values.write(index, value, false, who, true);
        // The key stays in place if it is there; its bytes behind the length may be others.
        state.prefixes.insert(prefix, (index, key.to_vec()));
        state.free.extend(old);
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<(), MapError> {
        let prefix = self.prefix(key).ok_or(MapError::Invalid("the prefix is longer than the key"))?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let (index, _) = state.prefixes.remove(&prefix).ok_or(MapError::NotFound)?;
        state.free.push(index);
        Ok(())
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let behind = key.and_then(|key| self.prefix(key)).filter(|prefix| state.prefixes.contains_key(prefix));
        let next = match behind {
            Some(prefix) => state.prefixes.range(prefix..).nth(1),
            None => state.prefixes.iter().next(),
        };
        Ok(next.map(|(_, (_, key))| key.clone()))
    }
}
