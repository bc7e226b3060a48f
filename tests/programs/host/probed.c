// What the cases of breakpoints run (crates/cli/tests/end_to_end/user_probes.rs): `probed WHAT [ARGUMENT]`.
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifndef STATIC
#include <dlfcn.h>
#endif

#define APART __attribute__((noinline, noclone))
#define KEEP __asm__ volatile("" ::: "memory")

unsigned short demo_tick_semaphore __attribute__((section(".probes"), used));

// A note as <sys/sdt.h> makes it, with a semaphore.
#define NOTE(args)                                                                                          \
	".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n.4byte 992f-991f,994f-993f,3\n"               \
	"991: .asciz \"stapsdt\"\n992: .balign 4\n993: .8byte 990b\n.8byte 0\n.8byte demo_tick_semaphore\n" \
	".asciz \"demo\"\n.asciz \"tick\"\n.asciz \"" args "\"\n994: .balign 4\n.popsection\n"

static jmp_buf place;

APART long hot(long n) { KEEP; return n + 1; }
APART long deep(long n) { KEEP; if (n == 0) longjmp(place, 7); return deep(n - 1) + 1; }
APART long factorial(long n) { KEEP; return n < 2 ? 1 : n * factorial(n - 1); }
APART long doubled(long n) { KEEP; return n * 2; }
APART long tail(long n) { KEEP; return doubled(n + 1); }

APART long forked(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		return 0;
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

// First instructions that depend on where they are: a jump, a call, and data beside the code.
__asm__(".text\n"
	".globl jumps, branches, calls, loads\n"
	".type jumps,@function\njumps: jmp 1f\nnop\n1: lea 1(%rdi), %rax\nret\n.size jumps,.-jumps\n"
	".type branches,@function\nbranches: jrcxz 1f\nlea 2(%rdi), %rax\nret\n1: lea 3(%rdi), %rax\nret\n"
	".size branches,.-branches\n"
	".type calls,@function\ncalls: call 1f\nadd $1, %rax\nret\n1: lea 10(%rdi), %rax\nret\n.size calls,.-calls\n"
	".type loads,@function\nloads: mov 1f(%rip), %rax\nadd %rdi, %rax\nret\n1: .quad 100\n.size loads,.-loads\n"
	// Room for a jump in one instruction.
	".globl longer\n.type longer,@function\nlonger: .cfi_startproc\nlea 0x12345(%rdi), %rax\nret\n.cfi_endproc\n"
	".size longer,.-longer\n"
	".globl trap\n.type trap,@function\ntrap: int3\nret\n.size trap,.-trap\n"
	// Arguments as Go passes them.
	".globl gofunc\n.type gofunc,@function\ngofunc: sub $8, %rsp\nadd $8, %rsp\nret\n.size gofunc,.-gofunc\n");
long jumps(long), branches(long, long, long, long), calls(long), loads(long), longer(long);

static void *hammer(void *count)
{
	long sum = 0;

	for (long i = 0; i < (long)count; i++)
		sum += hot(i);
	return (void *)sum;
}

static int threads(long count)
{
	pthread_t all[4];
	long sum = 0;

	for (int i = 0; i < 4; i++)
		pthread_create(&all[i], NULL, hammer, (void *)count);
	for (int i = 0; i < 4; i++) {
		void *part;

		pthread_join(all[i], &part);
		sum += (long)part;
	}
	printf("sum %ld\n", sum);
	return sum == 4 * (count * (count + 1) / 2) ? 0 : 9;
}

static int children(char *self)
{
	int status;
	long value = forked();

	if (value == 0) {
		hot(1);
		_exit(3);
	}
	hot(2);
	pid_t pid = vfork();
	if (pid == 0) {
		hot(3);
		execl(self, self, "exec", (char *)NULL);
		_exit(1);
	}
	waitpid(pid, &status, 0);
	hot(5);
	printf("children %ld %d\n", value, WEXITSTATUS(status));
	return 0;
}

#ifndef STATIC
static int libraries(char *path)
{
	for (int i = 3; i < 6; i++) {
		void *library = dlopen(path, RTLD_NOW);
		long (*function)(long) = library ? (long (*)(long))dlsym(library, "hot") : NULL;

		if (!function)
			return 1;
		printf("library %ld\n", function(i));
		dlclose(library);
	}
	return 0;
}
#endif

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "threads"))
		return threads(atol(argv[2]));
	if (!strcmp(what, "children"))
		return children(argv[0]);
	if (!strcmp(what, "exec"))
		return hot(4) == 5 ? (int)tail(3) : 1;
#ifndef STATIC
	if (!strcmp(what, "libraries"))
		return libraries(argv[2]);
#endif
	if (!strcmp(what, "ways")) {
		int way = setjmp(place);

		if (way == 0)
			deep(5);
		printf("ways %d %ld %ld\n", way, factorial(5), tail(3));
		printf("first %ld %ld %ld %ld %ld\n", jumps(1), branches(1, 0, 0, 0), branches(1, 0, 0, 1), calls(1),
		       loads(1));
		return 0;
	}
	if (!strcmp(what, "ticks")) {
		int count = atoi(argv[2]);

		for (int i = 0; i < count; i++) {
			__asm__ volatile("990: nop\n" NOTE("-4@%0 8@%1") ::"r"(i), "r"("text"));
			if (count > 100) {
				usleep(1000);
				if (i % 20 == 0) {
					printf("semaphore %d\n", demo_tick_semaphore);
					fflush(stdout);
				}
			}
		}
		printf("semaphore %d\n", demo_tick_semaphore);
		return 0;
	}
	if (!strcmp(what, "go")) {
		__asm__ volatile("call gofunc" ::"a"(42L), "b"("a string"), "c"(8L) : "memory");
		return 0;
	}
	// Until it is killed, or something is wrong.
	for (long i = 0; !strcmp(what, "loop"); i++) {
		if (hot(i) != i + 1 || factorial(5) != 120 || longer(i) != i + 0x12345)
			return 5;
		if (argc > 2)
			usleep(atoi(argv[2]));
	}
	return 0;
}
