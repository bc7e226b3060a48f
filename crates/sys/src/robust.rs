//! A word that tells another process in the moment in which a thread dies: a robust futex.
//!
//! A pipe tells of a death as well, but late: its end closes with the last thread of a process, behind the memory of all of them, and tasks that one
//! of them traced have no tracer long before that. The kernel goes through the list of a thread's locks before most else (`exit_mm_release` in
//! kernel/fork.c, Linux 6.18), marks each, and wakes whoever waits for it. Here the only one of them is no lock.
//!
//! Sources: set_robust_list(2), futex(2), `Documentation/locking/robust-futex-ABI.rst`.
//!
//! # Safety
//! The kernel reads the list when the thread dies, so it stays where it is until another one is set, which is before its memory is given back; only the thread
//! itself can do that, so the type is bound to it.
#![expect(unsafe_code, reason = "set_robust_list(2) and futex(2)")]

use std::ffi::c_long;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Errno;
use crate::mmap::SharedMap;

/// Behind the word: whether somebody follows the thread ([`crate::last_stop`]), once that is known.
const ANSWER: usize = 4;
const NOT_FOLLOWED: u32 = 1;
const FOLLOWED: u32 = 2;
/// How long an answer is waited for; who has to answer does hardly anything before.
static TO_ANSWER: libc::timespec = libc::timespec { tv_sec: 1, tv_nsec: 0 };
/// How long a word is waited for between two looks at whether its thread is still there.
static TO_LOOK: libc::timespec = libc::timespec { tv_sec: 10, tv_nsec: 0 };

/// `struct robust_list_head` of `include/uapi/linux/futex.h`, of a thread that has no lock, and is about to get one.
#[repr(C)]
#[derive(Debug)]
struct List {
    next: *const List,
    futex_offset: c_long,
    pending: *const AtomicU32,
}

/// The word of the thread that made it.
#[derive(Debug)]
pub(crate) struct RobustWord {
    map: SharedMap,
    _list: Box<List>,
    before: *const List,
    of_thread: PhantomData<*const ()>,
}

/// The part that a process has which was forked from the thread's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting<'a> {
    word: &'a AtomicU32,
    answer: &'a AtomicU32,
}

fn set_list(list: *const List) -> Result<(), Errno> {
    // SAFETY: the kernel keeps the address; see the module.
    let done = unsafe { libc::syscall(libc::SYS_set_robust_list, list, size_of::<List>()) };
    if done < 0 { Err(Errno::last()) } else { Ok(()) }
}

fn wait_while(word: &AtomicU32, is: u32, time: &libc::timespec) {
    // SAFETY: a word that is mapped, numbers, and a time.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, is, std::ptr::from_ref(time)) };
}

fn wake(word: &AtomicU32) {
    // SAFETY: a word that is mapped, and numbers.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

impl RobustWord {
    /// Makes that of the calling thread, which may have no robust locks of another kind meanwhile (pthread_mutexattr_setrobust(3)).
    ///
    /// # Errors
    ///
    /// `ENOSYS` for a kernel without futexes, and what memfd_create(2) and mmap(2) say.
    pub(crate) fn new() -> Result<RobustWord, Errno> {
        let memory = rustix::fs::memfd_create("skep-thread", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, crate::page_size() as u64)?;
        let map = SharedMap::new(memory.as_fd(), 0, crate::page_size(), true)?;
        let mut before = std::ptr::null();
        let mut len = 0usize;
        // SAFETY: the call writes a pointer and a length.
        let known = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut before, &raw mut len) };
        if known < 0 {
            return Err(Errno::last());
        }
        let mut list = Box::new(List { next: std::ptr::null(), futex_offset: 0, pending: map.u32_at(0) });
        // Empty: it leads to itself.
        list.next = &raw const *list;
        let tid = rustix::thread::gettid().as_raw_pid() as u32;
        map.u32_at(0).store(tid | libc::FUTEX_WAITERS, Ordering::SeqCst);
        set_list(list.next)?;
        Ok(RobustWord { map, _list: list, before, of_thread: PhantomData })
    }

    pub(crate) fn waiting(&self) -> Waiting<'_> {
        Waiting { word: self.map.u32_at(0), answer: self.map.u32_at(ANSWER) }
    }

    /// Returns when somebody has said whether he follows the thread, or nobody does for a second.
    pub(crate) fn wait_for_answer(&self) {
        let answer = self.map.u32_at(ANSWER);
        if answer.load(Ordering::SeqCst) == 0 {
            wait_while(answer, 0, &TO_ANSWER);
        }
    }
}

impl Drop for RobustWord {
    fn drop(&mut self) {
        let _ = set_list(self.before);
        self.map.u32_at(0).store(0, Ordering::SeqCst);
        wake(self.map.u32_at(0));
        if self.map.u32_at(ANSWER).load(Ordering::SeqCst) == FOLLOWED {
            // Who follows the thread waits for its stops.
            crate::signal::Nudge::send_here();
        }
    }
}

impl Waiting<'_> {
    /// The thread's id; the calling thread is forked from it.
    pub(crate) fn owner(self) -> u32 {
        self.word.load(Ordering::SeqCst) & libc::FUTEX_TID_MASK
    }

    /// Whether the thread has died or dropped its word.
    pub(crate) fn is_over(self) -> bool {
        self.owner() == 0
    }

    /// Says whether the thread is followed.
    pub(crate) fn answer(self, is_followed: bool) {
        self.answer.store(if is_followed { FOLLOWED } else { NOT_FOLLOWED }, Ordering::SeqCst);
        wake(self.answer);
    }

    /// Returns when the thread dies or has dropped its word. Allocates nothing.
    pub(crate) fn wait(self) {
        loop {
            let word = self.word.load(Ordering::SeqCst);
            let tid = word & libc::FUTEX_TID_MASK;
            // The kernel cannot mark a word if the memory of the list was taken from a process that had too much (the OOM reaper).
            // SAFETY: tkill(2) with numbers only, and without a signal.
            if tid == 0 || unsafe { libc::syscall(libc::SYS_tkill, tid, 0) } != 0 {
                break;
            }
            wait_while(self.word, word, &TO_LOOK);
        }
        // The kernel wakes one.
        wake(self.word);
    }
}
