//! C to ELF: finds clang, brings the headers, makes vmlinux.h.
