//! Programs on a socket: filters, and selectors of reuseport groups. They end with the socket.

use std::os::fd::AsFd;

use skep_engine::Error;
use skep_spec::ProgType;
use skep_sys::caps::Cap;
use skep_sys::socket;

use super::attachment::{Attachment, Hold, Legacy};
use super::interface;
use super::request::Request;

pub(super) fn attach(request: &Request<'_>) -> Result<Attachment, Error> {
    let reuseport = request.program.prog_type == ProgType::SK_REUSEPORT;
    let word = if reuseport { "reuseport selector" } else { "socket filter" };
    let Some(given) = request.options.socket else {
        if reuseport {
            return Err(request.error("it needs a socket of a reuseport group"));
        }
        return packet_filter(request);
    };
    let result =
        if reuseport { socket::attach_reuseport(given, request.fd) } else { socket::attach_filter(given, request.fd) };
    result.map_err(|errno| request.refused(word, errno, &[]))?;
    let own = given.try_clone_to_owned().map_err(|error| request.error("cannot keep the socket").with_source(error))?;
    // The socket may live on in other hands, so the filter is taken off it; it goes with the socket anyway.
    let undo = Legacy::new("no", None, move || {
        if reuseport { socket::detach_reuseport(own.as_fd()) } else { socket::detach_filter(own.as_fd()) }
    });
    Ok(Attachment::new(word, Hold::Legacy(undo)))
}

/// Without a socket of the caller: a packet socket of ours on an interface, whose packets the program sees.
fn packet_filter(request: &Request<'_>) -> Result<Attachment, Error> {
    interface::with(request, |interface| {
        let what = format!("socket filter on {}", interface.name);
        // CAP_NET_RAW is number 13.
        let raw = socket::packet(interface.index)
            .map_err(|errno| request.refused(&what, errno, &[skep_sys::caps::Cap(13)]))?;
        socket::attach_filter(raw.as_fd(), request.fd)
            .map_err(|errno| request.refused(&what, errno, &[Cap::NET_ADMIN]))?;
        Ok(Attachment::new(what, Hold::Descriptor(raw)))
    })
}
