//! Locked memory. Until kernel 5.11 maps and programs counted against `RLIMIT_MEMLOCK`; since then the memory cgroup counts
//! them and the limit means nothing to BPF.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Errno;
use crate::version::KernelVersion;

/// Whether this kernel counts BPF memory against the limit. Distributions that took the change back into older kernels are
/// asked to raise a limit that they ignore, which does no harm.
pub fn is_counted() -> bool {
    KernelVersion::running() < KernelVersion::new(5, 11, 0)
}

/// Lifts the limit for this process. Needs `CAP_SYS_RESOURCE` when the hard limit is finite.
pub fn lift() -> Result<(), Errno> {
    Ok(setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?)
}

/// The limit in bytes; `None` for no limit.
pub fn current() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}
