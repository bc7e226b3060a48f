// Global functions are verified alone; a weak one may be replaced when objects are linked.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct args {
	int a, b;
};

__noinline int add(int a, int b)
{
	return a + b;
}

__noinline int sum(struct args *args)
{
	if (!args)
		return 0;
	return add(args->a, args->b);
}

__weak __noinline int replaceable(int a)
{
	return a ^ 1;
}

__noinline int packet(struct __sk_buff *skb)
{
	return skb->len;
}

SEC("tc")
int use(struct __sk_buff *skb)
{
	struct args args = { .a = skb->mark, .b = skb->len };

	return sum(&args) + replaceable(add(1, skb->mark)) + packet(skb);
}

SEC("?tc")
int only_add(struct __sk_buff *skb)
{
	return add(skb->mark, 2);
}
