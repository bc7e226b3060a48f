// A stack map whose value size an application chooses.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, 4);
} stacks SEC(".maps");

SEC("raw_tp/sys_exit")
int with_stack(void *ctx)
{
	return bpf_get_stackid(ctx, &stacks, 0);
}
