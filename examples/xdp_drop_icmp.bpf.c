// Pings are dropped, everything else passes.
//
//     sudo skep run examples/xdp_drop_icmp.bpf.c --iface eth0
//
//     Drop ICMP packets
//     output:Packet size is 74, protocol is 6
//
// Reading a packet means showing, for each header, that it lies inside the packet.
// The verifier refuses the program otherwise.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int drop_icmp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	int size = data_end - data;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);

	// Ends where the second header ends, so both are inside.
	if ((void *)(ip + 1) > data_end)
		return XDP_PASS;
	// Numbers in packets have network byte order.
	if (eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->protocol == IPPROTO_ICMP) {
		bpf_printk("Drop ICMP packets\n");
		return XDP_DROP;
	}
	bpf_printk("output:Packet size is %d, protocol is %d\n", size, ip->protocol);
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
