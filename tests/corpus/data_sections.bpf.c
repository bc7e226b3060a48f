// Globals in every data section, also in sections of their own.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

int in_bss;
static volatile int static_bss;
int in_data = 42;
static volatile long static_data = -7;
const volatile int in_rodata = 5;
const volatile bool flag = false;
const char text[] = "a string in .rodata";
int own_data SEC(".data.custom") = 1;
int own_bss SEC(".bss.custom");
const volatile int own_rodata SEC(".rodata.custom") = 9;
__u64 aligned SEC(".data.aligned") __attribute__((aligned(64))) = 3;
struct pair {
	int a;
	long b;
} pairs[4] = { { 1, 2 }, { 3, 4 } };
int __hidden hidden_counter;
__u64 *pointer_to_nothing;

SEC("tp/syscalls/sys_enter_write")
int use(void *ctx)
{
	in_bss += in_data + static_data + in_rodata + own_rodata;
	static_bss++;
	own_data += own_bss++;
	aligned += pairs[in_bss & 3].b + text[in_bss & 7];
	hidden_counter += flag;
	if (pointer_to_nothing)
		in_bss = 0;
	bpf_printk("%d", static_bss);
	return 0;
}
