// Maps of maps and program arrays that are filled when the object is loaded.
struct inner {
	__uint(type, 2);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} inner_a SEC(".maps"), inner_b SEC(".maps");

struct {
	__uint(type, 12);
	__uint(max_entries, 4);
	__uint(key_size, 4);
	__array(values, struct inner);
} outer SEC(".maps") = { .values = { [0] = &inner_a, [3] = &inner_b } };

SEC("xdp")
int tail_zero(void *ctx)
{
	return 0;
}

int tail_two(void *ctx);

struct {
	__uint(type, 3);
	__uint(max_entries, 3);
	__uint(key_size, 4);
	__array(values, int(void *));
} jumps SEC(".maps") = { .values = { [0] = &tail_zero, [2] = &tail_two } };

struct {
	__uint(type, 13);
	__uint(max_entries, 8);
	__type(key, u64);
	__array(values, struct {
		__uint(type, 1);
		__uint(max_entries, 16);
		__type(key, u16);
		__type(value, u8);
	});
} by_hash SEC(".maps");

SEC("xdp")
int tail_two(void *ctx)
{
	u32 key = 0;
	bpf_tail_call(ctx, &jumps, 1);
	return bpf_map_lookup_elem(&outer, &key) || bpf_map_lookup_elem(&by_hash, &key);
}
