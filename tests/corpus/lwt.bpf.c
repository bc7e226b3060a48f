// Lightweight tunnels.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("lwt_in")
int in(struct __sk_buff *skb)
{
	return 0;
}

SEC("lwt_out")
int out(struct __sk_buff *skb)
{
	return 0;
}

SEC("lwt_xmit")
int xmit(struct __sk_buff *skb)
{
	return bpf_skb_change_head(skb, 14, 0) ? 2 : 0;
}

SEC("lwt_seg6local")
int seg6(struct __sk_buff *skb)
{
	return 0;
}
