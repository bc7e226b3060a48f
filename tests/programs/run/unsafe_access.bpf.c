// Takes the answer of a map for granted: the verifier refuses it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, unsigned int);
	__type(value, unsigned long);
} numbers SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int bad_access(void *ctx)
{
	unsigned int key = 0;
	unsigned long *number = bpf_map_lookup_elem(&numbers, &key);

	return *number;
}

char LICENSE[] SEC("license") = "GPL";
