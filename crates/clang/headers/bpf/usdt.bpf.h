/* USDT: reading the arguments of markers that programs and libraries carry.
 *
 * A marker's argument is described as text in the program's ELF notes ("4 bytes,
 * signed, at -8 from rbp"). The loader parses that into a `__bpf_usdt_spec`, stores
 * it in the map __bpf_usdt_specs, and attaches with the spec's number as cookie (or,
 * where the kernel has no cookies, maps the probe's address to that number). The
 * code below follows the spec at each hit. Map names and layouts are shared with
 * loaders, ours and others, and so may not change.
 */
#ifndef __USDT_BPF_H__
#define __USDT_BPF_H__

#ifndef __VMLINUX_H__
#include <linux/bpf.h>
#include <linux/ptrace.h>
#endif
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

/* Different markers (after merging equal argument descriptions). */
#ifndef BPF_USDT_MAX_SPEC_CNT
#define BPF_USDT_MAX_SPEC_CNT 256
#endif
/* Addresses of markers; only used without attach cookies (before 5.15). */
#ifndef BPF_USDT_MAX_IP_CNT
#define BPF_USDT_MAX_IP_CNT (4 * BPF_USDT_MAX_SPEC_CNT)
#endif
#define BPF_USDT_MAX_ARG_CNT 12

enum __bpf_usdt_arg_type {
	BPF_USDT_ARG_CONST,     /* val_off is the value */
	BPF_USDT_ARG_REG,       /* in the register at reg_off of pt_regs */
	BPF_USDT_ARG_REG_DEREF, /* in memory at register + val_off */
	BPF_USDT_ARG_SIB,       /* in memory at base + (index << scale) + val_off */
};

struct __bpf_usdt_arg_spec {
	__u64 val_off;
	/* One 32-bit word. Loaders that know nothing of index registers write the
	 * kind into all of it, which reads the same. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	__u32 arg_type : 8;
	__u32 idx_reg_off : 12;
	__u32 scale_bitshift : 4;
	__u32 __reserved : 8;
#else
	__u32 __reserved : 8;
	__u32 idx_reg_off : 12;
	__u32 scale_bitshift : 4;
	__u32 arg_type : 8;
#endif
	short reg_off;
	_Bool arg_signed;
	/* 64 minus the argument's width in bits. */
	char arg_bitshift;
};

struct __bpf_usdt_spec {
	struct __bpf_usdt_arg_spec args[BPF_USDT_MAX_ARG_CNT];
	__u64 usdt_cookie;
	short arg_cnt;
};

_Static_assert(sizeof(struct __bpf_usdt_arg_spec) == 16, "shared with loaders");
_Static_assert(sizeof(struct __bpf_usdt_spec) == 208, "shared with loaders");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, BPF_USDT_MAX_SPEC_CNT);
	__type(key, int);
	__type(value, struct __bpf_usdt_spec);
} __bpf_usdt_specs SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BPF_USDT_MAX_IP_CNT);
	__type(key, long);
	__type(value, __u32);
} __bpf_usdt_ip_to_spec_id SEC(".maps") __weak;

extern const _Bool LINUX_HAS_BPF_COOKIE __kconfig;

/* The errors below, as numbers: the header has to work with and without errno.h. */
#define __SKEP_ENOENT 2
#define __SKEP_ESRCH 3
#define __SKEP_EINVAL 22

static __always_inline struct __bpf_usdt_spec *__skep_usdt_spec(struct pt_regs *ctx)
{
	int id;

	if (LINUX_HAS_BPF_COOKIE) {
		id = bpf_get_attach_cookie(ctx);
	} else {
		long ip = PT_REGS_IP(ctx);
		int *found = bpf_map_lookup_elem(&__bpf_usdt_ip_to_spec_id, &ip);

		if (!found)
			return NULL;
		id = *found;
	}
	return bpf_map_lookup_elem(&__bpf_usdt_specs, &id);
}

/* Number of arguments of the marker that was hit, or a negative error. */
__weak __hidden int bpf_usdt_arg_cnt(struct pt_regs *ctx)
{
	struct __bpf_usdt_spec *spec = __skep_usdt_spec(ctx);

	return spec ? spec->arg_cnt : -__SKEP_ESRCH;
}

/* Width in bytes of argument `arg_num`, from 0, or a negative error. */
__weak __hidden int bpf_usdt_arg_size(struct pt_regs *ctx, __u64 arg_num)
{
	struct __bpf_usdt_spec *spec = __skep_usdt_spec(ctx);

	if (!spec)
		return -__SKEP_ESRCH;
	if (arg_num >= BPF_USDT_MAX_ARG_CNT)
		return -__SKEP_ENOENT;
	barrier_var(arg_num);
	if (arg_num >= spec->arg_cnt)
		return -__SKEP_ENOENT;
	return (64u - spec->args[arg_num].arg_bitshift) / 8;
}

/* Value of argument `arg_num`, from 0, into *res (0 on error). */
__weak __hidden int bpf_usdt_arg(struct pt_regs *ctx, __u64 arg_num, long *res)
{
	struct __bpf_usdt_spec *spec;
	struct __bpf_usdt_arg_spec *arg;
	unsigned long val, idx;
	int err;

	*res = 0;

	spec = __skep_usdt_spec(ctx);
	if (!spec)
		return -__SKEP_ESRCH;
	if (arg_num >= BPF_USDT_MAX_ARG_CNT)
		return -__SKEP_ENOENT;
	/* Keeps the constant bound apart from the bound by arg_cnt: merged into
	 * one, the verifier cannot see that the array access is inside. */
	barrier_var(arg_num);
	if (arg_num >= spec->arg_cnt)
		return -__SKEP_ENOENT;

	arg = &spec->args[arg_num];
	if (arg->arg_type == BPF_USDT_ARG_CONST) {
		val = arg->val_off;
	} else {
		err = bpf_probe_read_kernel(&val, sizeof(val), (void *)ctx + arg->reg_off);
		if (err)
			return err;
		switch (arg->arg_type) {
		case BPF_USDT_ARG_REG:
			break;
		case BPF_USDT_ARG_SIB:
			err = bpf_probe_read_kernel(&idx, sizeof(idx),
						    (void *)ctx + arg->idx_reg_off);
			if (err)
				return err;
			val += idx << arg->scale_bitshift;
			/* fall through */
		case BPF_USDT_ARG_REG_DEREF:
			err = bpf_probe_read_user(&val, sizeof(val), (void *)val + arg->val_off);
			if (err)
				return err;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
			/* Eight bytes were read; a narrow value is in the first ones. */
			val >>= arg->arg_bitshift;
#endif
			break;
		default:
			return -__SKEP_EINVAL;
		}
	}

	val <<= arg->arg_bitshift;
	*res = arg->arg_signed ? (long)val >> arg->arg_bitshift
			       : (long)(val >> arg->arg_bitshift);
	return 0;
}

/* The number that was given when attaching; the probe's own cookie is taken. */
__weak __hidden long bpf_usdt_cookie(struct pt_regs *ctx)
{
	struct __bpf_usdt_spec *spec = __skep_usdt_spec(ctx);

	return spec ? spec->usdt_cookie : 0;
}

#define __skep_usdt_arg(n) ({ long _x; bpf_usdt_arg(ctx, n, &_x); (void *)_x; })

#define ___bpf_usdt_args0() ctx
#define ___bpf_usdt_args1(x) ___bpf_usdt_args0(), __skep_usdt_arg(0)
#define ___bpf_usdt_args2(x, more...) ___bpf_usdt_args1(more), __skep_usdt_arg(1)
#define ___bpf_usdt_args3(x, more...) ___bpf_usdt_args2(more), __skep_usdt_arg(2)
#define ___bpf_usdt_args4(x, more...) ___bpf_usdt_args3(more), __skep_usdt_arg(3)
#define ___bpf_usdt_args5(x, more...) ___bpf_usdt_args4(more), __skep_usdt_arg(4)
#define ___bpf_usdt_args6(x, more...) ___bpf_usdt_args5(more), __skep_usdt_arg(5)
#define ___bpf_usdt_args7(x, more...) ___bpf_usdt_args6(more), __skep_usdt_arg(6)
#define ___bpf_usdt_args8(x, more...) ___bpf_usdt_args7(more), __skep_usdt_arg(7)
#define ___bpf_usdt_args9(x, more...) ___bpf_usdt_args8(more), __skep_usdt_arg(8)
#define ___bpf_usdt_args10(x, more...) ___bpf_usdt_args9(more), __skep_usdt_arg(9)
#define ___bpf_usdt_args11(x, more...) ___bpf_usdt_args10(more), __skep_usdt_arg(10)
#define ___bpf_usdt_args12(x, more...) ___bpf_usdt_args11(more), __skep_usdt_arg(11)
#define ___bpf_usdt_args(args...) ___bpf_apply(___bpf_usdt_args, ___bpf_narg(args))(args)

/* `SEC("usdt/PATH:provider:name") int BPF_USDT(name, int x, char *y)` */
#define BPF_USDT(name, args...)                                            \
__skep_prog(name, ____##name, struct pt_regs,                              \
	    return ____##name(___bpf_usdt_args(args));,                    \
	    struct pt_regs *ctx, ##args)

#endif
