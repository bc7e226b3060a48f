//! tc: a program on what an interface receives or sends, as an skb.
//!
//! Kernel 6.6 has tcx, a list of links at each interface and direction. Before, a program is a filter of the clsact qdisc.
//! A filter is no link, so a guard takes it away if this process dies; the qdisc goes with it if it was made here and no
//! filter of another has come meanwhile.

use std::os::fd::AsFd;

use skep_engine::{Error, TcDirection};
use skep_spec::{AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget, Relative, flags};
use skep_sys::caps::Cap;
use skep_sys::netlink::{self, Filter, Interface, Message, RTM_NEWTFILTER, Socket, TC_EGRESS, TC_INGRESS};
use skep_sys::undo::{Guard, Undo};

use super::attachment::{Attachment, Hold, Legacy};
use super::request::Request;
use super::{Position, interface};

pub(super) fn attach(request: &Request<'_>, direction: Option<TcDirection>) -> Result<Attachment, Error> {
    if request.program.prog_type == ProgType::SCHED_ACT {
        return Err(request
            .error("a tc action runs only from another filter")
            .with_hint("use `SEC(\"tc\")`, which classifies and acts at once"));
    }
    let direction = direction.or(request.options.tc_direction).unwrap_or(TcDirection::Ingress);
    let (word, attach_type) = match direction {
        TcDirection::Ingress => ("ingress", AttachType::TCX_INGRESS),
        TcDirection::Egress => ("egress", AttachType::TCX_EGRESS),
    };
    interface::with(request, |interface| {
        let (flags, extra) = order(request.options.position);
        match request.link(LinkTarget::Ifindex(interface.index), attach_type, flags, extra) {
            Ok(link) => Ok(Attachment::new(format!("tcx {} {word}", interface.name), Hold::Link(link))),
            // No tcx here: the attach type is unknown, or tcx was not compiled in.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => {
                let hold = clsact(request, interface, direction).map_err(|error| {
                    let message = error.message.map(|message| format!(": {message}")).unwrap_or_default();
                    let why = format_args!("tc {} {word}{message}", interface.name);
                    request.refused(why, error.errno, &[Cap::BPF, Cap::NET_ADMIN])
                })?;
                Ok(Attachment::new(format!("tc {} {word} (clsact)", interface.name), hold))
            }
            Err(errno) => {
                let why = format_args!("tcx {} {word}", interface.name);
                Err(request.refused(why, errno, &[Cap::BPF, Cap::NET_ADMIN]))
            }
        }
    })
}

/// The flags and the neighbour of a place in a list of links.
pub(super) fn order(position: Position) -> (u32, LinkExtra<'static>) {
    let (flags, relative) = match position {
        Position::Last => return (0, LinkExtra::None),
        Position::First => (flags::F_BEFORE, Relative::None),
        Position::Before(id) => (flags::F_BEFORE, Relative::Id(id)),
        Position::After(id) => (flags::F_AFTER, Relative::Id(id)),
        Position::BeforeLink(id) => (flags::F_BEFORE | flags::F_LINK, Relative::Id(id)),
        Position::AfterLink(id) => (flags::F_AFTER | flags::F_LINK, Relative::Id(id)),
    };
    (flags, LinkExtra::Ordered { relative, expected_revision: 0 })
}

pub(super) fn clsact(
    request: &Request<'_>,
    interface: &Interface,
    direction: TcDirection,
) -> Result<Hold, netlink::Error> {
    let index = interface.index;
    let parent = match direction {
        TcDirection::Ingress => TC_INGRESS,
        TcDirection::Egress => TC_EGRESS,
    };
    let socket = Socket::open()?;
    let made = match socket.send(Message::add_clsact(index)) {
        Ok(()) => true,
        Err(error) if error.errno == Errno::EEXIST => false,
        Err(error) => return Err(error),
    };
    // From here on the qdisc is taken back on every way out.
    let mut leftovers = Leftovers { socket, index, made, filter: None };
    let priority = u16::try_from(request.options.priority).unwrap_or(0);
    let filter = leftovers.socket.add_filter(index, parent, priority, 0, &request.program.name, request.fd)?;
    leftovers.filter = Some(filter);
    // The guard is a process: a few milliseconds in which a SIGKILL would leave the filter.
    let guard = leftovers.guard()?;
    Ok(Hold::Legacy(Legacy::new("6.6", Some(guard), move || leftovers.remove().map_err(|error| error.errno))))
}

/// What we made on an interface, taken away when dropped.
struct Leftovers {
    socket: Socket,
    index: u32,
    made: bool,
    filter: Option<Filter>,
}

impl Leftovers {
    fn remove(&mut self) -> Result<(), netlink::Error> {
        if let Some(filter) = self.filter.take() {
            match self.socket.send(Message::delete_filter(&filter)) {
                // Somebody, or the interface's end, was faster.
                Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENODEV | Errno::EINVAL) => {}
                other => other?,
            }
        }
        if !std::mem::take(&mut self.made) {
            return Ok(());
        }
        for parent in [TC_INGRESS, TC_EGRESS] {
            if !self.socket.filters(self.index, parent).unwrap_or_default().is_empty() {
                return Ok(());
            }
        }
        match self.socket.send(Message::delete_clsact(self.index)) {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENODEV | Errno::EINVAL) => Ok(()),
            other => other,
        }
    }

    fn guard(&self) -> Result<Guard, netlink::Error> {
        // A socket of its own: the child must not read answers that are ours.
        let socket = Socket::open()?;
        let mut undo = Vec::new();
        if let Some(filter) = &self.filter {
            undo.push(Undo::Write(socket.as_fd(), Message::delete_filter(filter).into_bytes()));
        }
        if self.made {
            undo.push(Undo::Netlink {
                socket: socket.as_fd(),
                dumps: [TC_INGRESS, TC_EGRESS]
                    .map(|parent| Message::list_filters(self.index, parent).into_bytes())
                    .into(),
                listed: RTM_NEWTFILTER,
                request: Message::delete_clsact(self.index).into_bytes(),
                keep: Vec::new(),
            });
        }
        Ok(Guard::spawn(&undo)?)
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        // Nobody can be told here; `Attachment::detach` tells.
        let _ = self.remove();
    }
}
