/* The TCP header. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/tcp.h>)
#include_next <linux/tcp.h>
#elif !defined(__SKEP_UAPI_LINUX_TCP_H)
#define __SKEP_UAPI_LINUX_TCP_H

#include <linux/types.h>

#define TCP_MSS_DEFAULT 536U
#define TCP_MSS_DESIRED 1220U
#define TCP_NODELAY 1
#define TCP_MAXSEG 2
#define TCP_CORK 3
#define TCP_KEEPIDLE 4
#define TCP_KEEPINTVL 5
#define TCP_KEEPCNT 6
#define TCP_SYNCNT 7
#define TCP_LINGER2 8
#define TCP_DEFER_ACCEPT 9
#define TCP_WINDOW_CLAMP 10
#define TCP_INFO 11
#define TCP_QUICKACK 12
#define TCP_CONGESTION 13
#define TCP_MD5SIG 14
#define TCP_USER_TIMEOUT 18
#define TCP_FASTOPEN 23
#define TCP_SAVE_SYN 27
#define TCP_SAVED_SYN 28

#ifndef __VMLINUX_H__
struct tcphdr {
	__be16 source;
	__be16 dest;
	__be32 seq;
	__be32 ack_seq;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	__u16 ae : 1;
	__u16 res1 : 3;
	__u16 doff : 4;
	__u16 fin : 1;
	__u16 syn : 1;
	__u16 rst : 1;
	__u16 psh : 1;
	__u16 ack : 1;
	__u16 urg : 1;
	__u16 ece : 1;
	__u16 cwr : 1;
#else
	__u16 doff : 4;
	__u16 res1 : 3;
	__u16 ae : 1;
	__u16 cwr : 1;
	__u16 ece : 1;
	__u16 urg : 1;
	__u16 ack : 1;
	__u16 psh : 1;
	__u16 rst : 1;
	__u16 syn : 1;
	__u16 fin : 1;
#endif
	__be16 window;
	__sum16 check;
	__be16 urg_ptr;
};
#endif

#endif
