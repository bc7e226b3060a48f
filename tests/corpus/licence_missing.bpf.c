// No licence at all, and a helper that is for GPL programs only.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tp/syscalls/sys_enter_write")
int gpl_only(void *ctx)
{
	bpf_printk("write");
	return 0;
}

SEC("xdp")
int free_for_all(struct xdp_md *ctx)
{
	return XDP_PASS;
}
