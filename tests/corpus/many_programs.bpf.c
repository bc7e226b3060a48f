// Many programs in one section, told apart by symbol.
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sys_enter")
int program_0(void *ctx)
{
	return 0;
}

SEC("raw_tp/sys_enter")
int program_1(void *ctx)
{
	return 1;
}

SEC("raw_tp/sys_enter")
int program_2(void *ctx)
{
	return 2;
}

SEC("raw_tp/sys_enter")
int program_3(void *ctx)
{
	return 3;
}

SEC("raw_tp/sys_enter")
int program_4(void *ctx)
{
	return 4;
}

SEC("raw_tp/sys_enter")
int program_5(void *ctx)
{
	return 5;
}

SEC("raw_tp/sys_enter")
int program_6(void *ctx)
{
	return 6;
}

SEC("raw_tp/sys_enter")
int program_7(void *ctx)
{
	return 7;
}

SEC("raw_tp/sys_enter")
int program_8(void *ctx)
{
	return 8;
}

SEC("raw_tp/sys_enter")
int program_9(void *ctx)
{
	return 9;
}

SEC("raw_tp/sys_enter")
int program_10(void *ctx)
{
	return 10;
}

SEC("raw_tp/sys_enter")
int program_11(void *ctx)
{
	return 11;
}

SEC("raw_tp/sys_enter")
int program_12(void *ctx)
{
	return 12;
}

SEC("raw_tp/sys_enter")
int program_13(void *ctx)
{
	return 13;
}

SEC("raw_tp/sys_enter")
int program_14(void *ctx)
{
	return 14;
}

SEC("raw_tp/sys_enter")
int program_15(void *ctx)
{
	return 15;
}

SEC("raw_tp/sys_enter")
int program_16(void *ctx)
{
	return 16;
}

SEC("raw_tp/sys_enter")
int program_17(void *ctx)
{
	return 17;
}

SEC("raw_tp/sys_enter")
int program_18(void *ctx)
{
	return 18;
}

SEC("raw_tp/sys_enter")
int program_19(void *ctx)
{
	return 19;
}

SEC("raw_tp/sys_enter")
int program_20(void *ctx)
{
	return 20;
}

SEC("raw_tp/sys_enter")
int program_21(void *ctx)
{
	return 21;
}

SEC("raw_tp/sys_enter")
int program_22(void *ctx)
{
	return 22;
}

SEC("raw_tp/sys_enter")
int program_23(void *ctx)
{
	return 23;
}
