//! Attachments that are in the kernel already.

use std::path::Path;

use skep_kernel::attach::{self, Attached, Attachment, Hook};
use skep_sys::bpf::{LinkInfo, LinkType};

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

/// As [`link_from_pinned`], and of this kind.
///
/// # Errors
///
/// As [`link_from_pinned`], and when it is of another kind.
pub fn link_from_pinned_as(path: impl AsRef<Path>, kind: LinkType) -> Result<Box<dyn Link>, Error> {
    let path = path.as_ref();
    let attachment = Attachment::from_pinned(path)?;
    let name = |kind: LinkType| kind.name().map_or_else(|| format!("kind {}", kind.0), str::to_owned);
    match attachment.info()?.first() {
        Some(info) if info.link_type == kind => Ok(Box::new(attachment)),
        Some(info) => {
            let (there, wanted) = (name(info.link_type), name(kind));
            Err(Error::new(format!("the link pinned at {} is of kind {there} and not {wanted}", path.display())))
        }
        None => Err(Error::new(format!("{} is no link", path.display()))),
    }
}

/// What the kernel tells about an attachment, one for each of its links: program, kind, and where it is by its kind. Empty for
/// those that have no link.
///
/// ```no_run
/// use skep::LinkKind;
///
/// # fn main() -> Result<(), skep::Error> {
/// # let loaded = skep::Object::open("x.bpf.o")?.load()?;
/// let link = loaded.program("handle")?.attach()?;
/// for info in skep::link_info(&*link)? {
///     if let LinkKind::Tracepoint { name, cookie } = info.kind {
///         println!("link {} runs program {} at {name}, cookie {cookie}", info.id, info.prog);
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// When the kernel does not tell.
pub fn link_info(link: &dyn Link) -> Result<Vec<LinkInfo>, Error> {
    link.fds().into_iter().map(attach::link_info).collect()
}

/// Every link on the machine, in the order of ids, whoever made it. Needs `CAP_SYS_ADMIN` and kernel 5.8. [`link_from_id`] opens one.
///
/// ```no_run
/// # fn main() -> Result<(), skep::Error> {
/// for link in skep::links() {
///     let link = link?;
///     println!("{}: {} of program {}", link.id, link.link_type.name().unwrap_or("?"), link.prog);
/// }
/// # Ok(())
/// # }
/// ```
pub fn links() -> impl Iterator<Item = Result<LinkInfo, Error>> {
    attach::links()
}

/// What is attached at a hook, whoever attached it, in the order of running; in the network namespace at `namespace`, `None` for our
/// own.
///
/// ```no_run
/// use skep::{Hook, TcDirection};
///
/// # fn main() -> Result<(), skep::Error> {
/// let hook = Hook::Tcx { interface: "eth0", direction: TcDirection::Ingress };
/// for program in skep::query(&hook, None)?.programs {
///     println!("program {} by link {:?}", program.id, program.link);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// When there is no such place, the kernel has no such hook, or `CAP_NET_ADMIN` is missing.
pub fn query(hook: &Hook<'_>, namespace: Option<&Path>) -> Result<Attached, Error> {
    attach::query(hook, namespace)
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
