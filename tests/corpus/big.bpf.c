// A program of some thousand instructions.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define REPEAT_4(x) x x x x
#define REPEAT_256(x) REPEAT_4(REPEAT_4(REPEAT_4(REPEAT_4(x))))

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} slots SEC(".maps");

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	__u64 sum = bpf_get_prandom_u32(), *slot;
	__u32 key;

	REPEAT_256(
		key = sum & 1023;
		slot = bpf_map_lookup_elem(&slots, &key);
		if (slot)
			sum += *slot ^ (sum << 3);)
	return sum;
}
