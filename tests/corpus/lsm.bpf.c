// Security hooks.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("lsm/file_open")
int BPF_PROG(open, struct file *file)
{
	return file->f_flags == 0xffffffff ? -1 : 0;
}

SEC("lsm.s/bprm_committed_creds")
int BPF_PROG(creds, struct linux_binprm *bprm)
{
	return 0;
}

SEC("lsm_cgroup/socket_create")
int BPF_PROG(create, int family, int type, int protocol, int kern)
{
	return 1;
}

SEC("lsm/no_such_hook")
int BPF_PROG(absent)
{
	return 0;
}
