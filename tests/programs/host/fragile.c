/* What a watched program may do that is easily broken by who watches it. `fragile WHAT` says what came of it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

/* Pages of code with a function that works wherever it is. */
long moved(long n), pushed(long n);
#define PAGE(name)                                                                                          \
	".globl " name "\n.type " name ", @function\n" name ":\n\tpush %rbx\n\tmov %rdi, %rbx\n"              \
	"\tlea 1(%rbx), %rax\n\tpop %rbx\n\tret\n.size " name ", .-" name "\n.balign 4096\n"
__asm__(".section .moved,\"ax\",@progbits\n.balign 4096\n" PAGE("moved") PAGE("pushed") ".text\n");

#define CODE (PROT_READ | PROT_WRITE | PROT_EXEC)

static void *room(void *at)
{
	void *map = mmap(at, 4096, CODE, MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);

	if (map == MAP_FAILED)
		_exit(8);
	return map;
}

/* Takes its code elsewhere, as programs do that want it in large pages, or that make code of it. */
static int moves(void)
{
	long (*copy)(long) = room(NULL), (*apart)(long) = room(NULL), sum = moved(0);
	char kept[4096];

	/* A copy, which is code like any other. */
	memcpy(copy, moved, 4096);
	memcpy(kept, moved, sizeof(kept));
	for (int i = 0; i < 3; i++)
		sum += copy(i);
	/* A copy in place of the page itself. */
	memcpy(room(moved), kept, sizeof(kept));
	for (int i = 0; i < 3; i++)
		sum += moved(i);
	/* Something else is mapped, so that we are looked at again. */
	if (!dlopen("libm.so.6", RTLD_NOW))
		return 8;
	sum += moved(0);
	/* A page of the file, somewhere else. */
	sum += pushed(0);
	if (mremap(pushed, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, apart) != (void *)apart)
		return 8;
	for (int i = 0; i < 3; i++)
		sum += apart(i);
	printf("moved %ld\n", sum);
	return 0;
}

/* As `moves`, but goes on when nobody looks any more. */
__attribute__((noreturn)) static void keeps(void)
{
	long (*copy)(long) = room(NULL), (*apart)(long) = room(NULL);
	long (*all[])(long) = { moved, copy, apart };

	/* Until it is watched: the second thing that it does is another one. */
	while (*(volatile unsigned char *)moved != 0xcc)
		usleep(1000);
	memcpy(copy, moved, 4096);
	memcpy(apart, moved, 4096);
	for (;;)
		for (int i = 0; i < 3; i++) {
			moved(0);
			usleep(1000);
			if (*(volatile unsigned char *)moved != 0xcc)
				all[i](1);
		}
}

/* Loads a library and throws it away, again and again, here and there. */
static int reloads(const char *library)
{
	long sum = 0;

	for (int i = 0; i < 200; i++) {
		void *handle = dlopen(library, RTLD_NOW);
		long (*square)(long) = handle ? (long (*)(long))dlsym(handle, "square") : NULL;
		void *old = (void *)((long)square & -4096);

		if (!square)
			return 8;
		sum += square(i);
		dlclose(handle);
		/* The next one must be elsewhere. */
		if (i % 20 == 0)
			mmap(old, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	}
	printf("reloads %ld\n", sum);
	return 0;
}

static volatile int trapped;

static void on_trap(int signal)
{
	(void)signal;
	trapped++;
}

static volatile int inside;

/* SIGTRAP is held back while this runs. */
static void on_user(int signal)
{
	sigset_t mask;

	(void)signal;
	hot();
	hot();
	sigprocmask(SIG_BLOCK, NULL, &mask);
	inside = sigismember(&mask, SIGTRAP);
}

static void *all_blocked(void *unused)
{
	sigset_t mask;

	(void)unused;
	sigfillset(&mask);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	for (int i = 0; i < 100; i++)
		hot();
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	return (void *)(long)sigismember(&mask, SIGTRAP);
}

/* What SIGTRAP does, and who holds it back: `d` (nothing special), `i`, `h`, each with `+` when it is held back. */
static void say(void)
{
	struct sigaction action;
	sigset_t mask;

	hot();
	sigaction(SIGTRAP, NULL, &action);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	putchar(action.sa_handler == SIG_DFL ? 'd' : action.sa_handler == SIG_IGN ? 'i' : action.sa_handler == on_trap ? 'h' : '?');
	if (sigismember(&mask, SIGTRAP))
		putchar('+');
}

static int traps(void)
{
	struct sigaction handles = { .sa_handler = on_trap, .sa_flags = SA_RESTART }, old;
	struct sigaction user = { .sa_handler = on_user };
	sigset_t only, all, none;
	int status = 0;
	pthread_t other;
	void *held;

	sigemptyset(&only);
	sigemptyset(&none);
	sigaddset(&only, SIGTRAP);
	sigfillset(&all);
	say();
	/* Held back alone, and with all others; with each action. */
	for (int what = 0; what < 3; what++) {
		if (what == 1)
			sigaction(SIGTRAP, &handles, &old);
		if (what == 2)
			signal(SIGTRAP, SIG_IGN);
		say();
		sigprocmask(SIG_BLOCK, &only, NULL);
		say();
		say();
		sigprocmask(SIG_UNBLOCK, &only, NULL);
		say();
		sigprocmask(SIG_SETMASK, &all, NULL);
		say();
		sigprocmask(SIG_SETMASK, &none, NULL);
		say();
		if (what > 0)
			raise(SIGTRAP);
	}
	printf(" %d %d", trapped, old.sa_handler == SIG_DFL);
	sigaction(SIGTRAP, &handles, &old);
	__asm__ volatile("int3");
	sigaddset(&user.sa_mask, SIGTRAP);
	sigaction(SIGUSR1, &user, NULL);
	raise(SIGUSR1);
	printf(" %d %d %d ", trapped, inside, old.sa_handler == SIG_IGN);
	say();
	pthread_create(&other, NULL, all_blocked, NULL);
	pthread_join(other, &held);
	say();
	fflush(stdout);
	if (fork() == 0) {
		sigprocmask(SIG_BLOCK, &only, NULL);
		putchar(' ');
		say();
		raise(SIGTRAP);
		sigprocmask(SIG_UNBLOCK, &only, NULL);
		fflush(stdout);
		_exit(trapped);
	}
	wait(&status);
	signal(SIGTRAP, SIG_DFL);
	putchar(' ');
	say();
	printf(" %ld %d\n", (long)held, WEXITSTATUS(status));
	fflush(stdout);
	raise(SIGTRAP);
	return 0;
}

/* Ends as soon as SIGTRAP does something else than it should, or is held back by others. */
__attribute__((noreturn)) static void holds(const char *how)
{
	struct sigaction action = { .sa_handler = on_trap }, now;
	sigset_t only, mask;

	if (*how == 'i')
		action.sa_handler = SIG_IGN;
	sigaction(SIGTRAP, &action, NULL);
	sigemptyset(&only);
	sigaddset(&only, SIGTRAP);
	if (*how == 'b')
		sigprocmask(SIG_BLOCK, &only, NULL);
	for (;;) {
		hot();
		sigaction(SIGTRAP, NULL, &now);
		sigprocmask(SIG_BLOCK, NULL, &mask);
		if (now.sa_handler != action.sa_handler || sigismember(&mask, SIGTRAP) != (*how == 'b'))
			_exit(9);
		usleep(1000);
	}
}

/* Children that leave: made so that nobody may trace them, and one that is nobody's child. */
static int leaves_home(void)
{
	int status = 0;
	long child = syscall(SYS_clone, CLONE_UNTRACED | SIGCHLD, 0, 0, 0, 0);

	hot();
	if (child == 0)
		_exit((int)moved(2));
	waitpid((pid_t)child, &status, 0);
	printf("untraced %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
	fflush(stdout);
	if (fork() == 0) {
		pid_t maker = setsid();

		if (fork())
			_exit(0);
		while (getppid() == maker)
			usleep(1000);
		printf("daemon %ld\n", moved(6));
		fflush(stdout);
		_exit(0);
	}
	wait(NULL);
	usleep(200000);
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
	if (!strcmp(what, "moves"))
		return moves();
	if (!strcmp(what, "traps"))
		return traps();
	if (!strcmp(what, "holds"))
		holds(argv[2]);
	if (!strcmp(what, "keeps"))
		keeps();
	if (!strcmp(what, "reloads"))
		return reloads(argv[2]);
	if (!strcmp(what, "leaves"))
		return leaves_home();
	/* The first thread ends before the other one maps a library. */
	signal(SIGTRAP, SIG_IGN);
	pthread_create(&other, NULL, thread, "libm.so.6");
	pthread_exit(NULL);
}
