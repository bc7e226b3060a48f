/* See <string.h>. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/string.h>)
#include_next <linux/string.h>
#elif !defined(__SKEP_UAPI_LINUX_STRING_H)
#define __SKEP_UAPI_LINUX_STRING_H

#include <string.h>

#endif
