// A strong kernel symbol that no kernel has.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

extern const void no_such_symbol_anywhere __ksym;

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	return &no_such_symbol_anywhere != 0;
}
