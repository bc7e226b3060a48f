/* Byte order: network order is big-endian, a BPF program has the order of the
 * machine that it runs on.
 *
 * Every macro is a constant expression for a constant argument and one `bswap`
 * instruction (or nothing) otherwise.
 */
#ifndef __BPF_ENDIAN__
#define __BPF_ENDIAN__

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define __skep_swap16(x) __builtin_bswap16(x)
#define __skep_swap32(x) __builtin_bswap32(x)
#define __skep_swap64(x) __builtin_bswap64(x)
#elif __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define __skep_swap16(x) ((unsigned short)(x))
#define __skep_swap32(x) ((unsigned int)(x))
#define __skep_swap64(x) ((unsigned long long)(x))
#else
#error "the compiler does not tell the byte order of its target"
#endif

#define bpf_htons(x) __skep_swap16(x)
#define bpf_ntohs(x) __skep_swap16(x)
#define bpf_htonl(x) __skep_swap32(x)
#define bpf_ntohl(x) __skep_swap32(x)
#define bpf_cpu_to_be64(x) __skep_swap64(x)
#define bpf_be64_to_cpu(x) __skep_swap64(x)

/* The spellings that say "constant" or "not constant" outright. */
#define __bpf_htons(x) bpf_htons(x)
#define __bpf_ntohs(x) bpf_ntohs(x)
#define __bpf_htonl(x) bpf_htonl(x)
#define __bpf_ntohl(x) bpf_ntohl(x)
#define __bpf_cpu_to_be64(x) bpf_cpu_to_be64(x)
#define __bpf_be64_to_cpu(x) bpf_be64_to_cpu(x)
#define __bpf_constant_htons(x) bpf_htons(x)
#define __bpf_constant_ntohs(x) bpf_ntohs(x)
#define __bpf_constant_htonl(x) bpf_htonl(x)
#define __bpf_constant_ntohl(x) bpf_ntohl(x)
#define __bpf_constant_cpu_to_be64(x) bpf_cpu_to_be64(x)
#define __bpf_constant_be64_to_cpu(x) bpf_be64_to_cpu(x)

#endif
