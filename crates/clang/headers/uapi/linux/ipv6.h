/* The IPv6 header and its extensions. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/ipv6.h>)
#include_next <linux/ipv6.h>
#elif !defined(__SKEP_UAPI_LINUX_IPV6_H)
#define __SKEP_UAPI_LINUX_IPV6_H

#include <linux/types.h>
#include <linux/in6.h>

#define IPV6_MIN_MTU 1280
#define IPV6_SRCRT_STRICT 0x01
#define IPV6_SRCRT_TYPE_0 0
#define IPV6_SRCRT_TYPE_2 2
#define IPV6_SRCRT_TYPE_3 3
#define IPV6_SRCRT_TYPE_4 4
#define ipv6_destopt_hdr ipv6_opt_hdr
#define ipv6_hopopt_hdr ipv6_opt_hdr
#define IPV6_OPT_ROUTERALERT_MLD 0x0000
#define rt0_type rt_hdr.type
#define rt2_type rt_hdr.type

#ifndef __VMLINUX_H__
struct ipv6hdr {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	__u8 priority : 4;
	__u8 version : 4;
#else
	__u8 version : 4;
	__u8 priority : 4;
#endif
	__u8 flow_lbl[3];
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	union {
		struct {
			struct in6_addr saddr;
			struct in6_addr daddr;
		};
		struct {
			struct in6_addr saddr;
			struct in6_addr daddr;
		} addrs;
	};
};

struct ipv6_opt_hdr {
	__u8 nexthdr;
	__u8 hdrlen;
} __attribute__((packed));
#endif

#endif
