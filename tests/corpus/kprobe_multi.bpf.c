// Probes on many functions at once.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

unsigned long long hits;

SEC("kprobe.multi/vfs_*")
int BPF_KPROBE(enter)
{
	__sync_fetch_and_add(&hits, 1);
	return bpf_get_func_ip(ctx) == 0;
}

SEC("kretprobe.multi/vfs_rea?")
int BPF_KRETPROBE(leave, long ret)
{
	return bpf_get_attach_cookie(ctx) == (unsigned long long)ret;
}

SEC("kprobe.session/vfs_open")
int session(struct pt_regs *ctx)
{
	return 0;
}

SEC("kprobe.multi")
int bare(struct pt_regs *ctx)
{
	return 0;
}
