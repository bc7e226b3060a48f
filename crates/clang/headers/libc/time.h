/* A BPF program takes its time from bpf_ktime_get_ns() and its relatives. */
#ifndef __SKEP_LIBC_TIME_H
#define __SKEP_LIBC_TIME_H

#include <stddef.h>

#endif
