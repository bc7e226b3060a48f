// An extension for the global function of another object, `subprograms_global`.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("freplace/replaceable")
int replaced(int a)
{
	return a + 41;
}
