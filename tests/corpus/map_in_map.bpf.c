// Maps of maps, with inner maps that the object fills in.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct inner {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} first SEC(".maps"), second SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 3);
	__type(key, __u32);
	__array(values, struct inner);
} outer SEC(".maps") = {
	.values = { &first, 0, &second },
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH_OF_MAPS);
	__uint(max_entries, 10);
	__type(key, __u32);
	__array(values, struct {
		__uint(type, BPF_MAP_TYPE_HASH);
		__uint(max_entries, 100);
		__type(key, __u32);
		__type(value, __u64);
	});
} by_key SEC(".maps");

SEC("tp/syscalls/sys_enter_write")
int count(void *ctx)
{
	__u32 zero = 0;
	void *map = bpf_map_lookup_elem(&outer, &zero);
	__u64 *n;

	if (!map)
		map = bpf_map_lookup_elem(&by_key, &zero);
	if (!map)
		return 0;
	n = bpf_map_lookup_elem(map, &zero);
	if (n)
		*n += 1;
	return 0;
}
