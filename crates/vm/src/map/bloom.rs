//! `bloom_filter` (kernel/bpf/bloom_filter.c, Linux 6.18): whether a value was ever pushed, with some false yes.
//!
//! `n` entries and `h` hashes (5, unless the map's `extra` says so) make `n * h * 7 / 5` bits, rounded up to a power of two: what the
//! kernel takes, so the share of false answers is the same. Bits are atomics; nothing locks.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{MapError, MapSpec, Mode, Store};

#[derive(Debug)]
pub(crate) struct Bloom {
    bits: Box<[AtomicU64]>,
    hashes: u32,
    hasher: RandomState,
}

impl Bloom {
    pub(crate) fn new(spec: &MapSpec) -> Result<Bloom, MapError> {
        let bad_extra = spec.extra & !0xf != 0;
        if spec.key_size != 0 || spec.value_size == 0 || spec.max_entries == 0 || bad_extra {
            return Err(MapError::Invalid(
                "a bloom_filter has no keys, but values, at least one entry, and up to 15 hashes",
            ));
        }
        let hashes = if spec.extra == 0 { 5 } else { spec.extra as u32 };
        let bits = (u64::from(spec.max_entries) * u64::from(hashes) / 5 * 7).clamp(64, 1 << 32).next_power_of_two();
        Ok(Bloom { bits: (0..bits / 64).map(|_| AtomicU64::new(0)).collect(), hashes, hasher: RandomState::new() })
    }

    /// The words and bits of a value: as many as there are hashes, all from two (Kirsch and Mitzenmacher).
    fn places(&self, value: &[u8]) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let (first, step) = (self.hasher.hash_one(value), self.hasher.hash_one((value, 1)) | 1);
        let mask = self.bits.len() as u64 * 64 - 1;
        (0..self.hashes).map(move |round| {
            let bit = first.wrapping_add(step.wrapping_mul(round.into())) & mask;
            (&self.bits[bit as usize / 64], 1 << (bit % 64))
        })
    }
}

impl Store for Bloom {
    fn push(&self, value: &[u8], mode: Mode) -> Result<(), MapError> {
        if mode != Mode::Any {
            return Err(MapError::Invalid("values are pushed with the flag BPF_ANY"));
        }
        for (word, bit) in self.places(value) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    fn peek(&self, value: &[u8]) -> Result<Vec<u8>, MapError> {
        let there = self.places(value).all(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0);
        if there { Ok(value.to_vec()) } else { Err(MapError::NotFound) }
    }
}
