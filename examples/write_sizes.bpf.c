// How much processes write at once: a histogram of write(2) sizes for each
// command.
//
//     sudo skep run examples/write_sizes.bpf.c --duration 5s
//
//     sizes:
//     bash
//       [4, 8)                    3 |@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@|
//       [8, 16)                   1 |@@@@@@@@@@@@@                           |
//
// The program sends no events, so skep shows its maps at the end. An array
// called `slots` is drawn as a histogram: slot n counts values from 2^n on.

#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

#define MAX_SLOTS 32

struct command {
	char comm[16];
};

struct histogram {
	unsigned int slots[MAX_SLOTS];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct command);
	__type(value, struct histogram);
} sizes SEC(".maps");

// `--min_size 4096` on the command line leaves smaller writes out.
const volatile unsigned int min_size = 1;

static const struct histogram empty;

static unsigned int log2(unsigned int value)
{
	unsigned int slot = 0;

	for (int step = 16; step; step >>= 1) {
		if (value >> step) {
			value >>= step;
			slot += step;
		}
	}
	return slot;
}

SEC("tracepoint/syscalls/sys_enter_write")
int enter_write(struct trace_event_raw_sys_enter *ctx)
{
	unsigned int size = ctx->args[2];
	struct command key = {};
	struct histogram *histogram;
	unsigned int slot;

	if (size < min_size)
		return 0;
	bpf_get_current_comm(&key.comm, sizeof(key.comm));
	bpf_map_update_elem(&sizes, &key, &empty, BPF_NOEXIST);
	histogram = bpf_map_lookup_elem(&sizes, &key);
	if (!histogram)
		return 0;
	slot = log2(size);
	if (slot < MAX_SLOTS)
		__sync_fetch_and_add(&histogram->slots[slot], 1);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
