// User-space function probes: absolute path, bare name, member of an archive, offset, sleepable, without target.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("uprobe//bin/bash:readline")
int BPF_KPROBE(enter, const char *prompt)
{
	return prompt == 0;
}

SEC("uretprobe//bin/bash:readline")
int BPF_KRETPROBE(leave, const void *line)
{
	char text[80];

	bpf_probe_read_user_str(text, sizeof(text), line);
	bpf_printk("%s", text);
	return 0;
}

SEC("uprobe/libc.so.6:malloc+0x4")
int offset(struct pt_regs *ctx)
{
	return 0;
}

SEC("uprobe//data/app.apk!/lib/x86_64/libapp.so:start")
int member(struct pt_regs *ctx)
{
	return 0;
}

SEC("uprobe.s//bin/bash:readline")
int sleepable(struct pt_regs *ctx)
{
	char text[16];

	return bpf_copy_from_user(text, sizeof(text), (void *)PT_REGS_PARM1(ctx));
}

SEC("uretprobe.s/libc.so.6:malloc")
int sleepable_return(struct pt_regs *ctx)
{
	return 0;
}

SEC("uprobe")
int bare(struct pt_regs *ctx)
{
	return 0;
}
