// Packets of a cgroup.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("cgroup_skb/ingress")
int in(struct __sk_buff *skb)
{
	return 1;
}

SEC("cgroup_skb/egress")
int out(struct __sk_buff *skb)
{
	return skb->len < 100000;
}

SEC("cgroup/skb")
int any(struct __sk_buff *skb)
{
	return 1;
}
