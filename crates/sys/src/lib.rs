//! Raw Linux for BPF: bpf(2), perf events, buffers, netlink, tracefs, bpffs.
//!
//! Every function here is one thing that the kernel offers, with types that keep it safe to call. Nothing decides, retries
//! with less or explains: that is the next crate's part. Descriptors are owned ([`std::os::fd::OwnedFd`] inside). Errors are
//! [`Errno`]; where a function says nothing of them, they are those of its call's manual page. `unsafe` code lives in files
//! that open with what they promise; beside this crate only `skep-vm` has any, for the memory of programs and compiled code.
//!
//! | area | module |
//! |---|---|
//! | bpf(2) | [`bpf`] |
//! | memory shared with the kernel | [`mmap`], [`ringbuf`], [`user_ringbuf`], [`perf_ring`] |
//! | events, network devices, sockets | [`perf_event`], [`netlink`], [`netns`], [`tap`], [`socket`] |
//! | kernel file systems without mounting them | [`mount`], [`tracefs`], [`bpffs`] |
//! | facts about the machine and this process | [`cpu`], [`version`], [`caps`], [`memlock`], [`kallsyms`], [`kconfig`], [`syscalls`], [`tracepoints`] |
//! | what other processes do, and what was changed in them | [`ptrace`], [`tracees`], [`seccomp`], [`patches`], [`board`] |
//! | files of people, and those of other processes | [`file`](mod@file), [`inside`], [`stdout`] |
//! | waiting, and undoing after death | [`epoll`], [`wake`], [`signal`], [`child`], [`front`], [`rcu`], [`undo`] |

mod errno;
mod last_stop;
mod proc;
mod robust;

pub mod board;
pub mod bpf;
pub mod bpffs;
pub mod caps;
pub mod child;
pub mod cpu;
pub mod epoll;
pub mod file;
pub mod front;
pub mod inside;
pub mod kallsyms;
pub mod kconfig;
pub mod memlock;
pub mod mmap;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod patches;
pub mod perf_event;
pub mod perf_ring;
pub mod ptrace;
pub mod rcu;
pub mod ringbuf;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod stdout;
pub mod syscalls;
pub mod tap;
mod trace_instance;
pub mod tracees;
pub mod tracefs;
pub mod tracepoints;
pub mod undo;
pub mod user_ringbuf;
pub mod version;
pub mod wake;

pub use errno::{Errno, io_text, strerror};

/// Bytes of a page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}
