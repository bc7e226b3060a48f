//! sk_skb and sk_msg: programs on the sockets that a socket map holds. A link since kernel 6.10.

use std::os::fd::{AsFd, BorrowedFd};

use skep_engine::Error;
use skep_spec::{AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{Attach, LinkExtra, LinkTarget, Relative, prog_attach, prog_detach};
use skep_sys::caps::Cap;

use super::attachment::{Attachment, Hold, Legacy};
use super::request::Request;

pub(super) fn attach(request: &Request<'_>) -> Result<Attachment, Error> {
    let map = request.options.map.ok_or_else(|| {
        request
            .needs("it needs the socket map whose sockets it is for")
            .with_hint("define a BPF_MAP_TYPE_SOCKMAP or SOCKHASH; where there are several, name one with `--map NAME`")
    })?;
    let attach_type = request.program.attach_type.unwrap_or(match request.program.prog_type {
        ProgType::SK_MSG => AttachType::SK_MSG_VERDICT,
        _ => AttachType::SK_SKB_STREAM_VERDICT,
    });
    let what = format!("{attach_type}");
    let needs = [Cap::BPF, Cap::NET_ADMIN];
    match request.link(LinkTarget::Fd(map), attach_type, 0, LinkExtra::None) {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        // No links for socket maps: the program stays until it is taken off or the map is gone.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => {
            prog_attach(request.fd, &place(map, attach_type)).map_err(|errno| request.refused(&what, errno, &needs))?;
            let own = |fd: BorrowedFd<'_>| {
                fd.try_clone_to_owned().map_err(|error| request.error("cannot keep the map").with_source(error))
            };
            let (program, map) = (own(request.fd)?, own(map)?);
            let undo =
                Legacy::new("6.10", None, move || prog_detach(Some(program.as_fd()), &place(map.as_fd(), attach_type)));
            Ok(Attachment::new(what, Hold::Legacy(undo)))
        }
        Err(errno) => Err(request.refused(what, errno, &needs)),
    }
}

fn place(map: BorrowedFd<'_>, attach_type: AttachType) -> Attach<'_> {
    Attach {
        target: LinkTarget::Fd(map),
        attach_type: attach_type.0,
        attach_flags: 0,
        replace: None,
        relative: Relative::None,
        expected_revision: 0,
    }
}
