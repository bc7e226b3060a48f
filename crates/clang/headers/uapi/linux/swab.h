/* Byte swaps. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/swab.h>)
#include_next <linux/swab.h>
#elif !defined(__SKEP_UAPI_LINUX_SWAB_H)
#define __SKEP_UAPI_LINUX_SWAB_H

#define __swab16(x) __builtin_bswap16(x)
#define __swab32(x) __builtin_bswap32(x)
#define __swab64(x) __builtin_bswap64(x)

#endif
