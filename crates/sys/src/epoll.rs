//! Waiting for several descriptors at once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::Errno;

/// An epoll instance whose members are told apart by numbers of the caller's choosing.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// A new one, without members.
    pub fn new() -> Result<Epoll, Errno> {
        Ok(Epoll { fd: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Waits for `fd` to become readable, too. It stays a member until it is removed or closed everywhere.
    pub fn add_readable(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Waits for `fd` to become writable, too.
    pub fn add_writable(&self, fd: BorrowedFd<'_>, token: u64) -> Result<(), Errno> {
        Ok(epoll::add(&self.fd, fd, EventData::new_u64(token), EventFlags::OUT)?)
    }

    /// Forgets `fd`.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        Ok(epoll::delete(&self.fd, fd)?)
    }

    /// Waits until a member is ready, the time is over (`None` waits for ever), or a signal comes; writes the numbers of
    /// ready members into `ready`. Nothing ready after a signal is an empty list, not an error.
    pub fn wait(&self, ready: &mut Vec<u64>, timeout: Option<Duration>) -> Result<(), Errno> {
        ready.clear();
        let timeout = timeout.map(|t| Timespec {
            tv_sec: i64::try_from(t.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(t.subsec_nanos()),
        });
        let mut events = [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 32];
        match epoll::wait(&self.fd, &mut events, timeout.as_ref()) {
            Ok(count) => {
                // The struct is packed: fields are copied out, never borrowed.
                ready.extend(events[..count].iter().map(|event| {
                    let data = event.data;
                    data.u64()
                }));
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Epoll> for OwnedFd {
    fn from(epoll: Epoll) -> OwnedFd {
        epoll.fd
    }
}
