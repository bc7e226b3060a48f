// Kernel symbols by address alone: strong, weak and absent.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

extern const void vfs_read __ksym;
extern const void no_such_symbol_anywhere __ksym __weak;
extern const void bpf_prog_put __ksym __weak;

__u64 address;

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	address = (__u64)&vfs_read;
	if (&no_such_symbol_anywhere)
		address++;
	return &bpf_prog_put == 0;
}
