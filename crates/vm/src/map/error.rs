//! What can be wrong with a map or with what is asked of one: an error number of the kernel each.

use std::fmt;

use crate::SpaceError;

/// Why something cannot be done with a map.
#[derive(Debug)]
#[non_exhaustive]
pub enum MapError {
    /// There is no such element (`ENOENT`).
    NotFound,
    /// There is such an element already (`EEXIST`).
    Exists,
    /// No element more fits, or an index is too large (`E2BIG`).
    Full,
    /// No element more fits, in a map that says so in this way (`ENOSPC`).
    NoSpace,
    /// No memory for it right now (`ENOMEM`).
    NoMemory,
    /// Something else has to happen before (`EAGAIN`).
    Again,
    /// The map was frozen (`EPERM`).
    Frozen,
    /// Maps of this kind cannot do that (`EOPNOTSUPP`).
    Unsupported,
    /// It makes no sense (`EINVAL`): what, in words.
    Invalid(&'static str),
    /// The values do not fit the programs' memory (`ENOMEM`).
    Space(SpaceError),
}

impl MapError {
    /// The number that the kernel has for it.
    pub fn errno(&self) -> i32 {
        let errno = match self {
            MapError::NotFound => rustix::io::Errno::NOENT,
            MapError::Exists => rustix::io::Errno::EXIST,
            MapError::Full => rustix::io::Errno::TOOBIG,
            MapError::NoSpace => rustix::io::Errno::NOSPC,
            MapError::NoMemory | MapError::Space(_) => rustix::io::Errno::NOMEM,
            MapError::Again => rustix::io::Errno::AGAIN,
            MapError::Frozen => rustix::io::Errno::PERM,
            MapError::Unsupported => rustix::io::Errno::OPNOTSUPP,
            MapError::Invalid(_) => rustix::io::Errno::INVAL,
        };
        errno.raw_os_error()
    }

    /// What a helper returns for it.
    pub(crate) fn returned(&self) -> u64 {
        i64::from(-self.errno()) as u64
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::NotFound => f.write_str("there is no such element"),
            MapError::Exists => f.write_str("there is such an element already"),
            MapError::Full => f.write_str("the map is full, or the index is too large"),
            MapError::NoSpace => f.write_str("the map is full"),
            MapError::NoMemory => f.write_str("there is no memory left for it"),
            MapError::Again => f.write_str("try again later"),
            MapError::Frozen => f.write_str("the map is frozen"),
            MapError::Unsupported => f.write_str("maps of this kind cannot do that"),
            MapError::Invalid(what) => f.write_str(what),
            MapError::Space(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MapError {}

impl From<SpaceError> for MapError {
    fn from(error: SpaceError) -> MapError {
        MapError::Space(error)
    }
}
