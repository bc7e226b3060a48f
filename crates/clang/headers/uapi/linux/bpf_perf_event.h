/* The context of a perf_event program. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/bpf_perf_event.h>)
#include_next <linux/bpf_perf_event.h>
#elif !defined(__SKEP_UAPI_LINUX_BPF_PERF_EVENT_H)
#define __SKEP_UAPI_LINUX_BPF_PERF_EVENT_H

#include <linux/types.h>

#ifndef __VMLINUX_H__
#include <asm/ptrace.h>

struct bpf_perf_event_data {
	struct pt_regs regs;
	__u64 sample_period;
	__u64 addr;
};
#endif

#endif
