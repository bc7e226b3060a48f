//! Events of processes, without privileges over the kernel: what a tracer sees of a command that it starts, or of a process that it
//! may trace.
//!
//! # How
//!
//! Three ways exist to see system calls, and all are used:
//!
//! - The code of a command of our own is *understood* ([`skep_binary::calls`]), and jumps around the calls that somebody wants lead to *gates* (modules `gate` and `call_gate`):
//!   there a task tells what it does without being stopped, while it does so often, and is stopped else. All other calls cost nothing.
//! - Where code is made at run time, or is not understood, where a process makes rules of its own for its calls or starts many programs, and where all
//!   calls are wanted, a command has a *filter* ([`skep_sys::seccomp`]): only the calls that somebody wants
//!   stop. A wanted call costs one stop, or two if its end is wanted too, and all others pay a little.
//! - A process that runs already ([`Tracer::join`]) is stopped at *every* system call (`PTRACE_SYSCALL`), twice. A filter could be
//!   put into it as well, but never taken out again: it would fail its calls with `ENOSYS` from the moment that we are gone.
//!
//! Functions of programs and libraries stop at breakpoints, which become gates where they are hit again and again (the module `breakpoint`, which also tells what the target may notice of them). To know of
//! new code, mappings of files that can be executed are stopped at as well.
//!
//! Births, execs, ends and signals are stops that ptrace reports in either case. Clocks and counters stop nobody (module `sample`).
//!
//! # What the target may notice
//!
//! - A tracer: `TracerPid` in `/proc/self/status`, and it cannot be traced by anybody else.
//! - Without `CAP_SYS_ADMIN`, a filtered command cannot gain rights by exec (`no_new_privs`): `sudo` and `ping` with the set-user-id bit do
//!   not get them. The same holds for every traced process, filter or not, unless the tracer is root.
//! - An interruption when we join it or leave it: calls that the kernel does not start again after a stop (`epoll_wait`, signal(7))
//!   return `EINTR` then, as they do after SIGSTOP and SIGCONT.
//! - Time: some microseconds for each stop, one or two at a gate; a gate makes one call, gettid(2).
//! - A stack of 200 bytes more where a gate is; who calls with a stack pointer that leads to no memory faults there.
//! - A handler that comes between a call and the gates around it may take the call's end along, or jump away before the call is made (siglongjmp(3)): an end that is not told of is
//!   counted ([`Tracer::unwatched`]). When a process with several threads gets the filter, a call that one of them is about to make may be told of twice.
//! - `Cpus_allowed` in `/proc/self/status`, while it stops all the time (the module `beside`); `sched_getaffinity` tells the truth.
//!
//! Whatever becomes of us, the target lives on. Tasks without a filter are simply set free by the kernel. Those with one need a tracer
//! to the end of their lives, since without one a wanted call fails with `ENOSYS`. So the process that traces should not be the one that people
//! see and kill ([`skep_sys::front`]), and when its work is over it lets the calls of tasks that still live pass
//! ([`Tracer::stay`]). If it is killed all the same, a small process that was started before them takes over its tracees
//! ([`skep_sys::undo::ThreadGuard`]): those with a filter are stopped as a job is before our thread sets them free, and go on when they are traced again. What they and their makers can see of that is what SIGSTOP and SIGCONT do. Where Yama lets nobody but ancestors trace
//! (`ptrace_scope` above 0) it cannot help. Breakpoints are taken out by such a process as well, where it may, and who comes by one
//! has a handler for it (the module `refuge`); a process that handles, ignores or holds back SIGTRAP by itself does with it what it does. Who makes a call for us finds back
//! by itself (the module `way_back`), if it has no shadow stack. A child whose maker was killed before we heard of it has breakpoints that are not seen.
//!
//! Programs of another architecture (a 32-bit program on a 64-bit kernel) run, but their system calls are not seen: their numbers
//! mean other things. They are counted ([`Tally::foreign`]).
//!
//! Sources: ptrace(2), seccomp(2) and `Documentation/userspace-api/seccomp_filter.rst` of Linux 6.18.

mod beside;
mod breakpoint;
mod call_gate;
mod call_plan;
mod calls;
mod command;
mod displace;
pub mod fuzz;
mod gate;
mod image;
mod inject;
mod mappings;
mod procfs;
mod record;
mod refuge;
mod registers;
mod sample;
mod shadow;
mod sigtrap;
mod sites;
mod source;
mod span;
mod stack;
mod task;
mod tracer;
mod unwatched;
mod way_back;

pub use calls::Calls;
pub(crate) use command::Tracing;
pub(crate) use image::{Images, TaskLayout};
pub(crate) use sample::check as check_sampling;
pub use sites::{Site, Sites};
pub(crate) use skep_binary::decode::MAX_LEN as MAX_INSN_BYTES;
pub(crate) use source::Hook;
pub use source::Source;
pub use task::TracedTask;
pub use tracer::Tracer;
pub use unwatched::Unwatched;

use std::sync::Arc;

/// What is to be seen.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// System calls as they start.
    pub enter: Calls,
    /// System calls as they end.
    pub exit: Calls,
    /// Signals as they are delivered.
    pub signals: bool,
    /// Places of breakpoints.
    pub sites: Arc<Sites>,
}

/// Whether a breakpoint can be at the first of some instructions.
pub(crate) fn displaceable(bytes: &[u8]) -> Result<(), skep_binary::decode::Unknown> {
    skep_binary::decode::decode(bytes).map(drop)
}

/// Something that a task did.
#[derive(Debug)]
pub struct Event<'a> {
    /// Who. It is stopped, so its memory can be read.
    pub task: &'a Arc<TracedTask>,
    /// What.
    pub what: What,
}

/// What a task did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It starts a system call.
    Enter {
        /// Number.
        nr: u32,
        /// Arguments.
        args: [u64; 6],
        /// Instruction and stack pointer.
        at: (u64, u64),
    },
    /// A system call ends.
    Exit {
        /// Number.
        nr: u32,
        /// Its value; errors are negative.
        ret: i64,
        /// Instruction and stack pointer.
        at: (u64, u64),
    },
    /// It made a task, which has not run yet.
    Born {
        /// The thread id.
        tid: u32,
        /// The process id, which is its maker's for a thread.
        pid: u32,
    },
    /// It executes another program.
    Executed {
        /// The thread id that it had before; its own unless another thread than the first one called exec.
        old_tid: u32,
        /// The path that it gave.
        path: Vec<u8>,
    },
    /// It ends; its memory is still there.
    Ending {
        /// The status, as of wait(2).
        status: i32,
        /// Whether it is the last task of its process.
        last: bool,
    },
    /// It came by a breakpoint, or returned from a function that began at one.
    Probe {
        /// Where that is in the file.
        site: Site,
        /// It returned.
        ret: bool,
        /// Where that is in memory.
        func: u64,
        /// Its registers, as `struct pt_regs`.
        registers: Vec<u8>,
    },
    /// It gets a signal, now.
    Signal {
        /// Number.
        signal: i32,
        /// `si_errno`.
        errno: i32,
        /// `si_code`.
        code: i32,
    },
}

/// What was counted beside the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Programs of another architecture that were executed; nothing is seen of their system calls.
    pub foreign: u64,
    /// Tasks that would get no other tracer after our death, because the list of them was full.
    pub unlisted: u64,
}
