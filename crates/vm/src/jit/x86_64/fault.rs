//! Accesses that found no memory, in code that masks addresses: a signal that becomes the end of the program.
//!
//! Such code reaches nothing but the space of its machine, so the only thing that can go wrong is a page without memory. The handler of
//! `SIGSEGV` looks whether the place is one of such code; if so it lets the thread go on where the program is stopped, with the place in r11.
//! Every other signal goes to who had it before. A run of a program does nothing for that: its code stands in a list from when it is made.
//!
//! # Safety
//!
//! - The handler is installed once, as the first such program is compiled. It takes no lock and no memory, and only loads atomics, so it may
//!   interrupt anything, itself included.
//! - It changes where a thread goes on only if the thread was in code that is in the list, all of whose registers are as they were at the
//!   access, and whose r11 holds nothing across accesses. Code leaves the list before its memory is given back, when nobody runs it.
//! - The handler before it is called as the kernel would call it. If there was none, the default takes its place, and the access is
//!   made again.
#![expect(unsafe_code, reason = "handles a signal")]

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Once, OnceLock};

/// Some code that masks, in a list that only grows: the place of code that is gone is another one's.
#[derive(Debug)]
struct Masking {
    taken: AtomicBool,
    /// How often it was taken, which tells a handler whether what it read is of one code.
    generation: AtomicUsize,
    /// 0 while there is none, and while the others are written.
    start: AtomicUsize,
    end: AtomicUsize,
    /// Where it goes on after a fault.
    fault: AtomicUsize,
    next: OnceLock<&'static Masking>,
}

static FIRST: Masking = Masking::new();

impl Masking {
    const fn new() -> Masking {
        Masking {
            taken: AtomicBool::new(false),
            generation: AtomicUsize::new(0),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            fault: AtomicUsize::new(0),
            next: OnceLock::new(),
        }
    }

    /// For code, if it is free.
    fn take(&self, code: &Range<usize>, fault: usize) -> bool {
        if self.taken.swap(true, Ordering::SeqCst) {
            return false;
        }
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.end.store(code.end, Ordering::SeqCst);
        self.fault.store(fault, Ordering::SeqCst);
        self.start.store(code.start, Ordering::SeqCst);
        true
    }

    fn leave(&self) {
        self.start.store(0, Ordering::SeqCst);
        self.taken.store(false, Ordering::SeqCst);
    }

    /// Where a thread goes on that is here. Its own code stays in the list meanwhile. Other code may come and go, and is never where that of
    /// the thread is; but the start of one with the end of the next may be around it, so all has to be of one generation. `meanwhile` is what
    /// others do between two looks.
    fn fault_of(&self, place: usize, mut meanwhile: impl FnMut()) -> Option<usize> {
        let generation = self.generation.load(Ordering::SeqCst);
        let start = self.start.load(Ordering::SeqCst);
        meanwhile();
        let (end, fault) = (self.end.load(Ordering::SeqCst), self.fault.load(Ordering::SeqCst));
        meanwhile();
        let is_here = start != 0 && (start..end).contains(&place);
        (is_here && self.generation.load(Ordering::SeqCst) == generation).then_some(fault)
    }
}

/// While it lives, faults in some code stop the program.
#[derive(Debug)]
pub(in crate::jit) struct Guarded(&'static Masking);

impl Guarded {
    pub(in crate::jit) fn new(code: Range<usize>, fault: usize) -> Guarded {
        let mut entry = &FIRST;
        while !entry.take(&code, fault) {
            entry = entry.next.get_or_init(|| Box::leak(Box::new(Masking::new())));
        }
        Guarded(entry)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Who had the signal before; written once, before the handler can run.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: see `catch_faults`: one thread writes it, before any reads.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new(MaybeUninit::zeroed()));
static INSTALLED: Once = Once::new();

/// Takes over the signal, once.
pub(in crate::jit) fn catch_faults() {
    INSTALLED.call_once(|| {
        // SAFETY: asks only; the place is nobody else's yet.
        unsafe { libc::sigaction(libc::SIGSEGV, std::ptr::null(), BEFORE.0.get().cast()) };
        // SAFETY: all zeros are a good value: no flags, no signals blocked.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handle as *const () as usize;
        // On the stack that the thread has for signals, since its own may have overflowed.
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler does what the module's text says.
        unsafe { libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()) };
    });
}

/// The handler.
///
/// # Safety
///
/// The kernel calls it.
unsafe extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let interrupted = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gave the registers of the interrupted thread, which are ours until we return.
    let regs = unsafe { &mut (*interrupted).uc_mcontext.gregs };
    let place = regs[libc::REG_RIP as usize];
    let mut all = std::iter::successors(Some(&FIRST), |entry| entry.next.get().copied());
    if let Some(fault) = all.find_map(|entry| entry.fault_of(place as usize, || ())) {
        regs[libc::REG_R11 as usize] = place;
        regs[libc::REG_RIP as usize] = fault as i64;
        return;
    }
    // SAFETY: written before this handler was installed.
    let before = unsafe { &*BEFORE.0.get().cast::<libc::sigaction>() };
    match before.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: back to what it was; the access is made again, and ends the process.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: somebody installed it as such a function.
            let handler = unsafe { std::mem::transmute::<usize, Handler>(handler) };
            // SAFETY: with what the kernel gave.
            unsafe { handler(signal, info, context) };
        }
        handler => {
            // SAFETY: somebody installed it as such a function.
            let handler = unsafe { std::mem::transmute::<usize, unsafe extern "C" fn(libc::c_int)>(handler) };
            // SAFETY: with what the kernel gave.
            unsafe { handler(signal) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_follows_other_code_is_not_taken_for_what_lies_between_them() {
        let (low, between, high) = (0x1000..0x2000, 0x3000, 0x5000..0x6000);
        let entry = Masking::new();
        assert!(entry.take(&low, 7) && !entry.take(&high, 8));
        assert_eq!(
            [0xfff, 0x1000, 0x1fff, 0x2000].map(|place| entry.fault_of(place, || ())),
            [None, Some(7), Some(7), None]
        );
        // In its place comes the other one, then code where it was.
        let mut next = [(&high, 8), (&low, 7)].into_iter();
        let follow = || {
            entry.leave();
            let (code, fault) = next.next().expect("two looks");
            assert!(entry.take(code, fault));
        };
        assert_eq!(entry.fault_of(between, follow), None);
        entry.leave();
        assert_eq!(entry.fault_of(0x1000, || ()), None);
    }
}
