/* Nothing of <stdlib.h> runs in the kernel; the header may be included all the same. */
#ifndef __SKEP_LIBC_STDLIB_H
#define __SKEP_LIBC_STDLIB_H

#include <stddef.h>

#define EXIT_SUCCESS 0
#define EXIT_FAILURE 1

#endif
