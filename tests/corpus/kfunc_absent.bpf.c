// A strong kernel function that no kernel has.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

extern int no_such_kfunc_anywhere(int a) __ksym;

SEC("tp_btf/task_newtask")
int BPF_PROG(use, struct task_struct *task, u64 flags)
{
	return no_such_kfunc_anywhere(1);
}
