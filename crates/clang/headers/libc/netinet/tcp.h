/* The TCP header, in the kernel's words. */
#ifndef __SKEP_LIBC_NETINET_TCP_H
#define __SKEP_LIBC_NETINET_TCP_H

#include <linux/tcp.h>

#endif
