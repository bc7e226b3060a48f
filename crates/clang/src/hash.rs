//! Names for cache entries: a fast 128-bit hash.
//!
//! Two multiply-and-fold lanes with different constants over the same 8-byte words. It protects against accidents, not
//! against an enemy: whoever can write into the cache folder can replace the objects themselves, which is why
//! [`crate::cache`] takes only folders that belong to the caller. About 1 ms for a kernel's BTF.

use std::fmt;

/// A finished hash; prints as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Digest(u64, u64);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0, self.1)
    }
}

/// Collects parts; every part is closed by its length, so that `"ab", "c"` differs from `"a", "bc"`.
#[derive(Clone)]
pub(crate) struct Hasher(u64, u64);

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xd6e8_feb8_6659_fd93;

impl Hasher {
    pub(crate) fn new() -> Hasher {
        Hasher(A, B)
    }

    fn word(&mut self, word: u64) {
        let a = (self.0 ^ word).wrapping_mul(A);
        let b = (self.1 ^ word).wrapping_mul(B);
        self.0 = a ^ (a >> 32);
        self.1 = b ^ (b >> 29);
    }

    pub(crate) fn part(mut self, bytes: impl AsRef<[u8]>) -> Hasher {
        let bytes = bytes.as_ref();
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(u64::from_le_bytes(word.try_into().expect("chunks_exact(8) yields 8 bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.word(u64::from_le_bytes(last));
        self.word(bytes.len() as u64);
        self
    }

    pub(crate) fn finish(mut self) -> Digest {
        // Two more rounds, so that the last bytes reach every bit.
        self.word(1);
        self.word(2);
        Digest(self.0, self.1)
    }
}

/// The hash of one piece of data.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Hasher::new().part(bytes).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_together() {
        let ab_c = Hasher::new().part("ab").part("c").finish();
        assert_ne!(ab_c, Hasher::new().part("a").part("bc").finish());
        assert_ne!(ab_c, Hasher::new().part("abc").finish());
        assert_eq!(ab_c, Hasher::new().part("ab").part("c").finish());
    }

    #[test]
    fn every_byte_counts() {
        let base = digest(&[0; 100]);
        for i in 0..100 {
            let mut changed = [0; 100];
            changed[i] = 1;
            let changed = digest(&changed);
            assert!(changed.0 != base.0 && changed.1 != base.1, "byte {i} reaches both lanes");
        }
        assert_ne!(digest(&[0; 8]), digest(&[0; 9]));
    }
}
