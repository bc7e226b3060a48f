// Maps that an application gives their size before loading.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
} sizeless SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
} perf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(key_size, 4);
	__uint(value_size, 127 * 8);
} stacks SEC(".maps");

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	__u32 zero = 0;
	__u64 v = 1;

	bpf_map_update_elem(&sizeless, &zero, &v, 0);
	bpf_ringbuf_output(&ring, &v, sizeof(v), 0);
	bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &v, sizeof(v));
	return 0;
}

SEC("raw_tp/sys_exit")
int with_stack(void *ctx)
{
	return bpf_get_stackid(ctx, &stacks, 0);
}
