// A jump table that the object fills in, and one that user space fills.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

int second(struct __sk_buff *skb);
int third(struct __sk_buff *skb);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, int (struct __sk_buff *));
} table SEC(".maps") = {
	.values = { [0] = (void *)&second, [2] = (void *)&third },
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 8);
	__type(key, __u32);
	__type(value, __u32);
} empty SEC(".maps");

SEC("tc")
int first(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &table, 0);
	bpf_tail_call(skb, &empty, skb->mark & 7);
	return 0;
}

SEC("tc")
int second(struct __sk_buff *skb)
{
	bpf_tail_call_static(skb, &table, 2);
	return 1;
}

SEC("tc")
int third(struct __sk_buff *skb)
{
	return 2;
}
