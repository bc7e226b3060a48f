/* See <linux/posix_types.h>. */
#if !defined(__VMLINUX_H__) && __has_include_next(<asm/posix_types.h>)
#include_next <asm/posix_types.h>
#elif !defined(__SKEP_UAPI_ASM_POSIX_TYPES_H)
#define __SKEP_UAPI_ASM_POSIX_TYPES_H

#include <linux/posix_types.h>

#endif
