// One program in a section that nobody knows beside a good one.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("no_such_section/target")
int unknown(void *ctx)
{
	return 0;
}

SEC("tp/syscalls/sys_enter_write")
int known(void *ctx)
{
	return 0;
}
