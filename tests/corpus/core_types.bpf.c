// Type identifiers, local and of the target.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sys_enter")
int ids(void *ctx)
{
	return bpf_core_type_id_local(struct task_struct) != bpf_core_type_id_kernel(struct task_struct) &&
	       bpf_core_type_id_kernel(pid_t) != bpf_core_type_id_local(int) &&
	       bpf_core_type_id_kernel(enum bpf_prog_type);
}

struct mine {
	int a;
};

SEC("raw_tp/sys_exit")
int local_only(void *ctx)
{
	return bpf_core_type_id_local(struct mine);
}
