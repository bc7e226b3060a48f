// User memory read with relocated types.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct sockaddr_in___mine {
	__u16 sin_family;
	__u16 sin_port;
} __attribute__((preserve_access_index));

SEC("tp/syscalls/sys_enter_connect")
int connect(struct trace_event_raw_sys_enter *ctx)
{
	struct sockaddr_in *addr = (void *)ctx->args[1];

	return BPF_CORE_READ_USER(addr, sin_port) + BPF_PROBE_READ_USER(addr, sin_family);
}
