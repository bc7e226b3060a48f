// Nobody knows where a program in this section belongs.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tracepiont/syscalls/sys_enter_getpgid")
int bad_section(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
