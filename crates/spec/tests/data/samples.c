// The kernel samples' map definitions, the first position being the inner map; no types.
struct bpf_map_def { u32 type, key_size, value_size, max_entries, map_flags, inner_map_idx, numa_node; };
struct bpf_map_def SEC("maps") inner = { .type = 2, .key_size = 4, .value_size = 4, .max_entries = 8 };
struct bpf_map_def SEC("maps") outer = { .type = 12, .key_size = 4, .max_entries = 8, .inner_map_idx = 0, .numa_node = 1 };
struct bpf_map_def SEC("maps") broken = { .type = 12, .key_size = 4, .max_entries = 8, .inner_map_idx = 9 };
int counter = 4;

SEC("socket1")
int use(void *ctx)
{
	u32 key = 0;
	return bpf_map_lookup_elem(&outer, &key) && bpf_map_lookup_elem(&inner, &key) && bpf_map_lookup_elem(&broken, &key) && counter++;
}
