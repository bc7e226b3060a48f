// Counts the reads of each process in a hash, and all of them in one place of an array and in a histogram of a
// global variable: tables at the end of a run.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, unsigned int);
	__type(value, unsigned long long);
} by_process SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 16);
	__type(key, unsigned int);
	__type(value, unsigned long long);
} totals SEC(".maps");

struct sizes {
	unsigned int slots[4];
};
struct sizes sizes[2];

SEC("tp/syscalls/sys_enter_read")
int count_reads(void *ctx)
{
	unsigned int pid = bpf_get_current_pid_tgid() >> 32;
	unsigned long long one = 1, *count;
	unsigned int place = 1;

	count = bpf_map_lookup_elem(&by_process, &pid);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		bpf_map_update_elem(&by_process, &pid, &one, BPF_ANY);
	count = bpf_map_lookup_elem(&totals, &place);
	if (count)
		__sync_fetch_and_add(count, 1);
	__sync_fetch_and_add(&sizes[1].slots[2], 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
