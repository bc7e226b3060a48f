// An entry program that calls another entry program of the same section as a function.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tc")
__noinline int inner(struct __sk_buff *skb)
{
	return skb->len;
}

SEC("tc")
int outer(struct __sk_buff *skb)
{
	return inner(skb) + 1;
}
