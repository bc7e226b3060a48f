// Bit-fields: offset, size, signedness and both shifts.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

struct tcp_sock___bits {
	__u8 nonagle : 4;
	__u8 thin_lto : 1;
	__u8 is_cwnd_limited : 1;
} __attribute__((preserve_access_index));

SEC("raw_tp/sys_enter")
int probed(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct sk_buff *skb = (void *)ctx->args[0];
	__u64 sum = BPF_CORE_READ_BITFIELD_PROBED(task, in_execve);

	sum += BPF_CORE_READ_BITFIELD_PROBED(task, sched_reset_on_fork);
	sum += BPF_CORE_READ_BITFIELD_PROBED(skb, pkt_type);
	sum += BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed);
	return sum;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(direct, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return BPF_CORE_READ_BITFIELD(prev, in_execve) + BPF_CORE_READ_BITFIELD(next, sched_contributes_to_load);
}
