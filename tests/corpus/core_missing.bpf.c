// A field that no kernel has, reached: only an explanation helps.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct task_struct___gone {
	int no_such_field_at_all;
} __attribute__((preserve_access_index));

SEC("raw_tp/sys_enter")
int reached(void *ctx)
{
	struct task_struct___gone *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, no_such_field_at_all);
}

SEC("raw_tp/sys_exit")
int guarded(void *ctx)
{
	struct task_struct___gone *task = (void *)bpf_get_current_task();

	if (bpf_core_field_exists(task->no_such_field_at_all))
		return BPF_CORE_READ(task, no_such_field_at_all);
	return 0;
}
