// A congestion control in BPF, with and without link, and one that is off by default.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("struct_ops/init")
void BPF_PROG(start, struct sock *sk)
{
}

SEC("struct_ops")
__u32 BPF_PROG(ssthresh, struct sock *sk)
{
	return 2;
}

SEC("struct_ops/undo_cwnd")
__u32 BPF_PROG(undo, struct sock *sk)
{
	return 10;
}

SEC("struct_ops/cong_avoid")
void BPF_PROG(avoid, struct sock *sk, __u32 ack, __u32 acked)
{
}

SEC(".struct_ops")
struct tcp_congestion_ops skep_plain = {
	.init = (void *)start,
	.ssthresh = (void *)ssthresh,
	.undo_cwnd = (void *)undo,
	.cong_avoid = (void *)avoid,
	.name = "skep_plain",
};

SEC(".struct_ops.link")
struct tcp_congestion_ops skep_link = {
	.ssthresh = (void *)ssthresh,
	.undo_cwnd = (void *)undo,
	.cong_avoid = (void *)avoid,
	.name = "skep_link",
};
