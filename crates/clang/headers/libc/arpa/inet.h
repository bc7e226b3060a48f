/* Network byte order. */
#ifndef __SKEP_LIBC_ARPA_INET_H
#define __SKEP_LIBC_ARPA_INET_H

#include <bpf/bpf_endian.h>

#define htons(x) bpf_htons(x)
#define ntohs(x) bpf_ntohs(x)
#define htonl(x) bpf_htonl(x)
#define ntohl(x) bpf_ntohl(x)

#endif
