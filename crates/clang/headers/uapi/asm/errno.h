/* Error numbers of most machines. */
#if !defined(__VMLINUX_H__) && __has_include_next(<asm/errno.h>)
#include_next <asm/errno.h>
#elif !defined(__SKEP_UAPI_ASM_ERRNO_H)
#define __SKEP_UAPI_ASM_ERRNO_H

#include <asm-generic/errno.h>

#endif
