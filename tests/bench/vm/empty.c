/* What a run costs. */
#include "program.h"

static always_inline u64 body(u8 *mem)
{
	return 0;
}

PROGRAM

#ifndef __bpf__
void prepare(u8 *mem)
{
}
#endif
