/* Byte order of the target. */
#if !defined(__VMLINUX_H__) && __has_include_next(<asm/byteorder.h>)
#include_next <asm/byteorder.h>
#elif !defined(__SKEP_UAPI_ASM_BYTEORDER_H)
#define __SKEP_UAPI_ASM_BYTEORDER_H

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include <linux/byteorder/little_endian.h>
#else
#include <linux/byteorder/big_endian.h>
#endif

#endif
