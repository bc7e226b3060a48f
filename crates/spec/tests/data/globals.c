// Data sections of every kind, custom suffixes, statics, and a variable that other objects may not see.
int counter = 3;
static volatile int hidden_from_skeletons = 5;
__hidden int hidden = 7;
const volatile u32 limit = 100;
const volatile char name[16] = "init";
u64 zeroes[8];
static volatile u64 more_zeroes[2];
int custom SEC(".data.counters") = 1;
const volatile bool flag SEC(".rodata.flags") = 1;
int custom_zero SEC(".bss.tail");

SEC("tp/syscalls/sys_enter_write")
int handle(void *ctx)
{
	zeroes[counter & 7]++;
	more_zeroes[1] += hidden_from_skeletons + hidden;
	custom += custom_zero;
	return flag ? limit + name[0] : 0;
}
