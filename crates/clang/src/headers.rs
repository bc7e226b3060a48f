//! The headers that travel inside the binary.
//!
//! Three trees, each an include folder of its own:
//!
//! - `bpf/`: what programs include as `<bpf/...>`. Names and meanings are those that every BPF program in C uses, the text
//!   is skep's. The macros there also leave behind the event types that [`crate::events`] reads.
//! - `libc/`: `<string.h>`, `<stdint.h>` and the like. A machine's C library has them too, but its headers ask for the
//!   32-bit half of the library as soon as the target is not the machine itself ("gnu/stubs-32.h: No such file"), so
//!   a BPF program cannot use them. Ours hold what makes sense in one: types, limits, error numbers, and the memory
//!   functions that the compiler turns into instructions.
//! - `uapi/`: `<linux/...>` and `<asm/...>`. The machine's own files are preferred (Debian's clang depends on libc6-dev and
//!   so on linux-libc-dev; they are complete, and what the reader of an example expects). Ours step in where they are
//!   missing (a container with nothing but the `ziglang` wheel), and in a file that has included vmlinux.h: that brings
//!   all the types but no macros, and the machine's headers would define the types again. So after vmlinux.h
//!   `<linux/if_ether.h>` gives `ETH_P_IP` and leaves `struct ethhdr` alone.
//!
//! They are written into the cache folder, into a folder named after their content, and repaired if a file is missing.

use std::fs;
use std::path::PathBuf;

use crate::Error;
use crate::cache::Cache;
use crate::hash::{Digest, Hasher};

/// One embedded header: its path under the include tree, and its text.
pub(crate) struct Header {
    pub(crate) path: &'static str,
    pub(crate) text: &'static str,
}

macro_rules! headers {
    ($($path:literal)*) => {
        &[$(Header { path: $path, text: include_str!(concat!("../headers/", $path)) }),*]
    };
}

/// Every header; a test compares the list with the folder.
pub(crate) const HEADERS: &[Header] = headers! {
    "bpf/bpf_core_read.h"
    "bpf/bpf_endian.h"
    "bpf/bpf_helper_defs.h"
    "bpf/bpf_helpers.h"
    "bpf/bpf_tracing.h"
    "bpf/skep_events.h"
    "bpf/usdt.bpf.h"
    "libc/arpa/inet.h"
    "libc/assert.h"
    "libc/ctype.h"
    "libc/errno.h"
    "libc/inttypes.h"
    "libc/limits.h"
    "libc/memory.h"
    "libc/netinet/in.h"
    "libc/netinet/ip.h"
    "libc/netinet/tcp.h"
    "libc/netinet/udp.h"
    "libc/stdbool.h"
    "libc/stddef.h"
    "libc/stdint.h"
    "libc/stdio.h"
    "libc/stdlib.h"
    "libc/string.h"
    "libc/strings.h"
    "libc/sys/socket.h"
    "libc/sys/types.h"
    "libc/time.h"
    "libc/unistd.h"
    "uapi/asm-generic/errno-base.h"
    "uapi/asm-generic/errno.h"
    "uapi/asm/bitsperlong.h"
    "uapi/asm/byteorder.h"
    "uapi/asm/errno.h"
    "uapi/asm/posix_types.h"
    "uapi/asm/ptrace.h"
    "uapi/asm/types.h"
    "uapi/linux/bpf.h"
    "uapi/linux/bpf_common.h"
    "uapi/linux/bpf_perf_event.h"
    "uapi/linux/btf.h"
    "uapi/linux/byteorder/big_endian.h"
    "uapi/linux/byteorder/little_endian.h"
    "uapi/linux/const.h"
    "uapi/linux/errno.h"
    "uapi/linux/fcntl.h"
    "uapi/linux/icmp.h"
    "uapi/linux/icmpv6.h"
    "uapi/linux/if_arp.h"
    "uapi/linux/if_ether.h"
    "uapi/linux/if_packet.h"
    "uapi/linux/if_vlan.h"
    "uapi/linux/in.h"
    "uapi/linux/in6.h"
    "uapi/linux/ip.h"
    "uapi/linux/ipv6.h"
    "uapi/linux/limits.h"
    "uapi/linux/perf_event.h"
    "uapi/linux/pkt_cls.h"
    "uapi/linux/pkt_sched.h"
    "uapi/linux/posix_types.h"
    "uapi/linux/ptrace.h"
    "uapi/linux/sched.h"
    "uapi/linux/socket.h"
    "uapi/linux/stat.h"
    "uapi/linux/stddef.h"
    "uapi/linux/string.h"
    "uapi/linux/swab.h"
    "uapi/linux/tcp.h"
    "uapi/linux/time.h"
    "uapi/linux/types.h"
    "uapi/linux/udp.h"
    "uapi/linux/version.h"
};

/// The include folders inside a written tree, in the order in which the compiler searches them. The files under `bpf/`
/// are included as `<bpf/...>`, so their include folder is the root.
pub(crate) const FOLDERS: [&str; 3] = ["", "libc", "uapi"];

/// The hash of all paths and texts.
pub(crate) fn digest() -> Digest {
    HEADERS.iter().fold(Hasher::new(), |hasher, header| hasher.part(header.path).part(header.text)).finish()
}

/// Writes what is missing, and returns the root of the tree.
pub(crate) fn install(cache: &Cache) -> Result<PathBuf, Error> {
    let root = cache.path(format!("headers-{}", &digest().to_string()[..12]));
    for header in HEADERS {
        let path = root.join(header.path);
        let whole = fs::metadata(&path).is_ok_and(|found| found.len() == header.text.len() as u64);
        if !whole {
            cache.put(&path, &[header.text.as_bytes()])?;
        }
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn files(folder: &Path, below: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, below, found);
            } else {
                found.insert(path.strip_prefix(below).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_header_file_is_embedded() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("headers");
        let mut found = BTreeSet::new();
        files(&folder, &folder, &mut found);
        let listed: BTreeSet<String> = HEADERS.iter().map(|header| header.path.to_owned()).collect();
        assert_eq!(listed, found);
    }
}
