// Maps as iproute2 and old samples wrote them, in the `maps` section.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct bpf_map_def {
	unsigned int type;
	unsigned int key_size;
	unsigned int value_size;
	unsigned int max_entries;
	unsigned int map_flags;
};

struct bpf_map_def SEC("maps") counters = {
	.type = BPF_MAP_TYPE_ARRAY,
	.key_size = sizeof(int),
	.value_size = sizeof(long),
	.max_entries = 4,
};

struct bpf_map_def SEC("maps") seen = {
	.type = BPF_MAP_TYPE_HASH,
	.key_size = sizeof(long),
	.value_size = 8,
	.max_entries = 100,
	.map_flags = 1, /* BPF_F_NO_PREALLOC */
};

SEC("tp/syscalls/sys_enter_write")
int count(void *ctx)
{
	int zero = 0;
	long *n = bpf_map_lookup_elem(&counters, &zero);
	long pid = bpf_get_current_pid_tgid();

	if (n)
		__sync_fetch_and_add(n, 1);
	bpf_map_update_elem(&seen, &pid, &pid, 0);
	return 0;
}
