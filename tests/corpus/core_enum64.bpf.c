// compilers: 19
// Enumerators of 64 bits, signed and unsigned, and an unsigned one above the signed 32-bit range.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

char LICENSE[] SEC("license") = "GPL";

enum big {
	BIG = 0x123456789abcdef0ULL,
};

enum negative {
	NEGATIVE = -0x123456789LL,
};

enum unsigned_32 {
	UNSIGNED_32 = 0xfffffff0U,
};

enum big big = BIG;
enum negative negative = NEGATIVE;
enum unsigned_32 unsigned_32 = UNSIGNED_32;

SEC("raw_tp/sys_enter")
int values(void *ctx)
{
	__u64 sum = 0;

	if (bpf_core_enum_value_exists(enum big, BIG))
		sum += bpf_core_enum_value(enum big, BIG);
	if (bpf_core_enum_value_exists(enum negative, NEGATIVE))
		sum += bpf_core_enum_value(enum negative, NEGATIVE);
	return sum + big + negative + unsigned_32;
}
