/* Address families; see <linux/socket.h>. */
#ifndef __SKEP_LIBC_SYS_SOCKET_H
#define __SKEP_LIBC_SYS_SOCKET_H

#include <linux/socket.h>

#endif
