// Arguments and result of a kernel function in one program.
//
//     sudo skep run examples/fexit_unlink.bpf.c
//
//     TIME      PID   RET      FILENAME
//     11:02:07  1234  0        /tmp/x
//     11:02:09  1240  -ENOENT  /tmp/nosuch
//
// fexit runs when the function returns and still has its arguments, which a
// kretprobe has not, and it costs less. Needs BPF trampolines: x86 since 5.5, arm64
// since 6.0.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

struct event {
	int pid;
	int ret;
	char filename[128];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

// The function's parameters, then its result.
SEC("fexit/do_unlinkat")
int BPF_PROG(do_unlinkat_exit, int dfd, struct filename *name, long ret)
{
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);

	if (!e)
		return 0;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->ret = ret;
	// The verifier knows the type of `name`, so its fields can be read plainly.
	bpf_probe_read_kernel_str(e->filename, sizeof(e->filename), name->name);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
