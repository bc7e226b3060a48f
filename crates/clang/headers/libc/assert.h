/* Only assertions at compile time. */
#ifndef __SKEP_LIBC_ASSERT_H
#define __SKEP_LIBC_ASSERT_H

#define static_assert _Static_assert

#endif
