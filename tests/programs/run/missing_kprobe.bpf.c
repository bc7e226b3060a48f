// The function is called do_unlinkat.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("kprobe/do_unlinkit")
int bad_kprobe(void *ctx)
{
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
