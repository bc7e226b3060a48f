// Relocated loads and stores of one, two, four and eight bytes, and address arithmetic.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp_btf/sched_switch")
int BPF_PROG(loads, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u64 sum = prev->pid + prev->start_time + prev->policy;

	sum += prev->comm[3];
	if (prev->mm)
		sum += prev->mm->mmap_base;
	return sum;
}

SEC("tc")
int stores(struct __sk_buff *skb)
{
	skb->mark = 7;
	skb->priority = skb->mark;
	skb->cb[0] = 1;
	skb->tstamp = 9;
	return 0;
}
