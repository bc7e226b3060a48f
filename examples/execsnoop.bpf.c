// Every program that is started: who, from where, with which arguments, and
// whether it worked.
//
//     sudo skep run examples/execsnoop.bpf.c
//
//     TIME      COMM  PID    PPID   RET      ARGS
//     11:02:07  sh    51857  1711   0        /bin/sh -c ls -l /srv
//     11:02:07  ls    51858  51857  0        /bin/ls -l /srv
//     11:02:09  bash  51860  1711   -ENOENT  /usr/bin/nosuch
//
// The arguments are known when the system call starts, its result when it
// returns. So two probes work together: the first one collects the arguments
// in a map, the second one adds the result and sends the event off.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define ARG_LEN 128  // longest part of one argument that is kept
#define MAX_ARGS 60  // arguments that are kept; more show as " ..."

// One line of output. skep takes the columns from the names of the fields.
struct event {
	char comm[16];
	int pid;
	int ppid;
	int ret;
	char args[MAX_ARGS * ARG_LEN];
};

// An exec that has begun and not yet returned.
struct pending {
	unsigned int used;  // bytes of event.args that are filled
	struct event event;
};

// By process id. 256 execs can be on their way at once.
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

// A stack frame has only 512 bytes, so the empty value lies here.
static const struct pending empty;

SEC("tracepoint/syscalls/sys_enter_execve")
int enter_execve(struct trace_event_raw_sys_enter *ctx)
{
	const char *path = (const char *)ctx->args[0];
	const char *const *argv = (const char *const *)ctx->args[1];
	int pid = bpf_get_current_pid_tgid() >> 32;
	struct pending *p;
	const char *arg;
	unsigned int used = 0;
	long n;
	int i;

	if (bpf_map_update_elem(&started, &pid, &empty, BPF_ANY))
		return 0;
	p = bpf_map_lookup_elem(&started, &pid);
	if (!p)
		return 0;

	// The path says more than argv[0], which is whatever the caller likes.
	arg = path;
	for (i = 1; i <= MAX_ARGS; i++) {
		if (used > sizeof(p->event.args) - ARG_LEN)
			break;
		n = bpf_probe_read_user_str(&p->event.args[used], ARG_LEN, arg);
		if (n < 1 || n > ARG_LEN)
			break;
		used += n;
		// The read counts the closing zero byte: turn it into a space.
		if (used - 1 < sizeof(p->event.args))
			p->event.args[used - 1] = ' ';

		arg = NULL;
		bpf_probe_read_user(&arg, sizeof(arg), &argv[i]);
		if (!arg)
			break;
	}

	if (arg && used <= sizeof(p->event.args) - 4) {
		__builtin_memcpy(&p->event.args[used], "...", 4);
		used += 4;
	} else if (used && used - 1 < sizeof(p->event.args)) {
		p->event.args[used - 1] = 0;
	}
	p->used = used;
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exit_execve(struct trace_event_raw_sys_exit *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	int pid = bpf_get_current_pid_tgid() >> 32;
	struct pending *p = bpf_map_lookup_elem(&started, &pid);
	unsigned int size;

	if (!p)
		return 0;
	p->event.pid = pid;
	p->event.ppid = BPF_CORE_READ(task, real_parent, tgid);
	p->event.ret = ctx->ret;
	bpf_get_current_comm(&p->event.comm, sizeof(p->event.comm));

	// Send only as much of `args` as is used.
	size = offsetof(struct event, args) + p->used;
	if (size <= sizeof(p->event))
		bpf_ringbuf_output(&events, &p->event, size, 0);
	bpf_map_delete_elem(&started, &pid);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
