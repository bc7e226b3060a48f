// cflags: -g0
// Compiled without -g: no BTF, no line information.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("xdp")
int pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

SEC("tp/syscalls/sys_enter_write")
int handle(void *ctx)
{
	bpf_printk("write by %d", (int)bpf_get_current_pid_tgid());
	return 0;
}
