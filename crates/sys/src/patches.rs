//! What a tracer changed in other processes' memory, for whoever has to take it back when the tracer dies.
//!
//! A breakpoint is a byte of code that another one took the place of; without a tracer it kills who comes by. The list of them lies in memory that a
//! forked process sees too, with what was there before; it is shorter by what has been taken back.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use crate::Errno;
use crate::mmap::SharedMap;
use crate::proc::{Look, each_child, each_thread, look};

/// Most changes that a list has room for.
const MAX_PATCHES: usize = 1 << 17;
/// Bytes of a place: the process (0: free), the byte that was there, what it is, a count, and the address.
const PLACE_BYTES: usize = 16;
/// Behind them: how many places were ever used.
const USED: usize = MAX_PATCHES * PLACE_BYTES;
const LIST_BYTES: usize = USED + 8;
/// How much is looked at in one piece.
const PIECE: usize = 4096;
/// What a place is.
const CODE: u8 = 0;
const COUNTER: u8 = 1;
const LOOK: u8 = 2;
const CALL: u8 = 3;
const EVERY: u8 = 4;

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// A byte of code that was this one is a breakpoint.
    Code(u8),
    /// A number of 16 bits is greater by one than it would be.
    Counter,
    /// A word says that somebody looks at it ([`crate::board::LOOK_OFF`]).
    Look,
    /// So many breakpoints with this distance, in bytes, are instructions that do nothing otherwise.
    Every {
        /// From one to the next.
        distance: u8,
        /// How many there are.
        count: u16,
    },
    /// A system call is a breakpoint and an instruction that does nothing ([`BREAKPOINT_OF_CALL`]).
    Call,
}

/// The instruction of a breakpoint on x86-64 (`int3`).
pub const BREAKPOINT: u8 = 0xcc;
/// An instruction of one byte that does nothing, on x86-64.
pub const NOP: u8 = 0x90;

/// What takes the place of `syscall` on x86-64.
pub const BREAKPOINT_OF_CALL: [u8; 2] = [BREAKPOINT, NOP];
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// A list of changes.
#[derive(Debug)]
pub struct Patches {
    map: SharedMap,
    /// Of each process: where the change at an address stands.
    places: HashMap<u32, HashMap<u64, usize>>,
    next: usize,
    free: Vec<usize>,
}

impl Patches {
    /// An empty list.
    ///
    /// # Errors
    ///
    /// When there is no memory for it.
    pub fn new() -> Result<Patches, Errno> {
        let memory = rustix::fs::memfd_create("skep-patches", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, LIST_BYTES as u64)?;
        let map = SharedMap::new(memory.as_fd(), 0, LIST_BYTES, true)?;
        Ok(Patches { map, places: HashMap::new(), next: 0, free: Vec::new() })
    }

    /// Adds a change that is about to be made. False when the list is full: then it should not be made.
    pub fn add(&mut self, pid: u32, addr: u64, patch: Patch) -> bool {
        let known = self.places.get(&pid).and_then(|places| places.get(&addr).copied());
        let place = known.or_else(|| self.free.pop()).unwrap_or(self.next);
        if place >= MAX_PATCHES {
            return false;
        }
        self.next = self.next.max(place + 1);
        let _ = self.map.write(USED, &(self.next as u64).to_ne_bytes());
        let (kind, what, count) = match patch {
            Patch::Code(byte) => (CODE, byte, 0),
            Patch::Counter => (COUNTER, 0, 0),
            Patch::Look => (LOOK, 0, 0),
            Patch::Every { distance, count } => (EVERY, distance, count),
            Patch::Call => (CALL, 0, 0),
        };
        let [low, high] = count.to_ne_bytes();
        // The process is last: a place without one is free.
        let at = place * PLACE_BYTES;
        let _ = self.map.write(at + 8, &addr.to_ne_bytes());
        let _ = self.map.write(at + 4, &[what, kind, low, high]);
        let _ = self.map.write(at, &pid.to_ne_bytes());
        self.places.entry(pid).or_default().insert(addr, place);
        true
    }

    /// A process has no changes any more: they were taken back, or it is gone.
    pub fn forget(&mut self, pid: u32) {
        for place in self.places.remove(&pid).unwrap_or_default().into_values() {
            self.clear(place);
        }
    }

    /// A process has no change at an address any more: the memory there is gone.
    pub fn remove(&mut self, pid: u32, addr: u64) {
        if let Some(place) = self.places.get_mut(&pid).and_then(|places| places.remove(&addr)) {
            self.clear(place);
        }
    }

    fn clear(&mut self, place: usize) {
        // It was written before, so it is inside.
        let _ = self.map.write(place * PLACE_BYTES, &[0; 4]);
        self.free.push(place);
    }

    /// Takes back what is on the list, and what children have of it that their tracer had not heard of.
    ///
    /// For a process that was forked before the list was filled: it allocates nothing and only makes system calls.
    pub(crate) fn take_back(&self) {
        // Calls first: threads end by them, with all signals held back, so that a breakpoint there is the end of their process.
        for calls_only in [true, false] {
            let mut open = None;
            self.each(|it| {
                if (it.kind == CALL) != calls_only {
                    return;
                }
                if open.as_ref().is_none_or(|(of, _)| *of != it.pid) {
                    open = memory(it.pid).map(|file| (it.pid, file));
                }
                if let Some((_, file)) = &open {
                    // Where nothing is mapped any more, nothing is to be taken back.
                    let _ = it.take_back(file);
                }
            });
        }
        let mut last = 0;
        self.each(|Place { pid, .. }| {
            if last != pid {
                last = pid;
                let mut of_task = |tid| each_child(tid, &mut |child| self.take_back_in_child(pid, child));
                of_task(pid);
                each_thread(pid, &mut of_task);
            }
        });
    }

    /// A child of a process has the same breakpoints until it executes a program.
    fn take_back_in_child(&self, maker: u32, child: u32) {
        let mut is_listed = false;
        self.each(|it| is_listed |= it.pid == child);
        let Some(file) = memory(child).filter(|_| !is_listed) else { return };
        self.each(|it| {
            if it.pid == maker && it.is_code() {
                let _ = it.take_back(&file);
            }
        });
    }

    /// Each change of the list.
    fn each(&self, mut visit: impl FnMut(Place)) {
        let mut used = [0; 8];
        let used = self.map.read(USED, &mut used).map_or(0, |()| u64::from_ne_bytes(used) as usize);
        for index in 0..used.min(MAX_PATCHES) {
            let mut place = [0; PLACE_BYTES];
            if self.map.read(index * PLACE_BYTES, &mut place).is_err() {
                return;
            }
            let [a, b, c, d, what, kind, low, high, rest @ ..] = place;
            let pid = u32::from_ne_bytes([a, b, c, d]);
            if pid != 0 {
                visit(Place {
                    pid,
                    kind,
                    what,
                    count: u16::from_ne_bytes([low, high]),
                    addr: u64::from_ne_bytes(rest),
                });
            }
        }
    }
}

/// A change as the list has it.
struct Place {
    pid: u32,
    kind: u8,
    what: u8,
    count: u16,
    addr: u64,
}

impl Place {
    /// Whether what is there tells if there is anything to take back.
    fn is_code(&self) -> bool {
        matches!(self.kind, CODE | CALL | EVERY)
    }

    /// Takes it back, if it is still there.
    fn take_back(&self, file: &OwnedFd) -> rustix::io::Result<()> {
        let addr = self.addr;
        let mut pair = [0; 2];
        match self.kind {
            CODE => {
                let byte = &mut pair[..1];
                if rustix::io::pread(file, &mut *byte, addr)? == 1 && *byte == [BREAKPOINT] {
                    rustix::io::pwrite(file, &[self.what], addr)?;
                }
            }
            EVERY => {
                let mut piece = [0; PIECE];
                let end = addr + u64::from(self.what) * u64::from(self.count);
                let first = |at: usize| at.is_multiple_of(self.what.into());
                for at in (addr..end).step_by(PIECE) {
                    let piece = &mut piece[..(end - at).min(PIECE as u64) as usize];
                    if rustix::io::pread(file, &mut *piece, at)? != piece.len() {
                        break;
                    }
                    for (off, byte) in piece.iter_mut().enumerate() {
                        if first((at - addr) as usize + off) && *byte == BREAKPOINT {
                            *byte = NOP;
                        }
                    }
                    rustix::io::pwrite(file, piece, at)?;
                }
            }
            COUNTER if rustix::io::pread(file, &mut pair, addr)? == 2 => {
                let less = u16::from_ne_bytes(pair).saturating_sub(1);
                rustix::io::pwrite(file, &less.to_ne_bytes(), addr)?;
            }
            LOOK => {
                rustix::io::pwrite(file, &[0; 4], addr)?;
            }
            // The second byte first: the other way round it would be another instruction in between.
            CALL if rustix::io::pread(file, &mut pair, addr)? == 2 && pair == BREAKPOINT_OF_CALL => {
                rustix::io::pwrite(file, &SYSCALL[1..], addr + 1)?;
                rustix::io::pwrite(file, &SYSCALL[..1], addr)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The memory of a process, to be read and written wherever something is mapped. A first thread that has ended has none.
fn memory(pid: u32) -> Option<OwnedFd> {
    let mut tid = pid;
    if look(pid) == Look::Ended {
        each_thread(pid, &mut |other| tid = other);
    }
    let tid = rustix::path::DecInt::new(tid);
    crate::proc::open(&[b"/proc/", tid.as_bytes(), b"/mem"], rustix::fs::OFlags::RDWR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_counters_go_down() {
        // In this process: what is on the heap may be written anyway.
        let memory = Box::new([BREAKPOINT, 7, BREAKPOINT, 0, 3, 0]);
        let at = |index: usize| std::ptr::from_ref(&memory[index]) as u64;
        let pid = std::process::id();
        let mut patches = Patches::new().unwrap();
        assert!(patches.add(pid, at(0), Patch::Code(0x55)));
        // Somebody else wrote here meanwhile.
        assert!(patches.add(pid, at(1), Patch::Code(0x90)));
        assert!(patches.add(pid, at(4), Patch::Counter));
        patches.take_back();
        assert_eq!(std::hint::black_box(&*memory), &[0x55, 7, BREAKPOINT, 0, 2, 0]);
        patches.forget(pid);
        patches.take_back();
        assert_eq!(std::hint::black_box(&*memory), &[0x55, 7, BREAKPOINT, 0, 2, 0]);
        assert!(patches.add(pid, at(2), Patch::Code(1)) && patches.next == 3);
        let call = Box::new(BREAKPOINT_OF_CALL);
        let at_call = std::ptr::from_ref(&call[0]) as u64;
        assert!(patches.add(pid, at_call, Patch::Call));
        patches.take_back();
        assert_eq!(std::hint::black_box(&*call), &SYSCALL);
        patches.take_back();
        assert_eq!(std::hint::black_box(&*call), &SYSCALL);
        patches.forget(pid);
        // Two of three, in two pieces.
        let mut many = vec![0; PIECE + 24];
        for at in [0, 8, PIECE, PIECE + 16] {
            many[at] = BREAKPOINT;
        }
        many[1] = BREAKPOINT;
        assert!(patches.add(pid, many.as_ptr() as u64, Patch::Every { distance: 8, count: (PIECE / 8 + 2) as u16 }));
        patches.take_back();
        let many = std::hint::black_box(many);
        assert_eq!([0, 1, 8, PIECE, PIECE + 16].map(|at| many[at]), [NOP, BREAKPOINT, NOP, NOP, BREAKPOINT]);
        patches.forget(pid);
        assert!(patches.add(pid, at(2), Patch::Code(1)));
        // A place is used again, and a change that is listed twice has one.
        for _ in 0..10 {
            assert!(patches.add(pid, at(3), Patch::Code(1)) && patches.add(pid, at(3), Patch::Code(1)));
            patches.remove(pid, at(3));
        }
        assert_eq!((patches.next, patches.free.len()), (3, 2));
    }
}
