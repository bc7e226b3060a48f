/* `bool`, in a way that goes together with vmlinux.h. */
#ifndef __SKEP_LIBC_STDBOOL_H
#define __SKEP_LIBC_STDBOOL_H

/* vmlinux.h makes `bool` a typedef and true and false enumerators: no macros
 * then. If it comes later it takes these away itself. */
#ifndef __VMLINUX_H__
#define bool _Bool
#define true 1
#define false 0
#endif
#define __bool_true_false_are_defined 1

#endif
