/* Error numbers; there is no variable `errno`. */
#ifndef __SKEP_LIBC_ERRNO_H
#define __SKEP_LIBC_ERRNO_H

#include <linux/errno.h>

#endif
