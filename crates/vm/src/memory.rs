//! The memory of programs: one reservation of 4 GiB that holds everything a program may touch.
//!
//! The theory stands in the [crate's documentation](crate#memory). In short: a guest address *is* a host address inside a
//! [`Space`], whose base is a multiple of 4 GiB; an address with an upper half of zero is the same address said shorter.
//! A [`Block`] is a piece that somebody allocated. What lies in no block is not mapped.
//!
//! # The table
//!
//! The space is cut into 65,536 slots of 64 KiB. A block starts at a slot, and owns one slot more than it needs, which is
//! never accessible: a gap between any two blocks. For each slot the table says which bytes are accessible (`start..end`) and
//! whether programs may write; so the check of an access is one load, two compares and a test, whichever of thousands of
//! blocks it hits. An access that crosses a border of slots takes the slow way.
//!
//! # Safety
//!
//! - Every access goes through [`Space::place`] or a method of [`Block`], which give pointers only into bytes that a block has, or is made by
//!   compiled code that asks the same table in the same way (the module `jit`).
//! - Bytes that a block ever had stay mapped, readable and writable until the space is dropped: a block that goes away only
//!   loses its entries in the table and its contents. So a check cannot be outdated by the time of the access; at worst a thread
//!   that lost the race touches zeros, or a block that came later, of the same space. Compiled code remembers the last window that it was
//!   allowed, until its program calls a helper or ends.
//! - No Rust reference to plain memory is ever made, only to atomics; every other access is a volatile one through a raw pointer.
//!   The programs of several threads may race, as they may in the kernel: the language leaves such a volatile access
//!   undefined; what is relied on is what compilers promise for memory shared with other processes and devices, one machine
//!   access for an access of a word, and what machines promise: some value that was stored there, perhaps torn when unaligned.
#![expect(unsafe_code, reason = "reserves memory and reaches into it")]

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

/// Bytes of a space.
pub const SPACE_BYTES: u64 = 1 << 32;

/// No memory for so many bytes before and behind a space: as far as the offset of an access leads.
const GUARD_BYTES: u64 = 1 << 16;

const SLOT_BITS: u32 = 16;
const SLOT_BYTES: u64 = 1 << SLOT_BITS;
const SLOTS: usize = (SPACE_BYTES / SLOT_BYTES) as usize;

/// The memory of some programs that trust each other as far as the programs of one object do.
pub struct Space {
    base: NonNull<u8>,
    table: Box<[AtomicU64; SLOTS]>,
    free: Mutex<Vec<Extent>>,
}

// SAFETY: the reservation is not bound to a thread; the module's text says how racing accesses are made.
unsafe impl Send for Space {}
// SAFETY: as above.
unsafe impl Sync for Space {}

/// Some slots that no block has.
#[derive(Clone, Copy)]
struct Extent {
    start: u32,
    len: u32,
}

/// An entry of the table: the lower half is the end of what is accessible, bits 32 to 47 its start, and 63 is set when programs may
/// only read. Compiled code relies on this layout: `start <= at` is a compare with 16 bits of the upper half, and together with "may
/// write" one with its 32. It reads the halves one after the other, so while an entry changes it may see the start of one window and the
/// end of another: all of the slot up to either end is mapped.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    const READ_ONLY: u64 = 1 << 63;

    fn new(start: u64, end: u64, writable: bool) -> Entry {
        let read_only = if writable { 0 } else { Entry::READ_ONLY };
        Entry(if start < end { end | start << 32 | read_only } else { 0 })
    }

    fn start(self) -> u64 {
        self.0 >> 32 & 0xffff
    }

    fn end(self) -> u64 {
        self.0 & 0xffff_ffff
    }

    fn allows(self, access: Access) -> bool {
        matches!(access, Access::Read | Access::AtomicRead) || self.0 & Entry::READ_ONLY == 0
    }
}

/// What an access does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Reads before everything behind it; must be aligned.
    AtomicRead,
    /// Reads and writes in one step, or writes after everything before it; must be aligned.
    Atomic,
}

/// An access that is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// First byte.
    pub addr: u64,
    /// How many bytes.
    pub len: u64,
    /// What was tried.
    pub access: Access,
    /// What is wrong with it.
    pub reason: FaultReason,
}

/// Why an access is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultReason {
    /// Some of its bytes are not the program's.
    OutOfBounds,
    /// The program may only read there.
    ReadOnly,
    /// An atomic access whose address is not a multiple of its size.
    Misaligned,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { addr, len, .. } = *self;
        let what = match self.access {
            Access::Read => "read",
            Access::Write => "write",
            Access::AtomicRead => "atomic read",
            Access::Atomic => "atomic access",
        };
        match self.reason {
            FaultReason::OutOfBounds if addr == 0 => write!(f, "{what} of {len} byte(s) through a null pointer"),
            FaultReason::OutOfBounds => {
                write!(f, "{what} of {len} byte(s) at {addr:#x}, which is outside of the program's memory")
            }
            FaultReason::ReadOnly => write!(f, "{what} of {len} byte(s) at {addr:#x}, where programs may only read"),
            FaultReason::Misaligned => write!(f, "{what} at {addr:#x}, which is not a multiple of {len}"),
        }
    }
}

impl std::error::Error for Fault {}

/// Why there is no memory.
#[derive(Debug)]
pub enum SpaceError {
    /// The 4 GiB of addresses could not be reserved.
    Reserve(std::io::Error),
    /// A block does not fit what is left.
    Full {
        /// Bytes that were asked for.
        wanted: u64,
    },
    /// The machine has not enough memory for a block.
    Commit {
        /// Bytes that were asked for.
        wanted: u64,
        /// What the kernel said.
        cause: std::io::Error,
    },
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpaceError::Reserve(cause) => write!(
                f,
                "cannot reserve 4 GiB of addresses for the programs' memory: {cause}. A limit on virtual memory must allow \
                 them: `ulimit -v unlimited`"
            ),
            SpaceError::Full { wanted } => {
                write!(f, "{wanted} bytes do not fit the 4 GiB that all maps and packets of an object share")
            }
            SpaceError::Commit { wanted, cause } => write!(f, "no memory for a block of {wanted} bytes: {cause}"),
        }
    }
}

impl std::error::Error for SpaceError {}

/// Numbers that programs load and store, at any address.
pub(crate) trait Word: Copy {
    /// Reads one.
    ///
    /// # Safety
    ///
    /// `at` points at readable bytes of a space.
    unsafe fn read(at: *const u8) -> Self;

    /// Writes one.
    ///
    /// # Safety
    ///
    /// `at` points at writable bytes of a space.
    unsafe fn write(self, at: *mut u8);
}

#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T>(T);

macro_rules! words {
    ($($word:ty)*) => {$(
        impl Word for $word {
            #[inline(always)]
            unsafe fn read(at: *const u8) -> $word {
                // SAFETY: the caller vouches for the bytes; a packed struct needs no alignment.
                unsafe { at.cast::<Unaligned<$word>>().read_volatile() }.0
            }

            #[inline(always)]
            unsafe fn write(self, at: *mut u8) {
                // SAFETY: as above.
                unsafe { at.cast::<Unaligned<$word>>().write_volatile(Unaligned(self)) }
            }
        }
    )*};
}

words! { u8 u16 u32 u64 }

impl Space {
    /// Reserves the addresses; memory is taken only by what is written.
    pub fn new() -> Result<Arc<Space>, SpaceError> {
        // Twice as much, so that an aligned piece is in it, with a guard on either side; the rest is given back.
        let len = (2 * SPACE_BYTES + 2 * GUARD_BYTES) as usize;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a fresh mapping at an address that the kernel picks; it takes no memory away from anybody.
        let whole = unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), flags) };
        let whole = whole.map_err(|errno| SpaceError::Reserve(errno.into()))?.cast::<u8>();
        let guard = GUARD_BYTES as usize;
        let before = (whole.addr() + guard).next_multiple_of(SPACE_BYTES as usize) - guard - whole.addr();
        let base = whole.wrapping_add(before + guard);
        let kept = SPACE_BYTES as usize + 2 * guard;
        let after = len - before - kept;
        for (start, len) in [(whole, before), (whole.wrapping_add(before + kept), after)] {
            if len != 0 {
                // SAFETY: a part of the mapping made above that is not used; page sizes divide 4 GiB.
                let _ = unsafe { munmap(start.cast(), len) };
            }
        }
        let base =
            NonNull::new(base).ok_or_else(|| SpaceError::Reserve(std::io::ErrorKind::AddrNotAvailable.into()))?;
        let table: Box<[AtomicU64]> = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        let table = table.try_into().map_err(|_| SpaceError::Full { wanted: SPACE_BYTES })?;
        // The first slot belongs to nobody, so that small numbers are never addresses; nor does the last one, so that no
        // access reaches over the end.
        let free = Mutex::new(vec![Extent { start: 1, len: SLOTS as u32 - 2 }]);
        Ok(Arc::new(Space { base, table, free }))
    }

    /// The address of its first byte, a multiple of 4 GiB.
    pub fn base(&self) -> u64 {
        self.base.addr().get() as u64
    }

    /// A block of zeros. Programs may read it, and write it if `writable`.
    pub fn allocate(self: &Arc<Space>, len: u64, writable: bool) -> Result<Block, SpaceError> {
        let full = SpaceError::Full { wanted: len };
        let Some(slots) = len.checked_next_multiple_of(SLOT_BYTES).map(|len| len / SLOT_BYTES + 1) else {
            return Err(full);
        };
        let slots = u32::try_from(slots.max(2)).unwrap_or(u32::MAX);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = free.iter_mut().find(|extent| extent.len >= slots) else {
            return Err(full);
        };
        let start = found.start;
        found.start += slots;
        found.len -= slots;
        free.retain(|extent| extent.len != 0);
        drop(free);
        let block = Block { space: self.clone(), slot: start, slots, len, writable };
        let pages = (len as usize).next_multiple_of(rustix::param::page_size());
        // SAFETY: whole pages inside of this space's reservation, which the block just got.
        let done = unsafe { mprotect(block.ptr().cast(), pages, MprotectFlags::READ | MprotectFlags::WRITE) };
        done.map_err(|errno| SpaceError::Commit { wanted: len, cause: errno.into() })?;
        block.set_window(0, len);
        Ok(block)
    }

    fn release(&self, start: u32, len: u32) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let at = free.partition_point(|extent| extent.start < start);
        free.insert(at, Extent { start, len });
        // Two neighbours are one.
        free.dedup_by(|next, before| {
            let touch = before.start + before.len == next.start;
            before.len += if touch { next.len } else { 0 };
            touch
        });
    }

    /// Where a program may access `len` (1 to 8) bytes at `addr`.
    #[inline(always)]
    fn place(&self, addr: u64, len: u64, access: Access) -> Option<*mut u8> {
        self.near().place(addr, len, access).or_else(|| self.place_across(addr, len, access))
    }

    /// The memory for accesses that lie in one slot.
    #[inline(always)]
    pub(crate) fn near(&self) -> Near<'_> {
        Near { base: self.base, table: &self.table }
    }

    #[cold]
    fn place_across(&self, addr: u64, len: u64, access: Access) -> Option<*mut u8> {
        self.check(addr, len, access).ok().map(|()| self.at(addr as u32))
    }

    #[inline(always)]
    fn entry(&self, slot: u32) -> Entry {
        self.near().entry(slot)
    }

    #[inline(always)]
    fn at(&self, off: u32) -> *mut u8 {
        self.base.as_ptr().wrapping_add(off as usize)
    }

    /// Whether all of any number of bytes are accessible.
    fn covers(&self, off: u32, len: u64, access: Access) -> Result<(), FaultReason> {
        let mut at = u64::from(off);
        let end = at.checked_add(len).filter(|end| *end <= SPACE_BYTES).ok_or(FaultReason::OutOfBounds)?;
        while at < end {
            let entry = self.entry((at >> SLOT_BITS) as u32);
            let in_slot = at & (SLOT_BYTES - 1);
            let wanted = (end - at).min(SLOT_BYTES - in_slot);
            if in_slot < entry.start() || in_slot + wanted > entry.end() {
                return Err(FaultReason::OutOfBounds);
            }
            if !entry.allows(access) {
                return Err(FaultReason::ReadOnly);
            }
            at += wanted;
        }
        Ok(())
    }

    /// Checks an access of any length; none at all is allowed anywhere.
    pub fn check(&self, addr: u64, len: u64, access: Access) -> Result<(), Fault> {
        let fault = |reason| Fault { addr, len, access, reason };
        let high = addr >> 32;
        if len == 0 {
            return Ok(());
        }
        if high != 0 && high != self.base() >> 32 {
            return Err(fault(FaultReason::OutOfBounds));
        }
        self.covers(addr as u32, len, access).map_err(fault)?;
        if matches!(access, Access::AtomicRead | Access::Atomic) && !addr.is_multiple_of(len) {
            return Err(fault(FaultReason::Misaligned));
        }
        Ok(())
    }

    /// What is wrong with an access that was not allowed.
    #[cold]
    pub(crate) fn explain(&self, addr: u64, len: u64, access: Access) -> Fault {
        let fault = Fault { addr, len, access, reason: FaultReason::OutOfBounds };
        // Another thread may have made it allowed since.
        self.check(addr, len, access).err().unwrap_or(fault)
    }

    /// Reads a number as a program does.
    #[inline(always)]
    pub(crate) fn load<W: Word>(&self, addr: u64) -> Option<W> {
        let at = self.place(addr, size_of::<W>() as u64, Access::Read)?;
        // SAFETY: `place` gave it, so a block has these bytes.
        Some(unsafe { W::read(at) })
    }

    /// Writes a number as a program does.
    #[inline(always)]
    pub(crate) fn store<W: Word>(&self, addr: u64, value: W) -> Option<()> {
        let at = self.place(addr, size_of::<W>() as u64, Access::Write)?;
        // SAFETY: as above.
        unsafe { value.write(at) };
        Some(())
    }

    /// Copies bytes out, as a helper does for a program.
    pub fn read(&self, addr: u64, to: &mut [u8]) -> Result<(), Fault> {
        self.check(addr, to.len() as u64, Access::Read)?;
        self.copy_out(addr as u32, to);
        Ok(())
    }

    /// Copies bytes in, as a helper does for a program.
    pub fn write(&self, addr: u64, from: &[u8]) -> Result<(), Fault> {
        self.check(addr, from.len() as u64, Access::Write)?;
        self.copy_in(addr as u32, from);
        Ok(())
    }

    /// Sets bytes to zero, as a helper does for a program.
    pub fn zero(&self, addr: u64, len: u64) -> Result<(), Fault> {
        self.check(addr, len, Access::Write)?;
        self.clear(addr as u32, len);
        Ok(())
    }

    /// The bytes up to a zero or to `max`, without the zero; whether there was one.
    pub fn read_text(&self, addr: u64, max: usize) -> Result<(Vec<u8>, bool), Fault> {
        let mut text = Vec::new();
        while text.len() < max {
            let at = addr.wrapping_add(text.len() as u64);
            match self.load::<u8>(at) {
                Some(0) => return Ok((text, true)),
                Some(byte) => text.push(byte),
                None => return Err(self.explain(at, 1, Access::Read)),
            }
        }
        Ok((text, false))
    }

    // What follows is for bytes that were checked.

    fn copy_out(&self, off: u32, to: &mut [u8]) {
        let (words, rest) = to.as_chunks_mut::<8>();
        let mut at = self.at(off);
        for word in words {
            // SAFETY: the callers checked that a block has these bytes.
            *word = unsafe { u64::read(at) }.to_ne_bytes();
            at = at.wrapping_add(8);
        }
        for byte in rest {
            // SAFETY: as above.
            *byte = unsafe { u8::read(at) };
            at = at.wrapping_add(1);
        }
    }

    fn copy_in(&self, off: u32, from: &[u8]) {
        let (words, rest) = from.as_chunks::<8>();
        let mut at = self.at(off);
        for word in words {
            // SAFETY: the callers checked that a block has these bytes.
            unsafe { u64::from_ne_bytes(*word).write(at) };
            at = at.wrapping_add(8);
        }
        for byte in rest {
            // SAFETY: as above.
            unsafe { byte.write(at) };
            at = at.wrapping_add(1);
        }
    }

    fn clear(&self, off: u32, len: u64) {
        let mut at = self.at(off);
        for _ in 0..len / 8 {
            // SAFETY: the callers checked that a block has these bytes.
            unsafe { 0u64.write(at) };
            at = at.wrapping_add(8);
        }
        for _ in 0..len % 8 {
            // SAFETY: as above.
            unsafe { 0u8.write(at) };
            at = at.wrapping_add(1);
        }
    }
}

/// The memory of a [`Space`] as accesses see it that lie in one slot, as nearly all do: what is not in here may still be allowed there.
#[derive(Clone, Copy)]
pub(crate) struct Near<'a> {
    base: NonNull<u8>,
    table: &'a [AtomicU64; SLOTS],
}

impl<'a> Near<'a> {
    #[inline(always)]
    fn place(self, addr: u64, len: u64, access: Access) -> Option<*mut u8> {
        let high = addr >> 32;
        if high != 0 && high != self.base.addr().get() as u64 >> 32 {
            return None;
        }
        let off = addr as u32;
        let entry = self.entry(off >> SLOT_BITS);
        let in_slot = u64::from(off) & (SLOT_BYTES - 1);
        let allowed = in_slot >= entry.start() && in_slot + len <= entry.end() && entry.allows(access);
        allowed.then(|| self.base.as_ptr().wrapping_add(off as usize))
    }

    #[inline(always)]
    fn entry(self, slot: u32) -> Entry {
        Entry(self.table[slot as usize & (SLOTS - 1)].load(Ordering::Relaxed))
    }

    /// Reads a number as a program does.
    #[inline(always)]
    pub(crate) fn load<W: Word>(self, addr: u64) -> Option<W> {
        let at = self.place(addr, size_of::<W>() as u64, Access::Read)?;
        // SAFETY: `place` gave it, so a block has these bytes.
        Some(unsafe { W::read(at) })
    }

    /// Writes a number as a program does.
    #[inline(always)]
    pub(crate) fn store<W: Word>(self, addr: u64, value: W) -> Option<()> {
        let at = self.place(addr, size_of::<W>() as u64, Access::Write)?;
        // SAFETY: as above.
        unsafe { value.write(at) };
        Some(())
    }
}

/// References to atomics in a program's memory. They live as long as the space, since bytes of a block stay mapped. None reaches from one
/// slot into the next, being aligned.
macro_rules! atomics {
    ($($name:ident $atomic:ty, $size:literal;)*) => {
        impl<'a> Near<'a> {$(
            #[doc = concat!("The ", $size, " bytes at `addr` as an atomic; `access` is one of the atomic ones.")]
            #[inline(always)]
            pub(crate) fn $name(self, addr: u64, access: Access) -> Option<&'a $atomic> {
                let at = self.place(addr, $size, access)?;
                if !addr.is_multiple_of($size) {
                    return None;
                }
                // SAFETY: a block has these bytes, which stay mapped as long as the space, and they are aligned. Racing accesses
                // that are not atomic are volatile; see the module's text.
                Some(unsafe { <$atomic>::from_ptr(at.cast()) })
            }
        )*}
    };
}

atomics! {
    atomic8 AtomicU8, 1;
    atomic16 AtomicU16, 2;
    atomic32 AtomicU32, 4;
    atomic64 AtomicU64, 8;
}

impl Drop for Space {
    fn drop(&mut self) {
        let start = self.base.as_ptr().wrapping_sub(GUARD_BYTES as usize);
        // SAFETY: reserved by `new` with this length; every block holds the space, so none is left.
        let _ = unsafe { munmap(start.cast(), (SPACE_BYTES + 2 * GUARD_BYTES) as usize) };
    }
}

impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Space").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Some bytes of a [`Space`], for a packet, a context, a stack or the values of a map. Given back on drop.
///
/// Its own methods reach all of it, whatever programs may do.
#[derive(Debug)]
pub struct Block {
    space: Arc<Space>,
    slot: u32,
    slots: u32,
    len: u64,
    writable: bool,
}

impl Block {
    fn off(&self) -> u32 {
        self.slot << SLOT_BITS
    }

    fn ptr(&self) -> *mut u8 {
        self.space.at(self.off())
    }

    /// The address of its first byte, for programs.
    pub fn addr(&self) -> u64 {
        self.space.base() + u64::from(self.off())
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The space that it is in.
    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    /// Lets programs reach only the bytes from `start` to `end`.
    pub fn set_window(&self, start: u64, end: u64) {
        let end = end.min(self.len);
        for slot in 0..self.slots - 1 {
            let first = u64::from(slot) * SLOT_BYTES;
            let inside = |at: u64| at.saturating_sub(first).min(SLOT_BYTES);
            let entry = Entry::new(inside(start), inside(end), self.writable);
            self.space.table[(self.slot + slot) as usize & (SLOTS - 1)].store(entry.0, Ordering::Relaxed);
        }
    }

    /// As [`Block::set_window`], for a window in the first slot of a block that is no longer than that.
    #[inline]
    pub(crate) fn set_first_window(&self, start: u64, end: u64) {
        debug_assert!(end <= self.len && self.slots == 2, "a block of one slot, and its gap");
        let entry = Entry::new(start, end, self.writable);
        self.space.table[self.slot as usize & (SLOTS - 1)].store(entry.0, Ordering::Relaxed);
    }

    fn has(&self, at: u64, len: usize) -> bool {
        at.checked_add(len as u64).is_some_and(|end| end <= self.len)
    }

    /// Copies bytes out; `None` when the block has not that many there.
    #[must_use]
    pub fn read(&self, at: u64, to: &mut [u8]) -> Option<()> {
        self.has(at, to.len()).then(|| self.space.copy_out(self.off() + at as u32, to))
    }

    /// Copies bytes in; `None` when the block has not that many there.
    #[must_use]
    pub fn write(&self, at: u64, from: &[u8]) -> Option<()> {
        self.has(at, from.len()).then(|| self.space.copy_in(self.off() + at as u32, from))
    }

    /// Sets bytes to zero; `None` when the block has not that many there.
    #[must_use]
    pub fn zero(&self, at: u64, len: usize) -> Option<()> {
        self.has(at, len).then(|| self.space.clear(self.off() + at as u32, len as u64))
    }

    /// Sets the last words to zero, in a block of whole words that has so many.
    #[inline]
    pub(crate) fn zero_last(&self, words: usize) {
        debug_assert!(self.len.is_multiple_of(8) && words as u64 <= self.len / 8, "words of the block");
        let end = self.ptr().wrapping_add(self.len as usize).cast::<u64>();
        for word in 0..words {
            // SAFETY: the block has these bytes; it starts at a page, so that the words are aligned.
            unsafe { end.wrapping_sub(word + 1).write_volatile(0) };
        }
    }

    /// All bytes from `at`, at most `len`.
    pub fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let len = len.min(self.len.saturating_sub(at) as usize);
        let mut bytes = vec![0; len];
        self.space.copy_out(self.off() + at as u32, &mut bytes);
        bytes
    }
}

/// For compiled code.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Space {
    /// The table, to check accesses: an entry for each 64 KiB.
    pub(crate) fn table(&self) -> *const AtomicU64 {
        self.table.as_ptr()
    }

    /// The true address of bytes that a program may access, for compiled code.
    pub(crate) fn translate(&self, addr: u64, len: u64, access: Access) -> Result<u64, Fault> {
        self.check(addr, len, access)?;
        Ok(self.base() | u64::from(addr as u32))
    }
}

/// For compiled code.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Block {
    /// The first entry of its part of the table; the window is moved as [`Block::set_window`] does.
    pub(crate) fn entry(&self) -> *const AtomicU64 {
        &raw const self.space.table[self.slot as usize & (SLOTS - 1)]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.set_window(0, 0);
        let pages = (self.len as usize).next_multiple_of(rustix::param::page_size());
        // SAFETY: the block's own pages; they stay mapped and read as zeros, as the module's text demands.
        let emptied = unsafe { madvise(self.ptr().cast(), pages, Advice::LinuxDontNeed) };
        // Never refused for private memory that is not locked; locked memory is cleared by hand.
        if emptied.is_err() {
            self.space.clear(self.off(), self.len);
        }
        self.space.release(self.slot, self.slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_accessible_to_the_last_and_no_further() {
        let space = Space::new().unwrap();
        let block = space.allocate(20, true).unwrap();
        let addr = block.addr();
        assert_eq!(space.load::<u64>(addr + 12), Some(0));
        assert_eq!(space.store::<u32>(addr + 16, 7), Some(()));
        assert_eq!(space.load::<u32>(addr + 16), Some(7));
        assert_eq!(space.load::<u64>(addr + 13), None);
        assert_eq!(space.load::<u8>(addr + 20), None);
        assert_eq!(space.load::<u8>(addr - 1), None);
        // The end of the address space, where sums overflow.
        for near in [u64::MAX, u64::MAX - 7, u64::from(u32::MAX), space.base() + SPACE_BYTES - 1, 0, 1] {
            assert_eq!(space.load::<u64>(near), None, "{near:#x}");
            assert!(space.check(near, u64::MAX, Access::Read).is_err());
            assert_eq!(space.check(near, 0, Access::Read), Ok(()));
        }
    }

    #[test]
    fn an_address_is_good_without_its_upper_half_but_not_with_a_wrong_one() {
        let space = Space::new().unwrap();
        let block = space.allocate(8, true).unwrap();
        let short = block.addr() & 0xffff_ffff;
        assert_eq!(space.load::<u64>(short), Some(0));
        assert_eq!(space.load::<u64>(short | 1 << 32), (space.base() == 1 << 32).then_some(0));
        assert_eq!(space.load::<u64>(!0 << 32 | short), None);
    }

    #[test]
    fn accesses_cross_slots_of_one_block_but_not_blocks() {
        let space = Space::new().unwrap();
        let one = space.allocate(3 * SLOT_BYTES, true).unwrap();
        let two = space.allocate(SLOT_BYTES, true).unwrap();
        let border = one.addr() + SLOT_BYTES - 3;
        assert_eq!(space.store::<u64>(border, 0x0807_0605_0403_0201), Some(()));
        assert_eq!(one.bytes(SLOT_BYTES - 3, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(space.load::<u64>(one.addr() + one.len() - 4), None);
        assert!(two.addr() >= one.addr() + one.len() + SLOT_BYTES);
        assert_eq!(
            space.check(one.addr(), two.addr() + 1 - one.addr(), Access::Read).map_err(|it| it.reason),
            Err(FaultReason::OutOfBounds)
        );
        assert_eq!(space.check(one.addr(), one.len(), Access::Write), Ok(()));
    }

    #[test]
    fn windows_and_permissions_bind_programs_but_not_the_owner() {
        let space = Space::new().unwrap();
        let block = space.allocate(2 * SLOT_BYTES, false).unwrap();
        assert_eq!(block.write(SLOT_BYTES, b"abc"), Some(()));
        assert_eq!(block.write(2 * SLOT_BYTES - 2, b"abc"), None);
        let reason = |addr, access| space.check(addr, 1, access).map_err(|fault| fault.reason);
        assert_eq!(reason(block.addr(), Access::Write), Err(FaultReason::ReadOnly));
        block.set_window(10, SLOT_BYTES + 2);
        assert_eq!(reason(block.addr() + 9, Access::Read), Err(FaultReason::OutOfBounds));
        assert_eq!(space.load::<u8>(block.addr() + SLOT_BYTES + 1), Some(b'b'));
        assert_eq!(space.load::<u8>(block.addr() + SLOT_BYTES + 2), None);
        let mut text = [0; 3];
        assert_eq!(block.read(SLOT_BYTES, &mut text), Some(()));
        assert_eq!(&text, b"abc");
    }

    #[test]
    fn a_dropped_block_is_empty_and_its_place_is_used_again_as_zeros() {
        let space = Space::new().unwrap();
        let (one, two) = (space.allocate(8, true).unwrap(), space.allocate(8, true).unwrap());
        let addr = one.addr();
        assert_eq!(space.store::<u64>(addr, 1), Some(()));
        drop(one);
        assert_eq!(space.load::<u64>(addr), None);
        let again = space.allocate(8, true).unwrap();
        assert_eq!((again.addr(), space.load::<u64>(addr)), (addr, Some(0)));
        drop((again, two));
        assert_eq!(space.free.lock().unwrap().len(), 1, "all that was given back is one piece");
    }

    #[test]
    fn more_than_there_is_is_an_error() {
        let space = Space::new().unwrap();
        for wanted in [SPACE_BYTES, u64::MAX, SPACE_BYTES - 2 * SLOT_BYTES] {
            assert!(matches!(space.allocate(wanted, true), Err(SpaceError::Full { .. })), "{wanted}");
        }
        assert!(space.allocate(SPACE_BYTES - 4 * SLOT_BYTES, true).is_ok());
    }

    #[test]
    fn atomics_must_be_aligned() {
        let space = Space::new().unwrap();
        let block = space.allocate(16, true).unwrap();
        assert!(space.near().atomic64(block.addr() + 8, Access::Atomic).is_some());
        assert!(space.near().atomic64(block.addr() + 4, Access::Atomic).is_none());
        let fault = space.explain(block.addr() + 4, 8, Access::Atomic);
        assert_eq!(fault.reason, FaultReason::Misaligned);
    }
}
