//! Programs that were verified against one kernel function or hook: tp_btf, fentry, fexit, fmod_ret, fsession, lsm.
//!
//! The place is fixed when the program is loaded, so attaching names none.

use skep_engine::Error;
use skep_spec::AttachType;
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget, raw_tracepoint_open};
use skep_sys::caps::Cap;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::request::Request;

/// The first kernel with `BPF_LINK_CREATE` and a cookie for these.
const COOKIE: KernelVersion = KernelVersion::new(5, 19, 0);

/// The section's word for an attach type.
pub(super) fn word(attach_type: Option<AttachType>) -> &'static str {
    match attach_type {
        Some(AttachType::TRACE_FEXIT) => "fexit",
        Some(AttachType::MODIFY_RETURN) => "fmod_ret",
        Some(AttachType::TRACE_FSESSION) => "fsession",
        Some(AttachType::TRACE_RAW_TP) => "tp_btf",
        Some(AttachType::LSM_MAC) => "lsm",
        _ => "fentry",
    }
}

pub(super) fn attach(request: &Request<'_>, what: &str) -> Result<Attachment, Error> {
    let cookie = request.options.cookie;
    let attach_type = request.program.attach_type.unwrap_or(AttachType::TRACE_FENTRY);
    let extra = LinkExtra::Tracing { target_btf_id: 0, cookie };
    let result = match request.link(LinkTarget::None, attach_type, 0, extra) {
        // Before 5.19 this was the only way; it knows no cookie.
        Err(Errno::EINVAL) if cookie == 0 => raw_tracepoint_open(None, request.fd, 0),
        other => other,
    };
    let needs = [Cap::BPF, Cap::PERFMON];
    match result {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        Err(Errno::ENOTSUPP | Errno::EOPNOTSUPP) => Err(request
            .unsupported(format_args!("{what}: this kernel cannot trace functions in this way"))
            .with_source(Errno::ENOTSUPP)
            .with_hint("it needs CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS; use a kprobe instead")),
        Err(errno @ Errno::EBUSY) => Err(request
            .error(format_args!("{what}: the function is in other hands"))
            .with_source(errno)
            .with_hint("live patching, or an freplace program on the same function, excludes tracing it")),
        Err(errno @ Errno::E2BIG) => {
            Err(request.error(format_args!("{what}: too many programs there already (38)")).with_source(errno))
        }
        Err(errno) if cookie != 0 => Err(request.refused_since(what, errno, &needs, COOKIE)),
        Err(errno) => Err(request.refused(what, errno, &needs)),
    }
}

/// `fentry.multi` and its relatives are in no kernel up to 6.18.
pub(super) fn attach_multi(request: &Request<'_>, pattern: &str) -> Result<Attachment, Error> {
    let attach_type = request.program.attach_type.unwrap_or(AttachType::TRACE_FENTRY);
    match request.link(LinkTarget::None, attach_type, 0, LinkExtra::None) {
        Ok(link) => Ok(Attachment::new(format!("{} {pattern}", word(Some(attach_type))), Hold::Link(link))),
        Err(errno) => Err(request
            .unsupported(format_args!("this kernel cannot trace the functions `{pattern}` with one program"))
            .with_source(errno)
            .with_hint("use `kprobe.multi` (kernel 5.18), or one fentry program for each function")),
    }
}
