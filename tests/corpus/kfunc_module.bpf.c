// Kernel functions that live in a module (connection tracking), weak and strong.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct bpf_ct_opts___local {
	s32 netns_id;
	s32 error;
	u8 l4proto;
	u8 dir;
	u8 reserved[2];
} __attribute__((preserve_access_index));

struct nf_conn;
extern struct nf_conn *bpf_xdp_ct_lookup(struct xdp_md *, struct bpf_sock_tuple *, u32, struct bpf_ct_opts___local *,
					 u32) __ksym;
extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *, struct bpf_sock_tuple *, u32,
					 struct bpf_ct_opts___local *, u32) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *) __ksym __weak;

SEC("xdp")
int strong(struct xdp_md *ctx)
{
	struct bpf_ct_opts___local opts = { .netns_id = -1, .l4proto = 6 };
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *ct = bpf_xdp_ct_lookup(ctx, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));

	if (ct && bpf_ct_release)
		bpf_ct_release(ct);
	return XDP_PASS;
}

SEC("tc")
int weak(struct __sk_buff *skb)
{
	struct bpf_ct_opts___local opts = { .netns_id = -1, .l4proto = 6 };
	struct bpf_sock_tuple tuple = {};
	struct nf_conn *ct;

	if (!bpf_skb_ct_lookup || !bpf_ct_release)
		return 1;
	ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
	if (ct)
		bpf_ct_release(ct);
	return 0;
}
