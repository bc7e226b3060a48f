// Which program every process starts, and what execve returned.
//
//     sudo skep run examples/hello.bpf.c
//
//     Process[51858]: /bin/ls
//     Process[51858]: return: 0
//
// Two tracepoints of one system call: one before it, with its arguments, one
// after it, with its result.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

SEC("tracepoint/syscalls/sys_enter_execve")
int enter_execve(struct trace_event_raw_sys_enter *ctx)
{
	int pid = bpf_get_current_pid_tgid() >> 32;
	char path[128];

	// The argument is a pointer into the memory of the calling process: copy
	// the text out of there before printing it.
	bpf_probe_read_user_str(path, sizeof(path), (const char *)ctx->args[0]);
	bpf_printk("Process[%d]: %s\n", pid, path);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_execve")
int exit_execve(struct trace_event_raw_sys_exit *ctx)
{
	int pid = bpf_get_current_pid_tgid() >> 32;

	bpf_printk("Process[%d]: return: %d\n", pid, (int)ctx->ret);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
