// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A tracer that does nothing: what the stops of a tracee cost whatever one does in them, for `cargo xtask bench user`.
 *
 *     stops enter|both|function|unwanted CALLS
 *
 * A child makes a system call, which its filter may let pass (`unwanted`), or calls a function CALLS times and prints the nanoseconds of one. Both are on one processor. A stop is ended with
 * the fewest requests there can be: what it was, and for a breakpoint the registers, in which the hidden instruction is imitated.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

__attribute__((noinline, noipa)) static long hit(long n)
{
	__asm__ volatile("" : "+r"(n));
	return n + 1;
}

static void trace(unsigned int nr)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void traced(int function, unsigned int nr, long calls)
{
	struct timespec start, end;

	raise(SIGSTOP);
	if (!function)
		trace(nr);
	clock_gettime(CLOCK_MONOTONIC, &start);
	if (function)
		for (long i = 0; i < calls;)
			i = hit(i);
	else
		for (long i = 0; i < calls; i++)
			syscall(SYS_getppid);
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.1f\n", ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / calls);
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	int function, both, status;
	cpu_set_t here;
	pid_t child;

	if (argc != 3)
		return 2;
	function = !strcmp(argv[1], "function");
	both = !strcmp(argv[1], "both");
	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	sched_setaffinity(0, sizeof(here), &here);
	child = fork();
	if (!child)
		traced(function, strcmp(argv[1], "unwanted") ? SYS_getppid : SYS_mkdir, atol(argv[2]));
	waitpid(child, &status, __WALL | WUNTRACED);
	if (ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL))
		return 1;
	if (function) {
		char path[64];
		int memory;

		snprintf(path, sizeof(path), "/proc/%d/mem", child);
		memory = open(path, O_RDWR);
		if (pwrite(memory, "\xcc", 1, (off_t)hit) != 1)
			return 1;
	}
	kill(child, SIGCONT);
	while (wait4(-1, &status, __WALL, 0) == child && WIFSTOPPED(status)) {
		int is_event = status >> 16 == PTRACE_EVENT_SECCOMP, signal = WSTOPSIG(status), go_on = PTRACE_CONT;

		if (is_event || signal == (SIGTRAP | 0x80)) {
			struct __ptrace_syscall_info info;

			ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof(info), &info);
			if (is_event && both)
				go_on = PTRACE_SYSCALL;
		} else if (signal == SIGTRAP && !(status >> 16)) {
			struct user_regs_struct registers;

			/* lea 1(%rdi), %rax; ret */
			ptrace(PTRACE_GETREGS, child, 0, &registers);
			registers.rax = registers.rdi + 1;
			registers.rip += 3;
			ptrace(PTRACE_SETREGS, child, 0, &registers);
		}
		ptrace(go_on, child, 0, 0);
	}
	return !WIFEXITED(status);
}
