// Function entry and return probes, with an offset, and one without a target.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

SEC("kprobe/do_unlinkat")
int BPF_KPROBE(enter, int dfd, struct filename *name)
{
	const char *filename = BPF_CORE_READ(name, name);

	bpf_printk("KPROBE ENTRY pid = %d, filename = %s\n", (int)(bpf_get_current_pid_tgid() >> 32), filename);
	return 0;
}

SEC("kretprobe/do_unlinkat")
int BPF_KRETPROBE(leave, long ret)
{
	bpf_printk("KPROBE EXIT: ret = %ld\n", ret);
	return 0;
}

SEC("kprobe/vfs_read+0x0")
int offset(struct pt_regs *ctx)
{
	return PT_REGS_PARM1_CORE(ctx) == 0;
}

SEC("kprobe")
int bare(struct pt_regs *ctx)
{
	return 0;
}

SEC("kretprobe")
int bare_return(struct pt_regs *ctx)
{
	return 0;
}
