// A kernel function: which files are deleted, and whether it worked.
//
//     sudo skep run examples/kprobe_unlink.bpf.c
//
//     KPROBE ENTRY pid = 1234, filename = /tmp/x
//     KPROBE EXIT: pid = 1234, ret = 0
//
// do_unlinkat(int dfd, struct filename *name) is where unlink(2) and unlinkat(2)
// meet in the kernel. A kprobe sees its arguments, a kretprobe its result. Needs a
// kernel with kprobes (`skep doctor` tells).

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

// BPF_KPROBE takes the arguments out of the registers of this machine.
SEC("kprobe/do_unlinkat")
int BPF_KPROBE(do_unlinkat, int dfd, struct filename *name)
{
	int pid = bpf_get_current_pid_tgid() >> 32;
	// `name->name`, read safely, at the offset that this kernel has.
	const char *filename = BPF_CORE_READ(name, name);

	bpf_printk("KPROBE ENTRY pid = %d, filename = %s\n", pid, filename);
	return 0;
}

SEC("kretprobe/do_unlinkat")
int BPF_KRETPROBE(do_unlinkat_exit, long ret)
{
	int pid = bpf_get_current_pid_tgid() >> 32;

	bpf_printk("KPROBE EXIT: pid = %d, ret = %ld\n", pid, ret);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
