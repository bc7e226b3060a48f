/* 256 calls of a function of the program. */
#include "program.h"

static noinline u64 step(u64 value, u64 with)
{
	return (value ^ with) * 0x9e3779b97f4a7c15ULL + (value >> 7);
}

static always_inline u64 body(u8 *mem)
{
	u64 value = *(u64 *)mem;

	for (u32 i = 0; i < 256; i++)
		value = step(value, i);
	return value;
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	*(u64 *)mem = 0x1234567890abcdefULL;
}
#endif
