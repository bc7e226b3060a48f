// Maps of the old section: five words, and iproute2's nine.
struct bpf_map_def { u32 type, key_size, value_size, max_entries, map_flags; };
struct bpf_elf_map { u32 type, size_key, size_value, max_elem, flags, id, pinning, inner_id, inner_idx; };

struct bpf_map_def counts SEC("maps") = { 1, 4, 8, 100, 1 };
struct bpf_map_def slots SEC("maps") = { 2, 4, 16, 10, 0 };
struct bpf_elf_map inner SEC("maps/inner") = { .type = 2, .size_key = 4, .size_value = 4, .max_elem = 1, .id = 7, .pinning = 2 };

SEC("classifier")
int use(void *ctx)
{
	u32 key = 0;
	return bpf_map_lookup_elem(&counts, &key) && bpf_map_lookup_elem(&slots, &key) && bpf_map_lookup_elem(&inner, &key);
}
