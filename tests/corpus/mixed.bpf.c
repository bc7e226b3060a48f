// A tool as people write them: maps, globals, typed context, subprogram, configuration.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_endian.h>

char LICENSE[] SEC("license") = "GPL";

#define MAX_SLOTS 26

const volatile bool targ_ms = false;
const volatile pid_t targ_tgid = 0;
extern int LINUX_KERNEL_VERSION __kconfig;

struct hist {
	__u32 slots[MAX_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, __u64);
} start SEC(".maps");

static struct hist initial_hist;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, struct hist);
} hists SEC(".maps");

static __always_inline __u64 log2l(__u64 v)
{
	__u64 r = 0;

	while (v >>= 1)
		if (++r > 62)
			break;
	return r;
}

static __noinline int enqueue(__u32 tgid, __u32 pid)
{
	__u64 ts = bpf_ktime_get_ns();

	if (!pid || (targ_tgid && targ_tgid != tgid))
		return 0;
	return bpf_map_update_elem(&start, &pid, &ts, BPF_ANY);
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(wakeup, struct task_struct *p)
{
	return enqueue(p->tgid, p->pid);
}

SEC("raw_tp/sched_switch")
int BPF_PROG(switched, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 pid = BPF_CORE_READ(next, pid), slot;
	__u64 *ts = bpf_map_lookup_elem(&start, &pid), delta;
	struct hist *h;

	if (!ts)
		return 0;
	delta = bpf_ktime_get_ns() - *ts;
	delta /= targ_ms ? 1000000 : 1000;
	h = bpf_map_lookup_elem(&hists, &pid);
	if (!h) {
		bpf_map_update_elem(&hists, &pid, &initial_hist, BPF_NOEXIST);
		h = bpf_map_lookup_elem(&hists, &pid);
		if (!h)
			return 0;
	}
	slot = log2l(delta);
	if (slot >= MAX_SLOTS)
		slot = MAX_SLOTS - 1;
	__sync_fetch_and_add(&h->slots[slot], 1);
	bpf_map_delete_elem(&start, &pid);
	return LINUX_KERNEL_VERSION < 0;
}
