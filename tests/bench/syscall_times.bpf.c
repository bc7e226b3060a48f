// SPDX-License-Identifier: MIT OR Apache-2.0
// How long each process that `measure` starts spends in system calls: in execve, in BPF_PROG_LOAD (the verifier), in other
// commands of bpf(2), in all others. One event a process, when it ends. For x86-64.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>
#include <bpf/bpf_core_read.h>

#define NR_EXECVE 59
#define NR_BPF 321

char LICENSE[] SEC("license") = "GPL";

struct event {
	char comm[16];
	__u64 exec_ns;
	__u64 verify_ns;
	__u64 bpf_ns;
	__u64 other_ns;
	__u32 bpf_calls;
	__u32 other_calls;
};

// A system call under way.
struct call {
	__u64 start_ns;
	__u64 number;
	__u64 first; // argument
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); // thread
	__type(value, struct call);
} calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); // process
	__type(value, struct event);
} sums SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
	__type(value, struct event);
} events SEC(".maps");

static bool is_measure(struct task_struct *task)
{
	char comm[16] = {};

	BPF_CORE_READ_INTO(&comm, task, comm);
	return !bpf_strncmp(comm, sizeof("measure"), "measure");
}

SEC("tp_btf/sys_enter")
int BPF_PROG(enter, struct pt_regs *regs, long number)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u32 thread = bpf_get_current_pid_tgid();
	struct call call = { .number = number, .first = PT_REGS_PARM1_CORE(regs) };

	// Before its execve a process is a measure, too.
	if (!is_measure(task) && !is_measure(BPF_CORE_READ(task, group_leader, real_parent)))
		return 0;
	call.start_ns = bpf_ktime_get_ns();
	bpf_map_update_elem(&calls, &thread, &call, BPF_ANY);
	return 0;
}

SEC("tp_btf/sys_exit")
int BPF_PROG(leave, struct pt_regs *regs, long ret)
{
	__u64 now = bpf_ktime_get_ns(), id = bpf_get_current_pid_tgid(), took;
	__u32 thread = id, process = id >> 32;
	struct call *call = bpf_map_lookup_elem(&calls, &thread);
	struct event *sum, fresh = {};

	if (!call)
		return 0;
	took = now - call->start_ns;
	if (call->number == NR_EXECVE) {
		fresh.exec_ns = took;
		bpf_map_update_elem(&sums, &process, &fresh, BPF_ANY);
	} else if ((sum = bpf_map_lookup_elem(&sums, &process))) {
		if (call->number != NR_BPF) {
			__sync_fetch_and_add(&sum->other_ns, took);
			__sync_fetch_and_add(&sum->other_calls, 1);
		} else {
			__sync_fetch_and_add(call->first == BPF_PROG_LOAD ? &sum->verify_ns : &sum->bpf_ns, took);
			__sync_fetch_and_add(&sum->bpf_calls, 1);
		}
	}
	bpf_map_delete_elem(&calls, &thread);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(gone, struct task_struct *task)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 thread = id, process = id >> 32;
	struct event *sum;

	bpf_map_delete_elem(&calls, &thread);
	if (thread != process || !(sum = bpf_map_lookup_elem(&sums, &process)))
		return 0;
	bpf_get_current_comm(sum->comm, sizeof(sum->comm));
	bpf_ringbuf_output(&events, sum, sizeof(*sum), 0);
	bpf_map_delete_elem(&sums, &process);
	return 0;
}
