// Socket filters and the programs around sockets.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("socket")
int filter(struct __sk_buff *skb)
{
	return skb->protocol;
}

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 4);
} sockets SEC(".maps");

SEC("sk_reuseport")
int reuse(struct sk_reuseport_md *ctx)
{
	__u32 key = 0;

	return bpf_sk_select_reuseport(ctx, &sockets, &key, 0) ? SK_DROP : SK_PASS;
}

SEC("sk_reuseport/migrate")
int migrate(struct sk_reuseport_md *ctx)
{
	return SK_PASS;
}

SEC("sk_lookup")
int lookup(struct bpf_sk_lookup *ctx)
{
	return ctx->local_port == 80 ? SK_DROP : SK_PASS;
}

SEC("flow_dissector")
int dissect(struct __sk_buff *skb)
{
	return 0;
}
