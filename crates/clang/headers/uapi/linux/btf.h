/* Nothing that a program needs; the header may be included all the same. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/btf.h>)
#include_next <linux/btf.h>
#elif !defined(__SKEP_UAPI_LINUX_BTF_H)
#define __SKEP_UAPI_LINUX_BTF_H

#include <linux/types.h>

#endif
