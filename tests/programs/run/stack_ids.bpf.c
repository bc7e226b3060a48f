// Who asks for the group of process 0x5ce9: the stacks of the kernel and of the process, as ids in an event and in a key.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct event {
	unsigned int pid;
	int kern_stack_id;
	int user_stack_id;
};

struct asker {
	unsigned int tgid;
	int stackid;
};

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1024);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, 127 * sizeof(__u64));
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct asker);
	__type(value, __u64);
} askers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int asked(struct trace_event_raw_sys_enter *ctx)
{
	struct event event = {};
	struct asker asker = {};
	__u64 one = 1;

	if (ctx->args[0] != 0x5ce9)
		return 0;
	event.pid = bpf_get_current_pid_tgid() >> 32;
	event.kern_stack_id = bpf_get_stackid(ctx, &stacks, 0);
	event.user_stack_id = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	bpf_ringbuf_output(&events, &event, sizeof(event), 0);
	asker.tgid = event.pid;
	asker.stackid = event.user_stack_id;
	bpf_map_update_elem(&askers, &asker, &one, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
