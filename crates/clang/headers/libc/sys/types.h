/* The few POSIX types that programs use. */
#ifndef __SKEP_LIBC_SYS_TYPES_H
#define __SKEP_LIBC_SYS_TYPES_H

#include <stddef.h>
#include <stdint.h>
#ifndef __VMLINUX_H__
#include <linux/types.h>
typedef int pid_t;
typedef unsigned int uid_t;
typedef unsigned int gid_t;
typedef unsigned int mode_t;
typedef long ssize_t;
typedef long long loff_t;
#endif

#endif
