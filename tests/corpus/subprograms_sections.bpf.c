// Static subprograms in sections of their own: libbpf refuses them, other loaders do not.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

__attribute__((section("helpers"))) static __noinline int helper(int a)
{
	return a + (int)bpf_get_prandom_u32();
}

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	return helper(1);
}
