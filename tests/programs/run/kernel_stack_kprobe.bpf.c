// The stacks of a thread at functions.
#include "kernel_stack.h"

SEC("kprobe/ksys_write")
int enter(void *ctx)
{
	return count(ctx, 1);
}

SEC("kprobe/hrtimer_start_range_ns")
int timer(void *ctx)
{
	return count(ctx, 2);
}

SEC("kprobe/try_to_wake_up")
int wakes(void *ctx)
{
	return count(ctx, 3);
}

char LICENSE[] SEC("license") = "GPL";
