/* Sockets. The address families are in the C library's header by tradition;
 * BPF programs need them here. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/socket.h>)
#include_next <linux/socket.h>
#elif !defined(__SKEP_UAPI_LINUX_SOCKET_H)
#define __SKEP_UAPI_LINUX_SOCKET_H

#ifndef __VMLINUX_H__
typedef unsigned short __kernel_sa_family_t;
#endif

#endif

#if !defined(AF_INET) && !defined(__SKEP_UAPI_SOCKETS)
#define __SKEP_UAPI_SOCKETS
#define AF_UNSPEC 0
#define AF_UNIX 1
#define AF_LOCAL 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define AF_PACKET 17
#define AF_VSOCK 40
#define AF_XDP 44
#define SOL_SOCKET 1
#define SO_REUSEADDR 2
#define SO_SNDBUF 7
#define SO_RCVBUF 8
#define SO_KEEPALIVE 9
#define SO_MARK 36
#define SO_REUSEPORT 15
#endif
