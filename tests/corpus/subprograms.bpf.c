// Static subprograms that call each other; two programs share them.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

static __noinline int leaf(int a, int b)
{
	return a * 3 + b + (int)bpf_get_smp_processor_id();
}

static __noinline int middle(int a)
{
	return leaf(a, 1) - leaf(1, a);
}

static __noinline int other(void *ctx, int n)
{
	bpf_printk("n %d", n);
	return n + leaf(n, n);
}

SEC("raw_tp/sys_enter")
int one(void *ctx)
{
	return middle(bpf_get_prandom_u32());
}

SEC("raw_tp/sys_exit")
int two(void *ctx)
{
	return other(ctx, middle(2)) + leaf(3, 4);
}

SEC("raw_tp/sched_switch")
int three(void *ctx)
{
	return leaf(5, bpf_get_prandom_u32());
}
