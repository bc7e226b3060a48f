//! The buffer of one perf event, user side (`include/uapi/linux/perf_event.h`, `kernel/events/ring_buffer.c`).
//!
//! The first page holds positions (`data_head`, which the kernel writes, `data_tail`, which we write), then a power of two of
//! data pages. Records start with `{ type: u32, misc: u16, size: u16 }` and may wrap around the end of the data, so a record
//! is copied when it wraps and lent where it does not. What did not fit is told by a record of its own, `PERF_RECORD_LOST`.
//!
//! # Safety
//!
//! The kernel writes only between `data_head` and `data_tail` + size, and stays out of what lies between tail and head. Slices
//! are lent from there only, after an acquire load of the head, and the tail moves after the slice is gone. The event must
//! not be in overwrite mode (mapped read-only), which this type cannot be.
#![expect(unsafe_code, reason = "lends records without copying them where they do not wrap")]

use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering;

use crate::mmap::SharedMap;
use crate::{Errno, page_size};

/// `struct perf_event_mmap_page`: where the positions are.
const DATA_HEAD: usize = 1024;
const DATA_TAIL: usize = 1032;
const HEADER: usize = 8;

/// A record's type: a sample.
pub const RECORD_SAMPLE: u32 = 9;
/// A record's type: a task has another name.
pub const RECORD_COMM: u32 = 3;
/// A record's type: a task was made.
pub const RECORD_FORK: u32 = 7;
/// A record's type: a file was mapped.
pub const RECORD_MMAP2: u32 = 10;
/// A record's type: what did not fit.
pub const RECORD_LOST: u32 = 2;

/// The consumer's end of one event's buffer.
#[derive(Debug)]
pub struct PerfRing {
    map: SharedMap,
    data_offset: usize,
    size: usize,
    tail: u64,
    /// Where a record is put together that wraps.
    scratch: Vec<u8>,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerfRecord<'a> {
    /// `PERF_RECORD_*`.
    pub record_type: u32,
    /// `PERF_RECORD_MISC_*`.
    pub misc: u16,
    /// What follows the header.
    pub body: &'a [u8],
}

impl PerfRing {
    /// Maps the buffer of a perf event: `pages` data pages, a power of two.
    pub fn new(event: BorrowedFd<'_>, pages: usize) -> Result<PerfRing, Errno> {
        let page = page_size();
        if !pages.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        let size = pages.checked_mul(page).ok_or(Errno::E2BIG)?;
        let map = SharedMap::new(event, 0, size.checked_add(page).ok_or(Errno::E2BIG)?, true)?;
        let tail = map.u64_at(DATA_TAIL).load(Ordering::Relaxed);
        Ok(PerfRing { map, data_offset: page, size, tail, scratch: Vec::new() })
    }

    /// Bytes of data that fit.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes that wait to be read.
    pub fn available(&self) -> u64 {
        self.map.u64_at(DATA_HEAD).load(Ordering::Acquire).saturating_sub(self.tail)
    }

    /// How many bytes were given back, from the start.
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Whether everything surely fitted that was offered since the position was `position`. A record has at most 64 KiB, so
    /// one can have been refused only when less than that was free.
    pub fn had_room_since(&self, position: u64) -> bool {
        const RECORD_MAX: u64 = 1 << 16;
        let head = self.map.u64_at(DATA_HEAD).load(Ordering::Acquire);
        head.saturating_sub(position).saturating_add(RECORD_MAX) <= self.size as u64
    }

    /// Calls `each` for the records that are there when it is called, until it returns `false`. Returns how many were seen.
    /// The room is given back record by record, so a program that writes faster than we read loses as little as possible.
    pub fn consume(&mut self, mut each: impl FnMut(PerfRecord<'_>) -> bool) -> usize {
        let mut count = 0;
        let head = self.map.u64_at(DATA_HEAD).load(Ordering::Acquire);
        while self.tail < head {
            let start = self.tail as usize & (self.size - 1);
            // Records are multiples of 8 and so is the size: a header never wraps.
            let record_type = self.map.u32_at(self.data_offset + start).load(Ordering::Relaxed);
            let second = self.map.u32_at(self.data_offset + start + 4).load(Ordering::Relaxed).to_ne_bytes();
            let misc = u16::from_ne_bytes([second[0], second[1]]);
            let len = usize::from(u16::from_ne_bytes([second[2], second[3]]));
            if len < HEADER || len > self.size || len as u64 > head - self.tail {
                // Not possible by the kernel's rules. Skip to the head rather than read nonsense for ever.
                self.advance(head);
                break;
            }
            let go_on = self.lend(start + HEADER, len - HEADER, |body| each(PerfRecord { record_type, misc, body }));
            count += 1;
            self.advance(self.tail + len as u64);
            if !go_on {
                break;
            }
        }
        count
    }

    fn lend(&mut self, start: usize, len: usize, each: impl FnOnce(&[u8]) -> bool) -> bool {
        let start = start & (self.size - 1);
        let until_end = self.size - start;
        // SAFETY: these bytes lie between tail and head, where the kernel does not write.
        let first = unsafe { self.map.slice(self.data_offset + start, len.min(until_end)) };
        if len <= until_end {
            return each(first);
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(first);
        // SAFETY: as above, for the part that wraps to the start of the data.
        let rest = unsafe { self.map.slice(self.data_offset, len - until_end) };
        self.scratch.extend_from_slice(rest);
        each(&self.scratch)
    }

    fn advance(&mut self, to: u64) {
        self.tail = to;
        self.map.u64_at(DATA_TAIL).store(to, Ordering::Release);
    }
}

/// The buffer of an event with `write_backward`, mapped for reading alone, so that the kernel never waits for a reader: the newest
/// records are always there, the oldest are written over.
///
/// The kernel writes each record in front of the one before, so `data_head` falls, and what begins there is the newest. It must not
/// write while this reads; whoever has the event sees to that.
#[derive(Debug)]
pub struct OverwriteRing {
    map: SharedMap,
    data_offset: usize,
    size: usize,
    /// Where the newest record began that was read.
    seen: u64,
    record: Vec<u8>,
}

impl OverwriteRing {
    /// Maps the buffer of a perf event: `pages` data pages, a power of two.
    pub fn new(event: BorrowedFd<'_>, pages: usize) -> Result<OverwriteRing, Errno> {
        let page = page_size();
        if !pages.is_power_of_two() {
            return Err(Errno::EINVAL);
        }
        let size = pages.checked_mul(page).ok_or(Errno::E2BIG)?;
        let map = SharedMap::new(event, 0, size.checked_add(page).ok_or(Errno::E2BIG)?, false)?;
        Ok(OverwriteRing { map, data_offset: page, size, seen: 0, record: Vec::new() })
    }

    /// Bytes of data that fit.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Bytes that were written since it was read, as far as they are still there.
    pub fn available(&self) -> usize {
        let head = self.map.u64_at(DATA_HEAD).load(Ordering::Acquire);
        usize::try_from(self.seen.wrapping_sub(head)).map_or(self.size, |new| new.min(self.size))
    }

    /// Calls `each` for what was written since the last call and is still whole, the newest first. Returns how many were seen.
    pub fn consume(&mut self, mut each: impl FnMut(PerfRecord<'_>)) -> usize {
        let head = self.map.u64_at(DATA_HEAD).load(Ordering::Acquire);
        let new = self.available();
        let mut record = std::mem::take(&mut self.record);
        let (mut at, mut count) = (0, 0);
        while at + HEADER <= new {
            let mut header = [0; HEADER];
            self.copy(head, at, &mut header);
            let record_type = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            let misc = u16::from_ne_bytes([header[4], header[5]]);
            let len = usize::from(u16::from_ne_bytes([header[6], header[7]]));
            // The oldest is written over from its end, and so is no longer whole; nothing lies behind it.
            if len < HEADER || at + len > new {
                break;
            }
            record.resize(len - HEADER, 0);
            self.copy(head, at + HEADER, &mut record);
            each(PerfRecord { record_type, misc, body: &record });
            count += 1;
            at += len;
        }
        self.record = record;
        self.seen = head;
        count
    }

    /// Copies out what lies `off` bytes behind the position `head`, round the end if need be.
    fn copy(&self, head: u64, off: usize, out: &mut [u8]) {
        let start = (head.wrapping_add(off as u64) & (self.size as u64 - 1)) as usize;
        let first = out.len().min(self.size - start);
        let (before, behind) = out.split_at_mut(first);
        // Both lie inside the data by the arithmetic above.
        let _ = self.map.read(self.data_offset + start, before);
        let _ = self.map.read(self.data_offset, behind);
    }
}
