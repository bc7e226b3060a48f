// Arrays: constant indexes, arrays of structs, a flexible array at the end.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sys_enter")
int arrays(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	char third = BPF_CORE_READ(task, comm[3]);
	__u64 total = BPF_CORE_READ(mm, saved_auxv[5]);
	__u32 numbers = BPF_CORE_READ(task, thread_pid, numbers[0].nr);

	return third + total + numbers;
}

SEC("tp/raw_syscalls/sys_enter")
int flexible(struct trace_event_raw_sys_enter *ctx)
{
	return ctx->args[0] + ctx->args[5] + BPF_CORE_READ(ctx, id);
}

SEC("tp/syscalls/sys_enter_openat")
int flexible_end(struct syscall_trace_enter *ctx)
{
	return ctx->nr + ctx->args[2];
}
