// Program types with one section each.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("netfilter")
int filter(struct bpf_nf_ctx *ctx)
{
	return ctx->state->hook == 1;
}

SEC("lirc_mode2")
int infrared(unsigned int *sample)
{
	return *sample == 0;
}

struct args {
	__u64 a, b;
};

SEC("syscall")
int call(struct args *ctx)
{
	return ctx->a + ctx->b;
}
