//! Disks of our own in memory, and what stands on them: an array, a file system, a place to swap to.
//!
//! A zram disk takes as much memory as was written to it, compressed, so it may be larger than the machine. Everything goes
//! when its value does.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{eventually, scratch};

const CONTROL: &str = "/sys/class/zram-control";

/// Whether the machine makes such disks.
pub(crate) fn is_there() -> bool {
    Path::new(CONTROL).is_dir()
}

/// A disk in memory.
pub(crate) struct Disk {
    number: String,
}

impl Disk {
    /// A new one of this size, as the kernel reads sizes: `16M`.
    pub(crate) fn new(size: &str) -> Disk {
        let number = std::fs::read_to_string(format!("{CONTROL}/hot_add")).expect("the case asked for zram");
        let disk = Disk { number: number.trim().to_owned() };
        std::fs::write(disk.setting("disksize"), size).expect("a new disk takes a size");
        disk
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/zram{}", self.number))
    }

    fn setting(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/sys/block/zram{}/{name}", self.number))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Who used it may still be letting it go.
        eventually(|| std::fs::write(format!("{CONTROL}/hot_remove"), &self.number).ok());
    }
}

/// A RAID of one disk, without anything written about it: `/dev/md_skep`.
pub(crate) struct Array {
    // Dropped after the array was stopped.
    _disk: Disk,
}

impl Array {
    pub(crate) fn new() -> Array {
        let disk = Disk::new("16M");
        std::fs::write("/sys/module/md_mod/parameters/new_array", "md_skep").expect("md makes arrays");
        let number = std::fs::read_to_string(disk.setting("dev")).expect("a disk has a number");
        let first = format!("dev-zram{}/slot", disk.number);
        for (name, value) in [
            ("level", "raid1"),
            ("metadata_version", "none"),
            // In KiB.
            ("component_size", "8192"),
            ("raid_disks", "1"),
            ("new_dev", number.trim()),
            (&first, "0"),
            ("array_state", "active"),
        ] {
            std::fs::write(Self::setting(name), value).unwrap_or_else(|error| panic!("md/{name} = {value}: {error}"));
        }
        Array { _disk: disk }
    }

    pub(crate) fn path(&self) -> &Path {
        Path::new("/dev/md_skep")
    }

    fn setting(name: &str) -> String {
        format!("/sys/block/md_skep/md/{name}")
    }
}

impl Drop for Array {
    fn drop(&mut self) {
        eventually(|| std::fs::write(Self::setting("array_state"), "clear").ok());
    }
}

/// A mounted XFS.
pub(crate) struct Xfs {
    dir: PathBuf,
    _disk: Disk,
}

impl Xfs {
    pub(crate) fn new() -> Xfs {
        // mkfs.xfs refuses less than 300 MB.
        let disk = Disk::new("512M");
        let dir = scratch("xfs");
        ok(Command::new("mkfs.xfs").args(["-q", "-f"]).arg(disk.path()));
        ok(Command::new("mount").args(["-t", "xfs"]).arg(disk.path()).arg(&dir));
        Xfs { dir, _disk: disk }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        eventually(|| quiet(Command::new("umount").arg(&self.dir)).then_some(()));
    }
}

/// A disk that memory is swapped to.
pub(crate) struct Swap {
    disk: Disk,
}

impl Swap {
    pub(crate) fn new() -> Swap {
        let disk = Disk::new("64M");
        ok(Command::new("mkswap").arg(disk.path()));
        ok(Command::new("swapon").arg(disk.path()));
        Swap { disk }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        eventually(|| quiet(Command::new("swapoff").arg(self.disk.path())).then_some(()));
    }
}

fn ok(command: &mut Command) {
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn quiet(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|out| out.status.success())
}
