//! One program on many kernel functions at once: `kprobe.multi/tcp_*` (5.18), and sessions over entry and return (6.10).

use std::ffi::{CStr, CString};

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
use skep_spec::glob;

/// The word for it, the kernel's number for it, and the first kernel that has it.
fn kind(when: MultiWhen) -> (&'static str, AttachType, KernelVersion) {
    match when {
        MultiWhen::Entry => ("kprobe.multi", AttachType::TRACE_KPROBE_MULTI, KernelVersion::new(5, 18, 0)),
        MultiWhen::Return => ("kretprobe.multi", AttachType::TRACE_KPROBE_MULTI, KernelVersion::new(5, 18, 0)),
        MultiWhen::Session => ("kprobe.session", AttachType::TRACE_KPROBE_SESSION, KernelVersion::new(6, 10, 0)),
    }
}

fn flags_of(when: MultiWhen) -> u32 {
    if when == MultiWhen::Return { flags::F_KPROBE_MULTI_RETURN } else { 0 }
}

/// At functions that the caller names, each with its own cookie.
pub(super) fn at_places(request: &Request<'_>, when: MultiWhen) -> Result<Attachment, Error> {
    let places = request.options.places;
    let (word, attach_type, since) = kind(when);
    let names: Vec<CString> =
        places.iter().map(|place| request.c_string(place.function.as_str())).collect::<Result<_, _>>()?;
    let syms: Vec<&CStr> = names.iter().map(CString::as_c_str).collect();
    // The kernel sorts what it is given, cookies with it.
    let cookies: Vec<u64> = match places.iter().any(|place| place.cookie != 0) {
        true => places.iter().map(|place| place.cookie).collect(),
        false => Vec::new(),
    };
    let extra = LinkExtra::KprobeMulti { flags: flags_of(when), syms: &syms, addrs: &[], cookies: &cookies };
    let what = format!("{word} {} ({} functions)", places[0].function, places.len());
    match request.link(LinkTarget::None, attach_type, 0, extra) {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        Err(errno @ (Errno::ESRCH | Errno::ENOENT)) => {
            Err(request.absent(format_args!("{what}: one of them cannot be traced")).with_source(errno))
        }
        Err(errno) => Err(refused(request, word, &what, errno, since)),
    }
}

fn refused(request: &Request<'_>, word: &str, what: &str, errno: Errno, since: KernelVersion) -> Error {
    if errno == Errno::EOPNOTSUPP && KernelVersion::running() >= since {
        return request
            .unsupported(format_args!("{word} is not in this kernel"))
            .with_source(errno)
            .with_hint("it needs CONFIG_FPROBE");
    }
    request.refused_since(what, errno, &[Cap::BPF, Cap::PERFMON], since)
}

pub(super) fn attach(request: &Request<'_>, pattern: &str, when: MultiWhen) -> Result<Attachment, Error> {
    let (word, attach_type, since) = kind(when);
    let flags = flags_of(when);
    let create = |syms: &[&CStr], addrs: &[u64]| {
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
        Err(errno) => Err(refused(request, word, &format!("{word} {pattern}"), errno, since)),
    }
}
