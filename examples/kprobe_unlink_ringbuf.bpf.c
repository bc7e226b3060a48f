// Deleted files again, as rows of a table instead of printed lines.
//
//     sudo skep run examples/kprobe_unlink_ringbuf.bpf.c
//
//     TIME      EVENT  FILENAME  PID   RET
//     11:02:07  ENTER  /tmp/x    1234  0
//     11:02:07  EXIT   /tmp/x    1234  0
//
// A ring buffer carries structures from the kernel to skep, which prints one
// column per field. The name is known only at entry, the result only at exit, so
// the name waits in a map. Needs a kernel with kprobes.

#include "vmlinux.h"
#include <string.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define MAX_FILENAME_LEN 256

// An enumeration prints by name.
enum what {
	ENTER,
	EXIT,
};

struct event {
	enum what event;
	char filename[MAX_FILENAME_LEN];
	int pid;
	int ret;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} rb SEC(".maps");

struct name {
	char text[MAX_FILENAME_LEN];
};

// The file that each thread is deleting right now.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u64);
	__type(value, struct name);
} names SEC(".maps");

SEC("kprobe/do_unlinkat")
int BPF_KPROBE(do_unlinkat, int dfd, struct filename *name)
{
	u64 thread = bpf_get_current_pid_tgid();
	const char *filename = BPF_CORE_READ(name, name);
	struct name copy = {};
	struct event *e;

	bpf_probe_read_kernel_str(copy.text, sizeof(copy.text), filename);
	bpf_map_update_elem(&names, &thread, &copy, BPF_ANY);

	// Take a place in the buffer, fill it in, hand it over.
	e = bpf_ringbuf_reserve(&rb, sizeof(*e), 0);
	if (!e)
		return 0; // full: skep counts and reports it
	e->event = ENTER;
	e->pid = thread >> 32;
	e->ret = 0;
	memcpy(e->filename, copy.text, sizeof(e->filename));
	bpf_ringbuf_submit(e, 0);
	return 0;
}

SEC("kretprobe/do_unlinkat")
int BPF_KRETPROBE(do_unlinkat_exit, long ret)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct name *name = bpf_map_lookup_elem(&names, &thread);
	struct event *e;

	if (!name)
		return 0; // it began before we did
	e = bpf_ringbuf_reserve(&rb, sizeof(*e), 0);
	if (e) {
		e->event = EXIT;
		e->pid = thread >> 32;
		e->ret = ret;
		memcpy(e->filename, name->text, sizeof(e->filename));
		bpf_ringbuf_submit(e, 0);
	}
	bpf_map_delete_elem(&names, &thread);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
