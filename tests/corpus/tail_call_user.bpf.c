// A jump table that user space fills, and a kprobe that is only a target of it.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} jump_table SEC(".maps");

static __noinline int before(void *ctx)
{
	return bpf_get_prandom_u32();
}

SEC("kprobe/tcp_set_state")
int entry(struct pt_regs *ctx)
{
	before(ctx);
	bpf_tail_call(ctx, &jump_table, 0);
	return 0;
}

SEC("kprobe/only_a_tail_call_target")
int target(struct pt_regs *ctx)
{
	bpf_printk("jumped");
	return 0;
}
