//! Kernel file systems reached without touching the host's mounts.
//!
//! tracefs, bpffs and their like are single-instance (or at least self-contained) file systems that a machine may or
//! may not have mounted. `fsopen(2)`, `fsconfig(2)` and `fsmount(2)` (Linux 5.2) make a *detached* mount: a
//! descriptor of a root directory that no path leads to, which nobody else sees and which goes away with the
//! descriptor. Everything below it is reached by `openat(2)`. So an existing mount is used when there is one, and
//! when there is none nothing is added to the host's mount table.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::errno::Errno;
use rustix::fs::{CWD, Mode, OFlags};

type Result<T> = std::result::Result<T, Errno>;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

/// `TRACEFS_MAGIC` of `include/uapi/linux/magic.h`.
pub const TRACEFS_MAGIC: u64 = 0x7472_6163;
/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
pub const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
/// `CGROUP2_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
pub const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// The root directory of a kernel file system: mounted somewhere, or detached.
#[derive(Debug)]
pub struct Root {
    /// The directory; everything is opened relative to it.
    pub dir: OwnedFd,
    /// Where it is mounted, or `None` for a detached mount, which disappears with `dir`.
    pub path: Option<PathBuf>,
}

/// Opens the file system `fs_type` at the first of `candidates` where it is mounted, else as a detached mount.
///
/// Errors: those of `fsopen(2)`, notably `EPERM` without CAP_SYS_ADMIN and `ENODEV` when the kernel was built without
/// this file system.
pub fn open_or_detached(fs_type: &str, magic: u64, candidates: &[&str]) -> Result<Root> {
    for candidate in candidates {
        if magic_of(Path::new(candidate)) == Some(magic)
            && let Ok(dir) = open_dir(Path::new(candidate))
        {
            return Ok(Root { dir, path: Some(PathBuf::from(candidate)) });
        }
    }
    Ok(Root { dir: detached(fs_type)?, path: None })
}

/// A mount of `fs_type` that no path leads to; it lasts as long as the descriptor. Linux 5.2, CAP_SYS_ADMIN.
pub fn detached(fs_type: &str) -> Result<OwnedFd> {
    let context = rustix::mount::fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&context)?;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// The magic number of the file system that holds `path`; `None` if it cannot be asked.
pub fn magic_of(path: &Path) -> Option<u64> {
    // The kernel's magic numbers are 32 bits; `f_type` is wider, and signed on some architectures.
    let magic = rustix::fs::statfs(path).ok()?.f_type as u64;
    Some(magic & 0xffff_ffff)
}

pub(crate) fn open_dir(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::empty())?)
}
