// Programs with `?` wait until they are asked for.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("?kprobe/do_unlinkat")
int BPF_KPROBE(off)
{
	return 0;
}

SEC("?tp/syscalls/sys_enter_write")
int off_too(void *ctx)
{
	return 0;
}

SEC("tp/syscalls/sys_enter_read")
int on(void *ctx)
{
	return 0;
}
