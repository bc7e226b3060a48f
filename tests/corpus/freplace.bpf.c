// An extension: its target program is named by the loader.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("freplace/handle")
int replacement(struct xdp_md *ctx)
{
	return 2;
}

SEC("freplace")
int bare(struct xdp_md *ctx)
{
	return 2;
}
