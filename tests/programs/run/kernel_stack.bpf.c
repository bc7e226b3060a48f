// The stacks of a thread at tracepoints.
#include "kernel_stack.h"

SEC("tracepoint/syscalls/sys_enter_getpgid")
int enter(void *ctx)
{
	return count(ctx, 1);
}

SEC("tracepoint/sched/sched_switch")
int switched(void *ctx)
{
	return count(ctx, 2);
}

SEC("tracepoint/timer/hrtimer_start")
int timer(void *ctx)
{
	return count(ctx, 3);
}

SEC("tracepoint/kmem/mm_page_alloc")
int page(void *ctx)
{
	return count(ctx, 4);
}

char LICENSE[] SEC("license") = "GPL";
