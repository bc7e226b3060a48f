/* See <string.h>. */
#ifndef __SKEP_LIBC_MEMORY_H
#define __SKEP_LIBC_MEMORY_H

#include <string.h>

#endif
