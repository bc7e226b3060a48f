// A program that user space talks to: a message per user id, out of a map.
//
//     sudo skep run examples/hello_buffer_config.bpf.c
//
//     TIME      PID   UID   COMMAND  PATH     MESSAGE
//     11:02:07  1234  1000  bash     /bin/ls  Hello World
//
// While it runs, put another message into the map `my_config` under a user id and
// that user's rows say it instead. Rows travel through a perf buffer, the older
// brother of the ring buffer. Needs a kernel with kprobes.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

struct data_t {
	int pid;
	int uid;
	char command[16];
	char path[16];
	char message[12];
};

struct user_msg_t {
	char message[12];
};

const char message[12] = "Hello World";

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u32));
} output SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, u32);
	__type(value, struct user_msg_t);
} my_config SEC(".maps");

// ksyscall finds the kernel's function behind a system call, whatever its name is
// on this architecture; BPF_KPROBE_SYSCALL finds the call's arguments.
SEC("ksyscall/execve")
int BPF_KPROBE_SYSCALL(hello, const char *pathname)
{
	struct data_t data = {};
	struct user_msg_t *p;

	data.pid = bpf_get_current_pid_tgid() >> 32;
	data.uid = bpf_get_current_uid_gid() & 0xFFFFFFFF;
	bpf_get_current_comm(&data.command, sizeof(data.command));
	bpf_probe_read_user_str(&data.path, sizeof(data.path), pathname);

	p = bpf_map_lookup_elem(&my_config, &data.uid);
	if (p)
		bpf_probe_read_kernel_str(&data.message, sizeof(data.message), p->message);
	else
		bpf_probe_read_kernel_str(&data.message, sizeof(data.message), message);

	bpf_perf_event_output(ctx, &output, BPF_F_CURRENT_CPU, &data, sizeof(data));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
