//! Raw Linux for BPF: bpf(2), perf events, buffers, netlink, tracefs, bpffs.

mod errno;

pub mod bpffs;
pub mod child;
pub mod kallsyms;
pub mod kconfig;
pub mod mount;
pub mod netlink;
pub mod perf_event;
pub mod signal;
pub mod tracefs;
pub mod undo;

pub use errno::Errno;
