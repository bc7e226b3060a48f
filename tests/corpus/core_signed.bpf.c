// Signedness and shifts of plain fields.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sys_enter")
int signs(void *ctx)
{
	struct task_struct *task = 0;
	int sum = __builtin_preserve_field_info(task->prio, BPF_FIELD_SIGNED);

	sum += __builtin_preserve_field_info(task->flags, BPF_FIELD_SIGNED) * 2;
	sum += __builtin_preserve_field_info(task->flags, BPF_FIELD_LSHIFT_U64) * 4;
	sum += __builtin_preserve_field_info(task->prio, BPF_FIELD_RSHIFT_U64) * 8;
	sum += __builtin_preserve_field_info(task->comm, BPF_FIELD_BYTE_SIZE);
	return sum;
}
