// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * syscalls COUNT [TIMES]: makes so many system calls that do next to nothing, and prints the nanoseconds of processor time that
 * one took; of several TIMES the least, since whatever else the machine does only adds.
 */
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

static double one(long count)
{
	long long start = now();
	long left = count;

	while (left-- > 0)
		syscall(SYS_getppid);
	return (double)(now() - start) / count;
}

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1, times = argc > 2 ? atol(argv[2]) : 1;
	double least = one(count), next;

	while (--times > 0)
		if ((next = one(count)) < least)
			least = next;
	printf("%.2f\n", least);
	return 0;
}
