// Kernel variables with a type: per-CPU ones too.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

extern const struct rq runqueues __ksym;
extern const int bpf_prog_active __ksym __weak;
extern const struct rq no_such_variable __ksym __weak;

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	const struct rq *rq = bpf_per_cpu_ptr(&runqueues, 0);
	int cpu = -1;

	if (rq)
		cpu = rq->cpu;
	if (&no_such_variable)
		cpu++;
	rq = bpf_this_cpu_ptr(&runqueues);
	return cpu + rq->nr_running;
}
