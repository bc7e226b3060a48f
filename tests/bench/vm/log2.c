/* The slot of a histogram for each of 128 latencies. */
#include "program.h"

static always_inline u32 log2_32(u32 v)
{
	u32 r, shift;

	r = (v > 0xffff) << 4;
	v >>= r;
	shift = (v > 0xff) << 3;
	v >>= shift;
	r |= shift;
	shift = (v > 0xf) << 2;
	v >>= shift;
	r |= shift;
	shift = (v > 0x3) << 1;
	v >>= shift;
	r |= shift;
	return r | (v >> 1);
}

static always_inline u64 body(u8 *mem)
{
	u64 sum = 0;

	for (u32 i = 0; i < 128; i++) {
		u64 v = ((u64 *)mem)[i];
		u32 high = v >> 32;

		sum = sum * 3 + (high ? log2_32(high) + 32 : log2_32(v));
	}
	return sum;
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	u64 state = 88172645463325252ULL;

	for (u32 i = 0; i < 128; i++) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		/* Microseconds to seconds, in nanoseconds. */
		((u64 *)mem)[i] = state >> (24 + state % 32);
	}
}
#endif
