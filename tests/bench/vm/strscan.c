/* The length of a text and what one byte occurs in it, then a comparison with another one. */
#include "program.h"

#define TEXT_BYTES 512

static always_inline u64 body(u8 *mem)
{
	u8 *other = mem + 1024;
	u64 slashes = 0, hash = 5381;
	u32 len, same;

	for (len = 0; len < TEXT_BYTES; len++) {
		u8 c = mem[len];

		if (!c)
			break;
		slashes += c == '/';
		hash = hash * 33 + c;
	}
	for (same = 0; same < TEXT_BYTES; same++)
		if (mem[same] != other[same] || !mem[same])
			break;
	return hash + (slashes << 32) + (same << 16) + len;
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	for (u32 i = 0; i < 500; i++)
		mem[i] = mem[1024 + i] = i % 7 ? 'a' + i % 26 : '/';
	mem[1024 + 490] = 'X';
}
#endif
