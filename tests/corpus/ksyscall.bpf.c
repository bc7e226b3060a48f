// System call probes: the wrapper and its register layout depend on the kernel.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

SEC("ksyscall/execve")
int BPF_KSYSCALL(enter, const char *filename)
{
	char name[64];

	bpf_probe_read_user_str(name, sizeof(name), filename);
	bpf_printk("execve %s", name);
	return 0;
}

SEC("kretsyscall/execve")
int BPF_KRETPROBE(leave, int ret)
{
	bpf_printk("execve returned %d", ret);
	return 0;
}
