// Raw tracepoints in all their spellings.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sys_enter")
int BPF_PROG(short_name, struct pt_regs *regs, long id)
{
	return id == 1;
}

SEC("raw_tracepoint/sched_switch")
int BPF_PROG(long_name, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return preempt;
}

SEC("raw_tp.w/sys_exit")
int writable(struct bpf_raw_tracepoint_args *ctx)
{
	return ctx->args[1] != 0;
}

SEC("raw_tracepoint.w/sys_exit")
int writable_long(struct bpf_raw_tracepoint_args *ctx)
{
	return 0;
}

SEC("raw_tp")
int bare(void *ctx)
{
	return 0;
}
