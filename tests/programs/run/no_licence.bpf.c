// bpf_printk is only for programs under a GPL-compatible licence; this one names none.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("tp/syscalls/sys_enter_getpgid")
int bad_no_licence(void *ctx)
{
	bpf_printk("never printed\n");
	return 0;
}
