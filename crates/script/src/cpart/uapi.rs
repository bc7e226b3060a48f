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
    fn well_known_constants_are_there() {
        let known = [("EPERM", 1), ("AF_INET6", 10), ("O_CREAT", 0o100), ("SIGKILL", 9), ("CLONE_NEWNS", 0x20000)];
        for (name, value) in known {
            assert_eq!(number(name), Some(value), "{name}");
        }
        assert_eq!((number("NOT_THERE"), enumerator("IPPROTO_TCP")), (None, Some(6)));
    }
}
