/* The kernel's integers. */
#if !defined(__VMLINUX_H__) && __has_include_next(<asm/types.h>)
#include_next <asm/types.h>
#elif !defined(__SKEP_UAPI_ASM_TYPES_H)
#define __SKEP_UAPI_ASM_TYPES_H

#ifndef __VMLINUX_H__
typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
#endif

#endif
