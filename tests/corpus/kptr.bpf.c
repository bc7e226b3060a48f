// Kernel pointers kept in a map, marked by type tags.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

#ifndef __kptr
#define __kptr __attribute__((btf_type_tag("kptr")))
#endif
#define __kptr_untrusted_ __attribute__((btf_type_tag("kptr_untrusted")))

struct holder {
	struct task_struct __kptr_untrusted_ *task;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct holder);
} map SEC(".maps");

SEC("tp_btf/sched_switch")
int BPF_PROG(use, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	__u32 zero = 0;
	struct holder *v = bpf_map_lookup_elem(&map, &zero);

	if (v)
		v->task = next;
	return 0;
}
