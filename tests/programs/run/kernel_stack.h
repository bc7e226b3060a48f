// Counts the kernel stacks of one thread, as the kernel walks them.
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>

#define FRAMES 40

struct place {
	__u64 probe;
	__u64 frames[FRAMES];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct place);
	__type(value, __u64);
} stacks SEC(".maps");

static int count(void *ctx, __u64 probe)
{
	struct place place = { .probe = probe };
	char name[16] = {};
	__u64 one = 1, *known;

	bpf_get_current_comm(name, sizeof name);
	if (bpf_strncmp(name, 10, "kstk-case"))
		return 0;
	bpf_get_stack(ctx, place.frames, sizeof place.frames, 0);
	known = bpf_map_lookup_elem(&stacks, &place);
	if (known)
		__sync_fetch_and_add(known, 1);
	else
		bpf_map_update_elem(&stacks, &place, &one, BPF_ANY);
	return 0;
}
