/* Types of the kernel's interfaces. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/posix_types.h>)
#include_next <linux/posix_types.h>
#elif !defined(__SKEP_UAPI_LINUX_POSIX_TYPES_H)
#define __SKEP_UAPI_LINUX_POSIX_TYPES_H

#ifndef __VMLINUX_H__
typedef long __kernel_long_t;
typedef unsigned long __kernel_ulong_t;
typedef int __kernel_pid_t;
typedef unsigned int __kernel_uid32_t;
typedef unsigned int __kernel_gid32_t;
typedef unsigned int __kernel_mode_t;
typedef __SIZE_TYPE__ __kernel_size_t;
typedef long __kernel_ssize_t;
typedef long long __kernel_loff_t;
typedef long long __kernel_time64_t;
typedef int __kernel_clockid_t;
#endif

#endif
