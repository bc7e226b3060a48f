/* SHA-256 of two blocks. The constants lie in the input, behind the blocks. */
#include "program.h"

static always_inline u32 rotr(u32 v, u32 by)
{
	return v >> by | v << (32 - by);
}

static always_inline u64 body(u8 *mem)
{
	const u32 *k = (u32 *)(mem + 1024);
	u32 *w = (u32 *)(mem + 2048);
	u32 s0 = 0x6a09e667, s1 = 0xbb67ae85, s2 = 0x3c6ef372, s3 = 0xa54ff53a;
	u32 s4 = 0x510e527f, s5 = 0x9b05688c, s6 = 0x1f83d9ab, s7 = 0x5be0cd19;

	for (u32 block = 0; block < 2; block++) {
		const u32 *in = (u32 *)(mem + 64 * block);
		u32 a = s0, b = s1, c = s2, d = s3, e = s4, f = s5, g = s6, h = s7;

#pragma clang loop unroll(disable)
		for (u32 i = 0; i < 16; i++)
			w[i] = __builtin_bswap32(in[i]);
#pragma clang loop unroll(disable)
		for (u32 i = 16; i < 64; i++) {
			u32 x = w[i - 15], y = w[i - 2];

			w[i] = w[i - 16] + (rotr(x, 7) ^ rotr(x, 18) ^ x >> 3) + w[i - 7] +
			       (rotr(y, 17) ^ rotr(y, 19) ^ y >> 10);
		}
#pragma clang loop unroll(disable)
		for (u32 i = 0; i < 64; i++) {
			u32 t1 = h + (rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25)) + ((e & f) ^ (~e & g)) + k[i] + w[i];
			u32 t2 = (rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));

			h = g, g = f, f = e, e = d + t1;
			d = c, c = b, b = a, a = t1 + t2;
		}
		s0 += a, s1 += b, s2 += c, s3 += d;
		s4 += e, s5 += f, s6 += g, s7 += h;
	}
	return ((u64)s0 << 32 | s1) ^ ((u64)s2 << 32 | s3) ^ ((u64)s4 << 32 | s5) ^ ((u64)s6 << 32 | s7);
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	u32 *k = (u32 *)(mem + 1024), n = 0;

	for (u32 i = 0; i < 128; i++)
		mem[i] = i * 5 + 1;
	/* The first 32 bits of the fractions of the cube roots of the first 64 primes, found by their squares and cubes. */
	for (u32 p = 2; n < 64; p++) {
		int prime = 1;
		u64 root = 0;

		for (u32 by = 2; by * by <= p; by++)
			prime &= p % by != 0;
		if (!prime)
			continue;
		for (int bit = 34; bit >= 0; bit--) {
			u64 next = root | 1ULL << bit;

			if ((__uint128_t)next * next <= ((__uint128_t)p << 96) / next)
				root = next;
		}
		k[n++] = root;
	}
}
#endif
