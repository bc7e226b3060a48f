// A ring that user space fills.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

__u64 received;

static long take(struct bpf_dynptr *record, void *context)
{
	__u64 value = 0;

	bpf_dynptr_read(&value, sizeof(value), record, 0, 0);
	received += value;
	return 0;
}

SEC("tp/syscalls/sys_enter_getpgid")
int drain(void *ctx)
{
	return bpf_user_ringbuf_drain(&ring, take, 0, 0) < 0;
}
