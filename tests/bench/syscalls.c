// SPDX-License-Identifier: MIT OR Apache-2.0
/* syscalls COUNT: makes so many system calls that do next to nothing, and prints the nanoseconds that one took. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1, left = count;
	long long start = now();

	while (left-- > 0)
		syscall(SYS_getppid);
	printf("%.2f\n", (double)(now() - start) / count);
	return 0;
}
