//! The table behind every map that finds elements by a hash: from keys to elements.
//!
//! # Layout
//!
//! There is a fixed number of elements, each of some words of 8 bytes, which lie behind each other in one piece, so that a lookup reads one
//! place of memory for each element that it looks at:
//!
//! | word | lower half | upper half |
//! |---|---|---|
//! | 0 | the next element of its list | its hash |
//! | 1 | its version | whether it is in a list, whether a program found it |
//! | 2 | what the owner of the table has put there, once and for all | |
//! | from 3 | its key | |
//!
//! A bucket is a list of elements; it is chosen by the upper bits of a hash. An [`Element`] is said by the number of its first word. 0 ends a
//! list: in place of an element the first words have a version that never is even, so compiled code need not ask for the end before it
//! looks at the version. Everything is an atomic, so there is no unsafe code; none of it is in the programs' memory.
//!
//! # Concurrency
//!
//! Writers hold one lock. Readers take none. An element that is taken out keeps its key and its next, so a reader that stands on
//! it comes back to its list. But it is used again, maybe in another list. So a reader takes what it reads of an
//! element only if the version was even before and is the same after it (a writer that fills an element makes it odd
//! meanwhile), and if the hash belongs to the bucket; else it starts anew. After some attempts it takes the lock.
//!
//! Hence a lookup finds a key that was there all the time, and never one with another key. What it found may be taken out by the
//! time that it is used: then its value is that of the old element or, later, of the next key that gets the element; the kernel
//! makes the same promise for maps whose elements are allocated beforehand (kernel/bpf/hashtab.c, Linux 6.18).
//!
//! Compiled code reads in the same way ([`Places`]), as far as the first elements of a list; for the others it asks [`Table::find_words`].

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::MapError;

/// How often a reader starts anew before it takes the lock.
const ATTEMPTS: usize = 16;

/// Most words of all elements: where one begins is said in 32 bits.
const MAX_WORDS: u64 = u32::MAX as u64;

/// Words of an element before its key.
const HEADER: usize = 3;
/// Of the second word: whether the element is in a list.
const LIVE: u64 = 1 << 32;
/// Of the second word: whether it was found by a program since the hand of an LRU map came by.
const USED: u64 = 1 << 40;

/// An element: where its words begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element(NonZeroU32);

#[derive(Debug)]
pub(crate) struct Table {
    key_size: usize,
    /// Words of an element.
    stride: usize,
    heads: Box<[AtomicU32]>,
    /// How many bits of a hash do not choose a head.
    shift: u32,
    /// All elements, behind the words that stand for none.
    words: Box<[AtomicU64]>,
    /// What nobody else knows, for two words of a key.
    seeds: [u64; 2],
    writer: Mutex<Writer>,
}

/// The words of an element.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [AtomicU64]);

impl<'a> Words<'a> {
    /// The next of the list, and the hash.
    fn link(self) -> &'a AtomicU64 {
        &self.0[0]
    }

    /// The version, and the flags.
    fn state(self) -> &'a AtomicU64 {
        &self.0[1]
    }

    fn next(self) -> u32 {
        self.link().load(Ordering::Relaxed) as u32
    }

    fn hash(self) -> u32 {
        (self.link().load(Ordering::Relaxed) >> 32) as u32
    }

    fn version(self) -> u32 {
        self.state().load(Ordering::Relaxed) as u32
    }

    fn key(self) -> &'a [AtomicU64] {
        &self.0[HEADER..]
    }

    fn has_key(self, words: &[u64]) -> bool {
        self.key().iter().zip(words).all(|(has, wanted)| has.load(Ordering::Relaxed) == *wanted)
    }
}

/// What the last word of a key with an odd number of them is multiplied by.
pub(crate) const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where compiled code finds what a table has. The boxes stay where they are as long as the table.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Places {
    pub(crate) seeds: [u64; 2],
    /// Addresses of the first head (numbers of 4 bytes), and of the words of the elements.
    pub(crate) heads: u64,
    pub(crate) words: u64,
    /// How many of the upper bits of a hash of 64 bits say which head is meant.
    pub(crate) head_bits: u8,
}

/// Where the parts of an element are, in bytes.
#[cfg(target_arch = "x86_64")]
impl Places {
    pub(crate) const LINK: i32 = 0;
    pub(crate) const VERSION: i32 = 8;
    pub(crate) const USED: i32 = 13;
    pub(crate) const OWN: i32 = 16;
    pub(crate) const KEY: i32 = 8 * HEADER as i32;
}

/// What only writers use.
#[derive(Debug)]
struct Writer {
    /// Elements that were given back.
    free: Vec<Element>,
    /// From here on words were never used.
    fresh: u32,
    live: u32,
    /// The element where an LRU map goes on to look for something to drop.
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
    pub(crate) element: Element,
    version: u32,
}

impl Table {
    /// Room for `count` elements; `own` says what the owner wants to find at the one with a number, counted from 0.
    pub(crate) fn new(key_size: u32, count: u32, own: impl Fn(u32) -> u64) -> Result<Table, MapError> {
        let stride = HEADER + (key_size as usize).div_ceil(8);
        if (u64::from(count) + 1).saturating_mul(stride as u64) > MAX_WORDS {
            return Err(MapError::NoMemory);
        }
        let buckets = (count as usize).next_power_of_two();
        let words: Box<[AtomicU64]> = (0..stride * (count as usize + 1)).map(|_| AtomicU64::new(0)).collect();
        let mut elements = words.chunks(stride).map(Words);
        if let Some(none) = elements.next() {
            none.state().store(1, Ordering::Relaxed);
        }
        for (number, element) in (0..count).zip(elements) {
            element.0[2].store(own(number), Ordering::Relaxed);
        }
        let first = stride as u32;
        Ok(Table {
            key_size: key_size as usize,
            stride,
            heads: (0..buckets).map(|_| AtomicU32::new(0)).collect(),
            shift: 32 - buckets.trailing_zeros(),
            words,
            seeds: [0, 1].map(|which| RandomState::new().hash_one(which)),
            writer: Mutex::new(Writer { free: Vec::new(), fresh: first, live: 0, hand: first }),
        })
    }

    pub(crate) fn key(&self, bytes: &[u8]) -> Key {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        };
        let len = self.stride - HEADER;
        let mut key = Key { short: [0; 4], long: Vec::new(), hash: 0, len };
        if len <= key.short.len() {
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
            words: self.words.as_ptr().expose_provenance() as u64,
            head_bits: self.heads.len().trailing_zeros() as u8,
        }
    }

    /// Multiply and fold, two words at once; the seeds keep others from choosing keys that collide. Heads are chosen by the upper bits of
    /// what is folded. Those of a product with a seed hardly differ for numbers that are counted, if the seed is an unlucky one, so the lowest
    /// byte of the product's upper half is folded over them; [`MULTIPLIER`] is none.
    #[inline(always)]
    fn hash(&self, words: &[u64]) -> u32 {
        let product = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product as u64, (product >> 64) as u64)
        };
        let [mut hash, other] = self.seeds;
        let (pairs, rest) = words.as_chunks::<2>();
        for [first, second] in pairs {
            let (low, high) = product(hash ^ first, other ^ second);
            hash = low ^ high.swap_bytes();
        }
        for word in rest {
            let (low, high) = product(hash ^ word, MULTIPLIER);
            hash = low ^ high;
        }
        (hash >> 32) as u32
    }

    fn bucket_of(&self, hash: u32) -> usize {
        (u64::from(hash) >> self.shift) as usize
    }

    fn bucket(&self, hash: u32) -> &AtomicU32 {
        &self.heads[self.bucket_of(hash)]
    }

    fn words(&self, element: Element) -> Words<'_> {
        Words(&self.words[element.0.get() as usize..][..self.stride])
    }

    /// What the owner has put there.
    #[inline]
    pub(crate) fn own(&self, element: Element) -> u64 {
        self.words(element).0[2].load(Ordering::Relaxed)
    }

    /// The number of an element.
    pub(crate) fn number(&self, element: Element) -> u32 {
        element.0.get() / self.stride as u32 - 1
    }

    /// The element with a number.
    pub(crate) fn element(&self, number: u32) -> Option<Element> {
        let at = (number as usize).checked_add(1)?.checked_mul(self.stride).filter(|at| *at < self.words.len())?;
        u32::try_from(at).ok().and_then(linked)
    }

    /// The element with a key.
    #[inline]
    pub(crate) fn find(&self, key: &Key) -> Option<Element> {
        for _ in 0..ATTEMPTS {
            if let Ok(found) = self.try_find(key.hash, |element| element.has_key(key.words())) {
                return found;
            }
        }
        self.lock().find(key)
    }

    /// As [`Table::find`], for a key of some whole words.
    #[inline]
    pub(crate) fn find_words<const WORDS: usize>(&self, words: [u64; WORDS]) -> Option<Element> {
        if let Ok(found) = self.try_find(self.hash(&words), |element| element.has_key(&words)) {
            return found;
        }
        self.find(&self.key(words.map(u64::to_ne_bytes).as_flattened()))
    }

    #[inline(always)]
    fn try_find(&self, key_hash: u32, has_key: impl Fn(Words<'_>) -> bool) -> Result<Option<Element>, ()> {
        let bucket = self.bucket_of(key_hash);
        let mut link = self.heads[bucket].load(Ordering::Acquire);
        let mut rest = self.words.len() / self.stride;
        while let Some(element) = linked(link) {
            let words = self.words(element);
            let version = words.state().load(Ordering::Acquire) as u32;
            let linked = words.link().load(Ordering::Acquire);
            let hash = (linked >> 32) as u32;
            let found = hash == key_hash && has_key(words);
            fence(Ordering::Acquire);
            let same = version & 1 == 0 && words.version() == version;
            // A list is never longer than all elements; one that seems so is being rearranged.
            rest -= 1;
            if !same || self.bucket_of(hash) != bucket || rest == 0 {
                return Err(());
            }
            if found {
                return Ok(Some(element));
            }
            link = linked as u32;
        }
        Ok(None)
    }

    /// Remembers that a program found the element.
    #[inline]
    pub(crate) fn mark_used(&self, element: Element) {
        let state = self.words(element).state();
        if state.load(Ordering::Relaxed) & USED == 0 {
            state.fetch_or(USED, Ordering::Relaxed);
        }
    }

    /// The bytes of an element's key.
    pub(crate) fn key_bytes(&self, element: Element) -> Vec<u8> {
        let words = self.words(element).key().iter().map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
        words.flatten().take(self.key_size).collect()
    }

    pub(crate) fn buckets(&self) -> usize {
        self.heads.len()
    }

    /// Whether it is the element that somebody saw.
    pub(crate) fn is_still(&self, seen: Seen) -> bool {
        let state = self.words(seen.element).state().load(Ordering::Acquire);
        state & LIVE != 0 && state as u32 == seen.version
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
        while let Some(element) = linked(link) {
            let words = self.table.words(element);
            members.push(Seen { element, version: words.version() });
            link = words.next();
        }
        members
    }

    pub(crate) fn find(&self, key: &Key) -> Option<Element> {
        let mut link = self.table.bucket(key.hash).load(Ordering::Relaxed);
        while let Some(element) = linked(link) {
            let words = self.table.words(element);
            if words.hash() == key.hash && words.has_key(key.words()) {
                return Some(element);
            }
            link = words.next();
        }
        None
    }

    /// An element that nobody has; to be given to [`Locked::link`] or [`Locked::give_back`].
    pub(crate) fn take(&mut self) -> Option<Element> {
        if let Some(element) = self.writer.free.pop() {
            return Some(element);
        }
        let fresh = self.writer.fresh;
        if fresh as usize == self.table.words.len() {
            return None;
        }
        self.writer.fresh += self.table.stride as u32;
        linked(fresh)
    }

    pub(crate) fn give_back(&mut self, element: Element) {
        self.writer.free.push(element);
    }

    /// Gives a taken element its key and puts it in front of its list.
    pub(crate) fn link(&mut self, element: Element, key: &Key) {
        let words = self.table.words(element);
        let head = self.table.bucket(key.hash);
        let version = words.version();
        words.state().store(version.wrapping_add(1).into(), Ordering::Relaxed);
        fence(Ordering::Release);
        for (to, word) in words.key().iter().zip(key.words()) {
            to.store(*word, Ordering::Relaxed);
        }
        let next = head.load(Ordering::Relaxed);
        words.link().store(u64::from(key.hash) << 32 | u64::from(next), Ordering::Relaxed);
        words.state().store(u64::from(version.wrapping_add(2)) | LIVE, Ordering::Release);
        head.store(element.0.get(), Ordering::Release);
        self.writer.live += 1;
    }

    /// Takes an element out of its list and gives it back.
    pub(crate) fn unlink(&mut self, element: Element) {
        let words = self.table.words(element);
        let next = words.next();
        let head = self.table.bucket(words.hash());
        let mut before: Option<Words<'_>> = None;
        let mut link = head.load(Ordering::Relaxed);
        while let Some(at) = linked(link) {
            if at == element {
                match before {
                    Some(before) => {
                        let hash = u64::from(before.hash()) << 32;
                        before.link().store(hash | u64::from(next), Ordering::Release);
                    }
                    None => head.store(next, Ordering::Release),
                }
                words.state().fetch_and(!LIVE, Ordering::Release);
                self.writer.live -= 1;
                self.give_back(element);
                return;
            }
            let at = self.table.words(at);
            link = at.next();
            before = Some(at);
        }
        debug_assert!(false, "a live element is in its list");
    }

    /// Takes out an element that was not used for long: a hand goes round over all elements, spares those that were used since it
    /// came by last, and takes the first other one.
    pub(crate) fn evict(&mut self) {
        let (stride, end) = (self.table.stride as u32, self.table.words.len() as u32);
        // After one round nothing counts as used any more.
        for _ in 0..2 * (end / stride) {
            let Some(element) = linked(self.writer.hand) else { return };
            self.writer.hand += stride;
            if self.writer.hand == end {
                self.writer.hand = stride;
            }
            let state = self.table.words(element).state();
            if state.load(Ordering::Relaxed) & LIVE != 0 && state.fetch_and(!USED, Ordering::Relaxed) & USED == 0 {
                return self.unlink(element);
            }
        }
    }

    /// The key behind a key: the first of all for none, and for one that is not there.
    pub(crate) fn next_key(&self, key: Option<&Key>) -> Option<Vec<u8>> {
        let from = key.and_then(|key| self.find(key));
        let mut bucket = 0;
        if let Some(element) = from {
            let words = self.table.words(element);
            if let Some(next) = linked(words.next()) {
                return Some(self.table.key_bytes(next));
            }
            bucket = self.table.bucket_of(words.hash()) + 1;
        }
        let first = self.table.heads[bucket..].iter().find_map(|head| linked(head.load(Ordering::Relaxed)))?;
        Some(self.table.key_bytes(first))
    }
}

/// What a head or an element leads to.
fn linked(link: u32) -> Option<Element> {
    NonZeroU32::new(link).map(Element)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements that a lookup of each key looks at, on average, over some tables.
    fn steps(words: u32, key: impl Fn(u64) -> Vec<u64>) -> f64 {
        const KEYS: u64 = 1000;
        const TABLES: usize = 50;
        let mut steps = 0;
        for _ in 0..TABLES {
            let table = Table::new(8 * words, KEYS as u32, |_| 0).expect("a small one");
            let mut lens = vec![0; table.buckets()];
            for number in 0..KEYS {
                let len = &mut lens[table.bucket_of(table.hash(&key(number)))];
                *len += 1;
                steps += *len;
            }
        }
        f64::from(steps) / (KEYS as f64 * TABLES as f64)
    }

    /// With numbers by chance it would be 1.5.
    #[test]
    fn keys_that_count_are_spread() {
        let counts: [fn(u64) -> u64; 6] =
            [|n| n, |n| n << 8, |n| 0x7f00_0000_0000 + 4096 * n, |n| n << 32, |n| n << 48, |n| (n + 7) << 32 | (n + 7)];
        for (which, count) in counts.into_iter().enumerate() {
            let spreads = [
                steps(1, |n| vec![count(n)]),
                steps(2, |n| vec![count(n), 6]),
                steps(2, |n| vec![6, count(n)]),
                steps(2, |n| vec![count(n), count(n)]),
                steps(3, |n| vec![count(n), 6, 6]),
                steps(3, |n| vec![6, 6, count(n)]),
            ];
            assert!(spreads.iter().all(|steps| *steps < 2.0), "{which}: {spreads:?}");
        }
    }
}
