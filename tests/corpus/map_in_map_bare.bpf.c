// A map of maps whose inner map nobody described: the application would.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__uint(value_size, 4);
} outer SEC(".maps");

SEC("tp/syscalls/sys_enter_write")
int look(void *ctx)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&outer, &zero) != 0;
}
