/* What nearly every BPF program includes: the helpers, map definitions,
 * sections, printing and loops.
 *
 * Names and meanings are those that BPF programs in C rely on everywhere;
 * the text is skep's own. It may stand before or after <vmlinux.h> and the
 * kernel's headers.
 */
#ifndef __BPF_HELPERS__
#define __BPF_HELPERS__

#include <bpf/bpf_helper_defs.h>

/* ---- macro tools --------------------------------------------------------- */

#define ___bpf_concat(a, b) a##b
#define ___bpf_apply(fn, n) ___bpf_concat(fn, n)
/* The argument after the first thirteen; with a counted list behind it, this
 * counts up to twelve arguments. */
#define ___bpf_nth(_, _1, _2, _3, _4, _5, _6, _7, _8, _9, _a, _b, _c, N, ...) N
#define ___bpf_narg(...) \
	___bpf_nth(_, ##__VA_ARGS__, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define ___bpf_empty(...) \
	___bpf_nth(_, ##__VA_ARGS__, N, N, N, N, N, N, N, N, N, N, N, N, 0)

/* ---- attributes ---------------------------------------------------------- */

/* Puts a function or a variable into an ELF section; the section says what it
 * is: `SEC("xdp")`, `SEC(".maps")`, `SEC("license")`. */
#define SEC(name)                                                    \
	_Pragma("GCC diagnostic push")                               \
	_Pragma("GCC diagnostic ignored \"-Wignored-attributes\"")   \
	__attribute__((section(name), used))                         \
	_Pragma("GCC diagnostic pop")

#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#ifndef __noinline
#define __noinline __attribute__((noinline))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif
/* Visible to other object files of the same program only: the verifier checks
 * such a function with its caller's values, as it does a static one. */
#define __hidden __attribute__((visibility("hidden")))

/* Values from the kernel's configuration, and the kernel's own symbols. */
#define __kconfig __attribute__((section(".kconfig")))
#define __ksym __attribute__((section(".ksyms")))

/* How a pointer in a map value may be used. */
#if __has_attribute(btf_type_tag)
#define __kptr __attribute__((btf_type_tag("kptr")))
#define __kptr_untrusted __attribute__((btf_type_tag("kptr_untrusted")))
#define __percpu_kptr __attribute__((btf_type_tag("percpu_kptr")))
#define __uptr __attribute__((btf_type_tag("uptr")))
#else
#define __kptr
#define __kptr_untrusted
#define __percpu_kptr
#define __uptr
#endif

/* What the verifier may assume about an argument of a global function. */
#if __has_attribute(btf_decl_tag)
#define __skep_arg(what) __attribute__((btf_decl_tag("arg:" what)))
#else
#define __skep_arg(what)
#endif
#define __arg_ctx __skep_arg("ctx")
#define __arg_nonnull __skep_arg("nonnull")
#define __arg_nullable __skep_arg("nullable")
#define __arg_trusted __skep_arg("trusted")
#define __arg_untrusted __skep_arg("untrusted")
#define __arg_arena __skep_arg("arena")

/* A pointer into a BPF_MAP_TYPE_ARENA map, and a global variable that lives in
 * one. Compilers without address spaces (before clang 19) get plain ones. */
#if defined(__BPF_FEATURE_ADDR_SPACE_CAST)
#ifndef __arena
#define __arena __attribute__((address_space(1)))
#endif
#ifndef __arena_global
#define __arena_global __attribute__((address_space(1)))
#endif
#else
#ifndef __arena
#define __arena
#endif
#ifndef __arena_global
#define __arena_global SEC(".addr_space.1")
#endif
#endif

/* ---- C that a kernel header would bring ---------------------------------- */

#ifndef NULL
#define NULL ((void *)0)
#endif

#ifndef KERNEL_VERSION
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#endif

#undef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)

#undef container_of
#define container_of(ptr, type, member) \
	((type *)((void *)(ptr) - offsetof(type, member)))

#ifndef likely
#define likely(x) __builtin_expect(!!(x), 1)
#endif
#ifndef unlikely
#define unlikely(x) __builtin_expect(!!(x), 0)
#endif

/* Keeps the compiler from moving memory accesses across, or from remembering
 * what it knows about `var`. Both are used to keep a bounds check where the
 * verifier wants to see it. */
#ifndef barrier
#define barrier() asm volatile("" ::: "memory")
#endif
#ifndef barrier_var
#define barrier_var(var) asm volatile("" : "+r"(var))
#endif

/* Stops the build if the compiler cannot prove that this is never reached. */
#ifndef __bpf_unreachable
#define __bpf_unreachable() __builtin_trap()
#endif

/* ---- maps ---------------------------------------------------------------- */

/* The members of a map definition: nothing is stored, the loader reads the
 * number out of the array's length and the type out of the pointer. */
#define __uint(name, val) int (*name)[val]
#define __type(name, val) typeof(val) *name
#define __array(name, val) typeof(val) *name[]
#define __ulong(name, val) enum { ___bpf_concat(__unique_value, __COUNTER__) = val } name

/* Values of `__uint(pinning, ...)`. */
enum libbpf_pin_type {
	LIBBPF_PIN_NONE,
	LIBBPF_PIN_BY_NAME,
};

/* A `bool`, `tristate` setting of the kernel: `extern enum libbpf_tristate
 * CONFIG_X __kconfig`. */
enum libbpf_tristate {
	TRI_NO = 0,
	TRI_YES = 1,
	TRI_MODULE = 2,
};

/* Whether a __weak kernel symbol or kfunc exists on this kernel. */
#define bpf_ksym_exists(sym) ({                                        \
	_Static_assert(!__builtin_constant_p(!!sym),                   \
		       #sym " should be marked as __weak");            \
	!!sym;                                                         \
})

/* A tail call with a constant map and slot, kept as one direct call that the
 * kernel can turn into a jump. */
#if defined(__bpf__)
static __always_inline void
bpf_tail_call_static(void *ctx, const void *map, const __u32 slot)
{
	if (!__builtin_constant_p(slot))
		__bpf_unreachable();

	asm volatile("r1 = %[ctx]\n\t"
		     "r2 = %[map]\n\t"
		     "r3 = %[slot]\n\t"
		     "call 12"
		     :
		     : [ctx] "r"(ctx), [map] "r"(map), [slot] "i"(slot)
		     : "r0", "r1", "r2", "r3", "r4", "r5");
}
#endif

/* ---- text ---------------------------------------------------------------- */

#define ___bpf_fill0(arr, at, x)
#define ___bpf_fill1(arr, at, x) arr[at] = x
#define ___bpf_fill2(arr, at, x, more...) arr[at] = x; ___bpf_fill1(arr, at + 1, more)
#define ___bpf_fill3(arr, at, x, more...) arr[at] = x; ___bpf_fill2(arr, at + 1, more)
#define ___bpf_fill4(arr, at, x, more...) arr[at] = x; ___bpf_fill3(arr, at + 1, more)
#define ___bpf_fill5(arr, at, x, more...) arr[at] = x; ___bpf_fill4(arr, at + 1, more)
#define ___bpf_fill6(arr, at, x, more...) arr[at] = x; ___bpf_fill5(arr, at + 1, more)
#define ___bpf_fill7(arr, at, x, more...) arr[at] = x; ___bpf_fill6(arr, at + 1, more)
#define ___bpf_fill8(arr, at, x, more...) arr[at] = x; ___bpf_fill7(arr, at + 1, more)
#define ___bpf_fill9(arr, at, x, more...) arr[at] = x; ___bpf_fill8(arr, at + 1, more)
#define ___bpf_fill10(arr, at, x, more...) arr[at] = x; ___bpf_fill9(arr, at + 1, more)
#define ___bpf_fill11(arr, at, x, more...) arr[at] = x; ___bpf_fill10(arr, at + 1, more)
#define ___bpf_fill12(arr, at, x, more...) arr[at] = x; ___bpf_fill11(arr, at + 1, more)
#define ___bpf_fill(arr, args...) ___bpf_apply(___bpf_fill, ___bpf_narg(args))(arr, 0, args)

/* Declares `fmt` and an array `param` of all arguments as 64-bit values, then
 * is worth `call`. */
#define __skep_with_params(fmt, call, args...) ({                          \
	static const char ___fmt[] = fmt;                                  \
	unsigned long long ___param[___bpf_narg(args)];                    \
	_Pragma("GCC diagnostic push")                                     \
	_Pragma("GCC diagnostic ignored \"-Wint-conversion\"")             \
	___bpf_fill(___param, args);                                       \
	_Pragma("GCC diagnostic pop")                                      \
	call;                                                              \
})

#define BPF_SEQ_PRINTF(seq, fmt, args...)                                  \
	__skep_with_params(fmt,                                            \
		bpf_seq_printf(seq, ___fmt, sizeof(___fmt), ___param,      \
			       sizeof(___param)), args)

#define BPF_SNPRINTF(out, out_size, fmt, args...)                          \
	__skep_with_params(fmt,                                            \
		bpf_snprintf(out, out_size, ___fmt, ___param,              \
			     sizeof(___param)), args)

/* Where global data is unwanted the format goes to the stack. */
#ifdef BPF_NO_GLOBAL_DATA
#define BPF_PRINTK_FMT_MOD
#else
#define BPF_PRINTK_FMT_MOD static const
#endif

/* Up to three arguments fit the registers of bpf_trace_printk. */
#define __bpf_printk(fmt, ...) ({                                          \
	BPF_PRINTK_FMT_MOD char ____fmt[] = fmt;                           \
	bpf_trace_printk(____fmt, sizeof(____fmt), ##__VA_ARGS__);         \
})

/* More go through an array (kernel 5.16). */
#define __bpf_vprintk(fmt, args...)                                        \
	__skep_with_params(fmt,                                            \
		bpf_trace_vprintk(___fmt, sizeof(___fmt), ___param,        \
				  sizeof(___param)), args)

#define ___bpf_pick_printk(...)                                            \
	___bpf_nth(_, ##__VA_ARGS__, __bpf_vprintk, __bpf_vprintk,         \
		   __bpf_vprintk, __bpf_vprintk, __bpf_vprintk,            \
		   __bpf_vprintk, __bpf_vprintk, __bpf_vprintk,            \
		   __bpf_vprintk, __bpf_printk, __bpf_printk,              \
		   __bpf_printk, __bpf_printk)

/* printf to the trace log: `skep run` shows the lines. Up to 12 arguments. */
#define bpf_printk(fmt, args...) ___bpf_pick_printk(args)(fmt, ##args)

/* printf to a program's own stdout (1) or stderr (2) stream, kernel 6.17:
 * `skep run` shows the lines. The function has two names in kernels, the second
 * of which takes fewer arguments in the newest ones; where there is neither,
 * nothing is written. */
extern int bpf_stream_vprintk_impl(int stream_id, const char *fmt__str, const void *args,
				   __u32 len__sz, void *aux__prog) __weak __ksym;
extern int bpf_stream_vprintk___aux(int stream_id, const char *fmt__str, const void *args,
				    __u32 len__sz, void *aux__prog) __weak __ksym;

#define bpf_stream_printk(stream_id, fmt, args...)                         \
	__skep_with_params(fmt,                                            \
		bpf_ksym_exists(bpf_stream_vprintk_impl) ?                 \
			bpf_stream_vprintk_impl(stream_id, ___fmt, ___param, \
				sizeof(___param), (void *)0) :             \
		bpf_ksym_exists(bpf_stream_vprintk___aux) ?                \
			bpf_stream_vprintk___aux(stream_id, ___fmt, ___param, \
				sizeof(___param), (void *)0) : 0, args)

/* ---- loops that the verifier follows (kernel 6.4) ------------------------ */

struct bpf_iter_num;

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) __weak __ksym;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) __weak __ksym;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) __weak __ksym;

/* The head that the three loops share: an iterator on the stack, started once
 * through the initialiser of a second variable that nobody uses, ended by
 * `cleanup` however the loop is left. Naming the destructor in that initialiser
 * makes clang emit its BTF, which a `cleanup` alone does not. */
#define __skep_iter(kind, args...)                                         \
	struct bpf_iter_##kind ___it __attribute__((aligned(8),            \
				cleanup(bpf_iter_##kind##_destroy))),      \
		*___unused __attribute__((unused)) =                       \
			(bpf_iter_##kind##_new(&___it, ##args),            \
			 (void)bpf_iter_##kind##_destroy, (void *)0)

/* `bpf_for_each(task, t, NULL, BPF_TASK_ITER_ALL_PROCS) { ... }` */
#ifndef bpf_for_each
#define bpf_for_each(type, cur, args...)                                   \
	for (__skep_iter(type, ##args); ((cur) = bpf_iter_##type##_next(&___it));)
#endif

/* `bpf_for(i, 0, n) { ... }`: the second test tells the verifier the range. */
#ifndef bpf_for
#define bpf_for(i, start, end)                                             \
	for (__skep_iter(num, (start), (end)); ({                          \
		int *___t = bpf_iter_num_next(&___it);                     \
		(___t && ((i) = *___t, (i) >= (start) && (i) < (end)));    \
	});)
#endif

/* `bpf_repeat(100) { ... }` */
#ifndef bpf_repeat
#define bpf_repeat(N) for (__skep_iter(num, 0, (N)); bpf_iter_num_next(&___it);)
#endif

#include <bpf/skep_events.h>

#endif
