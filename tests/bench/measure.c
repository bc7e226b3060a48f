// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * measure ROUNDS COMMAND ... -- COMMAND ... [-- COMMAND ...]
 *
 * Runs the commands in turn, ROUNDS times each, so that whatever else the machine does falls on all of them alike, and
 * prints one line a run: the command's position, user and system time together in microseconds, elapsed microseconds,
 * greatest resident size in kilobytes, exit status.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long microseconds(struct timeval t)
{
	return t.tv_sec * 1000000LL + t.tv_usec;
}

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	char **commands[8];
	int count = 0, rounds, i, round;
	posix_spawn_file_actions_t quiet;

	if (argc < 3)
		return 2;
	rounds = atoi(argv[1]);
	commands[count++] = argv + 2;
	for (i = 2; i < argc && count < 8; i++) {
		if (!strcmp(argv[i], "--")) {
			argv[i] = NULL;
			commands[count++] = argv + i + 1;
		}
	}
	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	for (round = 0; round < rounds; round++) {
		for (i = 0; i < count; i++) {
			struct rusage usage;
			long long start = now();
			int status;
			pid_t pid;

			if (posix_spawnp(&pid, commands[i][0], &quiet, NULL, commands[i], environ)) {
				perror(commands[i][0]);
				return 1;
			}
			if (wait4(pid, &status, 0, &usage) != pid) {
				perror("wait4");
				return 1;
			}
			printf("%d %lld %lld %ld %d\n", i, microseconds(usage.ru_utime) + microseconds(usage.ru_stime),
			       now() - start, usage.ru_maxrss, status);
			fflush(stdout);
		}
	}
	return 0;
}
