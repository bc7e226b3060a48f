//! bpffs, where BPF objects are pinned under a path and so outlive their process.
//!
//! A pin lives as long as the *superblock*: in a detached mount it goes away with the mount's descriptor. That makes a
//! detached bpffs a place for things that need a bpffs but must not stay (tokens, iterators as files), and makes a real
//! mount necessary for pins that a user asks for.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::errno::Errno;

type Result<T> = std::result::Result<T, Errno>;
use rustix::mount::MountFlags;

use crate::mount::{self, BPF_FS_MAGIC, Root};

/// Where distributions mount bpffs.
pub const DEFAULT_PATH: &str = "/sys/fs/bpf";

/// A bpffs, mounted or private to this process.
#[derive(Debug)]
pub struct Bpffs {
    root: Root,
}

impl Bpffs {
    /// The bpffs at `/sys/fs/bpf` if one is mounted there, else a detached one whose pins end with this value.
    pub fn open() -> Result<Bpffs> {
        Ok(Bpffs { root: mount::open_or_detached("bpf", BPF_FS_MAGIC, &[DEFAULT_PATH])? })
    }

    /// A bpffs of this process alone.
    pub fn detached() -> Result<Bpffs> {
        Ok(Bpffs { root: Root { dir: mount::detached("bpf")?, path: None } })
    }

    /// Where it is mounted; `None` if it is detached.
    pub fn path(&self) -> Option<&Path> {
        self.root.path.as_deref()
    }

    /// Gives the root directory away.
    pub fn into_dir(self) -> OwnedFd {
        self.root.dir
    }
}

impl AsFd for Bpffs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.dir.as_fd()
    }
}

/// Opens the folder of a bpffs, for [`token_create`](crate::bpf::token_create).
pub fn open_dir(path: &Path) -> Result<OwnedFd> {
    mount::open_dir(path)
}

/// Whether `path`, or for a path that does not exist yet its nearest existing parent, lies on a bpffs.
pub fn contains(path: &Path) -> bool {
    let mut at = PathBuf::from(path);
    loop {
        match mount::magic_of(&at) {
            Some(magic) => return magic == BPF_FS_MAGIC,
            None => {
                if !at.pop() || at.as_os_str().is_empty() {
                    return false;
                }
            }
        }
    }
}

/// Mounts a bpffs at the existing directory `path`, as `mount -t bpf bpf PATH` does. This changes the host, so it is
/// for a user who asked for a pin there. CAP_SYS_ADMIN.
pub fn mount_at(path: &Path) -> Result<()> {
    Ok(rustix::mount::mount("bpf", path, "bpf", MountFlags::empty(), c"mode=0700")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_folders_are_not_bpffs() {
        assert!(!contains(Path::new("/etc/passwd")));
        assert!(!contains(Path::new("/no/such/folder/at/all")));
    }

    #[test]
    fn a_detached_bpffs_can_be_entered_and_leaves_no_mount() {
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let fs = match Bpffs::detached() {
            Ok(fs) => fs,
            Err(Errno::EPERM) => {
                eprintln!("skipped: needs CAP_SYS_ADMIN");
                return;
            }
            Err(other) => panic!("{other}"),
        };
        rustix::fs::mkdirat(&fs, "probe", rustix::fs::Mode::RWXU).unwrap();
        assert!(rustix::fs::statat(&fs, "probe", rustix::fs::AtFlags::empty()).is_ok());
        let after = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(before, after);
    }
}
