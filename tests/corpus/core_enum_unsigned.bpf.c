// An unsigned 32-bit enumerator above the signed range, relocated.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

enum bpf_func_flags___x {
	BPF_F_CURRENT_CPU___x = 0xffffffffULL,
};

enum tri___local {
	HIGH_BIT___local = 0x80000000U,
};

SEC("raw_tp/sys_enter")
int value(void *ctx)
{
	if (bpf_core_enum_value_exists(enum tri___local, HIGH_BIT___local))
		return 1;
	return bpf_core_enum_value_exists(enum bpf_func_flags___x, BPF_F_CURRENT_CPU___x);
}
