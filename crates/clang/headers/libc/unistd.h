/* Types only: a BPF program makes no system calls. */
#ifndef __SKEP_LIBC_UNISTD_H
#define __SKEP_LIBC_UNISTD_H

#include <sys/types.h>

#endif
