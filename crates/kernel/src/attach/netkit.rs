//! netkit: a pair of interfaces with programs in between (kernel 6.7).

use skep_engine::Error;
use skep_spec::AttachType;
use skep_sys::Errno;
use skep_sys::bpf::LinkTarget;
use skep_sys::caps::Cap;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::request::Request;
use super::{interface, tc};

pub(super) fn attach(request: &Request<'_>) -> Result<Attachment, Error> {
    let attach_type = request.program.attach_type.unwrap_or(AttachType::NETKIT_PRIMARY);
    let side = if attach_type == AttachType::NETKIT_PEER { "peer" } else { "primary" };
    interface::with(request, |interface| {
        let what = format!("netkit {} {side}", interface.name);
        let (flags, extra) = tc::order(request.options.position);
        match request.link(LinkTarget::Ifindex(interface.index), attach_type, flags, extra) {
            Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
            Err(errno @ (Errno::ENXIO | Errno::EACCES)) => Err(request
                .error(format_args!("{what}: not a netkit interface, or not its primary side"))
                .with_source(errno)
                .with_hint(
                    "programs of both sides are attached at the primary; for other interfaces use `tcx/ingress`",
                )),
            Err(errno) => {
                Err(request.refused_since(what, errno, &[Cap::BPF, Cap::NET_ADMIN], KernelVersion::new(6, 7, 0)))
            }
        }
    })
}
