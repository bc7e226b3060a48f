/* What the cases of gates run (crates/cli/tests/end_to_end/user_gates.rs): functions that are called again and again. `gated WHAT COUNT`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define APART __attribute__((noinline, noclone))
#define KEEP __asm__ volatile("" ::: "memory")
#define REG(name) "movq " name ", "

APART long hot(long n) { KEEP; return n + 1; }
APART long named(const char *name, long n) { KEEP; return name[0] + n; }

static long many(long from, long count)
{
	long sum = 0;

	for (long i = from; i < from + count; i++)
		sum += hot(i) - 1;
	return sum;
}

/* How much code there is that no file has. */
static long nameless(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], rights[5];
	unsigned long start, end;
	long bytes = 0;

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 && rights[2] == 'x' && !strpbrk(line, "/["))
			bytes += end - start;
	if (maps)
		fclose(maps);
	return bytes;
}

/* A library is loaded again and again, and a function of it called. */
static int loads(long count, char *path)
{
	unsigned char first = 0;
	long before = 0;

	for (long i = 0; i < count; i++) {
		if (i == count / 2)
			before = nameless();
		void *library = dlopen(path, RTLD_NOW);
		long (*function)(long) = library ? (long (*)(long))dlsym(library, "square") : NULL;

		for (long n = 0; n < 2000; n++)
			if (!function || function(n) != n * n + n)
				return 8;
		first = *(unsigned char *)function;
		dlclose(library);
	}
	printf("begins with %02x\ngrew %ld\n", first, nameless() - before);
	return 0;
}

/* All that a function may rely on: registers in the order of the code below, flags, what lies below the stack pointer, and vectors. */
struct state {
	unsigned long registers[15], flags, below[16], vectors[16][2];
};
struct state given, found;
unsigned long stack_given, stack_found;

/* A leaf with data below its stack pointer. `leaf_place` is in the middle of it; two instructions of four bytes are there. */
#define EACH(move) \
	move(0, "rax") move(1, "rbx") move(2, "rcx") move(3, "rdx") move(4, "rsi") move(5, "rdi") move(6, "rbp") move(7, "r8") \
	move(8, "r9") move(9, "r10") move(10, "r11") move(11, "r12") move(12, "r13") move(13, "r14") move(14, "r15")
#define WORDS(move) \
	move(0) move(1) move(2) move(3) move(4) move(5) move(6) move(7) move(8) move(9) move(10) move(11) move(12) move(13) \
	move(14) move(15)
#define GIVE(at, name) "movq given+8*" #at "(%rip), %" name "\n"
#define FIND(at, name) "movq %" name ", found+8*" #at "(%rip)\n"
#define GIVE_WORD(at) "movq given+128+8*" #at "(%rip), %rax\nmovq %rax, -8-8*" #at "(%rsp)\n"
#define FIND_WORD(at) "movq -8-8*" #at "(%rsp), %rax\nmovq %rax, found+128+8*" #at "(%rip)\n"
#define GIVE_VECTOR(at) "movups given+256+16*" #at "(%rip), %xmm" #at "\n"
#define FIND_VECTOR(at) "movups %xmm" #at ", found+256+16*" #at "(%rip)\n"
__asm__(".text\n.globl leaf\n.type leaf,@function\nleaf:\n.cfi_startproc\n"
	"push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
	"push given+120(%rip)\npopfq\nmovq %rsp, stack_given(%rip)\n" WORDS(GIVE_WORD) WORDS(GIVE_VECTOR) EACH(GIVE)
	".globl leaf_place\nleaf_place:\nlea 1(%rax), %rax\nlea -1(%rax), %rax\n"
	EACH(FIND) WORDS(FIND_VECTOR) WORDS(FIND_WORD)
	"movq %rsp, stack_found(%rip)\npushfq\npop found+120(%rip)\ncld\n"
	"pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n.cfi_endproc\n.size leaf,.-leaf\n");
void leaf(void);
extern char leaf_place[];

/* What faults is the first instruction of a function, or the second. */
__asm__(".text\n.globl first, second\n.type first,@function\nfirst:\n.cfi_startproc\nmov (%rdi), %rax\nlea 1(%rax), %rax\nret\n"
	".cfi_endproc\n.size first,.-first\n.type second,@function\nsecond:\n.cfi_startproc\nmov %rdi, %rax\nmov (%rax), %rax\n"
	"ret\n.cfi_endproc\n.size second,.-second\n");
long first(long *), second(long *);

/* Functions whose second instruction others come to: by a jump of another function, by one to what an operand says. */
__asm__(".text\n.globl inner, outer, table, table_first, table_second\n.type inner,@function\ninner:\n.cfi_startproc\n"
	"mov %rdi, %rax\n1: add $1, %rax\nret\n.cfi_endproc\n.size inner,.-inner\n.type outer,@function\nouter:\n"
	".cfi_startproc\nlea 5(%rdi), %rax\njmp 1b\n.cfi_endproc\n.size outer,.-outer\n.type table,@function\ntable:\n"
	".cfi_startproc\nmov $2, %eax\njmp *%rsi\nnop\ntable_first: xor %eax, %eax\ntable_second: lea 1(%rdi,%rax), %rax\n"
	"ret\n.cfi_endproc\n.size table,.-table\n");
long inner(long), outer(long), table(long, char *);
extern char table_first[], table_second[];

static int ways(long count)
{
	for (long i = 0; i < count; i++)
		if (inner(i) != i + 1 || table(i, table_first) != i + 1)
			return 6;
	printf("ways %ld %ld\n", outer(0), table(5, table_second));
	return 0;
}

static unsigned long next_random(void)
{
	static unsigned long state = 88172645463325252;

	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static int registers(long count)
{
	/* Carry, parity, adjust, zero, sign, direction, overflow. */
	const unsigned long flags = 0xcd5;

	for (long i = 0; i < count; i++) {
		for (unsigned long *word = (unsigned long *)&given; word < (unsigned long *)(&given + 1); word++)
			*word = next_random();
		given.registers[5] = i;
		given.flags = (given.flags & flags) | 2;
		memset(&found, 0, sizeof(found));
		leaf();
		found.flags &= flags | 2;
		if (memcmp(&given, &found, sizeof(given)) || stack_given != stack_found) {
			for (int at = 0; at < 64; at++)
				if (((unsigned long *)&given)[at] != ((unsigned long *)&found)[at])
					printf("word %d of call %ld: %lx is %lx\n", at, i, ((unsigned long *)&given)[at],
					       ((unsigned long *)&found)[at]);
			return 3;
		}
	}
	printf("registers %ld\n", count);
	return 0;
}

static void *thread(void *count) { return (void *)many(0, (long)count); }

static int threads(long count)
{
	pthread_t all[4];
	long sum = 0;

	for (int i = 0; i < 4; i++)
		pthread_create(&all[i], NULL, thread, (void *)count);
	for (int i = 0; i < 4; i++) {
		void *part;

		pthread_join(all[i], &part);
		sum += (long)part;
	}
	printf("sum %ld\n", sum);
	return sum == 4 * (count * (count - 1) / 2) ? 0 : 9;
}

/* Half before, half after, and children in the middle: two of fork, one of vfork that execs. */
static int forks(char *self, char *text)
{
	long count = atol(text), sum = many(0, count / 2);
	int status, bad = 0;
	pid_t pids[3];

	for (int i = 0; i < 2; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(many(0, count) == count * (count - 1) / 2 ? 10 + i : 1);
	}
	pids[2] = vfork();
	if (pids[2] == 0) {
		execl(self, self, "sum", text, (char *)NULL);
		_exit(1);
	}
	sum += many(count / 2, count / 2);
	for (int i = 0; i < 3; i++) {
		waitpid(pids[i], &status, 0);
		bad |= !WIFEXITED(status) || WEXITSTATUS(status) != 10 + i;
	}
	printf("forks %ld %d\n", sum, bad);
	return bad;
}

static sigjmp_buf out;
static volatile long ticks, jumps;
static volatile int may_jump, ready;

static void tick(int signal)
{
	(void)signal;
	ticks += hot(7) == 8;
	if (may_jump && ready && ticks % 3 == 0) {
		jumps++;
		siglongjmp(out, 1);
	}
}

static int signals(long count, int jump)
{
	struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_handler = tick, .sa_flags = SA_RESTART };
	static volatile long calls;

	may_jump = jump;
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &every, NULL);
	sigsetjmp(out, 1);
	ready = 1;
	while (calls < count) {
		long n = calls++;

		if (hot(n) != n + 1)
			return 4;
	}
	ready = 0;
	setitimer(ITIMER_REAL, &never, NULL);
	printf("calls %ld jumps %ld\n", calls + ticks, jumps);
	return 0;
}

/* Goes on behind what faulted in the first function, and tries again in the second. */
static void fault(int number, siginfo_t *info, void *context)
{
	greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
	static long good = 5;
	long bad = (long)info->si_addr, off = registers[REG_RIP] - (long)(bad == 16 ? first : second);

	printf("fault %d at %ld: %ld %ld\n", number, bad, off, (long)registers[REG_RDI]);
	registers[REG_RAX] = bad == 16 ? 100 : (long)&good;
	registers[REG_RIP] += bad == 16 ? 3 : 0;
}

static int faults(long count)
{
	struct sigaction action = { .sa_sigaction = fault, .sa_flags = SA_SIGINFO };
	long good = 2, sum = 0;

	sigaction(SIGSEGV, &action, NULL);
	for (int turn = 0; turn < 3; turn++) {
		for (long i = 0; i < count; i++)
			sum += first(&good) + second(&good);
		sum += first((long *)16) + second((long *)24);
	}
	printf("faults %ld\n", sum);
	return 0;
}

/* The memory that a watcher has in common with us. The numbers are those of crates/sys/src/board.rs. */
static char *find_board(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], *found = NULL;

	while (maps && !found && fgets(line, sizeof(line), maps))
		if (strstr(line, "/memfd:"))
			found = (char *)strtoul(line, NULL, 16);
	if (maps)
		fclose(maps);
	return found;
}

static volatile int is_over;
static int vandal_kind;

static void *vandal(void *board)
{
	volatile unsigned *look = board;
	volatile unsigned long *is_free = (unsigned long *)((char *)board + 64);
	unsigned random = 1;

	while (!is_over) {
		for (int i = 0; i < 32; i++) {
			char *slot = (char *)board + 4096 + 256 * i;

			random = random * 1103515245 + 12345;
			if (vandal_kind == 1)
				((volatile unsigned *)board)[(random >> 8) % (12288 / 4)] = random;
			if (vandal_kind == 2) {
				*(volatile unsigned *)(slot + 180) = getpid();
				*(volatile unsigned long *)(slot + 128) = (unsigned long)hot;
				*(volatile unsigned long *)(slot + 112) = random;
				*(volatile unsigned long *)(slot + 152) = random * 4096UL - 8;
			}
			if (vandal_kind != 3)
				*(volatile unsigned *)(slot + 176) = 1;
		}
		*is_free = vandal_kind == 3 ? ~0UL : 0;
		*look = 1;
	}
	return NULL;
}

static int vandals(int kind, long count)
{
	pthread_t other;
	char *board;

	many(0, count);
	board = find_board();
	vandal_kind = kind;
	if (board)
		pthread_create(&other, NULL, vandal, board);
	many(0, count);
	is_over = 1;
	printf("vandals %d\n", board != NULL);
	return 0;
}

static volatile sig_atomic_t over;
static void end(int signal) { (void)signal; over = 1; }

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	long count = argc > 2 ? atol(argv[2]) : 0;

	if (!strcmp(what, "registers"))
		return registers(count);
	if (!strcmp(what, "place"))
		return printf("%ld\n", (long)(leaf_place - (char *)leaf)) < 0;
	if (!strcmp(what, "threads"))
		return threads(count);
	if (!strcmp(what, "forks"))
		return forks(argv[0], argv[2]);
	if (!strcmp(what, "sum"))
		return many(0, count) == count * (count - 1) / 2 ? 12 : 1;
	if (!strcmp(what, "signals") || !strcmp(what, "jumps"))
		return signals(count, what[0] == 'j');
	if (!strcmp(what, "loads") && argc > 3)
		return loads(count, argv[3]);
	if (!strcmp(what, "ways"))
		return ways(count);
	if (!strncmp(what, "vandal", 6))
		return vandals(what[6] - '0', count);
	if (!strcmp(what, "faults"))
		return faults(count);
	if (!strcmp(what, "switches")) {
		struct rusage before, after;

		many(0, 1000);
		getrusage(RUSAGE_SELF, &before);
		many(0, count);
		getrusage(RUSAGE_SELF, &after);
		printf("switches %ld\nbegins with %02x\n", after.ru_nvcsw - before.ru_nvcsw, *(unsigned char *)hot);
		return 0;
	}
	if (!strcmp(what, "named")) {
		long sum = 0;

		prctl(PR_SET_NAME, "gated-name");
		for (long i = 0; i < count; i++)
			sum += named("a name", i) - 'a' - i;
		/* Names of functions are looked for while it is there. */
		usleep(200000);
		printf("i am %d %ld\n", getpid(), syscall(SYS_gettid));
		return sum != 0;
	}
	/* Until somebody says that it is enough. */
	if (!strcmp(what, "loop")) {
		signal(SIGTERM, end);
		for (long i = 0; !over; i++)
			if (hot(i) != i + 1)
				return 5;
		return count;
	}
	return 2;
}
