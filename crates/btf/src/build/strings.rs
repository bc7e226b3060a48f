//! The string section while it is built: every string once.

use crate::{Btf, Error};

/// Strings by offset, with a hash table of offsets (open addressing, 0 is a free slot: the empty string needs none).
#[derive(Clone, Debug)]
pub(super) struct Strings {
    bytes: Vec<u8>,
    /// What comes before the own strings; its strings are used where they fit.
    base: Option<Btf>,
    first: u32,
    slots: Vec<u32>,
    used: usize,
}

impl Strings {
    pub(super) fn new(base: Option<Btf>) -> Strings {
        let first = base.as_ref().map_or(0, Btf::strings_len);
        // The empty string at offset 0, which a split BTF takes from its base.
        let bytes = if base.is_some() { Vec::new() } else { vec![0] };
        let mut strings = Strings { bytes, base, first, slots: vec![0; 64], used: 0 };
        let mut chain = Vec::new();
        let mut next = strings.base.clone();
        while let Some(base) = next {
            next = base.base().cloned();
            chain.push(base);
        }
        for base in chain.iter().rev() {
            strings.learn(base.first_string(), base.string_bytes_own());
        }
        strings
    }

    /// Takes over the string section of a BTF, offsets and all.
    pub(super) fn load(&mut self, bytes: &[u8]) {
        self.bytes = bytes.to_vec();
        if self.first == 0 && self.bytes.is_empty() {
            self.bytes.push(0);
        }
        // Only whole strings are entered; an offset into the middle of one stays valid all the same.
        self.learn(self.first, bytes);
    }

    fn learn(&mut self, first: u32, bytes: &[u8]) {
        let mut start = 0;
        while let Some(len) = bytes[start..].iter().position(|&byte| byte == 0) {
            let off = first + start as u32;
            if len != 0 && off != 0 {
                let text = &bytes[start..start + len];
                if let Err(slot) = self.lookup(text) {
                    self.enter(slot, off);
                }
            }
            start += len + 1;
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn get(&self, off: u32) -> Option<&[u8]> {
        if off < self.first {
            return self.base.as_ref()?.string_bytes(off).ok();
        }
        crate::raw::cstr_at(&self.bytes, (off - self.first) as usize)
    }

    /// The offset of the string, or the free slot where it belongs.
    fn lookup(&self, text: &[u8]) -> Result<u32, usize> {
        let mask = self.slots.len() - 1;
        let mut slot = hash(text) & mask;
        loop {
            match self.slots[slot] {
                0 => return Err(slot),
                off if self.get(off) == Some(text) => return Ok(off),
                _ => slot = (slot + 1) & mask,
            }
        }
    }

    /// The offset of the string, when it is there.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        if text.is_empty() { Some(0) } else { self.lookup(text).ok() }
    }

    fn enter(&mut self, slot: usize, off: u32) {
        self.slots[slot] = off;
        self.used += 1;
        if self.used * 2 > self.slots.len() {
            let old = std::mem::take(&mut self.slots);
            self.slots = vec![0; old.len() * 2];
            let mask = self.slots.len() - 1;
            for off in old.into_iter().filter(|&off| off != 0) {
                let mut slot = hash(self.get(off).unwrap_or_default()) & mask;
                while self.slots[slot] != 0 {
                    slot = (slot + 1) & mask;
                }
                self.slots[slot] = off;
            }
        }
    }

    /// The offset of the string, which is added when it is new. What follows a NUL is left out.
    pub(super) fn add(&mut self, text: &[u8]) -> Result<u32, Error> {
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        if text.is_empty() {
            return Ok(0);
        }
        let slot = match self.lookup(text) {
            Ok(off) => return Ok(off),
            Err(slot) => slot,
        };
        let off = u64::from(self.first) + self.bytes.len() as u64;
        if off + text.len() as u64 >= u64::from(u32::MAX) {
            return Err(Error::TooBig { what: "more than 4 GiB of strings" });
        }
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        self.enter(slot, off as u32);
        Ok(off as u32)
    }
}

fn hash(text: &[u8]) -> usize {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for &byte in text {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    (hash ^ hash >> 32) as usize
}
