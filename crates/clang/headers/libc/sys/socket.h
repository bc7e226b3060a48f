/* Address families; see <linux/socket.h>. */
#ifndef __SKEP_LIBC_SYS_SOCKET_H
#define __SKEP_LIBC_SYS_SOCKET_H

#include <linux/socket.h>

#ifndef __VMLINUX_H__
typedef unsigned short sa_family_t;
typedef unsigned int socklen_t;

struct sockaddr {
	sa_family_t sa_family;
	char sa_data[14];
};
#endif

#endif
