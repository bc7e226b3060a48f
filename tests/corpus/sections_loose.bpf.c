// Section names that other loaders take: a suffix after a bare name, an old alias.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("action/egress")
int egress(struct __sk_buff *skb)
{
	return 0;
}

SEC("classifier/ingress")
int ingress(struct __sk_buff *skb)
{
	return 0;
}

SEC("xdp_prog")
int old_xdp(struct xdp_md *ctx)
{
	return 2;
}

SEC("xdp/my_name")
int suffix(struct xdp_md *ctx)
{
	return 2;
}

SEC("socket/filter")
int socket_filter(struct __sk_buff *skb)
{
	return 0;
}

SEC("cgroup_skb")
int cgroup(struct __sk_buff *skb)
{
	return 1;
}
