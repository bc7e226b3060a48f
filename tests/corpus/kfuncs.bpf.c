// Kernel functions: present, absent and weak, in a sleepable system call program.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

extern struct task_struct *bpf_task_acquire(struct task_struct *p) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym;
extern struct task_struct *bpf_task_from_pid(int pid) __ksym __weak;
extern void no_such_kfunc(int a) __ksym __weak;

SEC("tp_btf/task_newtask")
int BPF_PROG(use, struct task_struct *task, u64 flags)
{
	struct task_struct *t = bpf_task_acquire(task);

	if (t)
		bpf_task_release(t);
	if (no_such_kfunc)
		no_such_kfunc(1);
	return 0;
}

SEC("tp_btf/task_newtask")
int BPF_PROG(from_pid, struct task_struct *task, u64 flags)
{
	struct task_struct *t;

	if (!bpf_task_from_pid)
		return 0;
	t = bpf_task_from_pid(1);
	if (t)
		bpf_task_release(t);
	return 0;
}
