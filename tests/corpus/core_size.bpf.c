// Sizes of fields and types, byte offsets.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sys_enter")
int sizes(void *ctx)
{
	return bpf_core_field_size(((struct task_struct *)0)->comm) + bpf_core_type_size(struct task_struct) +
	       bpf_core_type_size(struct pt_regs) + bpf_core_field_offset(((struct task_struct *)0)->tgid);
}
