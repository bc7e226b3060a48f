// SPDX-License-Identifier: MIT OR Apache-2.0
// The walk along the kernel's stack and nothing else: what no program that wants a stack can cost less than.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define FRAMES 127

char LICENSE[] SEC("license") = "GPL";

struct stack {
	__u64 frames[FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stack);
} stacks SEC(".maps");

SEC("tracepoint/raw_syscalls/sys_enter")
int walk(void *ctx)
{
	__u32 key = 0;
	struct stack *stack = bpf_map_lookup_elem(&stacks, &key);

	if (stack)
		bpf_get_stack(ctx, stack->frames, sizeof(stack->frames), 0);
	return 0;
}
