// Functions, lines and CO-RE accesses in two sections.
#define SEC(name) __attribute__((section(name), used))
struct task {
	int pid;
	struct task *parent;
	char comm[16];
} __attribute__((preserve_access_index));

static __attribute__((noinline)) int parent_of(struct task *task)
{
	return task->parent->pid;
}

SEC("tp/a") int first(struct task *task)
{
	return parent_of(task) + task->comm[3];
}

SEC("tp/b") int second(struct task *task)
{
	return __builtin_preserve_field_info(task->comm, 1) + task->pid;
}
