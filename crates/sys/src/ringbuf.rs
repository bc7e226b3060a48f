//! The BPF ring buffer, user side (kernel 5.8; `kernel/bpf/ringbuf.c`).
//!
//! Three parts are mapped: a page with the consumer's position, which we write; a page with the producers' position; and the
//! data, a power of two of pages. Positions only grow; the place in the data is the position modulo the size, so one record
//! in each round may go on at the beginning.
//!
//! A record is a header of 8 bytes (length with two flag bits, page offset) and its payload, padded to 8. While a program
//! fills it, the busy bit is set; the consumer stops there, since later records must not overtake. A discarded record is
//! skipped.
//!
//! # Safety
//!
//! A slice of a record is handed out only after the header was read with the busy bit clear (acquire, against the producer's
//! exchange), and the consumer's position moves over it only after the slice is gone. Between the two no producer writes
//! there: `__bpf_ringbuf_reserve` refuses what would overrun the consumer's position. The data pages are mapped read-only,
//! and the kernel lets nobody map them writable.
#![expect(unsafe_code, reason = "hands out records without copying them")]

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use crate::mmap::SharedMap;
use crate::{Errno, page_size};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const HEADER: usize = 8;

/// The consumer's end of one ring buffer. There can be only one per map: positions are shared by whoever maps it.
#[derive(Debug)]
pub struct RingConsumer {
    consumer: SharedMap,
    producer: SharedMap,
    data_offset: usize,
    size: usize,
    /// The consumer's position, which nobody else writes.
    position: u64,
    /// A record that goes over the end of the buffer, put together.
    joined: Vec<u8>,
}

/// Where a ring buffer stands, in bytes since its creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Everything before this is read.
    pub consumer: u64,
    /// Everything before this is reserved.
    pub producer: u64,
}

impl RingConsumer {
    /// Maps the buffer of a map of `size` bytes (its `max_entries`).
    pub fn new(map: BorrowedFd<'_>, size: u32) -> Result<RingConsumer, Errno> {
        let page = page_size();
        let size = size as usize;
        if !size.is_power_of_two() || !size.is_multiple_of(page) {
            return Err(Errno::EINVAL);
        }
        let consumer = SharedMap::new(map, 0, page, true)?;
        // The kernel offers the data twice in a row, so that no record is in two pieces; but every page that is mapped counts as
        // memory of ours, and only one record in each round goes over the end.
        let len = size.checked_add(page).ok_or(Errno::E2BIG)?;
        let producer = SharedMap::new(map, page as u64, len, false)?;
        let position = consumer.u64_at(0).load(Ordering::Acquire);
        Ok(RingConsumer { consumer, producer, data_offset: page, size, position, joined: Vec::new() })
    }

    /// Bytes of data that fit.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Where both ends stand now.
    pub fn positions(&self) -> Positions {
        Positions { consumer: self.position, producer: self.producer.u64_at(0).load(Ordering::Acquire) }
    }

    /// Bytes that are reserved, committed or discarded and not read yet, headers included.
    pub fn available(&self) -> u64 {
        let Positions { consumer, producer } = self.positions();
        producer.saturating_sub(consumer)
    }

    /// Whether [`RingConsumer::next`] will have a record. Passes over those that were discarded.
    pub fn has_next(&mut self) -> bool {
        loop {
            let producer = self.producer.u64_at(0).load(Ordering::Acquire);
            if self.position >= producer {
                return false;
            }
            let at = self.data_offset + (self.position as usize & (self.size - 1));
            let header = self.producer.u32_at(at).load(Ordering::Acquire);
            let len = (header & !(BUSY | DISCARD)) as usize;
            if header & BUSY != 0 || len > self.size {
                return false;
            }
            if header & DISCARD == 0 {
                return true;
            }
            self.advance(self.position + (HEADER + len).next_multiple_of(8) as u64);
        }
    }

    /// The next committed record, without copying it; `None` when there is none, or when the next one is still being filled.
    /// Dropping the record makes room for new ones.
    #[expect(clippy::should_implement_trait, reason = "it lends, which an iterator cannot")]
    pub fn next(&mut self) -> Option<RingRecord<'_>> {
        loop {
            let producer = self.producer.u64_at(0).load(Ordering::Acquire);
            if self.position >= producer {
                return None;
            }
            // Positions are multiples of 8, and so is the size: a header is in one piece.
            let place = self.position as usize & (self.size - 1);
            let at = self.data_offset + place;
            let header = self.producer.u32_at(at).load(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            let len = (header & !(BUSY | DISCARD)) as usize;
            let next = self.position + (HEADER + len).next_multiple_of(8) as u64;
            if len > self.size {
                // Not possible by the kernel's rules; without this a corrupt header would panic below.
                return None;
            }
            if header & DISCARD != 0 {
                self.advance(next);
                continue;
            }
            let start = place + HEADER;
            let joined = start + len > self.size;
            if joined {
                let first = self.size - start;
                let (from, to) = (self.data_offset + start, self.data_offset);
                self.joined.clear();
                // SAFETY: the record is committed, and no producer writes there until its position is passed: see the module.
                self.joined.extend_from_slice(unsafe { self.producer.slice(from, first) });
                // SAFETY: as above; what is behind the end goes on at the beginning.
                self.joined.extend_from_slice(unsafe { self.producer.slice(to, len - first) });
            }
            return Some(RingRecord { ring: self, data_at: at + HEADER, len, next, joined });
        }
    }

    /// Calls `each` for records until none is left or it returns `false`. Returns how many were seen.
    pub fn consume(&mut self, mut each: impl FnMut(&[u8]) -> bool) -> usize {
        let mut count = 0;
        while let Some(record) = self.next() {
            count += 1;
            let go_on = each(&record);
            drop(record);
            if !go_on {
                break;
            }
        }
        count
    }

    fn advance(&mut self, to: u64) {
        self.position = to;
        self.consumer.u64_at(0).store(to, Ordering::Release);
    }
}

/// A record that lies in the ring buffer, or, in two pieces there, was put together. Its bytes may be read until it is dropped, which gives the room back.
#[derive(Debug)]
pub struct RingRecord<'a> {
    ring: &'a mut RingConsumer,
    data_at: usize,
    len: usize,
    next: u64,
    joined: bool,
}

impl std::ops::Deref for RingRecord<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.joined {
            return &self.ring.joined;
        }
        // SAFETY: the record is committed, and no producer writes there until `advance` in `drop`: see the module's text.
        unsafe { self.ring.producer.slice(self.data_at, self.len) }
    }
}

impl Drop for RingRecord<'_> {
    fn drop(&mut self) {
        let next = self.next;
        self.ring.advance(next);
    }
}
