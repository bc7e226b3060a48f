// Text in .rodata.str, formatted and compared.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

static const char *const names[] = { "zero", "one", "two" };

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	char out[32];
	__u64 args[] = { 1, 2 };
	static const char fmt[] = "%d %d";

	bpf_snprintf(out, sizeof(out), fmt, args, sizeof(args));
	bpf_printk("%s %s", names[0], out);
	bpf_printk("%s %d %d %d %d %d", names[1], 1, 2, 3, 4, 5);
	return bpf_strncmp(out, 4, "1 2");
}
