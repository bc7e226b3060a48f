/* Classes of ASCII characters, without tables. */
#ifndef __SKEP_LIBC_CTYPE_H
#define __SKEP_LIBC_CTYPE_H

#define isdigit(c) ((unsigned int)(c) - '0' < 10)
#define islower(c) ((unsigned int)(c) - 'a' < 26)
#define isupper(c) ((unsigned int)(c) - 'A' < 26)
#define isalpha(c) (((unsigned int)(c) | 32) - 'a' < 26)
#define isalnum(c) (isalpha(c) || isdigit(c))
#define isspace(c) ((c) == ' ' || (unsigned int)(c) - 9 < 5)
#define tolower(c) (isupper(c) ? (c) + 32 : (c))
#define toupper(c) (islower(c) ? (c) - 32 : (c))

#endif
