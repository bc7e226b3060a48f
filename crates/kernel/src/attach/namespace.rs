//! Programs of a network namespace: sk_lookup (kernel 5.9) and flow_dissector (5.8).

use std::os::fd::AsFd;

use skep_engine::Error;
use skep_spec::{AttachType, ProgType};
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget};
use skep_sys::caps::Cap;
use skep_sys::netns;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::interface;
use super::request::Request;

pub(super) fn attach(request: &Request<'_>) -> Result<Attachment, Error> {
    let attach_type = match request.program.prog_type {
        ProgType::FLOW_DISSECTOR => AttachType::FLOW_DISSECTOR,
        _ => AttachType::SK_LOOKUP,
    };
    let (namespace, place) = match request.options.net_namespace {
        Some(path) => (interface::open_namespace(request, path)?, format!(" {}", path.display())),
        None => {
            let ours = netns::current().map_err(|errno| request.failed("cannot open our network namespace", errno))?;
            (ours, String::new())
        }
    };
    let what = format!("{attach_type}{place}");
    match request.link(LinkTarget::Fd(namespace.as_fd()), attach_type, 0, LinkExtra::None) {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        Err(errno @ (Errno::EEXIST | Errno::E2BIG)) => Err(request
            .error(format_args!("{what}: the network namespace has one already"))
            .with_source(errno)
            .with_hint("a flow dissector of the first namespace holds for all of them; see `bpftool link list`")),
        Err(errno) => Err(request.refused_since(what, errno, &[Cap::BPF, Cap::NET_ADMIN], KernelVersion::new(5, 9, 0))),
    }
}
