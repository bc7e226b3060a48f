/* Trial division. */
#include "program.h"

static always_inline u64 body(u8 *mem)
{
	u32 n = *(u32 *)mem;

	for (u32 by = 3; by < 1024; by += 2)
		if (n % by == 0)
			return by;
	return n;
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
	*(u32 *)mem = 1000003;
}
#endif
