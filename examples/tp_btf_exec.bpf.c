// A tracepoint with types: every program that has really started.
//
//     sudo skep run examples/tp_btf_exec.bpf.c
//
//     TIME      PID    OLD_PID  COMM  FILENAME
//     11:02:07  51858  51858    ls    /bin/ls
//
// A tp_btf program gets what the kernel's code passes to the tracepoint, here
// TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm), as typed
// pointers that can be followed with plain C.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct event {
	int pid;
	int old_pid;
	char comm[16];
	char filename[128];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("tp_btf/sched_process_exec")
int BPF_PROG(handle_exec, struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	e->pid = p->tgid;
	e->old_pid = old_pid;
	bpf_probe_read_kernel_str(e->comm, sizeof(e->comm), p->comm);
	bpf_probe_read_kernel_str(e->filename, sizeof(e->filename), bprm->filename);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
