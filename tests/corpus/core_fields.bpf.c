// Field offsets: nested, through pointers, in unions and anonymous structs.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sched_switch")
int read_chain(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	int tgid = BPF_CORE_READ(task, group_leader, real_parent, tgid);
	__u64 start = BPF_CORE_READ(task, start_time);
	__u32 inum = BPF_CORE_READ(task, nsproxy, net_ns, ns.inum);
	char comm[16];

	bpf_core_read_str(comm, sizeof(comm), &task->comm);
	return tgid + start + inum + comm[0];
}

SEC("raw_tp/sys_enter")
int anonymous(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	__be32 daddr = BPF_CORE_READ(sk, __sk_common.skc_daddr);
	__be16 dport = BPF_CORE_READ(sk, __sk_common.skc_dport);
	struct sk_buff *skb = (void *)ctx->args[1];
	void *dev = BPF_CORE_READ(skb, dev);

	return family + daddr + dport + (dev != 0);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(direct, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	return prev->pid + next->mm->map_count;
}
