/* Format letters for the integers of fixed width. */
#ifndef __SKEP_LIBC_INTTYPES_H
#define __SKEP_LIBC_INTTYPES_H

#include <stdint.h>

/* For bpf_printk and BPF_SNPRINTF. */
#define PRId8 "d"
#define PRId16 "d"
#define PRId32 "d"
#define PRId64 "lld"
#define PRIu8 "u"
#define PRIu16 "u"
#define PRIu32 "u"
#define PRIu64 "llu"
#define PRIx8 "x"
#define PRIx16 "x"
#define PRIx32 "x"
#define PRIx64 "llx"

#endif
