// Callbacks: loops, map walks, timers.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

struct element {
	struct bpf_timer timer;
	__u64 n;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, struct element);
} elements SEC(".maps");

struct total {
	__u64 sum;
};

static long add(struct bpf_map *map, __u32 *key, struct element *value, struct total *total)
{
	total->sum += value->n;
	return 0;
}

static int step(__u32 index, void *data)
{
	struct total *total = data;

	total->sum += index;
	return index > 100;
}

static int fire(void *map, int *key, struct element *value)
{
	value->n++;
	bpf_timer_start(&value->timer, 1000000, 0);
	return 0;
}

SEC("tc")
int walk(struct __sk_buff *skb)
{
	struct total total = {};

	bpf_for_each_map_elem(&elements, add, &total, 0);
	bpf_loop(10, step, &total, 0);
	return total.sum;
}

SEC("tc")
int timer(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct element *e = bpf_map_lookup_elem(&elements, &zero);

	if (!e)
		return 0;
	bpf_timer_init(&e->timer, &elements, 1);
	bpf_timer_set_callback(&e->timer, fire);
	bpf_timer_start(&e->timer, 0, 0);
	return 0;
}
