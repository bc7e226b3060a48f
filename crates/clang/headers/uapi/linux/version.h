/* The version that these headers describe. A program that must know the version it
 * runs on declares `extern int LINUX_KERNEL_VERSION __kconfig`. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/version.h>)
#include_next <linux/version.h>
#elif !defined(__SKEP_UAPI_LINUX_VERSION_H)
#define __SKEP_UAPI_LINUX_VERSION_H

#define LINUX_VERSION_CODE 397824
#ifndef KERNEL_VERSION
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + ((c) > 255 ? 255 : (c)))
#endif

#endif
