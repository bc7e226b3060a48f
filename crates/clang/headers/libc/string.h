/* What of <string.h> exists without a C library: the memory functions. */
#ifndef __SKEP_LIBC_STRING_H
#define __SKEP_LIBC_STRING_H

#include <stddef.h>

/* With a constant size these become plain loads and stores. With a variable one
 * there is no function to call, and the linker names it: use a loop. */
#define memset(to, byte, size) __builtin_memset(to, byte, size)
#define memcpy(to, from, size) __builtin_memcpy(to, from, size)
#define memmove(to, from, size) __builtin_memmove(to, from, size)
#define memcmp(a, b, size) __builtin_memcmp(a, b, size)

/* Of literals only. bpf_strncmp() compares others. */
#define strlen(text) __builtin_strlen(text)

#endif
