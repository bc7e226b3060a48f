/* What a watched program may do that is easily broken by who watches it. `fragile WHAT` says what came of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

static jmp_buf out;
static volatile long seen;

/* Two functions of which the first jumps to the second, which never comes back. */
__attribute__((noinline)) long leaves(long n)
{
	seen++;
	if (n >= 0)
		longjmp(out, 1);
	return n;
}

__attribute__((noinline)) long enters(long n)
{
	seen++;
	return leaves(n);
}

__attribute__((noinline)) long deep(long n)
{
	long below;

	if (n == 0)
		return 0;
	below = deep(n - 1);
	/* Something to do behind the call, or it would be a loop. */
	seen++;
	return below + 1;
}

static int jumps(void)
{
	for (volatile long i = 0; i < 300; i++)
		if (!setjmp(out))
			seen += enters(i);
	printf("deep %ld\n", deep(3000));
	return 0;
}

/* The load is the function's first instruction, and the handler knows its address. */
long load(const int *from);
__asm__(".globl load\n.type load, @function\nload:\n\tmovl (%rdi), %eax\n\tret\n.size load, .-load\n");

static void on_fault(int signal, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)signal, (void)info;
	if (registers[REG_RIP] != (greg_t)load)
		_exit(9);
	/* Behind the load. */
	registers[REG_RIP] += 2;
	registers[REG_RAX] = 7;
}

static int faults(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	int one = 1;

	sigaction(SIGSEGV, &action, NULL);
	printf("loads %ld %ld\n", load(&one), load(NULL));
	return 0;
}

__attribute__((noinline)) void hot(void)
{
	seen++;
	__asm__ volatile("" ::: "memory");
}

/* A process that may map nothing any more. */
static int rules(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(code[0]), code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
	for (int i = 0; i < 200; i++) {
		hot();
		usleep(10000);
	}
	return 0;
}

static void *thread(void *name)
{
	usleep(50000);
	hot();
	if (!dlopen(name, RTLD_NOW))
		_exit(1);
	for (int i = 0; i < 10; i++)
		hot();
	printf("hot %ld\n", seen);
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	pthread_t other;

	if (!strcmp(what, "jumps"))
		return jumps();
	if (!strcmp(what, "faults"))
		return faults();
	if (!strcmp(what, "rules"))
		return rules();
	/* The first thread ends before the other one maps a library. */
	signal(SIGTRAP, SIG_IGN);
	pthread_create(&other, NULL, thread, "libm.so.6");
	pthread_exit(NULL);
}
