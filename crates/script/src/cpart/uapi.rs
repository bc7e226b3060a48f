//! Constants of the kernel's UAPI headers that its types do not have, because they are macros: `EPERM`, `AF_INET`, `O_CREAT`.
//!
//! Scripts may use them without an `#include`.

mod table;

/// Flags of `open` that arm64 numbers in its own way (arch/arm64/include/uapi/asm/fcntl.h).
const ARM64: [(&str, i64); 4] =
    [("O_DIRECTORY", 0o40000), ("O_NOFOLLOW", 0o100000), ("O_DIRECT", 0o200000), ("O_LARGEFILE", 0o400000)];

/// The value of a macro of a header.
pub(crate) fn number(name: &str) -> Option<i64> {
    // Scripts run where they are compiled; nothing else tells the architecture.
    let own = ARM64.iter().filter(|_| cfg!(target_arch = "aarch64")).find(|(it, _)| *it == name);
    own.map(|(_, value)| *value).or_else(|| find(table::MACROS, name))
}

/// The value of an enum's constant, for machines without BTF.
pub(crate) fn enumerator(name: &str) -> Option<i64> {
    find(table::ENUMERATORS, name)
}

/// Every name of both kinds, for hints.
pub(crate) fn names<'n>() -> impl Iterator<Item = &'n str> {
    table::MACROS.iter().chain(table::ENUMERATORS).flat_map(|(_, rows)| rows.iter().map(|(name, _)| *name))
}

/// Whether a header of this name may be one of the kernel's or the C library's, by its folder, or by its name where it has
/// none.
pub(crate) fn is_header(name: &str) -> bool {
    /// Folders of include/, include/uapi/, and of glibc.
    const FOLDERS: [&str; 46] = [
        "acpi",
        "arpa",
        "asm",
        "asm-generic",
        "bits",
        "bpf",
        "clocksource",
        "crypto",
        "cxl",
        "drm",
        "dt-bindings",
        "gnu",
        "hyperv",
        "keys",
        "kunit",
        "kvm",
        "linux",
        "math-emu",
        "media",
        "memory",
        "misc",
        "mtd",
        "net",
        "netinet",
        "netipx",
        "netpacket",
        "pcmcia",
        "protocols",
        "ras",
        "rdma",
        "rpc",
        "rv",
        "scsi",
        "soc",
        "sound",
        "sys",
        "target",
        "trace",
        "uapi",
        "ufs",
        "vdso",
        "video",
        "xen",
        "kernel",
        "fs",
        "block",
    ];
    /// Of the C library, the compiler, and what libbpf programs include.
    const FILES: [&str; 40] = [
        "assert.h",
        "ctype.h",
        "dirent.h",
        "dlfcn.h",
        "elf.h",
        "endian.h",
        "err.h",
        "errno.h",
        "fcntl.h",
        "float.h",
        "grp.h",
        "inttypes.h",
        "iso646.h",
        "limits.h",
        "locale.h",
        "math.h",
        "mqueue.h",
        "netdb.h",
        "poll.h",
        "pthread.h",
        "pwd.h",
        "sched.h",
        "semaphore.h",
        "signal.h",
        "spawn.h",
        "stdalign.h",
        "stdarg.h",
        "stdbool.h",
        "stddef.h",
        "stdint.h",
        "stdio.h",
        "stdlib.h",
        "string.h",
        "strings.h",
        "syslog.h",
        "termios.h",
        "time.h",
        "ucontext.h",
        "unistd.h",
        "vmlinux.h",
    ];
    match name.split_once('/') {
        Some((folder, _)) => FOLDERS.contains(&folder),
        None => FILES.contains(&name),
    }
}

fn find(table: &[(&str, &[(&str, i64)])], name: &str) -> Option<i64> {
    table.iter().flat_map(|(_, rows)| rows.iter()).find(|(it, _)| *it == name).map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn every_name_has_one_value() {
        let mut seen = HashMap::new();
        for (header, rows) in table::MACROS.iter().chain(table::ENUMERATORS) {
            for (name, value) in *rows {
                assert_eq!(seen.insert(name, value), None, "{header}: {name}");
            }
        }
        assert!(seen.len() > 1500);
    }

    #[test]
    fn headers_are_known_by_their_folder() {
        assert!(is_header("linux/sched.h") && is_header("net/sock.h") && is_header("errno.h"));
        assert!(!is_header("lol/no.h") && !is_header("mine.h"));
    }

    #[test]
    fn well_known_constants_are_there() {
        let known = [("EPERM", 1), ("AF_INET6", 10), ("O_CREAT", 0o100), ("SIGKILL", 9), ("CLONE_NEWNS", 0x20000)];
        for (name, value) in known {
            assert_eq!(number(name), Some(value), "{name}");
        }
        assert_eq!((number("NOT_THERE"), enumerator("IPPROTO_TCP")), (None, Some(6)));
    }
}
