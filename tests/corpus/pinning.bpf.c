// Maps pinned by name.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 16);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} skep_test_pinned SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 16);
	__uint(pinning, LIBBPF_PIN_NONE);
	__uint(numa_node, 0);
	__uint(map_flags, BPF_F_NUMA_NODE | BPF_F_MMAPABLE);
} not_pinned SEC(".maps");

SEC("tp/syscalls/sys_enter_write")
int use(void *ctx)
{
	__u32 zero = 0;
	__u64 *v = bpf_map_lookup_elem(&skep_test_pinned, &zero);

	return v && *v && bpf_map_lookup_elem(&not_pinned, &zero);
}
