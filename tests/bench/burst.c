// SPDX-License-Identifier: MIT OR Apache-2.0
/* burst CALLS: makes burst.bpf.c send 1,000 events a call. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int calls = argc > 1 ? atoi(argv[1]) : 1;

	while (calls-- > 0)
		syscall(SYS_getpgid, -7002026);
	return 0;
}
