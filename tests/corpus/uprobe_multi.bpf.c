// Probes on many user-space functions at once.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("uprobe.multi//bin/bash:rl_*")
int enter(struct pt_regs *ctx)
{
	return 0;
}

SEC("uretprobe.multi/libc.so.6:str*")
int leave(struct pt_regs *ctx)
{
	return 0;
}

SEC("uprobe.multi.s//bin/bash:readline")
int sleepable(struct pt_regs *ctx)
{
	return 0;
}

SEC("uretprobe.multi.s//bin/bash:readline")
int sleepable_return(struct pt_regs *ctx)
{
	return 0;
}

SEC("uprobe.session//bin/bash:readline")
int session(struct pt_regs *ctx)
{
	return 0;
}
