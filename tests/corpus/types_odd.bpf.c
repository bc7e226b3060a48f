// Types that are awkward to print: unions, bit-fields, function pointers, multi-dimensional arrays, recursion.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

typedef int (*callback_t)(const char *name, volatile long *restrict_me, ...);

struct odd;
union either {
	struct odd *self;
	__u8 bytes[2][3];
	struct {
		int a : 3;
		unsigned int b : 29;
		long long c : 40;
	};
};

struct odd {
	callback_t callback;
	union either either[2];
	const struct odd *const next;
	struct fwd_only *opaque;
	enum { INLINE_A, INLINE_B = -5 } inline_enum;
	int : 0;
	__u16 packed_tail;
	char flexible[];
} __attribute__((packed));

struct aligned {
	char c;
	__u64 v __attribute__((aligned(32)));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct aligned);
} map SEC(".maps");

struct odd *keep_type;
volatile const struct odd *const volatile keep_qualified;

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	__u32 zero = 0;
	struct aligned *v = bpf_map_lookup_elem(&map, &zero);

	return (v ? v->v : 0) + (keep_type != 0) + (keep_qualified != 0);
}
