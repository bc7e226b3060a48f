//! Memory shared with the kernel.
//!
//! Two kinds are kept apart by type. A [`FileMap`] is memory that nobody changes (the kernel's BTF), so it is a plain byte
//! slice. A [`SharedMap`] is changed by programs and other processes at any time, so it hands out no references: bytes are
//! copied in and out, and counters are read and written as atomics.
//!
//! # Safety
//!
//! A mapping is made by mmap, has exactly `len` bytes from `ptr`, and is unmapped once, when its owner is dropped. All access
//! is checked against `len`. Copies use volatile accesses, because the other side does not follow Rust's rules: a copy may
//! be torn between words, as every reader of such memory must expect.
#![expect(unsafe_code, reason = "maps memory and reaches into it")]

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::{Errno, page_size};

/// A mapping that is undone on drop.
#[derive(Debug)]
struct Region {
    ptr: NonNull<u8>,
    len: usize,
}

// SAFETY: the region is memory, not bound to the thread that mapped it; access rules are those of the types below.
unsafe impl Send for Region {}
// SAFETY: as above; shared access is atomic or volatile (`SharedMap`) or to memory that never changes (`FileMap`).
unsafe impl Sync for Region {}

impl Region {
    fn map(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        writable: bool,
        private: bool,
        at: Option<usize>,
    ) -> Result<Region, Errno> {
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let mut prot = ProtFlags::READ;
        prot.set(ProtFlags::WRITE, writable);
        let mut flags = if private { MapFlags::PRIVATE } else { MapFlags::SHARED };
        let hint = match at {
            // Never over an existing mapping: the kernel answers EEXIST instead (4.17; older kernels take it as a hint, which
            // is checked below).
            Some(_) => {
                flags |= MapFlags::FIXED_NOREPLACE;
                at.unwrap_or_default()
            }
            None => 0,
        };
        let hint = std::ptr::with_exposed_provenance_mut(hint);
        // SAFETY: a fresh mapping at an address that the kernel picks, or at one where nothing is mapped; it takes no memory
        // away from anybody.
        let ptr = unsafe { mmap(hint, len, prot, flags, fd, offset)? };
        let region = Region { ptr: NonNull::new(ptr.cast()).ok_or(Errno::ENOMEM)?, len };
        if at.is_some_and(|at| at != region.ptr.addr().get()) {
            return Err(Errno::EEXIST);
        }
        Ok(region)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and nobody can hold a reference into it any more.
        let _ = unsafe { munmap(self.ptr.as_ptr().cast(), self.len) };
    }
}

/// A file's bytes, mapped for reading.
#[derive(Debug)]
pub struct FileMap {
    region: Region,
}

impl FileMap {
    /// Maps `/sys/kernel/btf/vmlinux` (kernel 6.16 allows it; `ENODEV` before). Only such a file will do: one whose bytes
    /// cannot change and which cannot shrink while it is mapped. A file of a disk can, and then a reader dies of SIGBUS or
    /// sees bytes change under a shared reference; so this takes no path.
    pub fn vmlinux_btf() -> Result<FileMap, Errno> {
        let file = std::fs::File::open("/sys/kernel/btf/vmlinux")?;
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| Errno::EFBIG)?;
        // The kernel takes only private mappings of it, rounded up to pages; the tail of the last page is zero.
        let region = Region::map(file.as_fd(), 0, len, false, true, None)?;
        Ok(FileMap { region })
    }
}

impl AsRef<[u8]> for FileMap {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the region lives as long as `self`, is readable, and is the kernel's own BTF, which is never written.
        unsafe { std::slice::from_raw_parts(self.region.ptr.as_ptr(), self.region.len) }
    }
}

/// Memory that programs or other processes may change at any time.
#[derive(Debug)]
pub struct SharedMap {
    region: Region,
    writable: bool,
}

impl SharedMap {
    /// Maps `len` bytes of a descriptor from `offset`, which is a multiple of the page size.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, len: usize, writable: bool) -> Result<SharedMap, Errno> {
        Ok(SharedMap { region: Region::map(fd, offset, len, writable, false, None)?, writable })
    }

    /// Maps at an address, as an arena wants it, so that pointers mean the same to programs and to this process. `EEXIST`
    /// when something is there.
    pub fn at(fd: BorrowedFd<'_>, addr: usize, len: usize) -> Result<SharedMap, Errno> {
        Ok(SharedMap { region: Region::map(fd, 0, len, true, false, Some(addr))?, writable: true })
    }

    /// The values of an array map made with `F_MMAPABLE` (kernel 5.5): each value takes its size rounded up to 8, the whole
    /// is rounded up to pages. Writable unless the map is frozen or read-only (`EPERM`, `EACCES`).
    pub fn array(fd: BorrowedFd<'_>, value_size: u32, max_entries: u32, writable: bool) -> Result<SharedMap, Errno> {
        let len = u64::from(value_size).next_multiple_of(8) * u64::from(max_entries);
        let len = usize::try_from(len).map_err(|_| Errno::E2BIG)?.next_multiple_of(page_size());
        SharedMap::new(fd, 0, len, writable)
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.region.len
    }

    /// Never: a mapping has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.region.len == 0
    }

    /// Where it is mapped.
    pub fn addr(&self) -> usize {
        self.region.ptr.addr().get()
    }

    fn check(&self, offset: usize, len: usize) -> Result<(), Errno> {
        match offset.checked_add(len) {
            Some(end) if end <= self.region.len => Ok(()),
            _ => Err(Errno::ERANGE),
        }
    }

    /// Copies bytes out. Words of 8 bytes at multiples of 8 are read in one piece, others may be torn by a writer. `ERANGE`
    /// outside the mapping.
    ///
    /// In an arena, reading a page that no program has touched makes it, unless the map forbids that (`F_SEGV_ON_FAULT`):
    /// then the process gets SIGSEGV.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Errno> {
        self.check(offset, out.len())?;
        let mut at = 0;
        while at < out.len() {
            let left = out.len() - at;
            // SAFETY: `offset + at` is inside the mapping (checked above).
            let from = unsafe { self.region.ptr.as_ptr().add(offset + at) };
            if from.addr().is_multiple_of(8) && left >= 8 {
                // SAFETY: eight bytes from `from` are mapped and aligned.
                let word = unsafe { from.cast::<u64>().read_volatile() };
                out[at..at + 8].copy_from_slice(&word.to_ne_bytes());
                at += 8;
            } else {
                // SAFETY: this byte is mapped.
                out[at] = unsafe { from.read_volatile() };
                at += 1;
            }
        }
        Ok(())
    }

    /// Copies bytes in, as [`SharedMap::read`] copies them out. `EACCES` when it was mapped for reading.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), Errno> {
        self.check(offset, bytes.len())?;
        if !self.writable {
            return Err(Errno::EACCES);
        }
        let mut at = 0;
        while at < bytes.len() {
            // SAFETY: `offset + at` is inside the mapping (checked above).
            let to = unsafe { self.region.ptr.as_ptr().add(offset + at) };
            match bytes[at..].first_chunk::<8>() {
                Some(chunk) if to.addr().is_multiple_of(8) => {
                    // SAFETY: eight bytes from `to` are mapped writable and aligned.
                    unsafe { to.cast::<u64>().write_volatile(u64::from_ne_bytes(*chunk)) };
                    at += 8;
                }
                _ => {
                    // SAFETY: this byte is mapped writable.
                    unsafe { to.write_volatile(bytes[at]) };
                    at += 1;
                }
            }
        }
        Ok(())
    }

    /// A 64-bit counter at `offset`. Storing through a read-only mapping kills the process, so callers inside this crate
    /// store only into mappings that they made writable.
    pub(crate) fn u64_at(&self, offset: usize) -> &AtomicU64 {
        assert!(self.check(offset, 8).is_ok() && offset.is_multiple_of(8), "counter inside the mapping");
        // SAFETY: inside the mapping.
        let at = unsafe { self.region.ptr.as_ptr().add(offset) };
        // SAFETY: mapped, aligned to 8 (mappings start at pages), lives as long as `self`; all access is atomic.
        unsafe { AtomicU64::from_ptr(at.cast()) }
    }

    /// A 32-bit word at `offset`, under the rule of [`SharedMap::u64_at`].
    pub(crate) fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert!(self.check(offset, 4).is_ok() && offset.is_multiple_of(4), "word inside the mapping");
        // SAFETY: inside the mapping.
        let at = unsafe { self.region.ptr.as_ptr().add(offset) };
        // SAFETY: mapped, aligned to 4, lives as long as `self`; all access is atomic.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }

    /// Bytes as a slice.
    ///
    /// # Safety
    /// Nobody writes to these bytes as long as the slice lives.
    pub(crate) unsafe fn slice(&self, offset: usize, len: usize) -> &[u8] {
        assert!(self.check(offset, len).is_ok(), "bytes inside the mapping");
        // SAFETY: inside the mapping.
        let from = unsafe { self.region.ptr.as_ptr().add(offset) };
        // SAFETY: mapped and readable for `len`; that nobody writes is the caller's promise.
        unsafe { std::slice::from_raw_parts(from, len) }
    }

    /// Bytes as a mutable slice.
    ///
    /// # Safety
    /// Nobody else reads or writes these bytes as long as the slice lives, and the mapping is writable.
    #[expect(
        clippy::mut_from_ref,
        reason = "the bytes are not part of `self`; the caller promises that they are its own"
    )]
    pub(crate) unsafe fn slice_mut(&self, offset: usize, len: usize) -> &mut [u8] {
        assert!(self.writable && self.check(offset, len).is_ok(), "bytes inside a writable mapping");
        // SAFETY: inside the mapping.
        let from = unsafe { self.region.ptr.as_ptr().add(offset) };
        // SAFETY: mapped and writable for `len`; that they are the caller's alone is its promise.
        unsafe { std::slice::from_raw_parts_mut(from, len) }
    }
}
