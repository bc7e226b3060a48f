/* Counts 64 events in an array. */
#include "program.h"

MAP(counts, MAP_ARRAY, u32, u64, 256);

static always_inline u64 body(u8 *mem)
{
	u64 sum = 0;

	for (u32 i = 0; i < 64; i++) {
		u32 key = mem[i];
		u64 *count = map_lookup(&counts, &key);

		if (count) {
			*count += 1;
			sum += key;
		}
	}
	return sum;
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	for (u32 i = 0; i < 64; i++)
		mem[i] = i * 37 + 11;
}
#endif
