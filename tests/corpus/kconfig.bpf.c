// Kernel configuration and the virtual values beside it.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

extern unsigned int LINUX_KERNEL_VERSION __kconfig;
extern bool CONFIG_BPF_SYSCALL __kconfig;
extern enum libbpf_tristate CONFIG_IPV6 __kconfig;
extern int CONFIG_HZ __kconfig;
extern char CONFIG_DEFAULT_HOSTNAME[16] __kconfig;
extern char CONFIG_BPF_JIT __kconfig;
extern bool LINUX_HAS_SYSCALL_WRAPPER __kconfig __weak;
extern bool LINUX_HAS_BPF_COOKIE __kconfig __weak;
extern int CONFIG_NO_SUCH_OPTION __kconfig __weak;

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	if (LINUX_KERNEL_VERSION < KERNEL_VERSION(5, 8, 0) || !CONFIG_BPF_SYSCALL)
		return 1;
	if (CONFIG_IPV6 == TRI_NO && CONFIG_HZ > 100)
		return 2;
	if (LINUX_HAS_SYSCALL_WRAPPER || LINUX_HAS_BPF_COOKIE || CONFIG_NO_SUCH_OPTION)
		return 3;
	return CONFIG_DEFAULT_HOSTNAME[0] + CONFIG_BPF_JIT;
}
