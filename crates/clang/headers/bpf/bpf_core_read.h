/* CO-RE: reading kernel structures whose layout is decided when the program is
 * loaded, not when it is compiled.
 *
 * `__builtin_preserve_access_index(&s->f)` and its relatives make clang emit, beside
 * the instruction with the offset of today, a record "this number is the offset
 * of field f of struct s". The loader finds that field in the running kernel's
 * BTF and writes the right number. The kinds below are the numbers of those
 * records (enum bpf_core_relo_kind in include/uapi/linux/bpf.h, by builtin).
 */
#ifndef __BPF_CORE_READ_H__
#define __BPF_CORE_READ_H__

#include <bpf/bpf_helpers.h>

/* Second argument of __builtin_preserve_field_info(). */
enum bpf_field_info_kind {
	BPF_FIELD_BYTE_OFFSET = 0,
	BPF_FIELD_BYTE_SIZE = 1,
	BPF_FIELD_EXISTS = 2,
	BPF_FIELD_SIGNED = 3,
	BPF_FIELD_LSHIFT_U64 = 4,
	BPF_FIELD_RSHIFT_U64 = 5,
};

/* Second argument of __builtin_btf_type_id(). */
enum bpf_type_id_kind {
	BPF_TYPE_ID_LOCAL = 0,
	BPF_TYPE_ID_TARGET = 1,
};

/* Second argument of __builtin_preserve_type_info(). */
enum bpf_type_info_kind {
	BPF_TYPE_EXISTS = 0,
	BPF_TYPE_SIZE = 1,
	BPF_TYPE_MATCHES = 2,
};

/* Second argument of __builtin_preserve_enum_value(). */
enum bpf_enum_value_kind {
	BPF_ENUMVAL_EXISTS = 0,
	BPF_ENUMVAL_VALUE = 1,
};

/* ---- questions about fields, types and enum values ----------------------- */

#define ___bpf_typeof(type) ((typeof(type) *)0)

/* A field is named by an expression, `task->pid`, or by type and path,
 * `struct task_struct, pid`. */
#define ___bpf_field_ref1(field) (field)
#define ___bpf_field_ref2(type, field) (___bpf_typeof(type)->field)
#define ___bpf_field_ref(args...) \
	___bpf_apply(___bpf_field_ref, ___bpf_narg(args))(args)

#define bpf_core_field_exists(field...) \
	__builtin_preserve_field_info(___bpf_field_ref(field), BPF_FIELD_EXISTS)
#define bpf_core_field_size(field...) \
	__builtin_preserve_field_info(___bpf_field_ref(field), BPF_FIELD_BYTE_SIZE)
#define bpf_core_field_offset(field...) \
	__builtin_preserve_field_info(___bpf_field_ref(field), BPF_FIELD_BYTE_OFFSET)

#define bpf_core_type_id_local(type) \
	__builtin_btf_type_id(*___bpf_typeof(type), BPF_TYPE_ID_LOCAL)
#define bpf_core_type_id_kernel(type) \
	__builtin_btf_type_id(*___bpf_typeof(type), BPF_TYPE_ID_TARGET)
#define bpf_core_type_exists(type) \
	__builtin_preserve_type_info(*___bpf_typeof(type), BPF_TYPE_EXISTS)
#define bpf_core_type_matches(type) \
	__builtin_preserve_type_info(*___bpf_typeof(type), BPF_TYPE_MATCHES)
#define bpf_core_type_size(type) \
	__builtin_preserve_type_info(*___bpf_typeof(type), BPF_TYPE_SIZE)

#define bpf_core_enum_value_exists(enum_type, enum_value) \
	__builtin_preserve_enum_value(*(typeof(enum_type) *)enum_value, BPF_ENUMVAL_EXISTS)
#define bpf_core_enum_value(enum_type, enum_value) \
	__builtin_preserve_enum_value(*(typeof(enum_type) *)enum_value, BPF_ENUMVAL_VALUE)

/* ---- bit-fields ---------------------------------------------------------- */

#define __CORE_RELO(src, field, info) \
	__builtin_preserve_field_info((src)->field, BPF_FIELD_##info)

/* Where the loaded bytes go inside the 64-bit value. The shifts that the loader
 * fills in count from the low end of the value, so big-endian machines load
 * into its last bytes. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define __skep_low_bytes(val, size) ((void *)(val))
#else
#define __skep_low_bytes(val, size) ((void *)(val) + (8 - (size)))
#endif
#define __CORE_BITFIELD_PROBE_READ(dst, src, fld)                          \
	bpf_probe_read_kernel(                                             \
		__skep_low_bytes(dst, __CORE_RELO(src, fld, BYTE_SIZE)),   \
		__CORE_RELO(src, fld, BYTE_SIZE),                          \
		(const void *)(src) + __CORE_RELO(src, fld, BYTE_OFFSET))

/* Moves the field's highest bit to bit 63, then its lowest to bit 0. */
#define __skep_cut_bitfield(val, s, field)                                 \
	(__CORE_RELO(s, field, SIGNED)                                     \
	 ? (unsigned long long)((long long)((val) << __CORE_RELO(s, field, LSHIFT_U64)) \
				>> __CORE_RELO(s, field, RSHIFT_U64))      \
	 : ((val) << __CORE_RELO(s, field, LSHIFT_U64))                    \
		>> __CORE_RELO(s, field, RSHIFT_U64))

/* For memory that only a probe read may touch (kprobes, tracepoints). */
#define BPF_CORE_READ_BITFIELD_PROBED(s, field) ({                         \
	unsigned long long ___val = 0;                                     \
	__CORE_BITFIELD_PROBE_READ(&___val, s, field);                     \
	__skep_cut_bitfield(___val, s, field);                             \
})

/* For pointers that the verifier trusts (tp_btf, fentry, ...). The barrier makes
 * the compiler compute the address once, with its relocated offset, instead of
 * folding the offset into each of the loads, where no relocation could follow. */
#define BPF_CORE_READ_BITFIELD(s, field) ({                                \
	const void *___p = (const void *)(s) + __CORE_RELO(s, field, BYTE_OFFSET); \
	unsigned long long ___val;                                         \
	barrier_var(___p);                                                 \
	switch (__CORE_RELO(s, field, BYTE_SIZE)) {                        \
	case 1: ___val = *(const unsigned char *)___p; break;              \
	case 2: ___val = *(const unsigned short *)___p; break;             \
	case 4: ___val = *(const unsigned int *)___p; break;               \
	case 8: ___val = *(const unsigned long long *)___p; break;         \
	default: ___val = 0; break;                                        \
	}                                                                  \
	__skep_cut_bitfield(___val, s, field);                             \
})

/* Replaces the field's bits and keeps their neighbours. */
#define BPF_CORE_WRITE_BITFIELD(s, field, new_val) ({                      \
	void *___p = (void *)(s) + __CORE_RELO(s, field, BYTE_OFFSET);     \
	unsigned int ___size = __CORE_RELO(s, field, BYTE_SIZE);           \
	unsigned int ___left = __CORE_RELO(s, field, LSHIFT_U64);          \
	unsigned int ___right = __CORE_RELO(s, field, RSHIFT_U64);         \
	unsigned long long ___mask = (~0ULL << ___right) >> ___left;       \
	unsigned long long ___new =                                        \
		((unsigned long long)(new_val) << (___right - ___left)) & ___mask; \
	barrier_var(___p);                                                 \
	switch (___size) {                                                 \
	case 1: *(unsigned char *)___p = (*(unsigned char *)___p & ~___mask) | ___new; break; \
	case 2: *(unsigned short *)___p = (*(unsigned short *)___p & ~___mask) | ___new; break; \
	case 4: *(unsigned int *)___p = (*(unsigned int *)___p & ~___mask) | ___new; break; \
	case 8: *(unsigned long long *)___p = (*(unsigned long long *)___p & ~___mask) | ___new; break; \
	}                                                                  \
})

/* ---- one read ------------------------------------------------------------ */

#define bpf_core_read(dst, sz, src) \
	bpf_probe_read_kernel(dst, sz, (const void *)__builtin_preserve_access_index(src))
#define bpf_core_read_user(dst, sz, src) \
	bpf_probe_read_user(dst, sz, (const void *)__builtin_preserve_access_index(src))
#define bpf_core_read_str(dst, sz, src) \
	bpf_probe_read_kernel_str(dst, sz, (const void *)__builtin_preserve_access_index(src))
#define bpf_core_read_user_str(dst, sz, src) \
	bpf_probe_read_user_str(dst, sz, (const void *)__builtin_preserve_access_index(src))

/* Lets the verifier treat any kernel address as a readable pointer to a type:
 * after it, `p->field` needs no probe read (kernel 6.2). */
extern void *bpf_rdonly_cast(const void *obj, __u32 btf_id) __ksym __weak;

#define bpf_core_cast(ptr, type) \
	((typeof(type) *)bpf_rdonly_cast((ptr), bpf_core_type_id_kernel(type)))

/* ---- chains of pointers -------------------------------------------------- */

#define ___concat(a, b) a##b
#define ___apply(fn, n) ___concat(fn, n)
#define ___nth(args...) ___bpf_nth(args)
#define ___narg(args...) ___bpf_narg(args)
#define ___empty(args...) ___bpf_empty(args)

/* s, a, b -> s->a->b; the last of a list; a list without its last. */
#define ___arrow1(a) a
#define ___arrow2(a, b) a->b
#define ___arrow3(a, b, c) a->b->c
#define ___arrow4(a, b, c, d) a->b->c->d
#define ___arrow5(a, b, c, d, e) a->b->c->d->e
#define ___arrow6(a, b, c, d, e, f) a->b->c->d->e->f
#define ___arrow7(a, b, c, d, e, f, g) a->b->c->d->e->f->g
#define ___arrow8(a, b, c, d, e, f, g, h) a->b->c->d->e->f->g->h
#define ___arrow9(a, b, c, d, e, f, g, h, i) a->b->c->d->e->f->g->h->i
#define ___arrow10(a, b, c, d, e, f, g, h, i, j) a->b->c->d->e->f->g->h->i->j
#define ___arrow(args...) ___apply(___arrow, ___narg(args))(args)
#define ___last1(a) a
#define ___last2(a, b) b
#define ___last3(a, b, c) c
#define ___last4(a, b, c, d) d
#define ___last5(a, b, c, d, e) e
#define ___last6(a, b, c, d, e, f) f
#define ___last7(a, b, c, d, e, f, g) g
#define ___last8(a, b, c, d, e, f, g, h) h
#define ___last9(a, b, c, d, e, f, g, h, i) i
#define ___last10(a, b, c, d, e, f, g, h, i, j) j
#define ___last(args...) ___apply(___last, ___narg(args))(args)
#define ___nolast2(a, b) a
#define ___nolast3(a, b, c) a, b
#define ___nolast4(a, b, c, d) a, b, c
#define ___nolast5(a, b, c, d, e) a, b, c, d
#define ___nolast6(a, b, c, d, e, f) a, b, c, d, e
#define ___nolast7(a, b, c, d, e, f, g) a, b, c, d, e, f
#define ___nolast8(a, b, c, d, e, f, g, h) a, b, c, d, e, f, g
#define ___nolast9(a, b, c, d, e, f, g, h, i) a, b, c, d, e, f, g, h
#define ___nolast10(a, b, c, d, e, f, g, h, i, j) a, b, c, d, e, f, g, h, i
#define ___nolast(args...) ___apply(___nolast, ___narg(args))(args)

/* The type of a chain's end, without `const` where the compiler can say that. */
#if defined(__clang__) && __clang_major__ >= 19
#define ___type(args...) __typeof_unqual__(___arrow(args))
#else
#define ___type(args...) typeof(___arrow(args))
#endif

/* Follows `src->a->b->c`: every arrow but the last reads a pointer with `hop`
 * into a variable of its own, the last reads the value with `end`. `&*x` is
 * x without a `const` on the pointer itself, so that the variable can be
 * written. */
#define __skep_walk1(hop, end, dst, src, a) \
	end((void *)(dst), sizeof(*(dst)), &(src)->a)
#define __skep_walk2(hop, end, dst, src, a, more...) ({                     \
	typeof(&*(src)->a) ___p2;                                          \
	hop((void *)&___p2, sizeof(___p2), &(src)->a);                     \
	__skep_walk1(hop, end, dst, ___p2, more);                        \
})
#define __skep_walk3(hop, end, dst, src, a, more...) ({                     \
	typeof(&*(src)->a) ___p3;                                          \
	hop((void *)&___p3, sizeof(___p3), &(src)->a);                     \
	__skep_walk2(hop, end, dst, ___p3, more);                        \
})
#define __skep_walk4(hop, end, dst, src, a, more...) ({                     \
	typeof(&*(src)->a) ___p4;                                          \
	hop((void *)&___p4, sizeof(___p4), &(src)->a);                     \
	__skep_walk3(hop, end, dst, ___p4, more);                        \
})
#define __skep_walk5(hop, end, dst, src, a, more...) ({                     \
	typeof(&*(src)->a) ___p5;                                          \
	hop((void *)&___p5, sizeof(___p5), &(src)->a);                     \
	__skep_walk4(hop, end, dst, ___p5, more);                        \
})
#define __skep_walk6(hop, end, dst, src, a, more...) ({                     \
	typeof(&*(src)->a) ___p6;                                          \
	hop((void *)&___p6, sizeof(___p6), &(src)->a);                     \
	__skep_walk5(hop, end, dst, ___p6, more);                        \
})
#define __skep_walk7(hop, end, dst, src, a, more...) ({                     \
	typeof(&*(src)->a) ___p7;                                          \
	hop((void *)&___p7, sizeof(___p7), &(src)->a);                     \
	__skep_walk6(hop, end, dst, ___p7, more);                        \
})
#define __skep_walk8(hop, end, dst, src, a, more...) ({                     \
	typeof(&*(src)->a) ___p8;                                          \
	hop((void *)&___p8, sizeof(___p8), &(src)->a);                     \
	__skep_walk7(hop, end, dst, ___p8, more);                        \
})
#define __skep_walk9(hop, end, dst, src, a, more...) ({                     \
	typeof(&*(src)->a) ___p9;                                          \
	hop((void *)&___p9, sizeof(___p9), &(src)->a);                     \
	__skep_walk8(hop, end, dst, ___p9, more);                        \
})
#define __skep_walk(hop, end, dst, src, path...) \
	___apply(__skep_walk, ___narg(path))(hop, end, dst, src, path)

/* The same, as a value of the last field's type. */
#define __skep_walk_value(hop, src, path...) ({                            \
	___type((src), path) ___r;                                         \
	__skep_walk(hop, hop, &___r, src, path);                           \
	___r;                                                              \
})

/* Kernel memory, relocatable. */
#define BPF_CORE_READ(src, a, more...) \
	__skep_walk_value(bpf_core_read, src, a, ##more)
#define BPF_CORE_READ_INTO(dst, src, a, more...) \
	__skep_walk(bpf_core_read, bpf_core_read, dst, src, a, ##more)
#define BPF_CORE_READ_STR_INTO(dst, src, a, more...) \
	__skep_walk(bpf_core_read, bpf_core_read_str, dst, src, a, ##more)

/* Kernel types that lie in user memory (arguments of system calls), relocatable. */
#define BPF_CORE_READ_USER(src, a, more...) \
	__skep_walk_value(bpf_core_read_user, src, a, ##more)
#define BPF_CORE_READ_USER_INTO(dst, src, a, more...) \
	__skep_walk(bpf_core_read_user, bpf_core_read_user, dst, src, a, ##more)
#define BPF_CORE_READ_USER_STR_INTO(dst, src, a, more...) \
	__skep_walk(bpf_core_read_user, bpf_core_read_user_str, dst, src, a, ##more)

/* Kernel memory with the layout of compile time. */
#define BPF_PROBE_READ(src, a, more...) \
	__skep_walk_value(bpf_probe_read_kernel, src, a, ##more)
#define BPF_PROBE_READ_INTO(dst, src, a, more...) \
	__skep_walk(bpf_probe_read_kernel, bpf_probe_read_kernel, dst, src, a, ##more)
#define BPF_PROBE_READ_STR_INTO(dst, src, a, more...) \
	__skep_walk(bpf_probe_read_kernel, bpf_probe_read_kernel_str, dst, src, a, ##more)

/* User memory. */
#define BPF_PROBE_READ_USER(src, a, more...) \
	__skep_walk_value(bpf_probe_read_user, src, a, ##more)
#define BPF_PROBE_READ_USER_INTO(dst, src, a, more...) \
	__skep_walk(bpf_probe_read_user, bpf_probe_read_user, dst, src, a, ##more)
#define BPF_PROBE_READ_USER_STR_INTO(dst, src, a, more...) \
	__skep_walk(bpf_probe_read_user, bpf_probe_read_user_str, dst, src, a, ##more)

#endif
