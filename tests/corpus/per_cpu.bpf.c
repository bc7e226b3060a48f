// Values per processor, and helpers that reach another processor's.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	__u32 zero = 0;
	__u64 *mine = bpf_map_lookup_elem(&slots, &zero);
	__u64 *other = bpf_map_lookup_percpu_elem(&slots, &zero, 0);

	if (mine)
		*mine += 1;
	return other && *other > 5;
}
