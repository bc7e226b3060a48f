//! eBPF for applications: open, load, attach, read.
