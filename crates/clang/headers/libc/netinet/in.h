/* Internet protocols and addresses, in the kernel's words. */
#ifndef __SKEP_LIBC_NETINET_IN_H
#define __SKEP_LIBC_NETINET_IN_H

#include <linux/in.h>
#include <linux/in6.h>

#endif
