// Tracepoint contexts from vmlinux.h; `args` is a trailing array, reached through CO-RE.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct event {
	int pid;
	int ret;
	char comm[16];
	char filename[128];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

SEC("tracepoint/syscalls/sys_enter_execve")
int enter(struct trace_event_raw_sys_enter *ctx)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->ret = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	bpf_probe_read_user_str(e->filename, sizeof(e->filename), (void *)ctx->args[0]);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("tp/syscalls/sys_exit_execve")
int leave(struct trace_event_raw_sys_exit *ctx)
{
	bpf_printk("execve: %d", (int)BPF_CORE_READ(ctx, ret));
	return 0;
}

SEC("tp/sched/sched_process_exec")
int exec(struct trace_event_raw_sched_process_exec *ctx)
{
	char name[64];
	unsigned int at = ctx->__data_loc_filename & 0xffff;

	bpf_probe_read_kernel_str(name, sizeof(name), (void *)ctx + at);
	bpf_printk("exec %s", name);
	return 0;
}
