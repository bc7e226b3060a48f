// One event for each getpgid(2) of one process: the case makes millions in a tight loop.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	unsigned long long number;
	unsigned int pid;
	unsigned int cpu;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
	__type(value, struct event);
} events SEC(".maps");

const volatile unsigned int caller = 0;
unsigned long long offered = 0;

SEC("tp/syscalls/sys_enter_getpgid")
int burst(void *ctx)
{
	struct event *e;

	if (bpf_get_current_pid_tgid() >> 32 != caller)
		return 0;
	unsigned long long number = __sync_fetch_and_add(&offered, 1);

	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e)
		return 0;
	e->number = number;
	e->pid = caller;
	e->cpu = bpf_get_smp_processor_id();
	bpf_ringbuf_submit(e, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
