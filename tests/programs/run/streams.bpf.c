// Lines for a program's own streams, one for each getpgid(2) of one process.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

const volatile unsigned int caller = 0;
int written = 0;

SEC("tp/syscalls/sys_enter_getpgid")
int tells(void *ctx)
{
	if (bpf_get_current_pid_tgid() >> 32 != caller)
		return 0;
	written = bpf_stream_printk(1, "to stdout: %d of %d\n", 3, 4);
	bpf_stream_printk(2, "to stderr: no end, \x1b[1m");
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
