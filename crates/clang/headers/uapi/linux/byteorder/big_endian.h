/* Conversions of a big-endian machine. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/byteorder/big_endian.h>)
#include_next <linux/byteorder/big_endian.h>
#elif !defined(__SKEP_UAPI_LINUX_BYTEORDER_BIG_ENDIAN_H)
#define __SKEP_UAPI_LINUX_BYTEORDER_BIG_ENDIAN_H

#define __BIG_ENDIAN 4321
#define __BIG_ENDIAN_BITFIELD
#define __cpu_to_le16(x) __builtin_bswap16(x)
#define __le16_to_cpu(x) __builtin_bswap16(x)
#define __constant_cpu_to_le16(x) __builtin_bswap16(x)
#define __constant_le16_to_cpu(x) __builtin_bswap16(x)
#define __cpu_to_be16(x) (x)
#define __be16_to_cpu(x) (x)
#define __constant_cpu_to_be16(x) (x)
#define __constant_be16_to_cpu(x) (x)
#define __cpu_to_le32(x) __builtin_bswap32(x)
#define __le32_to_cpu(x) __builtin_bswap32(x)
#define __constant_cpu_to_le32(x) __builtin_bswap32(x)
#define __constant_le32_to_cpu(x) __builtin_bswap32(x)
#define __cpu_to_be32(x) (x)
#define __be32_to_cpu(x) (x)
#define __constant_cpu_to_be32(x) (x)
#define __constant_be32_to_cpu(x) (x)
#define __cpu_to_le64(x) __builtin_bswap64(x)
#define __le64_to_cpu(x) __builtin_bswap64(x)
#define __constant_cpu_to_le64(x) __builtin_bswap64(x)
#define __constant_le64_to_cpu(x) __builtin_bswap64(x)
#define __cpu_to_be64(x) (x)
#define __be64_to_cpu(x) (x)
#define __constant_cpu_to_be64(x) (x)
#define __constant_be64_to_cpu(x) (x)
#define __constant_htons(x) __cpu_to_be16(x)
#define __constant_ntohs(x) __cpu_to_be16(x)
#define __constant_htonl(x) __cpu_to_be32(x)
#define __constant_ntohl(x) __cpu_to_be32(x)

#endif
