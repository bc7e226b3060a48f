//! Waking a thread that waits for descriptors: an eventfd as a member of its epoll instance.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::Errno;

/// A descriptor that is readable from [`Wake::wake`] on until [`Wake::clear`].
#[derive(Debug)]
pub struct Wake {
    fd: OwnedFd,
}

impl Wake {
    /// A new one, not readable.
    pub fn new() -> Result<Wake, Errno> {
        Ok(Wake { fd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Makes it readable. Any thread may, as often as it likes.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
    }

    /// Makes it not readable, and says whether it was.
    pub fn clear(&self) -> bool {
        rustix::io::read(&self.fd, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waking_twice_is_cleared_at_once() {
        let wake = Wake::new().unwrap();
        assert!(!wake.clear());
        wake.wake();
        wake.wake();
        assert!(wake.clear());
        assert!(!wake.clear());
    }
}
