//! freplace: a program in place of a global function of another program (kernel 5.5; at other targets than the one it was
//! loaded for, 5.10).

use skep_engine::Error;
use skep_spec::AttachType;
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget, raw_tracepoint_open};
use skep_sys::caps::Cap;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::request::Request;

pub(super) fn attach(request: &Request<'_>, function: &str) -> Result<Attachment, Error> {
    let what = format!("freplace {function}");
    let needs = [Cap::BPF, Cap::SYS_ADMIN];
    let result = match request.options.replaced {
        Some((program, target_btf_id)) => {
            let extra = LinkExtra::Tracing { target_btf_id, cookie: request.options.cookie };
            // The attach type of an extension is zero, which as a name is that of something else.
            request.link(LinkTarget::Fd(program), AttachType(0), 0, extra)
        }
        // The program and function that it was loaded for.
        None => raw_tracepoint_open(None, request.fd, 0),
    };
    match result {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        Err(errno @ Errno::EBUSY) => Err(request
            .error(format_args!("{what}: the function is replaced already, or being traced"))
            .with_source(errno)),
        Err(errno) => Err(request.refused_since(what, errno, &needs, KernelVersion::new(5, 10, 0))),
    }
}
