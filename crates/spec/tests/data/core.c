// CO-RE records of fields, types and enumeration values.
#define preserve __attribute__((preserve_access_index))
struct inner { int a; char name[8]; } preserve;
struct task { int pid; struct inner inner; unsigned bits : 3; } preserve;
enum color { RED, GREEN = 5 };

SEC("raw_tp/sched_switch")
int use(struct task *task)
{
	u64 sum = task->pid + task->inner.name[3];
	sum += __builtin_preserve_field_info(task->bits, 1);
	sum += __builtin_preserve_type_info(*(struct inner *)0, 0);
	sum += __builtin_preserve_enum_value(*(enum color *)GREEN, 1);
	return sum + __builtin_btf_type_id(*(struct task *)0, 1);
}
