// Tracepoints with typed arguments, read without helpers.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

pid_t last_pid;

SEC("tp_btf/sched_process_exec")
int BPF_PROG(exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	last_pid = task->tgid;
	return 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(sched, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return next->pid == last_pid ? 0 : prev->prio;
}
