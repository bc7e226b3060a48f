// Globals of every type that user space sets by name.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

enum colour { RED, GREEN = 5 };
typedef unsigned short port_t;
struct settings {
	__u32 mask;
	char name[16];
	struct {
		__u8 low : 4, high : 4;
	};
};

const volatile char c = 'x';
const volatile signed char sc = -1;
const volatile unsigned char uc = 255;
const volatile short s = -2;
const volatile port_t port = 80;
const volatile int i = -3;
const volatile unsigned int u = 4;
const volatile long long ll = -5;
const volatile unsigned long long ull = 6;
const volatile bool yes = true;
const volatile enum colour colour = GREEN;
const volatile char name[16] = "skep";
const volatile __u32 list[4] = { 1, 2, 3, 4 };
const volatile struct settings settings = { .mask = 7, .name = "cfg", .low = 1, .high = 2 };
const int folded = 39228;

SEC("raw_tp/sys_enter")
int use(void *ctx)
{
	return c + sc + uc + s + port + i + u + ll + ull + yes + colour + name[i & 15] + list[i & 3] + settings.mask +
	       settings.low + folded;
}
