// The smallest useful program: one line for every write(2) of every process.
//
//     sudo skep run examples/minimal.bpf.c
//     sudo skep run examples/minimal.bpf.c --pid_filter 1234
//
//     BPF triggered from PID 1234.
//
// bpf_printk() is printf for BPF programs; skep shows its lines. Printing a line
// is itself a write, so skep leaves out its own.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// `const` keeps the value out of the program's reach, `volatile` makes the
// compiler read it at run time, so that skep can set it before loading.
const volatile int pid_filter = 0;

SEC("tracepoint/syscalls/sys_enter_write")
int handle_write(void *ctx)
{
	int pid = bpf_get_current_pid_tgid() >> 32;

	if (pid_filter && pid != pid_filter)
		return 0;
	bpf_printk("BPF triggered from PID %d.\n", pid);
	return 0;
}

// Most helpers may only be called by programs under a GPL-compatible licence.
char LICENSE[] SEC("license") = "Dual BSD/GPL";
