// Dynamic pointers over a ring buffer and over a map value.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

SEC("tp/syscalls/sys_enter_getpgid")
int use(void *ctx)
{
	struct bpf_dynptr ptr;
	__u32 pid = bpf_get_current_pid_tgid();

	bpf_ringbuf_reserve_dynptr(&ring, 64, 0, &ptr);
	bpf_dynptr_write(&ptr, 0, &pid, sizeof(pid), 0);
	bpf_ringbuf_submit_dynptr(&ptr, 0);
	return 0;
}
