//! The table behind every map that finds elements by a hash: from keys to the numbers of elements.
//!
//! # Layout
//!
//! There is a fixed number of elements. A bucket is a list of elements, linked by their numbers plus one (0 ends it); an element has
//! its hash, its key in words of 8 bytes, the next of its list, and a version. Everything is an atomic, so there is no
//! unsafe code; none of it is in the programs' memory.
//!
//! # Concurrency
//!
//! Writers hold one lock. Readers take none. An element that is taken out keeps its key and its next, so a reader that stands on
//! it comes back to its list. But its number is used again, maybe in another list. So a reader takes what it reads of an
//! element only if the version was even before and is the same after it (a writer that fills an element makes it odd
//! meanwhile), and if the hash belongs to the bucket; else it starts anew. After some attempts it takes the lock.
//!
//! Hence a lookup finds a key that was there all the time, and never one with another key. What it found may be taken out by the
//! time that it is used: then its value is that of the old element or, later, of the next one that gets the number; the kernel
//! makes the same promise for maps whose elements are allocated beforehand (kernel/bpf/hashtab.c, Linux 6.18).
//!
//! Compiled code reads in the same way ([`Places`]), as far as the first elements of a list; for the others it asks [`Table::find_words`].

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often a reader starts anew before it takes the lock.
const ATTEMPTS: usize = 16;

#[derive(Debug)]
pub(crate) struct Table {
    key_size: usize,
    words: usize,
    heads: Box<[AtomicU32]>,
    nodes: Box<[Node]>,
    keys: Box<[AtomicU64]>,
    /// What nobody else knows, for two words of a key.
    seeds: [u64; 2],
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
#[repr(C)]
struct Node {
    next: AtomicU32,
    hash: AtomicU32,
    version: AtomicU32,
    live: AtomicBool,
    /// Found by a program since the hand of an LRU map came by.
    used: AtomicBool,
}

/// What the last word of a key with an odd number of them is multiplied by.
pub(crate) const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where compiled code finds what a table has. The boxes stay where they are as long as the table.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    pub(crate) seeds: [u64; 2],
    /// Addresses of the first head (numbers of 4 bytes), of the first element, and of its key.
    pub(crate) heads: u64,
    pub(crate) nodes: u64,
    pub(crate) keys: u64,
    /// The bits of a hash that say which head is meant.
    pub(crate) mask: u32,
}

/// Where the fields of an element are.
#[cfg(target_arch = "x86_64")]
impl Places {
    pub(crate) const NODE_BYTES: usize = size_of::<Node>();
    pub(crate) const NEXT: usize = std::mem::offset_of!(Node, next);
    pub(crate) const HASH: usize = std::mem::offset_of!(Node, hash);
    pub(crate) const VERSION: usize = std::mem::offset_of!(Node, version);
    pub(crate) const USED: usize = std::mem::offset_of!(Node, used);
}

/// What only writers use.
#[derive(Debug)]
struct Writer {
    /// Elements that were given back.
    free: Vec<u32>,
    /// Elements from here on were never used.
    fresh: u32,
    live: u32,
    /// Where an LRU map goes on to look for something to drop.
    hand: u32,
}

/// A key as words, with its hash.
pub(crate) struct Key {
    short: [u64; 4],
    long: Vec<u64>,
    hash: u32,
    len: usize,
}

impl Key {
    fn words(&self) -> &[u64] {
        if self.long.is_empty() { &self.short[..self.len] } else { &self.long }
    }
}

/// An element as somebody saw it, to tell later whether it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) index: u32,
    version: u32,
}

impl Table {
    /// Room for `count` elements.
    pub(crate) fn new(key_size: u32, count: u32) -> Table {
        let words = (key_size as usize).div_ceil(8);
        let buckets = (count as usize).next_power_of_two();
        Table {
            key_size: key_size as usize,
            words,
            heads: (0..buckets).map(|_| AtomicU32::new(0)).collect(),
            nodes: (0..count).map(|_| Node::default()).collect(),
            keys: (0..words * count as usize).map(|_| AtomicU64::new(0)).collect(),
            seeds: [0, 1].map(|which| RandomState::new().hash_one(which)),
            writer: Mutex::new(Writer { free: Vec::new(), fresh: 0, live: 0, hand: 0 }),
        }
    }

    pub(crate) fn key(&self, bytes: &[u8]) -> Key {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        };
        let mut key = Key { short: [0; 4], long: Vec::new(), hash: 0, len: self.words };
        if self.words <= key.short.len() {
            for (to, chunk) in key.short.iter_mut().zip(bytes.chunks(8)) {
                *to = word(chunk);
            }
        } else {
            key.long = bytes.chunks(8).map(word).collect();
        }
        key.hash = self.hash(key.words());
        key
    }

    #[cfg(target_arch = "x86_64")]
    pub(crate) fn places(&self) -> Places {
        Places {
            seeds: self.seeds,
            heads: self.heads.as_ptr().expose_provenance() as u64,
            nodes: self.nodes.as_ptr().expose_provenance() as u64,
            keys: self.keys.as_ptr().expose_provenance() as u64,
            mask: (self.heads.len() - 1) as u32,
        }
    }

    /// Multiply and fold, two words at once; the seeds keep others from choosing keys that collide.
    #[inline(always)]
    fn hash(&self, words: &[u64]) -> u32 {
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product as u64) ^ (product >> 64) as u64
        };
        let [mut hash, other] = self.seeds;
        let (pairs, rest) = words.as_chunks::<2>();
        for [first, second] in pairs {
            hash = fold(hash ^ first, other ^ second);
        }
        for word in rest {
            hash = fold(hash ^ word, MULTIPLIER);
        }
        (hash >> 32) as u32
    }

    fn bucket(&self, hash: u32) -> &AtomicU32 {
        &self.heads[hash as usize & (self.heads.len() - 1)]
    }

    fn key_words(&self, index: u32) -> &[AtomicU64] {
        &self.keys[index as usize * self.words..][..self.words]
    }

    fn has_key(&self, index: u32, key: &Key) -> bool {
        self.key_words(index).iter().zip(key.words()).all(|(has, wanted)| has.load(Ordering::Relaxed) == *wanted)
    }

    /// The element with a key.
    #[inline]
    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        for _ in 0..ATTEMPTS {
            if let Ok(found) = self.try_find(key.hash, |index| self.has_key(index, key)) {
                return found;
            }
        }
        self.lock().find(key)
    }

    /// As [`Table::find`], for a key of some whole words.
    #[inline]
    pub(crate) fn find_words<const WORDS: usize>(&self, words: [u64; WORDS]) -> Option<u32> {
        let hash = self.hash(&words);
        let has_key = |index: u32| {
            let has = self.keys.get(index as usize * WORDS..).and_then(<[AtomicU64]>::first_chunk::<WORDS>);
            has.is_some_and(|has| (0..WORDS).all(|word| has[word].load(Ordering::Relaxed) == words[word]))
        };
        if let Ok(found) = self.try_find(hash, has_key) {
            return found;
        }
        self.find(&self.key(words.map(u64::to_ne_bytes).as_flattened()))
    }

    #[inline(always)]
    fn try_find(&self, key_hash: u32, has_key: impl Fn(u32) -> bool) -> Result<Option<u32>, ()> {
        let mask = self.heads.len() - 1;
        let mut link = self.bucket(key_hash).load(Ordering::Acquire);
        let mut steps = 0;
        while let Some(index) = link.checked_sub(1) {
            let node = &self.nodes[index as usize];
            let version = node.version.load(Ordering::Acquire);
            let hash = node.hash.load(Ordering::Relaxed);
            let next = node.next.load(Ordering::Acquire);
            let found = hash == key_hash && has_key(index);
            fence(Ordering::Acquire);
            let same = version & 1 == 0 && node.version.load(Ordering::Relaxed) == version;
            // A list is never longer than all elements; one that seems so is being rearranged.
            steps += 1;
            if !same || (hash ^ key_hash) as usize & mask != 0 || steps > self.nodes.len() {
                return Err(());
            }
            if found {
                return Ok(Some(index));
            }
            link = next;
        }
        Ok(None)
    }

    /// Remembers that a program found the element.
    #[inline]
    pub(crate) fn mark_used(&self, index: u32) {
        let used = &self.nodes[index as usize].used;
        if !used.load(Ordering::Relaxed) {
            used.store(true, Ordering::Relaxed);
        }
    }

    /// The bytes of an element's key.
    pub(crate) fn key_bytes(&self, index: u32) -> Vec<u8> {
        let words = self.key_words(index).iter().map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        words.flatten().take(self.key_size).collect()
    }

    pub(crate) fn buckets(&self) -> usize {
        self.heads.len()
    }

    /// Whether it is the element that somebody saw.
    pub(crate) fn is_still(&self, seen: Seen) -> bool {
        let node = &self.nodes[seen.index as usize];
        node.live.load(Ordering::Acquire) && node.version.load(Ordering::Acquire) == seen.version
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        Locked { table: self, writer: self.writer.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// The table, while nobody else writes.
pub(crate) struct Locked<'a> {
    table: &'a Table,
    writer: MutexGuard<'a, Writer>,
}

impl Locked<'_> {
    pub(crate) fn live(&self) -> u32 {
        self.writer.live
    }

    /// The elements of a bucket.
    pub(crate) fn members(&self, bucket: usize) -> Vec<Seen> {
        let mut members = Vec::new();
        let mut link = self.table.heads[bucket].load(Ordering::Relaxed);
        while let Some(index) = link.checked_sub(1) {
            let node = &self.table.nodes[index as usize];
            members.push(Seen { index, version: node.version.load(Ordering::Relaxed) });
            link = node.next.load(Ordering::Relaxed);
        }
        members
    }

    pub(crate) fn find(&self, key: &Key) -> Option<u32> {
        let mut link = self.table.bucket(key.hash).load(Ordering::Relaxed);
        while let Some(index) = link.checked_sub(1) {
            let node = &self.table.nodes[index as usize];
            if node.hash.load(Ordering::Relaxed) == key.hash && self.table.has_key(index, key) {
                return Some(index);
            }
            link = node.next.load(Ordering::Relaxed);
        }
        None
    }

    /// An element that nobody has; to be given to [`Locked::link`] or [`Locked::give_back`].
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(index) = self.writer.free.pop() {
            return Some(index);
        }
        let index = self.writer.fresh;
        let there = (index as usize) < self.table.nodes.len();
        self.writer.fresh += u32::from(there);
        there.then_some(index)
    }

    pub(crate) fn give_back(&mut self, index: u32) {
        self.writer.free.push(index);
    }

    /// Gives a taken element its key and puts it in front of its list.
    pub(crate) fn link(&mut self, index: u32, key: &Key) {
        let node = &self.table.nodes[index as usize];
        let head = self.table.bucket(key.hash);
        let version = node.version.load(Ordering::Relaxed);
        node.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        node.hash.store(key.hash, Ordering::Relaxed);
        for (to, word) in self.table.key_words(index).iter().zip(key.words()) {
            to.store(*word, Ordering::Relaxed);
        }
        node.next.store(head.load(Ordering::Relaxed), Ordering::Relaxed);
        node.used.store(false, Ordering::Relaxed);
        node.live.store(true, Ordering::Relaxed);
        node.version.store(version.wrapping_add(2), Ordering::Release);
        head.store(index + 1, Ordering::Release);
        self.writer.live += 1;
    }

    /// Takes an element out of its list and gives it back.
    pub(crate) fn unlink(&mut self, index: u32) {
        let node = &self.table.nodes[index as usize];
        let next = node.next.load(Ordering::Relaxed);
        let mut place = self.table.bucket(node.hash.load(Ordering::Relaxed));
        while let Some(at) = place.load(Ordering::Relaxed).checked_sub(1) {
            if at == index {
                place.store(next, Ordering::Release);
                node.live.store(false, Ordering::Release);
                self.writer.live -= 1;
                self.give_back(index);
                return;
            }
            place = &self.table.nodes[at as usize].next;
        }
        debug_assert!(false, "a live element is in its list");
    }

    /// Takes out an element that was not used for long: a hand goes round over all elements, spares those that were used since it
    /// came by last, and takes the first other one.
    pub(crate) fn evict(&mut self) {
        let count = self.table.nodes.len() as u32;
        // After one round nothing counts as used any more.
        for _ in 0..2 * u64::from(count) + 1 {
            let index = self.writer.hand;
            self.writer.hand = (index + 1) % count;
            let node = &self.table.nodes[index as usize];
            if node.live.load(Ordering::Relaxed) && !node.used.swap(false, Ordering::Relaxed) {
                return self.unlink(index);
            }
        }
    }

    /// The key behind a key: the first of all for none, and for one that is not there.
    pub(crate) fn next_key(&self, key: Option<&Key>) -> Option<Vec<u8>> {
        let from = key.and_then(|key| self.find(key));
        let mut bucket = 0;
        if let Some(index) = from {
            let node = &self.table.nodes[index as usize];
            if let Some(next) = node.next.load(Ordering::Relaxed).checked_sub(1) {
                return Some(self.table.key_bytes(next));
            }
            bucket = (node.hash.load(Ordering::Relaxed) as usize & (self.table.heads.len() - 1)) + 1;
        }
        let link =
            self.table.heads[bucket..].iter().map(|head| head.load(Ordering::Relaxed)).find(|link| *link != 0)?;
        Some(self.table.key_bytes(link - 1))
    }
}
