// Events that are built in a map, sent with a length that is not constant; and a size that the application sets.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct started {
	int pid, uid;
	unsigned int length;
	char comm[16];
	char path[256];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct started);
} buffer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
} begun SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} output SEC(".maps");

SEC("tp/syscalls/sys_enter_execve")
int started(struct trace_event_raw_sys_enter *ctx)
{
	__u32 zero = 0, pid = bpf_get_current_pid_tgid() >> 32;
	__u64 now = bpf_ktime_get_ns();
	struct started *event = bpf_map_lookup_elem(&buffer, &zero);

	if (!event)
		return 0;
	bpf_map_update_elem(&begun, &pid, &now, BPF_ANY);
	event->pid = pid;
	event->uid = bpf_get_current_uid_gid();
	bpf_get_current_comm(&event->comm, sizeof(event->comm));
	long read = bpf_probe_read_user_str(&event->path, sizeof(event->path), (const char *)ctx->args[0]);
	if (read < 0)
		read = 0;
	event->length = read;
	bpf_perf_event_output(ctx, &output, BPF_F_CURRENT_CPU, event,
			      __builtin_offsetof(struct started, path) + (read & 255));
	return 0;
}
