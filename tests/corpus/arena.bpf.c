// compilers: 19
// endian: el
// An arena: memory shared with user space, with globals in it.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

#define __arena __attribute__((address_space(1)))

struct {
	__uint(type, 33); /* BPF_MAP_TYPE_ARENA */
	__uint(map_flags, 1 << 10); /* BPF_F_MMAPABLE */
	__uint(max_entries, 100);
} arena SEC(".maps");

struct arena_node {
	int value;
	struct arena_node __arena *next;
};

int __arena counter __attribute__((section(".addr_space.1")));
int __arena initialised __attribute__((section(".addr_space.1"))) = 7;

extern void __arena *bpf_arena_alloc_pages(void *map, void __arena *addr, __u32 page_cnt, int node_id,
					   __u64 flags) __ksym __weak;

SEC("syscall")
int use(void *ctx)
{
	struct arena_node __arena *page;

	counter += initialised;
	page = bpf_arena_alloc_pages(&arena, 0, 1, -1, 0);
	if (!page)
		return 1;
	page->value = counter;
	page->next = page;
	return 0;
}
