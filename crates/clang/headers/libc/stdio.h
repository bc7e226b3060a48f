/* There is no stdio in the kernel: bpf_printk() prints. The header may be included all the same. */
#ifndef __SKEP_LIBC_STDIO_H
#define __SKEP_LIBC_STDIO_H

#include <stddef.h>

#endif
