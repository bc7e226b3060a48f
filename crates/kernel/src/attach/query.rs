//! What is attached where: `BPF_PROG_QUERY`, netlink for XDP, and the list of all links.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use skep_engine::{Error, ErrorKind, TcDirection};
use skep_spec::AttachType;
use skep_spec::nearest::did_you_mean;
use skep_sys::bpf::{LinkFd, LinkId, LinkInfo, LinkTarget, ProgQuery, QueriedProgs, flags, prog_query};
use skep_sys::{Errno, netlink, netns};

use super::interface::cannot_enter;
use crate::map::failed;

/// A place where programs may be attached.
#[derive(Clone, Copy, Debug)]
pub enum Hook<'a> {
    /// A hook of a cgroup v2 (kernel 4.10).
    Cgroup {
        /// Its folder.
        folder: &'a Path,
        /// Which of its hooks.
        attach_type: AttachType,
        /// Those too that it has from the folders above, in the order in which they run.
        inherited: bool,
    },
    /// tcx at an interface (kernel 6.6).
    Tcx {
        /// Its name.
        interface: &'a str,
        /// Which way the packets go.
        direction: TcDirection,
    },
    /// A netkit pair (kernel 6.7).
    Netkit {
        /// Name of the primary interface.
        interface: &'a str,
        /// The peer's side.
        peer: bool,
    },
    /// XDP at an interface.
    Xdp {
        /// Its name.
        interface: &'a str,
    },
    /// A network namespace: `flow_dissector` (kernel 4.20) or `sk_lookup` (5.9).
    NetNamespace {
        /// Which of the two.
        attach_type: AttachType,
    },
    /// A map of sockets (kernel 5.16).
    Map {
        /// Its descriptor.
        map: BorrowedFd<'a>,
        /// Which of its hooks.
        attach_type: AttachType,
    },
}

/// What is attached at a hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// The programs, in the order in which they run.
    pub programs: Vec<AttachedProgram>,
    /// Changes with everything that is attached and detached there (tcx, netkit; cgroups since kernel 6.16); 0 where the kernel does
    /// not count.
    pub revision: u64,
}

/// A program at a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachedProgram {
    /// Its id.
    pub id: u32,
    /// Id of the link that holds it; `None` for none, and where the kernel does not tell (everywhere but tcx and netkit).
    pub link: Option<u32>,
    /// `BPF_F_*` flags that it was attached with, where the kernel tells (cgroups, 6.0).
    pub flags: u32,
}

/// Asks what is attached at a hook, in the network namespace at `namespace`; `None` means our own.
///
/// # Errors
///
/// When there is no such place, the kernel has no such hook, or `CAP_NET_ADMIN` is missing.
pub fn query(hook: &Hook<'_>, namespace: Option<&Path>) -> Result<Attached, Error> {
    let Some(path) = namespace else { return query_here(hook, None) };
    let fd = netns::open(path).map_err(|errno| cannot_enter(path).with_source(errno))?;
    let found = netns::within(fd.as_fd(), || query_here(hook, Some(fd.as_fd())));
    found.map_err(|errno| cannot_enter(path).with_source(errno))?
}

fn query_here(hook: &Hook<'_>, namespace: Option<BorrowedFd<'_>>) -> Result<Attached, Error> {
    let device = |name| found(name).map(|interface| LinkTarget::Ifindex(interface.index));
    match *hook {
        Hook::Cgroup { folder, attach_type, inherited } => {
            let shown = folder.display();
            let file = File::open(folder)
                .map_err(|error| Error::new(format!("cannot open the cgroup `{shown}`: {error}")).with_source(error))?;
            let query_flags = if inherited { flags::F_QUERY_EFFECTIVE } else { 0 };
            ask(LinkTarget::Fd(file.as_fd()), attach_type, query_flags, &format!("{attach_type} {shown}"))
        }
        Hook::Tcx { interface, direction } => {
            let attach_type = match direction {
                TcDirection::Ingress => AttachType::TCX_INGRESS,
                TcDirection::Egress => AttachType::TCX_EGRESS,
            };
            ask(device(interface)?, attach_type, 0, &format!("{attach_type} {interface}"))
        }
        Hook::Netkit { interface, peer } => {
            let attach_type = if peer { AttachType::NETKIT_PEER } else { AttachType::NETKIT_PRIMARY };
            ask(device(interface)?, attach_type, 0, &format!("{attach_type} {interface}"))
        }
        Hook::Xdp { interface } => {
            let xdp = found(interface)?.xdp;
            let by_mode = xdp.map(|xdp| xdp.by_mode).unwrap_or_default();
            let one = xdp.map(|xdp| xdp.program_id).filter(|_| by_mode == [0; 3]);
            let ids = by_mode.into_iter().chain(one).filter(|&id| id != 0);
            let programs = ids.map(|id| AttachedProgram { id, link: None, flags: 0 }).collect();
            Ok(Attached { programs, revision: 0 })
        }
        Hook::NetNamespace { attach_type } => {
            let own;
            let fd = match namespace {
                Some(fd) => fd,
                None => {
                    own = netns::current().map_err(|errno| failed("cannot open our network namespace", errno))?;
                    own.as_fd()
                }
            };
            ask(LinkTarget::Fd(fd), attach_type, 0, &format!("{attach_type} of the network namespace"))
        }
        Hook::Map { map, attach_type } => ask(LinkTarget::Fd(map), attach_type, 0, &format!("{attach_type} of a map")),
    }
}

fn ask(target: LinkTarget<'_>, attach_type: AttachType, query_flags: u32, what: &str) -> Result<Attached, Error> {
    let query = ProgQuery { target, attach_type: attach_type.0, query_flags };
    match prog_query(&query) {
        Ok(QueriedProgs { progs, attach_flags, links, revision, .. }) => {
            let programs = progs.iter().enumerate().map(|(at, id)| AttachedProgram {
                id: id.0,
                link: links.get(at).map(|id| id.0).filter(|&id| id != 0),
                flags: attach_flags.get(at).copied().unwrap_or_default(),
            });
            Ok(Attached { programs: programs.collect(), revision })
        }
        // Nothing has ever been there.
        Err(Errno::ENOENT) => Ok(Attached::default()),
        Err(errno) => {
            let error = failed(&format!("cannot ask what is attached at {what}"), errno);
            Err(match errno {
                Errno::EPERM => error.with_kind(ErrorKind::Denied).with_hint("that needs CAP_NET_ADMIN"),
                Errno::EBADF => error.with_kind(ErrorKind::Absent).with_hint("this is not a folder of cgroup v2"),
                Errno::EINVAL => error
                    .with_kind(ErrorKind::Unsupported)
                    .with_hint("this kernel has no such hook, or none at such a place"),
                _ => error,
            })
        }
    }
}

fn found(name: &str) -> Result<netlink::Interface, Error> {
    let all = super::interfaces(None)?;
    if let Some(interface) = all.iter().find(|interface| interface.name == name) {
        return Ok(interface.clone());
    }
    let error = Error::new(format!("there is no network interface `{name}`")).with_kind(ErrorKind::Absent);
    Err(match did_you_mean(name, all.iter().map(|interface| interface.name.as_str())) {
        Some(hint) => error.with_hint(hint),
        None => error,
    })
}

/// Every link on the machine, in the order of ids. Needs `CAP_SYS_ADMIN` and kernel 5.8. What goes away while it is listed is passed
/// over.
///
/// # Errors
///
/// The first item that is one ends the list.
pub fn links() -> impl Iterator<Item = Result<LinkInfo, Error>> {
    LinkId::all().filter_map(|id| {
        let info = id.and_then(|id| LinkFd::from_id(id)?.info());
        match info {
            Err(Errno::ENOENT | Errno::EAGAIN) => None,
            info => Some(info.map_err(|errno| failed("cannot list the links", errno))),
        }
    })
}

/// What the kernel tells about the link of a descriptor.
///
/// # Errors
///
/// When it is no link, or the kernel does not tell.
pub fn link_info(fd: BorrowedFd<'_>) -> Result<LinkInfo, Error> {
    LinkInfo::of(fd).map_err(|errno| failed("the kernel does not tell about the link", errno))
}
