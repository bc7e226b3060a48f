// Programs that the verifier refuses, for a reason each.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} map SEC(".maps");

SEC("raw_tp/sys_enter")
int no_null_check(void *ctx)
{
	__u32 key = 1;
	__u64 *v = bpf_map_lookup_elem(&map, &key);

	return *v;
}

SEC("xdp")
int no_bounds_check(struct xdp_md *ctx)
{
	return *(char *)(long)ctx->data;
}

SEC("raw_tp/sys_enter")
int endless(void *ctx)
{
	volatile int x = 1;

	while (x)
		;
	return 0;
}

SEC("kprobe/do_unlinkat")
int kernel_pointer(struct pt_regs *ctx)
{
	return *(int *)ctx->di;
}

SEC("raw_tp/sys_enter")
int good(void *ctx)
{
	return 0;
}
