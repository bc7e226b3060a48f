/* The UDP header, in the kernel's words. */
#ifndef __SKEP_LIBC_NETINET_UDP_H
#define __SKEP_LIBC_NETINET_UDP_H

#include <linux/udp.h>

#endif
