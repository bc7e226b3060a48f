// Static, global, weak and hidden functions, in .text and in sections of their own, several to a section.
static __noinline int in_text(int x)
{
	return x * 3;
}

__noinline int global_in_text(int x)
{
	return in_text(x) + 1;
}

__weak __noinline int weak_in_text(int x)
{
	return x + 2;
}

__hidden __noinline int hidden_in_text(int x)
{
	return x + 4;
}

__attribute__((section("helpers"))) static __noinline int in_helpers(int x)
{
	return global_in_text(x) + 5;
}

struct {
	__uint(type, 2);
	__uint(max_entries, 4);
	__type(key, u32);
	__type(value, u64);
} values SEC(".maps");

static long callback(void *map, u32 *key, u64 *value, void *ctx)
{
	return *value + in_text(*key);
}

SEC("xdp")
int first(void *ctx)
{
	return in_helpers(1) + weak_in_text(2);
}

SEC("xdp")
int second(void *ctx)
{
	bpf_for_each_map_elem(&values, callback, 0, 0);
	return hidden_in_text(3);
}

int same_as_first(void *ctx) __attribute__((alias("first")));

SEC("?tc/egress")
int third(void *ctx)
{
	return global_in_text(4);
}
