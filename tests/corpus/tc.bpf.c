// Traffic control: every spelling of the sections.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

char LICENSE[] SEC("license") = "GPL";

#define PROGRAM(section, name)			\
	SEC(section) int name(struct __sk_buff *skb)	\
	{						\
		return skb->len > 1500 ? 2 : 0;		\
	}

PROGRAM("tc", plain)
PROGRAM("tc/ingress", in)
PROGRAM("tc/egress", out)
PROGRAM("tcx/ingress", tcx_in)
PROGRAM("tcx/egress", tcx_out)
PROGRAM("classifier", classify)
PROGRAM("action", act)
PROGRAM("netkit/primary", netkit_primary)
PROGRAM("netkit/peer", netkit_peer)

SEC("tc")
int port_80(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	struct tcphdr *tcp = (void *)(ip + 1);

	if ((void *)(tcp + 1) > end || eth->h_proto != bpf_htons(0x0800) || ip->protocol != 6)
		return 0;
	return tcp->dest == bpf_htons(80) ? 2 : 0;
}
