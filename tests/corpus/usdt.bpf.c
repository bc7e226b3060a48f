// endian: el
// Statically defined probes: the two maps and the argument reader come from usdt.bpf.h.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>

char LICENSE[] SEC("license") = "GPL";

SEC("usdt/libc.so.6:libc:setjmp")
int BPF_USDT(jump, void *env, int val, void *pc)
{
	bpf_printk("setjmp %p %d", env, val);
	return 0;
}

SEC("usdt")
int bare(struct pt_regs *ctx)
{
	long x;

	if (bpf_usdt_arg(ctx, 0, &x))
		return 0;
	return bpf_usdt_arg_cnt(ctx) + bpf_usdt_cookie(ctx) == x;
}
