// Bounded loops, unrolled and not.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sys_enter")
int bounded(void *ctx)
{
	char buf[64] = {};
	__u64 sum = 0;
	int i;

	bpf_get_current_comm(buf, 16);
	for (i = 0; i < 64; i++)
		sum = sum * 31 + buf[i];
	return sum;
}

SEC("raw_tp/sys_exit")
int unrolled(void *ctx)
{
	__u64 sum = bpf_get_prandom_u32();
	int i;

#pragma unroll
	for (i = 0; i < 16; i++)
		sum += sum >> i;
	return sum;
}
