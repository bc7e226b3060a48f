// Functions that keep no frame pointer, to be walked by the tables of exceptions: `frames ROUNDS [MILLISECONDS]`, all
// of them in the first round; so long it stays behind the last one.
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

volatile long sink;

#define OWN __attribute__((noinline, noclone))

OWN void leaf(long n)
{
	for (long i = 0; i < n; i++)
		sink += i;
}

OWN long inner(long n)
{
	volatile char room[200];

	for (int i = 0; i < 200; i++)
		room[i] = (char)(i + n);
	leaf(n);
	return room[n % 200] + sink;
}

// As many registers as there are have to be saved.
OWN long middle(long n)
{
	long a = inner(n), b = inner(n + 1), c = inner(n + 2), d = inner(n + 3), e = inner(n + 4), f = inner(n + 5);

	return a * b - c * d + e * f + n;
}

OWN long outer(long n)
{
	return middle(n) + 1;
}

// A stack that is aligned more than the caller's, and of a size that is not known.
OWN long aligned(long n)
{
	volatile char block[64] __attribute__((aligned(64)));
	char *more = __builtin_alloca(n % 100 + 1);

	memset(more, 1, n % 100 + 1);
	for (int i = 0; i < 64; i++)
		block[i] = (char)n;
	leaf(n);
	return block[n % 64] + more[0];
}

OWN void handler(int signal)
{
	(void)signal;
	leaf(1);
	sink++;
}

OWN void interrupted(void)
{
	raise(SIGUSR1);
	sink++;
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 1;

	signal(SIGUSR1, handler);
	for (long i = 0; i < rounds; i++) {
		sink += outer(500);
		if (i % 64)
			continue;
		sink += aligned(500);
		interrupted();
	}
	if (argc > 2)
		usleep(atol(argv[2]) * 1000);
	return sink == 42;
}
