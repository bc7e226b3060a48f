// BTF-defined maps: sizes by number and by type, pinning, extras, event types, static ones.
struct key { u32 a; u64 b; };
struct event { u32 pid; char comm[16]; };

struct {
	__uint(type, 1);
	__uint(max_entries, 1000);
	__uint(map_flags, 1);
	__type(key, struct key);
	__type(value, u64[4]);
} by_type SEC(".maps");

struct {
	__uint(type, 9);
	__uint(max_entries, 10);
	__uint(key_size, 8);
	__uint(value_size, 24);
	__uint(pinning, 1);
	__uint(numa_node, 0);
} by_size SEC(".maps");

struct {
	__uint(type, 27);
	__uint(max_entries, 1 << 18);
	__type(value, struct event);
} typed_ring SEC(".maps");

struct {
	__uint(type, 4);
	__type(key, int);
	__type(value, struct event);
} typed_perf SEC(".maps");

struct {
	__uint(type, 30);
	__uint(max_entries, 100);
	__uint(value_size, 4);
	__uint(map_extra, 3);
} bloom SEC(".maps");

struct {
	__uint(type, 33);
	__uint(map_flags, 1 << 10);
	__uint(max_entries, 10);
	__ulong(map_extra, 0x10000000);
} arena SEC(".maps");

static struct {
	__uint(type, 2);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} statically SEC(".maps");

SEC("xdp")
int use(void *ctx)
{
	u64 key[2] = {};
	void *found[] = {
		bpf_map_lookup_elem(&by_type, key), bpf_map_lookup_elem(&by_size, key),
		bpf_map_lookup_elem(&bloom, key), bpf_map_lookup_elem(&statically, key),
	};
	return found[0] && found[1] && found[2] && found[3];
}
