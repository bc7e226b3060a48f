//! Files of `/proc` for processes that may not allocate: those that were forked from one with threads.

use std::ffi::CStr;

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};

/// The longest path that is asked for, with its zero.
const MAX_PATH: usize = 64;

/// Opens the file whose path has these parts one behind the other. Allocates nothing.
pub(crate) fn open(parts: &[&[u8]], flags: OFlags) -> Option<OwnedFd> {
    let mut path = [0; MAX_PATH];
    let mut rest = &mut path[..];
    for part in parts {
        let (here, behind) = rest.split_at_mut_checked(part.len())?;
        here.copy_from_slice(part);
        rest = behind;
    }
    let path = CStr::from_bytes_until_nul(&path).ok()?;
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_put_together() {
        assert!(open(&[b"/proc/", b"self", b"/status"], OFlags::RDONLY).is_some());
        assert!(open(&[b"/proc/", b"self", b"/nothing"], OFlags::RDONLY).is_none());
        assert!(open(&[&[b'/'; MAX_PATH]], OFlags::RDONLY).is_none());
    }
}
