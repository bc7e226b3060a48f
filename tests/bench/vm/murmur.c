/* A 64-bit hash of a kilobyte, 16 bytes in a step. */
#include "program.h"

static always_inline u64 rotl(u64 v, u32 by)
{
	return v << by | v >> (64 - by);
}

static always_inline u64 mix(u64 v)
{
	v ^= v >> 33;
	v *= 0xff51afd7ed558ccdULL;
	v ^= v >> 33;
	v *= 0xc4ceb9fe1a85ec53ULL;
	return v ^ v >> 33;
}

static always_inline u64 body(u8 *mem)
{
	const u64 c1 = 0x87c37b91114253d5ULL, c2 = 0x4cf5ad432745937fULL;
	u64 a = 42, b = 42;

	for (u32 i = 0; i < 64; i++) {
		u64 k1 = ((u64 *)mem)[2 * i], k2 = ((u64 *)mem)[2 * i + 1];

		a ^= rotl(k1 * c1, 31) * c2;
		a = (rotl(a, 27) + b) * 5 + 0x52dce729;
		b ^= rotl(k2 * c2, 33) * c1;
		b = (rotl(b, 31) + a) * 5 + 0x38495ab5;
	}
	a ^= 1024;
	b ^= 1024;
	a += b;
	b += a;
	return mix(a) + mix(b);
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	for (u32 i = 0; i < 1024; i++)
		mem[i] = i * i + 3;
}
#endif
