// What is easily broken around system calls by who watches them. Each way prints what a program sees of it, which is the same whoever watches.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

static void status(const char *key)
{
	char line[256];
	FILE *file = fopen("/proc/self/status", "r");

	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			fputs(line, stdout);
	fclose(file);
}

// A system call with a number that is there, and one whose number is not: registers, flags and what is below the stack are as before.
struct state {
	unsigned long regs[12], flags, below[16];
};

#define CHECK(NAME, SET_NUMBER)                                                                                        \
	__attribute__((naked, noinline)) void NAME(struct state *before, struct state *after, long nr)                  \
	{                                                                                                               \
		__asm__("push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rsi\n\t"               \
			"mov %rdx, %rax; push $0xcd7; popfq\n\t"                                                        \
			"mov 8(%rdi), %rbx; mov 24(%rdi), %rsi; mov 32(%rdi), %rdx; mov 40(%rdi), %rbp\n\t"             \
			"mov 48(%rdi), %r8; mov 56(%rdi), %r9; mov 64(%rdi), %r10; mov 72(%rdi), %r12\n\t"              \
			"mov 80(%rdi), %r13; mov 88(%rdi), %r14; mov 16(%rdi), %r15\n\t"                                \
			"movq $0x1111, -8(%rsp); movq $0x2222, -128(%rsp); movq $0x3333, -64(%rsp)\n\t"                 \
			"nop; " SET_NUMBER "; syscall\n\t"                                                                   \
			"pushfq; pop %r11\n\t" /* over -8 */                                                            \
			"mov (%rsp), %rax\n\t"                                                                          \
			"mov %rbx, 8(%rax); mov %rsi, 24(%rax); mov %rdx, 32(%rax); mov %rbp, 40(%rax)\n\t"             \
			"mov %r8, 48(%rax); mov %r9, 56(%rax); mov %r10, 64(%rax); mov %r12, 72(%rax)\n\t"              \
			"mov %r13, 80(%rax); mov %r14, 88(%rax); mov %r15, 16(%rax); mov %rdi, (%rax)\n\t"              \
			"mov %r11, 96(%rax); mov -128(%rsp), %r11; mov %r11, 104(%rax)\n\t"                             \
			"mov -64(%rsp), %r11; mov %r11, 112(%rax); cld\n\t"                                             \
			"pop %rsi; pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret");                   \
	}

CHECK(check_known, "mov $110, %eax")
CHECK(check_unknown, "lea 0(%rax), %rax; nop; nop")

static void registers(long rounds)
{
	struct state before, after;

	for (long round = 0; round < rounds; round++)
		for (int unknown = 0; unknown < 2; unknown++) {
			memset(&after, 0, sizeof(after));
			for (int i = 0; i < 12; i++)
				before.regs[i] = 0x0101010101010101ul * (i + 1) + round;
			before.regs[0] = (unsigned long)&before;
			if (unknown)
				check_unknown(&before, &after, round % 3 ? 110 : 39);
			else
				check_known(&before, &after, 0);
			if (memcmp(before.regs, after.regs, sizeof(after.regs)) || after.below[0] != 0x2222 ||
			    after.below[1] != 0x3333 || after.flags != 0xed7) {
				printf("registers differ in round %ld, %d: flags %lx\n", round, unknown, after.flags);
				exit(1);
			}
		}
	puts("registers good");
}

static volatile int handled;

static void handler(int signal)
{
	(void)signal;
	handled++;
	syscall(SYS_getppid);
	getuid();
}

static sigjmp_buf out;

static void jumper(int signal)
{
	(void)signal;
	handled++;
	siglongjmp(out, 1);
}

// Handlers that come at any time, go on or jump away.
static void signals(void)
{
	struct itimerval often = { { 0, 700 }, { 0, 700 } };
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };
	volatile long calls = 0;

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	while (handled < 200)
		if (syscall(SYS_getppid) != getppid() || ++calls < 0)
			exit(1);
	action.sa_handler = jumper;
	sigaction(SIGALRM, &action, NULL);
	while (handled < 300)
		if (!sigsetjmp(out, 1))
			for (;;)
				if (syscall(SYS_getppid) != getppid())
					exit(1);
	memset(&often, 0, sizeof(often));
	setitimer(ITIMER_REAL, &often, NULL);
	puts("signals good");
}

// A call that waits is interrupted or starts again as it should.
static void interrupted(void)
{
	struct itimerval once = { { 0, 0 }, { 0, 20000 } };
	struct sigaction action = { .sa_handler = handler };
	int ends[2];
	ssize_t got;
	char byte;

	pipe(ends);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &once, NULL);
	got = read(ends[0], &byte, 1);
	printf("read %zd %d\n", got, errno == EINTR);
	action.sa_flags = SA_RESTART;
	sigaction(SIGALRM, &action, NULL);
	if (!fork()) {
		usleep(60000);
		write(ends[1], "x", 1);
		_exit(0);
	}
	setitimer(ITIMER_REAL, &once, NULL);
	got = read(ends[0], &byte, 1);
	printf("read %zd %c\n", got, byte);
	wait(NULL);
}

static int never[2];

static void *waits(void *unused)
{
	char byte;

	(void)unused;
	read(never[0], &byte, 1);
	return "came back";
}

static void *calls(void *count)
{
	for (long i = 0; i < (long)count; i++)
		if (syscall(SYS_getppid) != getppid())
			exit(1);
	return NULL;
}

// Threads that make calls at one time, and one that is cancelled in one.
static void threads(long count)
{
	pthread_t threads[4], waiting;
	void *value;

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, calls, (void *)count);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	pipe(never);
	pthread_create(&waiting, NULL, waits, NULL);
	usleep(50000);
	pthread_cancel(waiting);
	pthread_join(waiting, &value);
	puts(value == PTHREAD_CANCELED ? "cancelled" : "not cancelled");
}

static void children(long count)
{
	long total = 0;

	for (int i = 0; i < 4; i++) {
		if (!fork()) {
			calls((void *)count);
			_exit(i);
		}
		calls((void *)count);
	}
	for (int code; wait(&code) > 0;)
		total += WEXITSTATUS(code);
	if (!vfork())
		_exit(7);
	for (int code; wait(&code) > 0;)
		total += WEXITSTATUS(code);
	printf("children %ld\n", total);
}

// A child that has this memory makes rules of its own; what its maker calls is seen nevertheless.
static void shared(long count)
{
	calls((void *)count);
	if (!vfork()) {
		syscall(SYS_personality, 0xffffffff);
		_exit(0);
	}
	wait(NULL);
	calls((void *)count);
	puts("shared good");
}

static void *makes(void *unused)
{
	pthread_t made;

	(void)unused;
	for (;;)
		if (!pthread_create(&made, NULL, calls, (void *)5))
			pthread_detach(made);
}

// Everything is killed at once while new tasks are made.
static void killed(int with_threads)
{
	pthread_t maker;

	setpgid(0, 0);
	if (with_threads)
		for (int i = 0; i < 4; i++)
			pthread_create(&maker, NULL, makes, NULL);
	else
		for (int i = 0; i < 6; i++)
			if (!fork()) {
				calls((void *)100000);
				_exit(0);
			}
	usleep(100000);
	kill(0, SIGKILL);
}

// Code that is made at run time.
static void made(void)
{
	// mov eax, 110; syscall; ret
	static const unsigned char code[] = { 0xb8, 110, 0, 0, 0, 0x0f, 0x05, 0xc3 };
	long (*call)(void);

	getppid();
	call = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy((void *)call, code, sizeof(code));
	mprotect((void *)call, 4096, PROT_READ | PROT_EXEC);
	for (int i = 0; i < 10; i++)
		if (call() != getppid())
			exit(1);
	puts("made good");
	status("Seccomp:");
}

// Ends by a call around which no jump can be, and whose number nothing proves.
static void ends(void)
{
	__asm__ volatile("1: syscall\n\tjmp 1b" : : "a"(SYS_exit_group), "D"(0) : "rcx", "r11", "memory");
}

// Rules of its own, which kill for a call that it never makes by itself.
static void ruled(void)
{
	struct sock_filter insns[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(insns) / sizeof(insns[0]), insns };

	calls((void *)5000);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		exit(1);
	calls((void *)50);
	puts("ruled good");
}

// The instructions before a call do something wrong, and the program mends that.
__asm__(".globl loads_before_call\n.type loads_before_call, @function\n"
	"loads_before_call:\n.cfi_startproc\npush %rbx\n.cfi_adjust_cfa_offset 8\n"
	"mov $110, %ebx; test %ebx, %ebx; jz 1f; mov %ebx, %eax; mov (%rdi), %edi; mov %ecx, %edx; syscall\n"
	"1: pop %rbx\n.cfi_adjust_cfa_offset -8\nret\n.cfi_endproc\n.size loads_before_call, . - loads_before_call\n");
extern long loads_before_call(long *from);
static long good;

static void mends(int signal, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)signal;
	printf("fault at %p, +%ld\n", info->si_addr, (long)(registers[REG_RIP] - (long)loads_before_call));
	registers[REG_RDI] = (long)&good;
}

static void faulted(void)
{
	struct sigaction action = { .sa_sigaction = mends, .sa_flags = SA_SIGINFO };
	long differ = 0;

	sigaction(SIGSEGV, &action, NULL);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 100; i++)
			differ |= loads_before_call(&good) ^ getppid();
		differ |= loads_before_call((long *)16) ^ getppid();
	}
	printf("faulted %ld\n", differ);
}

static void many(long count)
{
	struct rusage usage;

	calls((void *)count);
	getrusage(RUSAGE_SELF, &usage);
	printf("%s stops\n", usage.ru_nvcsw + usage.ru_nivcsw < count / 2 ? "few" : "many");
	status("Seccomp:");
}

int main(int argc, char **argv)
{
	const char *way = argv[1];
	long count = argc > 2 ? atol(argv[2]) : 1000;

	if (!strcmp(way, "registers"))
		registers(count);
	else if (!strcmp(way, "signals"))
		signals();
	else if (!strcmp(way, "interrupted"))
		interrupted();
	else if (!strcmp(way, "threads"))
		threads(count);
	else if (!strcmp(way, "later"))
		usleep(400000), threads(count);
	else if (!strcmp(way, "children"))
		children(count);
	else if (!strcmp(way, "shared"))
		shared(count);
	else if (!strcmp(way, "killed-threads"))
		killed(1);
	else if (!strcmp(way, "killed-children"))
		killed(0);
	else if (!strcmp(way, "ends"))
		ends();
	else if (!strcmp(way, "made"))
		made();
	else if (!strcmp(way, "ruled"))
		ruled();
	else if (!strcmp(way, "faulted"))
		faulted();
	else if (!strcmp(way, "many"))
		many(count);
	else
		return 1;
	return argc > 3 ? atoi(argv[3]) : 0;
}
