// Kernel configuration, kernel symbols with and without type, kernel functions, weak ones.
enum libbpf_tristate { TRI_NO, TRI_YES, TRI_MODULE };
struct task_struct { int pid; } __attribute__((preserve_access_index));
extern int LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_MODULES __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig;
extern unsigned long CONFIG_HZ __kconfig;
extern char CONFIG_LETTER __kconfig __weak;
extern const void bpf_prog_fops __ksym;
extern const int bpf_prog_active __ksym;
extern const struct task_struct init_task __ksym __weak;
extern struct task_struct *bpf_task_from_pid(int) __ksym;
extern void bpf_task_release(struct task_struct *p) __ksym __weak;

SEC("syscall")
int use(void *ctx)
{
	u64 sum = LINUX_KERNEL_VERSION + CONFIG_BPF_SYSCALL + CONFIG_MODULES + CONFIG_DEFAULT_HOSTNAME[1] + CONFIG_HZ + CONFIG_LETTER;
	struct task_struct *task = bpf_task_from_pid(1);
	if (task && bpf_task_release)
		bpf_task_release(task);
	if (&init_task)
		sum += init_task.pid;
	return sum + (u64)&bpf_prog_fops + bpf_prog_active;
}
