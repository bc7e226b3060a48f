// execsnoop, with the parent: its number and its name.
//
//     sudo skep run examples/execsnoop_ppid.bpf.c
//     sudo skep run examples/execsnoop_ppid.bpf.c --only_ppid 1711
//
//     TIME      COMM  PID    PPID   PARENT  RET  ARGS
//     11:02:07  sh    51857  1711   bash    0    /bin/sh -c ls -l /srv
//     11:02:07  ls    51858  51857  sh      0    /bin/ls -l /srv
//
// The parent is in the kernel's task_struct, behind a pointer. BPF_CORE_READ follows
// it and finds each field at the offset that it has in the running kernel.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "exec_args.h"

// 0: all processes.
const volatile int only_ppid = 0;

struct event {
	char comm[16];
	int pid;
	int ppid;
	char parent[16];
	int ret;
	char args[ARGS_LEN];
};

struct pending {
	unsigned int used;
	struct event event;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, int);
	__type(value, struct pending);
} started SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1024 * 1024);
} events SEC(".maps");

static const struct pending empty;

SEC("tracepoint/syscalls/sys_enter_execve")
int enter_execve(struct trace_event_raw_sys_enter *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	// `real_parent` started the process; `parent` may be a debugger.
	int ppid = BPF_CORE_READ(task, real_parent, tgid);
	int pid = bpf_get_current_pid_tgid() >> 32;
	struct pending *p;

	if (only_ppid && ppid != only_ppid)
		return 0;
	if (bpf_map_update_elem(&started, &pid, &empty, BPF_ANY))
		return 0;
	p = bpf_map_lookup_elem(&started, &pid);
	if (!p)
		return 0;
	p->event.pid = pid;
	p->event.ppid = ppid;
	BPF_CORE_READ_STR_INTO(&p->event.parent, task, real_parent, comm);
	p->used = collect_args(p->event.args, ctx);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exit_execve(struct trace_event_raw_sys_exit *ctx)
{
	int pid = bpf_get_current_pid_tgid() >> 32;
	struct pending *p = bpf_map_lookup_elem(&started, &pid);
	unsigned int size;

	if (!p)
		return 0;
	p->event.ret = ctx->ret;
	bpf_get_current_comm(&p->event.comm, sizeof(p->event.comm));
	size = offsetof(struct event, args) + p->used;
	if (size <= sizeof(p->event))
		bpf_ringbuf_output(&events, &p->event, size, 0);
	bpf_map_delete_elem(&started, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
