/* The IP header, in the kernel's words. */
#ifndef __SKEP_LIBC_NETINET_IP_H
#define __SKEP_LIBC_NETINET_IP_H

#include <linux/ip.h>

#endif
