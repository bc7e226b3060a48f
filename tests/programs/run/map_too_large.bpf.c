// An array of 2^60 bytes.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1 << 30);
	__uint(key_size, 4);
	__uint(value_size, 1 << 30);
} enormous SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int bad_map_too_large(void *ctx)
{
	unsigned int key = 0;

	return bpf_map_lookup_elem(&enormous, &key) != 0;
}

char LICENSE[] SEC("license") = "GPL";
