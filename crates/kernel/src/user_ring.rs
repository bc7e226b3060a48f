//! User ring buffers: this process sends samples to a program, which takes them with `bpf_user_ringbuf_drain` (kernel 6.1).

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use skep_engine::{Error, MapHandle as _};
use skep_spec::MapType;
use skep_sys::Errno;
use skep_sys::epoll::Epoll;
use skep_sys::ringbuf::Positions;
use skep_sys::user_ringbuf::{UserRingProducer, UserSample};

use crate::map::{KernelMap, failed};

/// The sending end of a user ring buffer. Several threads may send at once.
#[derive(Debug)]
pub struct UserRing {
    producer: UserRingProducer,
    epoll: Epoll,
    name: String,
}

impl UserRing {
    /// The sending end of `map`.
    pub fn new(map: &KernelMap) -> Result<UserRing, Error> {
        let facts = map.facts();
        if facts.map_type != MapType::USER_RINGBUF {
            return Err(Error::new(format!("map `{}` is of type {}, not user_ringbuf", facts.name, facts.map_type)));
        }
        let what = |errno| failed(&format!("cannot write to map `{}`", facts.name), errno);
        let producer = UserRingProducer::new(map.as_fd(), facts.max_entries).map_err(what)?;
        let epoll = Epoll::new().map_err(what)?;
        epoll.add_writable(map.as_fd(), 0).map_err(what)?;
        Ok(UserRing { producer, epoll, name: facts.name })
    }

    /// Room for a sample of `len` bytes, to be filled and submitted; `None` when there is none now.
    pub fn reserve(&self, len: usize) -> Result<Option<UserSample<'_>>, Error> {
        match self.producer.reserve(len) {
            Ok(sample) => Ok(Some(sample)),
            Err(Errno::ENOSPC) => Ok(None),
            Err(errno) => Err(self.refused(len, errno)),
        }
    }

    /// As [`UserRing::reserve`], but waits until a program has drained enough, at most `timeout` (`None`: for ever).
    pub fn reserve_blocking(&self, len: usize, timeout: Option<Duration>) -> Result<Option<UserSample<'_>>, Error> {
        let end = timeout.map(|timeout| Instant::now() + timeout);
        let mut ready = Vec::new();
        loop {
            if let Some(sample) = self.reserve(len)? {
                return Ok(Some(sample));
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            // The kernel wakes for any room at all; with too little of it, waiting would not wait.
            let slice = left.unwrap_or(Duration::MAX).min(Duration::from_millis(50));
            self.epoll.wait(&mut ready, Some(slice)).map_err(|errno| self.refused(len, errno))?;
            if !ready.is_empty() {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }

    /// Copies `bytes` into the buffer and submits them. `false` when there is no room now.
    pub fn send(&self, bytes: &[u8]) -> Result<bool, Error> {
        let Some(mut sample) = self.reserve(bytes.len())? else { return Ok(false) };
        sample.bytes().copy_from_slice(bytes);
        sample.submit();
        Ok(true)
    }

    /// Bytes that no program has drained yet.
    pub fn pending(&self) -> u64 {
        self.producer.pending()
    }

    /// Where both ends stand, in bytes since the map was made: what the programs drained, and what was reserved here.
    pub fn positions(&self) -> Positions {
        self.producer.positions()
    }

    fn refused(&self, len: usize, errno: Errno) -> Error {
        let error = failed(&format!("cannot put {len} bytes into map `{}`", self.name), errno);
        match errno {
            Errno::E2BIG => error.with_hint("raise its `max_entries`, its size in bytes"),
            _ => error,
        }
    }
}
