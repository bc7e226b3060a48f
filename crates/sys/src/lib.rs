//! Raw Linux for BPF: bpf(2), perf events, buffers, netlink, tracefs, bpffs.
