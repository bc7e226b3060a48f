/* Constants for C and assembly. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/const.h>)
#include_next <linux/const.h>
#elif !defined(__SKEP_UAPI_LINUX_CONST_H)
#define __SKEP_UAPI_LINUX_CONST_H

#define _AC(x, y) __SKEP_AC(x, y)
#define __SKEP_AC(x, y) (x##y)
#define _UL(x) (_AC(x, UL))
#define _ULL(x) (_AC(x, ULL))
#define _BITUL(x) (_UL(1) << (x))
#define _BITULL(x) (_ULL(1) << (x))

#endif
