// A type that lives in a module (connection tracking).
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

struct nf_conn___mine {
	unsigned long status;
	__u32 mark;
} __attribute__((preserve_access_index));

SEC("raw_tp/sys_enter")
int mark(struct bpf_raw_tracepoint_args *ctx)
{
	struct nf_conn___mine *ct = (void *)ctx->args[0];

	if (!bpf_core_field_exists(ct->status))
		return 0;
	return BPF_CORE_READ(ct, status);
}
