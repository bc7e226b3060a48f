//! Working in another network namespace.
//!
//! The namespace is that of a thread, and interfaces are looked up in the calling thread's. So the work is done in a
//! short-lived thread of its own, and nothing has to be put back. (`ip netns exec` also changes mounts, which hides
//! cgroupfs, tracefs and bpffs; this does not.)
//!
//! # Safety
//! `unshare(2)` for the network alone passes no memory and changes nothing that other threads share.

#![expect(unsafe_code, reason = "unshare(2) has no safe wrapper")]

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::errno::Errno;

/// Opens a namespace by its path: `/var/run/netns/NAME`, `/proc/PID/ns/net`.
pub fn open(path: &Path) -> Result<OwnedFd, Errno> {
    Ok(File::open(path)?.into())
}

/// The namespace of this thread.
pub fn current() -> Result<OwnedFd, Errno> {
    open(Path::new("/proc/thread-self/ns/net"))
}

/// Makes a network namespace with nothing but a loopback interface in it. It lasts as long as the descriptor, or what was
/// opened in it. CAP_SYS_ADMIN.
pub fn create() -> Result<OwnedFd, Errno> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: no memory is passed, and only this short-lived thread's network changes.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
                return Err(Errno::last());
            }
            current()
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Runs `work` in a thread that has moved into `namespace`. CAP_SYS_ADMIN.
///
/// # Panics
///
/// When `work` panics.
pub fn within<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_in_our_own_namespace_sees_it() {
        let ours = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let namespace = current().unwrap();
        match within(namespace.as_fd(), || std::fs::read_link("/proc/thread-self/ns/net").unwrap()) {
            Ok(theirs) => assert_eq!(ours, theirs),
            Err(Errno::EPERM) => eprintln!("skipped: needs CAP_SYS_ADMIN"),
            Err(errno) => panic!("{errno}"),
        }
    }
}
