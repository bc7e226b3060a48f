/* Sizes and offsets, as the compiler knows them; agrees with vmlinux.h. */
#ifndef __SKEP_LIBC_STDDEF_H
#define __SKEP_LIBC_STDDEF_H

typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;

#ifndef NULL
#define NULL ((void *)0)
#endif
#undef offsetof
#define offsetof(type, member) __builtin_offsetof(type, member)

#endif
