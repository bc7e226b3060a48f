// Counts packets in a global variable.
//
//     sudo skep run examples/xdp_counter.bpf.c --iface eth0
//
//     Hello World 0
//     Hello World 1
//
// A global variable of a BPF program lives in a map, so it keeps its value from
// packet to packet, and other programs can look at it while this one runs.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

int counter = 0;

SEC("xdp")
int hello(struct xdp_md *ctx)
{
	bpf_printk("Hello World %d", counter);
	counter++;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
