// A tracepoint's context written by hand, without vmlinux.h.
//
//     sudo skep run examples/execve_args.bpf.c
//
//     execve /bin/ls
//
// What a tracepoint hands over is listed in its `format` file:
// /sys/kernel/tracing/events/syscalls/sys_enter_execve/format. The structure below
// has the same fields at the same offsets; each argument of a system call takes
// eight bytes.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct my_syscalls_enter_execve {
	unsigned short common_type;
	unsigned char common_flags;
	unsigned char common_preempt_count;
	int common_pid;

	long syscall_nr;
	long filename_ptr;
	long argv_ptr;
	long envp_ptr;
};

SEC("tp/syscalls/sys_enter_execve")
int tp_sys_enter_execve(struct my_syscalls_enter_execve *ctx)
{
	char filename[128];

	if (bpf_probe_read_user_str(filename, sizeof(filename), (void *)ctx->filename_ptr) < 0)
		return 0;
	bpf_printk("execve %s\n", filename);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
