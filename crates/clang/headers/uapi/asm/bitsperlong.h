/* Width of long. */
#if !defined(__VMLINUX_H__) && __has_include_next(<asm/bitsperlong.h>)
#include_next <asm/bitsperlong.h>
#elif !defined(__SKEP_UAPI_ASM_BITSPERLONG_H)
#define __SKEP_UAPI_ASM_BITSPERLONG_H

#define __BITS_PER_LONG 64

#endif
