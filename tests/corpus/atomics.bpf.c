// cflags: -mcpu=v3
// Atomic operations, with and without the old value.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

__u64 wide;
__u32 narrow;
__u64 old;

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	__sync_fetch_and_add(&wide, 1);
	__sync_fetch_and_add(&narrow, 2);
	old = __sync_fetch_and_add(&wide, 3);
	old += __sync_fetch_and_or(&wide, 0x10);
	old += __sync_fetch_and_and(&wide, 0xff);
	old += __sync_fetch_and_xor(&narrow, 0xf);
	old += __sync_lock_test_and_set(&wide, 5);
	old += __sync_val_compare_and_swap(&narrow, 5, 6);
	return 0;
}
