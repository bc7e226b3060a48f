// Which container starts which program.
//
//     sudo skep run examples/container_execsnoop_ppid.bpf.c
//
//     TIME      NET_NS      CONTAINER_ID  CONTAINER_NAME          COMM  PID    PPID   RET  ARGS
//     11:02:07  4026532281  3f9c0a1b22d4  docker-3f9c0a....scope  ls    51858  51857  0    /bin/ls -l
//     11:02:09  4026531840                session-2.scope         ls    51901  1711   0    /bin/ls
//
// The kernel knows no containers, only what they are made of. The number of the
// network namespace tells them apart, and container engines name a control group
// after each container: `docker-ID.scope`, `cri-containerd-ID.scope`,
// `libpod-ID.scope`, or just ID, 64 hexadecimal digits. The first twelve are what
// `docker ps` shows.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "exec_args.h"

#define ID_LEN 12
#define NAME_LEN 96

struct event {
	u32 net_ns;
	char container_id[ID_LEN + 1];
	char container_name[NAME_LEN];
	char comm[16];
	int pid;
	int ppid;
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

static __always_inline int is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

// Copies the id, if one begins here.
static __always_inline int take_id(const char *name, char *id)
{
	int i;

	for (i = 0; i < ID_LEN; i++)
		if (!is_hex(name[i]))
			return 0;
	__builtin_memcpy(id, name, ID_LEN);
	return 1;
}

// The id begins the name, or follows one of the engines' prefixes. Looking at a few
// fixed places keeps the program small; a search through the whole name would have
// the verifier walk every way through it.
static __always_inline void find_id(const char *name, char *id)
{
	if (take_id(name, id))
		return;
	if (name[4] == '-' && take_id(name + 5, id)) // crio-
		return;
	if (name[6] == '-' && take_id(name + 7, id)) // docker-, libpod-
		return;
	if (name[14] == '-') // cri-containerd-
		take_id(name + 15, id);
}

SEC("tracepoint/syscalls/sys_enter_execve")
int enter_execve(struct trace_event_raw_sys_enter *ctx)
{
	int pid = bpf_get_current_pid_tgid() >> 32;
	struct pending *p;

	if (bpf_map_update_elem(&started, &pid, &empty, BPF_ANY))
		return 0;
	p = bpf_map_lookup_elem(&started, &pid);
	if (p)
		p->used = collect_args(p->event.args, ctx);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exit_execve(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	int pid = bpf_get_current_pid_tgid() >> 32;
	struct pending *p = bpf_map_lookup_elem(&started, &pid);
	const char *group;
	struct event *e;
	unsigned int size;

	if (!p)
		return 0;
	e = &p->event;
	e->net_ns = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	// The group in the unified hierarchy (cgroup v2).
	group = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, name);
	bpf_probe_read_kernel_str(e->container_name, sizeof(e->container_name), group);
	find_id(e->container_name, e->container_id);
	bpf_get_current_comm(&e->comm, sizeof(e->comm));
	e->pid = pid;
	e->ppid = BPF_CORE_READ(task, real_parent, tgid);
	e->ret = ctx->ret;

	size = offsetof(struct event, args) + p->used;
	if (size <= sizeof(*e))
		bpf_ringbuf_output(&events, e, size, 0);
	bpf_map_delete_elem(&started, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
