/* A machine with 16 operations, for 512 steps. */
#include "program.h"

#define STEPS 512

static always_inline u64 body(u8 *mem)
{
	u64 a = 1, b = 2, c = 3, flags = 0;

	for (u32 at = 0; at < STEPS; at++) {
		u32 op = mem[at];

		switch (op & 15) {
		case 0: a += b; break;
		case 1: b ^= a; break;
		case 2: c = a - b; break;
		case 3: a = c * 5; break;
		case 4: b = b << 3 | b >> 61; break;
		case 5: flags += a > b; break;
		case 6: a ^= op; break;
		case 7: c += flags; break;
		case 8: b += c ^ a; break;
		case 9: a = ~a; break;
		case 10: c >>= 1; break;
		case 11: b -= 77; break;
		case 12: a |= c & 0xff; break;
		case 13: c = b; break;
		case 14: a = (u32)a * 3ULL; break;
		case 15: flags ^= b; break;
		}
	}
	return a + b * 3 + c * 5 + flags * 7;
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	u32 state = 12345;

	for (u32 i = 0; i < STEPS; i++) {
		state = state * 1103515245 + 12345;
		mem[i] = state >> 16;
	}
}
#endif
