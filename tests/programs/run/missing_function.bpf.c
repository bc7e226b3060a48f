// The function is called do_unlinkat.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

SEC("fentry/do_unlinkit")
int BPF_PROG(bad_function, int dfd, struct filename *name)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
