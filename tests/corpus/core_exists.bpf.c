// Existence of fields, types and enumerators decides at load time.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct task_struct___new {
	unsigned int __state;
} __attribute__((preserve_access_index));

struct task_struct___old {
	long state;
} __attribute__((preserve_access_index));

struct no_such_struct {
	int a;
} __attribute__((preserve_access_index));

SEC("raw_tp/sched_switch")
int state(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct___new *task = (void *)ctx->args[1];

	if (bpf_core_field_exists(task->__state))
		return BPF_CORE_READ(task, __state);
	return BPF_CORE_READ((struct task_struct___old *)task, state);
}

SEC("raw_tp/sys_enter")
int types(void *ctx)
{
	int found = 0;

	if (bpf_core_type_exists(struct no_such_struct))
		found |= 1;
	if (bpf_core_type_exists(struct task_struct))
		found |= 2;
	return found;
}
