// The size of every packet that comes in through an interface.
//
//     sudo skep run examples/xdp.bpf.c --iface eth0
//
//     packet size: 98
//
// An XDP program sees a packet before the rest of the kernel does. This one lets
// all of them pass. When skep stops, the program is gone from the interface.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int packet_size(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;

	bpf_printk("packet size: %d\n", (int)(data_end - data));
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
