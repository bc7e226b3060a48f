// Outgoing TCP to port 80 is dropped; other ports and other protocols work.
//
//     sudo skep run examples/traffic_controller.bpf.c --iface eth0
//     curl http://example.com/      (times out until skep stops)
//
//     drop TCP packet to port 80
//
// Unlike XDP, traffic control also sees what goes out. The section says the
// direction: tc/egress or tc/ingress.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#ifndef SECTION
#define SECTION "tc/egress"
#endif

// `--port 8080` chooses another one.
const volatile __u16 port = 80;

SEC(SECTION)
int drop_port(struct __sk_buff *skb)
{
	void *data, *data_end;
	struct ethhdr *eth;
	struct iphdr *ip;
	struct tcphdr *tcp;

	// Long packets arrive in pieces: ask for the headers in one.
	bpf_skb_pull_data(skb, sizeof(*eth) + sizeof(*ip) + 40 + sizeof(*tcp));
	data = (void *)(long)skb->data;
	data_end = (void *)(long)skb->data_end;

	eth = data;
	ip = (void *)(eth + 1);
	if ((void *)(ip + 1) > data_end)
		return TC_ACT_OK;
	if (eth->h_proto != bpf_htons(ETH_P_IP) || ip->protocol != IPPROTO_TCP)
		return TC_ACT_OK;

	// The IP header has options if its length, in words of four bytes, is above 5.
	tcp = (void *)ip + ip->ihl * 4;
	if ((void *)(tcp + 1) > data_end)
		return TC_ACT_OK;
	if (tcp->dest != bpf_htons(port))
		return TC_ACT_OK;

	bpf_printk("drop TCP packet to port %d\n", port);
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
