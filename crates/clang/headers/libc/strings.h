/* See <string.h>. */
#ifndef __SKEP_LIBC_STRINGS_H
#define __SKEP_LIBC_STRINGS_H

#include <string.h>

#endif
