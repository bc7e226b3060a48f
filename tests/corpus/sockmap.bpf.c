// Programs on sock maps and sock hashes.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 4);
} by_index SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__type(key, __u64);
	__type(value, __u64);
	__uint(max_entries, 4);
} by_key SEC(".maps");

SEC("sk_skb")
int skb_plain(struct __sk_buff *skb)
{
	return SK_PASS;
}

SEC("sk_skb/stream_parser")
int parse(struct __sk_buff *skb)
{
	return skb->len;
}

SEC("sk_skb/stream_verdict")
int stream(struct __sk_buff *skb)
{
	return bpf_sk_redirect_map(skb, &by_index, 0, 0);
}

SEC("sk_skb/verdict")
int verdict(struct __sk_buff *skb)
{
	__u64 key = 1;

	return bpf_sk_redirect_hash(skb, &by_key, &key, 0);
}

SEC("sk_msg")
int message(struct sk_msg_md *msg)
{
	return bpf_msg_redirect_map(msg, &by_index, 0, 0);
}

SEC("sockops")
int ops(struct bpf_sock_ops *ctx)
{
	__u32 key = 0;

	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		bpf_sock_map_update(ctx, &by_index, &key, BPF_ANY);
	return 1;
}
