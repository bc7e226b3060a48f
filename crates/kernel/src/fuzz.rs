//! Doors for hostile bytes: files whose content somebody else decides, as the crate reads them. Nothing here is needed to
//! use it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::uprobe::archive::Part;
use crate::uprobe::elf::Binary;
use crate::uprobe::search::Cache;
use crate::uprobe::usdt;

/// Gives the path of a file with these bytes to `read`.
fn with_file(data: &[u8], read: impl FnOnce(&Path)) {
    let Ok(fd) = memfd_create("fuzz", MemfdFlags::CLOEXEC) else { return };
    let mut file = File::from(fd);
    if file.write_all(data).is_ok() {
        read(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())));
    }
}

/// Any bytes as a program: its functions, segments and USDT probes.
pub fn program(data: &[u8]) {
    with_file(data, |path| {
        let Ok(binary) = Binary::open(path) else { return };
        let _ = binary.functions();
        let _ = binary.symbol("main");
        // A note has three words, three addresses and three texts; where they lead is the kernel's to judge.
        let sites = usdt::sites(&binary).unwrap_or_default();
        assert!(sites.len() <= data.len() / 24, "more probes than notes");
        let _ = crate::uprobe::debug::find(path);
    });
}

/// Any bytes as an archive with a member `lib/a.so`.
pub fn archive(data: &[u8]) {
    with_file(data, |path| {
        let member = format!("{}!/lib/a.so", path.display());
        let Ok(part) = Part::open(Path::new(&member)) else { return };
        assert!(part.end() <= data.len() as u64, "a member that reaches behind the end of the archive");
    });
}

/// Any bytes as the dynamic linker's cache.
pub fn linker_cache(data: &[u8]) {
    let cache = Cache::of_bytes(data.to_vec());
    assert!(cache.entries().count() <= data.len());
}
