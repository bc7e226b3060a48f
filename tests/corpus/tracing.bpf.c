// fentry, fexit and fmod_ret, plain and sleepable, and with a module in front.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("fentry/do_unlinkat")
int BPF_PROG(enter, int dfd, struct filename *name)
{
	bpf_printk("fentry: pid = %d, filename = %s\n", (int)(bpf_get_current_pid_tgid() >> 32), name->name);
	return 0;
}

SEC("fexit/do_unlinkat")
int BPF_PROG(leave, int dfd, struct filename *name, long ret)
{
	bpf_printk("fexit: filename = %s, ret = %ld\n", name->name, ret);
	return 0;
}

SEC("fmod_ret/security_file_open")
int BPF_PROG(modify, struct file *file, int ret)
{
	return ret;
}

SEC("fentry.s/__x64_sys_getpgid")
int BPF_PROG(sleepable, struct pt_regs *regs)
{
	return 0;
}

SEC("fexit.s/__x64_sys_getpgid")
int BPF_PROG(sleepable_exit, struct pt_regs *regs, long ret)
{
	return 0;
}

SEC("fmod_ret.s/__x64_sys_getpgid")
int BPF_PROG(sleepable_modify, struct pt_regs *regs, long ret)
{
	return 0;
}

SEC("fentry/nf_conntrack:nf_conntrack_in")
int BPF_PROG(in_module)
{
	return 0;
}

SEC("fentry/no_such_function_anywhere")
int BPF_PROG(absent)
{
	return 0;
}
