// Structures filled with programs: registered at once, by link, and off.
struct ops {
	int (*init)(void *sk);
	u64 flags;
	void (*release)(void *sk);
	char name[16];
};

SEC("struct_ops/init")
int init(void *ctx)
{
	return 0;
}

SEC("struct_ops.s/release")
int release(void *ctx)
{
	return 0;
}

SEC(".struct_ops") struct ops plain = { .init = (void *)init, .name = "plain" };
SEC(".struct_ops.link") struct ops linked = { .init = (void *)init, .flags = 3, .release = (void *)release, .name = "linked" };
SEC("?.struct_ops.link") struct ops off = { .release = (void *)release, .name = "off" };
