// Globals of an arena stand in a section of their own and belong to the map.
#define __arena __attribute__((address_space(1)))
struct {
	__uint(type, 33);
	__uint(map_flags, 1 << 10);
	__uint(max_entries, 100);
} arena SEC(".maps");
int __arena shared = 3;
u64 __arena table[4];

SEC("syscall")
int use(void *ctx)
{
	shared++;
	return table[2] + (u64)&arena;
}
