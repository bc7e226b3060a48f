# Assembly: functions without type or size, a call without relocation, a jump table.
	.section	socket,"ax",@progbits
	.globl	first
first:
	.byte	0x85, 0x10, 0, 0, 3, 0, 0, 0	# call of `second`, three slots on
	r2 = BPF.JT.0.0 ll
	exit
	.globl	second
second:
	r0 = 0
	.globl	third
third:
	exit

	.section	xdp,"ax",@progbits
	.globl	jumps
	.type	jumps,@function
jumps:
	r2 = BPF.JT.0.0 ll
	r0 = 0
	exit
	r0 = 1
	exit
	.size	jumps, . - jumps

	.section	.jumptables,"",@progbits
	.type	BPF.JT.0.0,@object
BPF.JT.0.0:
	.quad	16
	.quad	32
	.size	BPF.JT.0.0, 16

	.section	leftover,"ax",@progbits
	exit

	.section	half,"ax",@progbits
	.globl	cut
	.type	cut,@function
cut:
	exit
	.byte	1, 2, 3
	.size	cut, . - cut

	.section	version,"aw",@progbits
	.byte	1, 2
