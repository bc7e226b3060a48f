//! XDP: a program at the earliest point of an interface.
//!
//! Native mode runs in the driver, generic mode after the packet became an skb. A driver that has native mode may still
//! refuse it (packets larger than a page, too few queues), so in automatic mode generic follows a refusal of native.

use std::os::fd::AsFd;

use skep_engine::{Error, XdpMode};
use skep_spec::AttachType;
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget};
use skep_sys::caps::Cap;
use skep_sys::netlink::{self, Interface, Message, Socket};
use skep_sys::undo::{Guard, Undo};
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold, Legacy};
use super::interface;
use super::request::Request;

/// The first kernel with links for XDP.
const LINK: KernelVersion = KernelVersion::new(5, 9, 0);

pub(super) fn attach(request: &Request<'_>) -> Result<Attachment, Error> {
    interface::with(request, |interface| {
        let (native, generic) = (netlink::XDP_FLAGS_DRV_MODE, netlink::XDP_FLAGS_SKB_MODE);
        let modes: &[(u32, &str)] = match request.options.xdp_mode {
            XdpMode::Auto => &[(native, "native"), (generic, "generic")],
            XdpMode::Native => &[(native, "native")],
            XdpMode::Generic => &[(generic, "generic")],
        };
        let mut refusal = None;
        for (flags, mode) in modes {
            match attach_mode(request, interface, *flags) {
                Ok(hold) => return Ok(Attachment::new(format!("xdp {} ({mode})", interface.name), hold)),
                // Another program there, or no rights: the other mode would not help.
                Err(error @ Refusal { errno: Errno::EBUSY | Errno::EEXIST | Errno::EPERM, .. }) => {
                    refusal = Some((error, *mode));
                    break;
                }
                Err(error) => refusal = Some((error, *mode)),
            }
        }
        let (refusal, mode) = refusal.unwrap_or((Refusal::from(Errno::EINVAL), "native"));
        Err(explain(request, interface, refusal, mode))
    })
}

pub(super) struct Refusal {
    pub(super) errno: Errno,
    message: Option<String>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Refusal {
        Refusal { errno, message: None }
    }
}

impl From<netlink::Error> for Refusal {
    fn from(error: netlink::Error) -> Refusal {
        Refusal { errno: error.errno, message: error.message }
    }
}

fn attach_mode(request: &Request<'_>, interface: &Interface, flags: u32) -> Result<Hold, Refusal> {
    match request.link(LinkTarget::Ifindex(interface.index), AttachType::XDP, flags, LinkExtra::None) {
        Ok(link) => Ok(Hold::Link(link)),
        Err(Errno::EINVAL) if KernelVersion::running() < LINK => legacy(request, interface, flags),
        Err(errno) => Err(errno.into()),
    }
}

/// By netlink, only if nothing is there; and away again only if it is still ours, where the kernel can tell (5.7).
pub(super) fn legacy(request: &Request<'_>, interface: &Interface, flags: u32) -> Result<Hold, Refusal> {
    let socket = Socket::open()?;
    let program = request.fd.try_clone_to_owned().map_err(Errno::from)?;
    let index = interface.index;
    let removal = if KernelVersion::running() >= KernelVersion::new(5, 7, 0) {
        Message::set_xdp(index, None, flags | netlink::XDP_FLAGS_REPLACE, Some(program.as_fd()))
    } else {
        Message::set_xdp(index, None, flags, None)
    };
    let undo = Undo::Netlink {
        socket: socket.as_fd(),
        dumps: Vec::new(),
        listed: 0,
        request: removal.clone().into_bytes(),
        keep: vec![program.as_fd()],
    };
    let guard = Guard::spawn(&[undo])?;
    socket.send(Message::set_xdp(index, Some(request.fd), flags | netlink::XDP_FLAGS_UPDATE_IF_NOEXIST, None))?;
    Ok(Hold::Legacy(Legacy::new("5.9", Some(guard), move || {
        let result = socket.send(removal).map_err(|error| error.errno);
        drop(program);
        result
    })))
}

fn explain(request: &Request<'_>, interface: &Interface, refusal: Refusal, mode: &str) -> Error {
    let what = format!("xdp {} ({mode})", interface.name);
    let message = refusal.message.map(|message| format!(": {message}")).unwrap_or_default();
    match refusal.errno {
        errno @ (Errno::EBUSY | Errno::EEXIST) => {
            let holder = match interface.xdp {
                Some(xdp) if xdp.program_id != 0 => format!("program {} is", xdp.program_id),
                _ => "another program is".to_owned(),
            };
            request.error(format_args!("{holder} on {} already{message}", interface.name)).with_source(errno).with_hint(
                format!(
                    "look at it with `bpftool net list dev {0}`, take it away with `ip link set dev {0} xdp off`",
                    interface.name
                ),
            )
        }
        errno @ (Errno::EOPNOTSUPP | Errno::ENOTSUPP) => request
            .error(format_args!("{what}: the driver does not do that{message}"))
            .with_source(errno)
            .with_hint("use generic mode: `--xdp-mode generic`"),
        errno => request.refused(format_args!("{what}{message}"), errno, &[Cap::BPF, Cap::NET_ADMIN]),
    }
}
