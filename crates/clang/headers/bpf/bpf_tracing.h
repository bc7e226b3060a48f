/* Arguments of probed functions: registers by architecture, and the macros that
 * turn a probe's context into named, typed C parameters.
 *
 * A kprobe or uprobe gets the registers, so the names of the registers that
 * carry arguments are written down here per architecture, as the ABI and the
 * kernel's <asm/ptrace.h> give them. fentry, tp_btf and LSM programs get an array of
 * 64-bit values instead. skep passes -D__TARGET_ARCH_...; without it the
 * architecture of the compiler is taken.
 */
#ifndef __BPF_TRACING_H__
#define __BPF_TRACING_H__

#include <bpf/bpf_helpers.h>

/* ---- which machine ------------------------------------------------------- */

#if defined(__TARGET_ARCH_x86)
#define bpf_target_x86
#elif defined(__TARGET_ARCH_arm64)
#define bpf_target_arm64
#elif defined(__TARGET_ARCH_arm)
#define bpf_target_arm
#elif defined(__TARGET_ARCH_riscv)
#define bpf_target_riscv
#elif defined(__TARGET_ARCH_s390)
#define bpf_target_s390
#elif defined(__TARGET_ARCH_powerpc)
#define bpf_target_powerpc
#elif defined(__TARGET_ARCH_mips)
#define bpf_target_mips
#elif defined(__TARGET_ARCH_loongarch)
#define bpf_target_loongarch
#elif defined(__TARGET_ARCH_sparc)
#define bpf_target_sparc
#elif defined(__TARGET_ARCH_arc)
#define bpf_target_arc
#elif defined(__x86_64__) || defined(__i386__)
#define bpf_target_x86
#elif defined(__aarch64__)
#define bpf_target_arm64
#elif defined(__arm__)
#define bpf_target_arm
#elif defined(__riscv) && __riscv_xlen == 64
#define bpf_target_riscv
#elif defined(__s390__)
#define bpf_target_s390
#elif defined(__powerpc__)
#define bpf_target_powerpc
#elif defined(__mips__)
#define bpf_target_mips
#elif defined(__loongarch__)
#define bpf_target_loongarch
#elif defined(__sparc__)
#define bpf_target_sparc
#elif defined(__arc__)
#define bpf_target_arc
#else
#define __skep_no_target
#endif
#ifndef __skep_no_target
#define bpf_target_defined
#endif

#ifndef __BPF_TARGET_MISSING
#define __BPF_TARGET_MISSING \
	"GCC error \"Must specify a BPF target arch via __TARGET_ARCH_xxx\""
#endif

/* ---- registers ----------------------------------------------------------- */

#if defined(bpf_target_x86)
/* x86: System V AMD64 calls; a system call takes its fourth argument in r10,
 * because the `syscall` instruction overwrites rcx. The kernel calls the
 * registers `di`, its header for programs `rdi`. */
#if defined(__KERNEL__) || defined(__VMLINUX_H__)
#define __PT_PARM1_REG di
#define __PT_PARM2_REG si
#define __PT_PARM3_REG dx
#define __PT_PARM4_REG cx
#define __PT_PARM5_REG r8
#define __PT_PARM6_REG r9
#define __PT_PARM1_SYSCALL_REG __PT_PARM1_REG
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG r10
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG __PT_PARM6_REG
#define __PT_RET_REG sp
#define __PT_FP_REG bp
#define __PT_RC_REG ax
#define __PT_SP_REG sp
#define __PT_IP_REG ip
#else
#define __PT_PARM1_REG rdi
#define __PT_PARM2_REG rsi
#define __PT_PARM3_REG rdx
#define __PT_PARM4_REG rcx
#define __PT_PARM5_REG r8
#define __PT_PARM6_REG r9
#define __PT_PARM1_SYSCALL_REG __PT_PARM1_REG
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG r10
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG __PT_PARM6_REG
#define __PT_RET_REG rsp
#define __PT_FP_REG rbp
#define __PT_RC_REG rax
#define __PT_SP_REG rsp
#define __PT_IP_REG rip
#endif

#elif defined(bpf_target_arm64)
/* arm64: AAPCS64. The kernel keeps the first argument of a system call in orig_x0,
 * since x0 becomes the return value. */
#define __PT_REGS_CAST(x) ((const struct user_pt_regs *)(x))
struct pt_regs___arm64 {
	unsigned long orig_x0;
} __attribute__((preserve_access_index));
#define PT_REGS_PARM1_SYSCALL(x) (((const struct pt_regs___arm64 *)(x))->orig_x0)
#define PT_REGS_PARM1_CORE_SYSCALL(x) \
	BPF_CORE_READ((const struct pt_regs___arm64 *)(x), orig_x0)
#define __PT_PARM1_REG regs[0]
#define __PT_PARM2_REG regs[1]
#define __PT_PARM3_REG regs[2]
#define __PT_PARM4_REG regs[3]
#define __PT_PARM5_REG regs[4]
#define __PT_PARM6_REG regs[5]
#define __PT_PARM7_REG regs[6]
#define __PT_PARM8_REG regs[7]
#define __PT_PARM1_SYSCALL_REG orig_x0
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG __PT_PARM6_REG
#define __PT_RET_REG regs[30]
#define __PT_FP_REG regs[29]
#define __PT_RC_REG regs[0]
#define __PT_SP_REG sp
#define __PT_IP_REG pc

#elif defined(bpf_target_arm)
/* arm: AAPCS, EABI system calls. */
#define __PT_PARM1_REG uregs[0]
#define __PT_PARM2_REG uregs[1]
#define __PT_PARM3_REG uregs[2]
#define __PT_PARM4_REG uregs[3]
#define __PT_PARM1_SYSCALL_REG __PT_PARM1_REG
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#define __PT_PARM5_SYSCALL_REG uregs[4]
#define __PT_PARM6_SYSCALL_REG uregs[5]
#define __PT_PARM7_SYSCALL_REG uregs[6]
#define __PT_RET_REG uregs[14]
#define __PT_FP_REG uregs[11]
#define __PT_RC_REG uregs[0]
#define __PT_SP_REG uregs[13]
#define __PT_IP_REG uregs[15]

#elif defined(bpf_target_riscv)
/* riscv: the first argument of a system call is kept in orig_a0. */
#define __PT_REGS_CAST(x) ((const struct user_regs_struct *)(x))
struct pt_regs___riscv {
	unsigned long orig_a0;
} __attribute__((preserve_access_index));
#define PT_REGS_PARM1_SYSCALL(x) (((const struct pt_regs___riscv *)(x))->orig_a0)
#define PT_REGS_PARM1_CORE_SYSCALL(x) \
	BPF_CORE_READ((const struct pt_regs___riscv *)(x), orig_a0)
#define __PT_PARM1_REG a0
#define __PT_PARM2_REG a1
#define __PT_PARM3_REG a2
#define __PT_PARM4_REG a3
#define __PT_PARM5_REG a4
#define __PT_PARM6_REG a5
#define __PT_PARM7_REG a6
#define __PT_PARM8_REG a7
#define __PT_PARM1_SYSCALL_REG orig_a0
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG __PT_PARM6_REG
#define __PT_RET_REG ra
#define __PT_FP_REG s0
#define __PT_RC_REG a0
#define __PT_SP_REG sp
#define __PT_IP_REG pc

#elif defined(bpf_target_s390)
/* s390: the first argument of a system call is kept in orig_gpr2. */
#define __PT_REGS_CAST(x) ((const user_pt_regs *)(x))
struct pt_regs___s390 {
	unsigned long orig_gpr2;
} __attribute__((preserve_access_index));
#define PT_REGS_PARM1_SYSCALL(x) (((const struct pt_regs___s390 *)(x))->orig_gpr2)
#define PT_REGS_PARM1_CORE_SYSCALL(x) \
	BPF_CORE_READ((const struct pt_regs___s390 *)(x), orig_gpr2)
#define __PT_PARM1_REG gprs[2]
#define __PT_PARM2_REG gprs[3]
#define __PT_PARM3_REG gprs[4]
#define __PT_PARM4_REG gprs[5]
#define __PT_PARM5_REG gprs[6]
#define __PT_PARM1_SYSCALL_REG orig_gpr2
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG gprs[7]
#define __PT_RET_REG gprs[14]
#define __PT_FP_REG gprs[11]
#define __PT_RC_REG gprs[2]
#define __PT_SP_REG gprs[15]
#define __PT_IP_REG psw.addr

#elif defined(bpf_target_powerpc)
/* powerpc: the first argument of a system call is kept in orig_gpr3; system calls
 * have no wrapper functions. */
#define PT_REGS_SYSCALL_REGS(ctx) ctx
#define __PT_PARM1_REG gpr[3]
#define __PT_PARM2_REG gpr[4]
#define __PT_PARM3_REG gpr[5]
#define __PT_PARM4_REG gpr[6]
#define __PT_PARM5_REG gpr[7]
#define __PT_PARM6_REG gpr[8]
#define __PT_PARM7_REG gpr[9]
#define __PT_PARM8_REG gpr[10]
#define __PT_PARM1_SYSCALL_REG orig_gpr3
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG __PT_PARM6_REG
#define __PT_RET_REG link
#define __PT_FP_REG __unsupported__
#define __PT_RC_REG gpr[3]
#define __PT_SP_REG gpr[1]
#define __PT_IP_REG nip

#elif defined(bpf_target_mips)
/* mips: n64 calls. */
#define __PT_PARM1_REG regs[4]
#define __PT_PARM2_REG regs[5]
#define __PT_PARM3_REG regs[6]
#define __PT_PARM4_REG regs[7]
#define __PT_PARM5_REG regs[8]
#define __PT_PARM6_REG regs[9]
#define __PT_PARM7_REG regs[10]
#define __PT_PARM8_REG regs[11]
#define __PT_PARM1_SYSCALL_REG __PT_PARM1_REG
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG __PT_PARM6_REG
#define __PT_RET_REG regs[31]
#define __PT_FP_REG regs[30]
#define __PT_RC_REG regs[2]
#define __PT_SP_REG regs[29]
#define __PT_IP_REG cp0_epc

#elif defined(bpf_target_loongarch)
/* loongarch: system calls have no wrapper functions. */
#define __PT_REGS_CAST(x) ((const struct user_pt_regs *)(x))
#define PT_REGS_SYSCALL_REGS(ctx) ctx
#define __PT_PARM1_REG regs[4]
#define __PT_PARM2_REG regs[5]
#define __PT_PARM3_REG regs[6]
#define __PT_PARM4_REG regs[7]
#define __PT_PARM5_REG regs[8]
#define __PT_PARM6_REG regs[9]
#define __PT_PARM7_REG regs[10]
#define __PT_PARM8_REG regs[11]
#define __PT_PARM1_SYSCALL_REG __PT_PARM1_REG
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG __PT_PARM6_REG
#define __PT_RET_REG regs[1]
#define __PT_FP_REG regs[22]
#define __PT_RC_REG regs[4]
#define __PT_SP_REG regs[3]
#define __PT_IP_REG csr_era

#elif defined(bpf_target_sparc)
/* sparc. */
#define __PT_PARM1_REG u_regs[UREG_I0]
#define __PT_PARM2_REG u_regs[UREG_I1]
#define __PT_PARM3_REG u_regs[UREG_I2]
#define __PT_PARM4_REG u_regs[UREG_I3]
#define __PT_PARM5_REG u_regs[UREG_I4]
#define __PT_PARM6_REG u_regs[UREG_I5]
#define __PT_PARM1_SYSCALL_REG __PT_PARM1_REG
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG __PT_PARM6_REG
#define __PT_RET_REG u_regs[UREG_I7]
#define __PT_FP_REG __unsupported__
#define __PT_RC_REG u_regs[UREG_I0]
#define __PT_SP_REG u_regs[UREG_FP]
#define __PT_IP_REG tpc

#elif defined(bpf_target_arc)
/* arc: system calls have no wrapper functions. */
#define __PT_REGS_CAST(x) ((const struct user_regs_struct *)(x))
#define PT_REGS_SYSCALL_REGS(ctx) ctx
#define __PT_PARM1_REG scratch.r0
#define __PT_PARM2_REG scratch.r1
#define __PT_PARM3_REG scratch.r2
#define __PT_PARM4_REG scratch.r3
#define __PT_PARM5_REG scratch.r4
#define __PT_PARM6_REG scratch.r5
#define __PT_PARM7_REG scratch.r6
#define __PT_PARM8_REG scratch.r7
#define __PT_PARM1_SYSCALL_REG __PT_PARM1_REG
#define __PT_PARM2_SYSCALL_REG __PT_PARM2_REG
#define __PT_PARM3_SYSCALL_REG __PT_PARM3_REG
#define __PT_PARM4_SYSCALL_REG __PT_PARM4_REG
#define __PT_PARM5_SYSCALL_REG __PT_PARM5_REG
#define __PT_PARM6_SYSCALL_REG __PT_PARM6_REG
#define __PT_RET_REG scratch.blink
#define __PT_FP_REG scratch.fp
#define __PT_RC_REG scratch.r0
#define __PT_SP_REG scratch.sp
#define __PT_IP_REG scratch.ret

#endif

struct pt_regs;

/* What an ABI does not pass in a register fails with this name in the message. */
#ifndef __PT_REGS_CAST
#define __PT_REGS_CAST(x) (x)
#endif
#ifndef __PT_PARM4_REG
#define __PT_PARM4_REG __unsupported__
#endif
#ifndef __PT_PARM5_REG
#define __PT_PARM5_REG __unsupported__
#endif
#ifndef __PT_PARM6_REG
#define __PT_PARM6_REG __unsupported__
#endif
#ifndef __PT_PARM7_REG
#define __PT_PARM7_REG __unsupported__
#endif
#ifndef __PT_PARM8_REG
#define __PT_PARM8_REG __unsupported__
#endif
#ifndef __PT_PARM7_SYSCALL_REG
#define __PT_PARM7_SYSCALL_REG __unsupported__
#endif

#ifdef bpf_target_defined

/* PT_REGS_x(ctx) reads the context itself; PT_REGS_x_CORE(regs) reads registers
 * saved elsewhere, with a probe read and a relocated offset. */
#define PT_REGS_PARM1(x) (__PT_REGS_CAST(x)->__PT_PARM1_REG)
#define PT_REGS_PARM2(x) (__PT_REGS_CAST(x)->__PT_PARM2_REG)
#define PT_REGS_PARM3(x) (__PT_REGS_CAST(x)->__PT_PARM3_REG)
#define PT_REGS_PARM4(x) (__PT_REGS_CAST(x)->__PT_PARM4_REG)
#define PT_REGS_PARM5(x) (__PT_REGS_CAST(x)->__PT_PARM5_REG)
#define PT_REGS_PARM6(x) (__PT_REGS_CAST(x)->__PT_PARM6_REG)
#define PT_REGS_PARM7(x) (__PT_REGS_CAST(x)->__PT_PARM7_REG)
#define PT_REGS_PARM8(x) (__PT_REGS_CAST(x)->__PT_PARM8_REG)
#define PT_REGS_RET(x) (__PT_REGS_CAST(x)->__PT_RET_REG)
#define PT_REGS_FP(x) (__PT_REGS_CAST(x)->__PT_FP_REG)
#define PT_REGS_RC(x) (__PT_REGS_CAST(x)->__PT_RC_REG)
#define PT_REGS_SP(x) (__PT_REGS_CAST(x)->__PT_SP_REG)
#define PT_REGS_IP(x) (__PT_REGS_CAST(x)->__PT_IP_REG)
#define PT_REGS_PARM1_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM1_REG)
#define PT_REGS_PARM2_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM2_REG)
#define PT_REGS_PARM3_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM3_REG)
#define PT_REGS_PARM4_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM4_REG)
#define PT_REGS_PARM5_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM5_REG)
#define PT_REGS_PARM6_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM6_REG)
#define PT_REGS_PARM7_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM7_REG)
#define PT_REGS_PARM8_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM8_REG)
#define PT_REGS_RET_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_RET_REG)
#define PT_REGS_FP_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_FP_REG)
#define PT_REGS_RC_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_RC_REG)
#define PT_REGS_SP_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_SP_REG)
#define PT_REGS_IP_CORE(x) BPF_CORE_READ(__PT_REGS_CAST(x), __PT_IP_REG)

/* The same for the registers of a system call. */
#ifndef PT_REGS_PARM1_SYSCALL
#define PT_REGS_PARM1_SYSCALL(x) (__PT_REGS_CAST(x)->__PT_PARM1_SYSCALL_REG)
#define PT_REGS_PARM1_CORE_SYSCALL(x) \
	BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM1_SYSCALL_REG)
#endif
#define PT_REGS_PARM2_SYSCALL(x) (__PT_REGS_CAST(x)->__PT_PARM2_SYSCALL_REG)
#define PT_REGS_PARM2_CORE_SYSCALL(x) \
	BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM2_SYSCALL_REG)
#define PT_REGS_PARM3_SYSCALL(x) (__PT_REGS_CAST(x)->__PT_PARM3_SYSCALL_REG)
#define PT_REGS_PARM3_CORE_SYSCALL(x) \
	BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM3_SYSCALL_REG)
#define PT_REGS_PARM4_SYSCALL(x) (__PT_REGS_CAST(x)->__PT_PARM4_SYSCALL_REG)
#define PT_REGS_PARM4_CORE_SYSCALL(x) \
	BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM4_SYSCALL_REG)
#define PT_REGS_PARM5_SYSCALL(x) (__PT_REGS_CAST(x)->__PT_PARM5_SYSCALL_REG)
#define PT_REGS_PARM5_CORE_SYSCALL(x) \
	BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM5_SYSCALL_REG)
#define PT_REGS_PARM6_SYSCALL(x) (__PT_REGS_CAST(x)->__PT_PARM6_SYSCALL_REG)
#define PT_REGS_PARM6_CORE_SYSCALL(x) \
	BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM6_SYSCALL_REG)
#define PT_REGS_PARM7_SYSCALL(x) (__PT_REGS_CAST(x)->__PT_PARM7_SYSCALL_REG)
#define PT_REGS_PARM7_CORE_SYSCALL(x) \
	BPF_CORE_READ(__PT_REGS_CAST(x), __PT_PARM7_SYSCALL_REG)

/* The return address: in a register where calls link through one, on the stack
 * where they push it. */
#if defined(bpf_target_powerpc) || defined(bpf_target_sparc) || \
	defined(bpf_target_arm64) || defined(bpf_target_arm) || \
	defined(bpf_target_riscv) || defined(bpf_target_loongarch)
#define BPF_KPROBE_READ_RET_IP(ip, ctx) ({ (ip) = PT_REGS_RET(ctx); })
#define BPF_KRETPROBE_READ_RET_IP BPF_KPROBE_READ_RET_IP
#else
#define BPF_KPROBE_READ_RET_IP(ip, ctx) \
	({ bpf_probe_read_kernel(&(ip), sizeof(ip), (void *)PT_REGS_RET(ctx)); })
#define BPF_KRETPROBE_READ_RET_IP(ip, ctx) \
	({ bpf_probe_read_kernel(&(ip), sizeof(ip), (void *)(PT_REGS_FP(ctx) + sizeof(ip))); })
#endif

#else /* no target: the error comes where a register is asked for */

#define PT_REGS_PARM1(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM1_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM2(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM2_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM3(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM3_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM4(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM4_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM5(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM5_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM6(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM6_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM7(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM7_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM8(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM8_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_RET(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_RET_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_FP(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_FP_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_RC(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_RC_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_SP(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_SP_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_IP(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_IP_CORE(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM1_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM1_CORE_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM2_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM2_CORE_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM3_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM3_CORE_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM4_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM4_CORE_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM5_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM5_CORE_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM6_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM6_CORE_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM7_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define PT_REGS_PARM7_CORE_SYSCALL(x) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define BPF_KPROBE_READ_RET_IP(ip, ctx) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })
#define BPF_KRETPROBE_READ_RET_IP(ip, ctx) ({ _Pragma(__BPF_TARGET_MISSING); 0l; })

#endif

/* Where a kprobe on a system call's function finds the call's own registers: with
 * wrapper functions (x86, arm64, riscv, s390) they are its first argument. */
#ifndef PT_REGS_SYSCALL_REGS
#define PT_REGS_SYSCALL_REGS(ctx) ((struct pt_regs *)PT_REGS_PARM1(ctx))
#endif

/* ---- contexts as C parameters -------------------------------------------- */

/* All these macros have one shape: `name` gets the raw context, and calls an
 * inlined `____name` (`inner`) whose parameters the user declared. `ctx` stays
 * visible in the body, since many helpers want it. */
#define __skep_prog(name, inner, ctx_type, call, params...)                \
name(ctx_type *ctx);                                                       \
static __always_inline typeof(name(0)) inner(params);                      \
typeof(name(0)) name(ctx_type *ctx)                                        \
{                                                                          \
	_Pragma("GCC diagnostic push")                                     \
	_Pragma("GCC diagnostic ignored \"-Wint-conversion\"")             \
	call                                                               \
	_Pragma("GCC diagnostic pop")                                      \
}                                                                          \
static __always_inline typeof(name(0)) inner(params)

/* `ctx` and as many arguments as were declared. */
#define ___bpf_ctx_cast0() ctx
#define ___bpf_ctx_cast1(x, more...) ___bpf_ctx_cast0(more), ctx[0]
#define ___bpf_ctx_cast2(x, more...) ___bpf_ctx_cast1(more), ctx[1]
#define ___bpf_ctx_cast3(x, more...) ___bpf_ctx_cast2(more), ctx[2]
#define ___bpf_ctx_cast4(x, more...) ___bpf_ctx_cast3(more), ctx[3]
#define ___bpf_ctx_cast5(x, more...) ___bpf_ctx_cast4(more), ctx[4]
#define ___bpf_ctx_cast6(x, more...) ___bpf_ctx_cast5(more), ctx[5]
#define ___bpf_ctx_cast7(x, more...) ___bpf_ctx_cast6(more), ctx[6]
#define ___bpf_ctx_cast8(x, more...) ___bpf_ctx_cast7(more), ctx[7]
#define ___bpf_ctx_cast9(x, more...) ___bpf_ctx_cast8(more), ctx[8]
#define ___bpf_ctx_cast10(x, more...) ___bpf_ctx_cast9(more), ctx[9]
#define ___bpf_ctx_cast11(x, more...) ___bpf_ctx_cast10(more), ctx[10]
#define ___bpf_ctx_cast12(x, more...) ___bpf_ctx_cast11(more), ctx[11]
#define ___bpf_ctx_cast(args...) ___bpf_apply(___bpf_ctx_cast, ___bpf_narg(args))(args)

/* tp_btf, fentry, fexit, fmod_ret, lsm, iter, struct_ops:
 * `int BPF_PROG(name, int dfd, struct filename *path, long ret)`. */
#define BPF_PROG(name, args...)                                            \
__skep_prog(name, ____##name, unsigned long long,                          \
	    return ____##name(___bpf_ctx_cast(args));,                     \
	    unsigned long long *ctx, ##args)

/* The same where a structure of up to 16 bytes is passed by value: it takes one
 * or two of the 64-bit slots, so the types are needed apart from the names.
 * `int BPF_PROG2(name, struct pair, p, int, n)`. */
#define ___bpf_nth2(_, _1, _2, _3, _4, _5, _6, _7, _8, _9, _10, _11, _12, _13, \
		    _14, _15, _16, _17, _18, _19, _20, _21, _22, _23, _24, N, ...) N
#define ___bpf_narg2(...)                                                  \
	___bpf_nth2(_, ##__VA_ARGS__, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8, 7, 7, \
		    6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0)

#define __skep_slots(t) (sizeof(t) > 8 ? 2 : 1)
/* A value of type t out of the slots from n on. Copying through a union keeps
 * the low bytes on little-endian machines; on big-endian ones a small value is
 * at the slot's end, so it is narrowed as an integer first. */
#define ___bpf_union_arg(t, x, n)                                          \
	__builtin_choose_expr(sizeof(t) == 1, ({ union { __u8 z[1]; t x; } ___t = { .z = { ctx[n] } }; ___t.x; }), \
	__builtin_choose_expr(sizeof(t) == 2, ({ union { __u16 z[1]; t x; } ___t = { .z = { ctx[n] } }; ___t.x; }), \
	__builtin_choose_expr(sizeof(t) == 4, ({ union { __u32 z[1]; t x; } ___t = { .z = { ctx[n] } }; ___t.x; }), \
	__builtin_choose_expr(sizeof(t) == 8, ({ union { __u64 z[1]; t x; } ___t = { .z = { ctx[n] } }; ___t.x; }), \
	__builtin_choose_expr(sizeof(t) == 16, ({ union { __u64 z[2]; t x; } ___t = { .z = { ctx[n], ctx[(n) + 1] } }; ___t.x; }), \
			      (void)0)))))

/* Parameters, and values from slot `at` on. */
#define ___bpf_ctx_decl0()
#define ___bpf_ctx_arg0(at)
#define ___bpf_ctx_decl1(t, x, more...) , t x ___bpf_ctx_decl0(more)
#define ___bpf_ctx_decl2(t, x, more...) , t x ___bpf_ctx_decl1(more)
#define ___bpf_ctx_decl3(t, x, more...) , t x ___bpf_ctx_decl2(more)
#define ___bpf_ctx_decl4(t, x, more...) , t x ___bpf_ctx_decl3(more)
#define ___bpf_ctx_decl5(t, x, more...) , t x ___bpf_ctx_decl4(more)
#define ___bpf_ctx_decl6(t, x, more...) , t x ___bpf_ctx_decl5(more)
#define ___bpf_ctx_decl7(t, x, more...) , t x ___bpf_ctx_decl6(more)
#define ___bpf_ctx_decl8(t, x, more...) , t x ___bpf_ctx_decl7(more)
#define ___bpf_ctx_decl9(t, x, more...) , t x ___bpf_ctx_decl8(more)
#define ___bpf_ctx_decl10(t, x, more...) , t x ___bpf_ctx_decl9(more)
#define ___bpf_ctx_decl11(t, x, more...) , t x ___bpf_ctx_decl10(more)
#define ___bpf_ctx_decl12(t, x, more...) , t x ___bpf_ctx_decl11(more)
#define ___bpf_ctx_arg1(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg0((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg2(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg1((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg3(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg2((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg4(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg3((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg5(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg4((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg6(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg5((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg7(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg6((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg8(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg7((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg9(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg8((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg10(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg9((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg11(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg10((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_arg12(at, t, x, more...) , ___bpf_union_arg(t, x, at) ___bpf_ctx_arg11((at) + __skep_slots(t), ##more)
#define ___bpf_ctx_decl(args...) ___bpf_apply(___bpf_ctx_decl, ___bpf_narg2(args))(args)
#define ___bpf_ctx_arg(args...) ___bpf_apply(___bpf_ctx_arg, ___bpf_narg2(args))(0, ##args)

#define BPF_PROG2(name, args...)                                           \
__skep_prog(name, ____##name, unsigned long long,                          \
	    return ____##name(ctx ___bpf_ctx_arg(args));,                  \
	    unsigned long long *ctx ___bpf_ctx_decl(args))

#define ___bpf_kprobe_args0() ctx
#define ___bpf_kprobe_args1(x, more...) ___bpf_kprobe_args0(more), (unsigned long long)PT_REGS_PARM1(ctx)
#define ___bpf_kprobe_args2(x, more...) ___bpf_kprobe_args1(more), (unsigned long long)PT_REGS_PARM2(ctx)
#define ___bpf_kprobe_args3(x, more...) ___bpf_kprobe_args2(more), (unsigned long long)PT_REGS_PARM3(ctx)
#define ___bpf_kprobe_args4(x, more...) ___bpf_kprobe_args3(more), (unsigned long long)PT_REGS_PARM4(ctx)
#define ___bpf_kprobe_args5(x, more...) ___bpf_kprobe_args4(more), (unsigned long long)PT_REGS_PARM5(ctx)
#define ___bpf_kprobe_args6(x, more...) ___bpf_kprobe_args5(more), (unsigned long long)PT_REGS_PARM6(ctx)
#define ___bpf_kprobe_args7(x, more...) ___bpf_kprobe_args6(more), (unsigned long long)PT_REGS_PARM7(ctx)
#define ___bpf_kprobe_args8(x, more...) ___bpf_kprobe_args7(more), (unsigned long long)PT_REGS_PARM8(ctx)
#define ___bpf_kprobe_args(args...) ___bpf_apply(___bpf_kprobe_args, ___bpf_narg(args))(args)

/* kprobe: `int BPF_KPROBE(name, int dfd, struct filename *path)`. */
#define BPF_KPROBE(name, args...)                                          \
__skep_prog(name, ____##name, struct pt_regs,                              \
	    return ____##name(___bpf_kprobe_args(args));,                  \
	    struct pt_regs *ctx, ##args)

#define ___bpf_kretprobe_args0() ctx
#define ___bpf_kretprobe_args1(x) ctx, (unsigned long long)PT_REGS_RC(ctx)
#define ___bpf_kretprobe_args(args...) ___bpf_apply(___bpf_kretprobe_args, ___bpf_narg(args))(args)

/* kretprobe: `int BPF_KRETPROBE(name, long ret)`; the arguments are gone by then. */
#define BPF_KRETPROBE(name, args...)                                       \
__skep_prog(name, ____##name, struct pt_regs,                              \
	    return ____##name(___bpf_kretprobe_args(args));,               \
	    struct pt_regs *ctx, ##args)

#define BPF_UPROBE(name, args...) BPF_KPROBE(name, ##args)
#define BPF_URETPROBE(name, args...) BPF_KRETPROBE(name, ##args)

/* Registers behind the wrapper's first argument need a probe read; without
 * wrappers they are the context. */
#define ___bpf_syscall_args0() ctx
#define ___bpf_syswrap_args0() ctx
#define ___bpf_syscall_args1(x, more...) ___bpf_syscall_args0(more), (unsigned long long)PT_REGS_PARM1_SYSCALL(regs)
#define ___bpf_syscall_args2(x, more...) ___bpf_syscall_args1(more), (unsigned long long)PT_REGS_PARM2_SYSCALL(regs)
#define ___bpf_syscall_args3(x, more...) ___bpf_syscall_args2(more), (unsigned long long)PT_REGS_PARM3_SYSCALL(regs)
#define ___bpf_syscall_args4(x, more...) ___bpf_syscall_args3(more), (unsigned long long)PT_REGS_PARM4_SYSCALL(regs)
#define ___bpf_syscall_args5(x, more...) ___bpf_syscall_args4(more), (unsigned long long)PT_REGS_PARM5_SYSCALL(regs)
#define ___bpf_syscall_args6(x, more...) ___bpf_syscall_args5(more), (unsigned long long)PT_REGS_PARM6_SYSCALL(regs)
#define ___bpf_syscall_args7(x, more...) ___bpf_syscall_args6(more), (unsigned long long)PT_REGS_PARM7_SYSCALL(regs)
#define ___bpf_syswrap_args1(x, more...) ___bpf_syswrap_args0(more), (unsigned long long)PT_REGS_PARM1_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args2(x, more...) ___bpf_syswrap_args1(more), (unsigned long long)PT_REGS_PARM2_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args3(x, more...) ___bpf_syswrap_args2(more), (unsigned long long)PT_REGS_PARM3_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args4(x, more...) ___bpf_syswrap_args3(more), (unsigned long long)PT_REGS_PARM4_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args5(x, more...) ___bpf_syswrap_args4(more), (unsigned long long)PT_REGS_PARM5_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args6(x, more...) ___bpf_syswrap_args5(more), (unsigned long long)PT_REGS_PARM6_CORE_SYSCALL(regs)
#define ___bpf_syswrap_args7(x, more...) ___bpf_syswrap_args6(more), (unsigned long long)PT_REGS_PARM7_CORE_SYSCALL(regs)
#define ___bpf_syscall_args(args...) ___bpf_apply(___bpf_syscall_args, ___bpf_narg(args))(args)
#define ___bpf_syswrap_args(args...) ___bpf_apply(___bpf_syswrap_args, ___bpf_narg(args))(args)

/* ksyscall, or a kprobe on __x64_sys_...: `int BPF_KSYSCALL(name, const char *path)`.
 * The loader answers LINUX_HAS_SYSCALL_WRAPPER, and the verifier removes the branch
 * that this kernel does not take. Needs <bpf/bpf_core_read.h>. */
#define BPF_KSYSCALL(name, args...)                                        \
name(struct pt_regs *ctx);                                                 \
extern _Bool LINUX_HAS_SYSCALL_WRAPPER __kconfig;                          \
static __always_inline typeof(name(0)) ____##name(struct pt_regs *ctx, ##args); \
typeof(name(0)) name(struct pt_regs *ctx)                                  \
{                                                                          \
	struct pt_regs *regs = LINUX_HAS_SYSCALL_WRAPPER                   \
			       ? (struct pt_regs *)PT_REGS_PARM1(ctx)      \
			       : ctx;                                      \
	_Pragma("GCC diagnostic push")                                     \
	_Pragma("GCC diagnostic ignored \"-Wint-conversion\"")             \
	if (LINUX_HAS_SYSCALL_WRAPPER)                                     \
		return ____##name(___bpf_syswrap_args(args));              \
	else                                                               \
		return ____##name(___bpf_syscall_args(args));              \
	_Pragma("GCC diagnostic pop")                                      \
}                                                                          \
static __always_inline typeof(name(0)) ____##name(struct pt_regs *ctx, ##args)

#define BPF_KPROBE_SYSCALL BPF_KSYSCALL

#endif
