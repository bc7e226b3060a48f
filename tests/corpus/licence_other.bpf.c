// A licence that is not compatible with the GPL; `version` as old kernels wanted it.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "Proprietary";
unsigned int _version SEC("version") = 0x050000;

SEC("tp/syscalls/sys_enter_write")
int gpl_only(void *ctx)
{
	bpf_trace_printk("write", 6);
	return 0;
}

SEC("socket")
int filter(struct __sk_buff *skb)
{
	return 0;
}
