// Places with marks (USDT) whose arguments are of every size and everywhere: `marked ROUNDS`. The notes are written by hand,
// so that no header is needed.
#include <stdint.h>
#include <stdlib.h>

// A `nop`, and a note with its address, that of the section below, no semaphore, provider, name and arguments.
#define MARK(name, arguments, ...)                                                                                         \
	__asm__ volatile("990: nop\n"                                                                                          \
		".pushsection .note.stapsdt,\"?\",\"note\"\n"                                                                      \
		".balign 4\n"                                                                                                      \
		".4byte 992f - 991f, 994f - 993f, 3\n"                                                                             \
		"991: .asciz \"stapsdt\"\n"                                                                                        \
		"992: .balign 4\n"                                                                                                 \
		"993: .8byte 990b, _.stapsdt.base, 0\n"                                                                            \
		".asciz \"demo\"\n"                                                                                                \
		".asciz \"" name "\"\n"                                                                                            \
		".asciz \"" arguments "\"\n"                                                                                       \
		"994: .balign 4\n"                                                                                                 \
		".popsection\n"                                                                                                    \
		".ifndef _.stapsdt.base\n"                                                                                         \
		".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"                                            \
		".weak _.stapsdt.base\n"                                                                                           \
		".hidden _.stapsdt.base\n"                                                                                         \
		"_.stapsdt.base: .space 1\n"                                                                                       \
		".size _.stapsdt.base, 1\n"                                                                                        \
		".popsection\n"                                                                                                    \
		".endif\n" ::__VA_ARGS__)

struct named {
	int number;
	char name[12];
};

int32_t numbers[4] = {10, -20, 30, -40};
static uint8_t bytes[4] = {1, 2, 250, 4};
struct named named = {77, "a name"};
char text[] = "a text";

__attribute__((noinline, noclone)) void round_of(long i)
{
	int8_t a = -5;
	uint8_t b = 250;
	int16_t c = -300;
	uint16_t d = 65000;
	int32_t e = -70000;
	uint32_t f = 4000000000u;
	int64_t g = -5000000000;
	uint64_t h = 18000000000000000000u;

	MARK("registers", "-1@%0 1@%1 -2@%2 2@%3 -4@%4 4@%5 -8@%6 8@%7", "r"(a), "r"(b), "r"(c), "r"(d), "r"(e), "r"(f), "r"(g), "r"(h));
	MARK("memory", "-1@%0 1@%1 -2@%2 2@%3 -4@%4 4@%5 -8@%6 8@%7", "m"(a), "m"(b), "m"(c), "m"(d), "m"(e), "m"(f), "m"(g), "m"(h));
	MARK("constants", "-4@%0 8@%1 -1@%2 4@%3", "n"(-7), "n"(123456789), "n"(-1), "n"(42));
	MARK("indexed", "-4@(%0,%1,4) -4@4(%0,%1,4)", "r"(numbers), "r"(i));
	MARK("variables", "1@%0 -4@%1 -4@4+numbers(%%rip)", "m"(bytes[2]), "m"(numbers[1]));
	MARK("texts", "8@%0 8@%1 -8@%2", "r"(text), "r"(&named), "r"(i));
	MARK("nothing", "", "n"(0));
}

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 1;

	for (long i = 0; i < rounds; i++)
		round_of(i);
	return text[0] == named.name[0] && bytes[0] == 1 ? 0 : 1;
}
