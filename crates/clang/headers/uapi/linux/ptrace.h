/* Only the registers: see <asm/ptrace.h>. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/ptrace.h>)
#include_next <linux/ptrace.h>
#elif !defined(__SKEP_UAPI_LINUX_PTRACE_H)
#define __SKEP_UAPI_LINUX_PTRACE_H

#include <asm/ptrace.h>

#endif
