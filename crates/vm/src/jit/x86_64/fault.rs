//! Accesses that found no memory, in code that masks addresses: a signal that becomes the end of the program.
//!
//! Such code reaches nothing but the space of its machine, so the only thing that can go wrong is a page without memory. The handler of
//! `SIGSEGV` looks whether the thread was in such code; if so it lets it go on where the program is stopped, with the place in r11. Every
//! other signal goes to who had it before.
//!
//! # Safety
//!
//! - The handler is installed once, as the first such program is compiled. It takes no lock and no memory, and uses the thread's own
//!   [`RUNNING`], which needs no setting up, so it may interrupt anything, itself included.
//! - It changes where a thread goes on only if the thread was in the code that `RUNNING` names, all of whose registers are as they
//!   were at the access, and whose r11 holds nothing across accesses.
//! - The handler before it is called as the kernel would call it. If there was none, the default takes its place, and the access is
//!   made again.
#![expect(unsafe_code, reason = "handles a signal")]

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Once;

/// Code that is running, and where it goes on after a fault.
#[derive(Clone, Copy)]
struct Running {
    start: usize,
    end: usize,
    fault: usize,
}

const NOTHING: Running = Running { start: 0, end: 0, fault: 0 };

thread_local! {
    static RUNNING: Cell<Running> = const { Cell::new(NOTHING) };
}

/// While it lives, faults in some code stop the program. What ran before is put back, since programs run inside of each other.
pub(in crate::jit) struct Guarded {
    before: Running,
}

impl Guarded {
    pub(in crate::jit) fn new(code: Range<usize>, fault: usize) -> Guarded {
        Guarded { before: RUNNING.replace(Running { start: code.start, end: code.end, fault }) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        RUNNING.set(self.before);
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
    let running = RUNNING.get();
    let interrupted = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gave the registers of the interrupted thread, which are ours until we return.
    let regs = unsafe { &mut (*interrupted).uc_mcontext.gregs };
    let place = regs[libc::REG_RIP as usize];
    if (running.start..running.end).contains(&(place as usize)) {
        regs[libc::REG_R11 as usize] = place;
        regs[libc::REG_RIP as usize] = running.fault as i64;
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
