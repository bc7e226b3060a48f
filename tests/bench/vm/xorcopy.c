/* A copy of a kilobyte under a mask. */
#include "program.h"

static always_inline u64 body(u8 *mem)
{
	u64 *from = (u64 *)mem, *to = (u64 *)(mem + 1024);
	u64 mask = *(u64 *)(mem + 2048);

	for (u32 i = 0; i < 128; i++)
		to[i] = from[i] ^ mask;
	return to[77];
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	for (u32 i = 0; i < 1024; i++)
		mem[i] = i * 7;
	*(u64 *)(mem + 2048) = 0x0123456789abcdefULL;
}
#endif
