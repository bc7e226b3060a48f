//! One program on many kernel functions at once: `kprobe.multi/tcp_*` (5.18), and sessions over entry and return (6.10).

use skep_engine::Error;
use skep_spec::AttachType;
use skep_spec::program::MultiWhen;
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget, flags};
use skep_sys::caps::Cap;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::functions;
use super::request::Request;
use crate::glob;

pub(super) fn attach(request: &Request<'_>, pattern: &str, when: MultiWhen) -> Result<Attachment, Error> {
    let (word, attach_type, since) = match when {
        MultiWhen::Entry => ("kprobe.multi", AttachType::TRACE_KPROBE_MULTI, KernelVersion::new(5, 18, 0)),
        MultiWhen::Return => ("kretprobe.multi", AttachType::TRACE_KPROBE_MULTI, KernelVersion::new(5, 18, 0)),
        MultiWhen::Session => ("kprobe.session", AttachType::TRACE_KPROBE_SESSION, KernelVersion::new(6, 10, 0)),
    };
    let flags = if when == MultiWhen::Return { flags::F_KPROBE_MULTI_RETURN } else { 0 };
    let create = |syms: &[&std::ffi::CStr], addrs: &[u64]| {
        let cookies = match request.options.cookie {
            0 => Vec::new(),
            cookie => vec![cookie; syms.len().max(addrs.len())],
        };
        let extra = LinkExtra::KprobeMulti { flags, syms, addrs, cookies: &cookies };
        request.link(LinkTarget::None, attach_type, 0, extra)
    };
    let (result, count) = if glob::is_pattern(pattern) {
        let addresses = functions::matching(pattern)
            .map_err(|error| request.error("cannot list the kernel's functions").with_source(error))?;
        if addresses.is_empty() {
            return Err(request
                .absent(format_args!("no kernel function that can be traced matches `{pattern}`"))
                .with_hint("`grep NAME /proc/kallsyms` shows what the kernel has; not all of that can be traced"));
        }
        (create(&[], &addresses), addresses.len())
    } else {
        (create(&[&request.c_string(pattern)?], &[]), 1)
    };
    match result {
        Ok(link) => Ok(Attachment::new(format!("{word} {pattern} ({count} functions)"), Hold::Link(link))),
        Err(errno @ (Errno::ESRCH | Errno::ENOENT)) if !glob::is_pattern(pattern) => {
            let error = request.absent(format_args!("there is no kernel function `{pattern}` that can be traced"));
            Err(functions::near(pattern, error.with_source(errno)))
        }
        Err(errno @ Errno::EOPNOTSUPP) if KernelVersion::running() >= since => Err(request
            .unsupported(format_args!("{word} is not in this kernel"))
            .with_source(errno)
            .with_hint("it needs CONFIG_FPROBE")),
        Err(errno) => {
            Err(request.refused_since(format_args!("{word} {pattern}"), errno, &[Cap::BPF, Cap::PERFMON], since))
        }
    }
}
