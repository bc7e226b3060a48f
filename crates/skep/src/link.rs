//! Attachments that are in the kernel already.

use std::path::Path;

use skep_kernel::attach::Attachment;

use crate::{Error, Link};

/// The attachment whose link is pinned at `path`. Dropping it changes nothing, since the name holds the link;
/// [`Link::detach`] takes the name away too.
///
/// ```no_run
/// # fn main() -> Result<(), skep::Error> {
/// // One process attaches and ends ...
/// let loaded = skep::Object::open("trace.bpf.o")?.load()?;
/// loaded.program("handle")?.attach()?.pin("/sys/fs/bpf/trace".as_ref())?;
/// // ... and another one takes it up.
/// skep::link_from_pinned("/sys/fs/bpf/trace")?.detach()
/// # }
/// ```
///
/// # Errors
///
/// When there is nothing at `path`, or something else.
pub fn link_from_pinned(path: impl AsRef<Path>) -> Result<Box<dyn Link>, Error> {
    Ok(Box::new(Attachment::from_pinned(path.as_ref())?))
}

/// The attachment of the link with this id, as `bpftool link` numbers them. Needs `CAP_SYS_ADMIN`. Whoever else holds the link
/// goes on holding it.
///
/// # Errors
///
/// When there is none of that id, or the right is missing.
pub fn link_from_id(id: u32) -> Result<Box<dyn Link>, Error> {
    Ok(Box::new(Attachment::from_id(id)?))
}
