/* The kernel's integers, and those with a byte order in their name. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/types.h>)
#include_next <linux/types.h>
#elif !defined(__SKEP_UAPI_LINUX_TYPES_H)
#define __SKEP_UAPI_LINUX_TYPES_H

#define __bitwise
#define __aligned_u64 __u64 __attribute__((aligned(8)))
#define __aligned_be64 __be64 __attribute__((aligned(8)))
#define __aligned_le64 __le64 __attribute__((aligned(8)))

#ifndef __VMLINUX_H__
#include <asm/types.h>
#include <linux/posix_types.h>

typedef __u16 __le16;
typedef __u16 __be16;
typedef __u32 __le32;
typedef __u32 __be32;
typedef __u64 __le64;
typedef __u64 __be64;
typedef __u16 __sum16;
typedef __u32 __wsum;
#endif

#endif
