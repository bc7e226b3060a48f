/* Helpers of the kernel's headers. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/stddef.h>)
#include_next <linux/stddef.h>
#elif !defined(__SKEP_UAPI_LINUX_STDDEF_H)
#define __SKEP_UAPI_LINUX_STDDEF_H

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

#endif
