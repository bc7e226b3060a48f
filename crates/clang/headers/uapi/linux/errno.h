/* Error numbers. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/errno.h>)
#include_next <linux/errno.h>
#elif !defined(__SKEP_UAPI_LINUX_ERRNO_H)
#define __SKEP_UAPI_LINUX_ERRNO_H

#include <asm/errno.h>

#endif
