// Definitions that no loader could make a map of, references that lead nowhere: all of it opens, and says so.
struct { __uint(max_entries, 1); } no_type SEC(".maps");
struct { __uint(type, 1); __uint(key_size, 4); __type(key, u64); } two_keys SEC(".maps");
struct { __uint(type, 1); __uint(pinning, 7); __uint(colour, 3); } odd SEC(".maps");
struct { __uint(type, 2); __array(values, int(void *)); } array_values SEC(".maps");
struct { __uint(type, 3); __uint(max_entries, 2); __uint(key_size, 4); __array(values, int(void *)); } jumps SEC(".maps");
int number SEC(".maps");
extern int somewhere_else;
extern struct { __uint(type, 1); } other_object SEC(".maps");
extern void undeclared(void);
const char *text[] = { "one", "two" };

static __noinline int helper(void)
{
	undeclared();
	return 1;
}

SEC("tracepont/syscalls/sys_enter_read")
int misspelt(void *ctx)
{
	return somewhere_else + (u64)&no_type + (u64)&two_keys + (u64)&odd + (u64)&array_values;
}

SEC("raw_tp/sys_enter")
int reaches_a_fault(void *ctx)
{
	return helper() + text[*(int *)ctx][0];
}

SEC("uretprobe/libc.so.6:malloc+zz")
int bad_offset(void *ctx)
{
	return (u64)&other_object + (u64)&jumps;
}
