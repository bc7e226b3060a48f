//! The user ring buffer: this process writes, a program reads with `bpf_user_ringbuf_drain` (kernel 6.1;
//! `kernel/bpf/ringbuf.c`, `__bpf_user_ringbuf_peek`).
//!
//! The layout is the ring buffer's with the roles swapped: the first page, the consumer's position, is mapped for reading;
//! the producer's position and the data are mapped writable. Several threads may write: they take turns for reserving, and
//! the busy bit keeps the program from reading what is not finished.
//!
//! # Safety
//!
//! A sample's bytes lie between the producer's position before and after its reservation, which a lock hands to one thread
//! only; the program does not look at a busy record. The kernel treats everything here as hostile, so a mistake would cost
//! samples, not memory of the kernel.
#![expect(unsafe_code, reason = "hands out room in the buffer")]

use std::os::fd::BorrowedFd;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use crate::mmap::SharedMap;
use crate::ringbuf::Positions;
use crate::{Errno, page_size};

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;
const HEADER: usize = 8;

/// The producer's end of a user ring buffer.
#[derive(Debug)]
pub struct UserRingProducer {
    consumer: SharedMap,
    producer: SharedMap,
    data_offset: usize,
    size: usize,
    reserving: Mutex<()>,
}

impl UserRingProducer {
    /// Maps the buffer of a map of `size` bytes (its `max_entries`).
    pub fn new(map: BorrowedFd<'_>, size: u32) -> Result<UserRingProducer, Errno> {
        let page = page_size();
        let size = size as usize;
        if !size.is_power_of_two() || !size.is_multiple_of(page) {
            return Err(Errno::EINVAL);
        }
        let consumer = SharedMap::new(map, 0, page, false)?;
        let len = size.checked_mul(2).and_then(|twice| twice.checked_add(page)).ok_or(Errno::E2BIG)?;
        let producer = SharedMap::new(map, page as u64, len, true)?;
        Ok(UserRingProducer { consumer, producer, data_offset: page, size, reserving: Mutex::new(()) })
    }

    /// Room for a sample of `len` bytes. `ENOSPC` when the program has not drained enough yet, `E2BIG` when it can never fit.
    pub fn reserve(&self, len: usize) -> Result<UserSample<'_>, Errno> {
        if len >= self.size || len as u64 >= u64::from(DISCARD) {
            return Err(Errno::E2BIG);
        }
        let total = (HEADER + len).next_multiple_of(8);
        if total > self.size {
            return Err(Errno::E2BIG);
        }
        let turn = self.reserving.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let consumed = self.consumer.u64_at(0).load(Ordering::Acquire);
        let produced = self.producer.u64_at(0).load(Ordering::Acquire);
        let used = produced.wrapping_sub(consumed);
        if used + total as u64 > self.size as u64 {
            return Err(Errno::ENOSPC);
        }
        let at = self.data_offset + (produced as usize & (self.size - 1));
        // The header is busy before the position says that it is there.
        self.producer.u32_at(at + 4).store(0, Ordering::Relaxed);
        self.producer.u32_at(at).store(len as u32 | BUSY, Ordering::Relaxed);
        self.producer.u64_at(0).store(produced + total as u64, Ordering::Release);
        drop(turn);
        Ok(UserSample { ring: self, header_at: at, len, done: false })
    }

    /// Where both ends stand now.
    pub fn positions(&self) -> Positions {
        let consumer = self.consumer.u64_at(0).load(Ordering::Acquire);
        Positions { consumer, producer: self.producer.u64_at(0).load(Ordering::Acquire) }
    }

    /// Bytes that are reserved or submitted and not drained yet.
    pub fn pending(&self) -> u64 {
        let Positions { consumer, producer } = self.positions();
        producer.wrapping_sub(consumer)
    }
}

/// Room in the buffer, to be filled and submitted. Dropping it discards it.
#[derive(Debug)]
pub struct UserSample<'a> {
    ring: &'a UserRingProducer,
    header_at: usize,
    len: usize,
    done: bool,
}

impl UserSample<'_> {
    /// The bytes to fill. They hold what an earlier sample left there.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the room between header and next header belongs to this sample alone until it is submitted, and `&mut
        // self` keeps this the only slice of it.
        unsafe { self.ring.producer.slice_mut(self.header_at + HEADER, self.len) }
    }

    /// Makes the sample visible to the program.
    pub fn submit(mut self) {
        self.finish(0);
    }

    /// Gives the room back unused: the program skips it.
    pub fn discard(mut self) {
        self.finish(DISCARD);
    }

    fn finish(&mut self, flag: u32) {
        self.done = true;
        self.ring.producer.u32_at(self.header_at).store(self.len as u32 | flag, Ordering::Release);
    }
}

impl Drop for UserSample<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.finish(DISCARD);
        }
    }
}
