// As burst.bpf.c, through a perf buffer, for which the kernel counts the losses itself.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct event {
	unsigned long long number;
	unsigned int pid;
	unsigned int cpu;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__type(key, int);
	__type(value, struct event);
} events SEC(".maps");

const volatile unsigned int caller = 0;
unsigned long long offered = 0;

SEC("tp/syscalls/sys_enter_getpgid")
int burst(void *ctx)
{
	if (bpf_get_current_pid_tgid() >> 32 != caller)
		return 0;
	unsigned long long number = __sync_fetch_and_add(&offered, 1);
	struct event e = { .number = number, .pid = caller, .cpu = bpf_get_smp_processor_id() };

	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &e, sizeof(e));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
