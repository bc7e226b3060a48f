/* Where a frame came from and goes to. */
#if !defined(__VMLINUX_H__) && __has_include_next(<linux/if_packet.h>)
#include_next <linux/if_packet.h>
#elif !defined(__SKEP_UAPI_LINUX_IF_PACKET_H)
#define __SKEP_UAPI_LINUX_IF_PACKET_H

#define PACKET_HOST 0
#define PACKET_BROADCAST 1
#define PACKET_MULTICAST 2
#define PACKET_OTHERHOST 3
#define PACKET_OUTGOING 4
#define PACKET_LOOPBACK 5
#define PACKET_USER 6
#define PACKET_KERNEL 7
#define PACKET_FASTROUTE 6

#endif
