// One map of many types each, BTF-defined.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define MAP(name, map_type, K, Val, n)			\
	struct {					\
		__uint(type, BPF_MAP_TYPE_##map_type);	\
		__type(key, K);				\
		__type(value, Val);			\
		__uint(max_entries, n);			\
	} name SEC(".maps")

struct flow {
	__u32 saddr, daddr;
	__u16 sport, dport;
};

struct stats {
	__u64 packets, bytes;
};

struct prefix {
	__u32 len;
	__u8 addr[4];
};

MAP(hash, HASH, struct flow, struct stats, 100);
MAP(array, ARRAY, __u32, struct stats, 10);
MAP(percpu_hash, PERCPU_HASH, struct flow, struct stats, 100);
MAP(percpu_array, PERCPU_ARRAY, __u32, struct stats, 10);
MAP(lru, LRU_HASH, struct flow, struct stats, 100);
MAP(lru_percpu, LRU_PERCPU_HASH, struct flow, struct stats, 100);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct prefix);
	__type(value, __u64);
	__uint(max_entries, 16);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} trie SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__type(value, __u32);
	__uint(max_entries, 8);
} queue SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(value_size, 4);
	__uint(max_entries, 8);
} stack SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_BLOOM_FILTER);
	__type(value, __u32);
	__uint(max_entries, 100);
	__uint(map_extra, 3);
} bloom SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(key_size, 4);
	__uint(value_size, 4);
	__uint(max_entries, 1);
} cgroups SEC(".maps");

SEC("xdp")
int use(struct xdp_md *ctx)
{
	struct flow f = {};
	struct prefix p = { .len = 8 };
	__u32 zero = 0;
	struct stats *s;

#define TOUCH(map, key)			\
	s = bpf_map_lookup_elem(&map, key);	\
	if (s)				\
		s->packets++;
	TOUCH(hash, &f)
	TOUCH(array, &zero)
	TOUCH(percpu_hash, &f)
	TOUCH(percpu_array, &zero)
	TOUCH(lru, &f)
	TOUCH(lru_percpu, &f)
	bpf_map_lookup_elem(&trie, &p);
	bpf_map_push_elem(&queue, &zero, 0);
	bpf_map_pop_elem(&stack, &zero);
	bpf_map_push_elem(&bloom, &zero, 0);
	return XDP_PASS;
}

SEC("tc")
int under(struct __sk_buff *skb)
{
	return bpf_skb_under_cgroup(skb, &cgroups, 0);
}
