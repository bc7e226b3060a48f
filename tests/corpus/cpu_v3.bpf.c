// cflags: -mcpu=v3
// Compiled for instruction set v3.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

int seen;
long long big;

static __noinline int divide(int a, int b)
{
	return b ? a / (unsigned int)b : 0;
}

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	__u32 r = bpf_get_prandom_u32();
	short s = r;
	signed char c = r >> 8;

	if (r < 100)
		seen++;
	if ((int)r > -7 && s <= c)
		big += (long long)s * c;
	big = __builtin_bswap64(big) + __builtin_bswap32(r) + __builtin_bswap16(s);
	return divide(r, c) + (r % 7) ;
}
