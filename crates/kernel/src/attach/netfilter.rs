//! netfilter programs: at a hook of IPv4 or IPv6, among the chains of nftables (kernel 6.4).

use std::os::fd::AsFd;

use skep_engine::Error;
use skep_spec::AttachType;
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget};
use skep_sys::caps::Cap;
use skep_sys::netns;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::interface;
use super::request::Request;

const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;
const NF_INET_LOCAL_IN: u32 = 1;
/// Before the ordinary filter chains (`NF_IP_PRI_FILTER` is 0). The kernel keeps the two ends for itself and conntrack's
/// own hooks.
const PRIORITY: i32 = -128;

pub(super) fn attach(request: &Request<'_>) -> Result<Attachment, Error> {
    let (pf, hooknum) = request.options.netfilter.unwrap_or((NFPROTO_IPV4, NF_INET_LOCAL_IN));
    let priority = match request.options.priority {
        0 => PRIORITY,
        priority => priority,
    };
    let what = format!("netfilter {} {} priority {priority}", family(pf), hook(hooknum));
    let create = || {
        let extra = LinkExtra::Netfilter { pf, hooknum, priority, flags: 0 };
        request.link(LinkTarget::None, AttachType::NETFILTER, 0, extra)
    };
    let result = match request.options.net_namespace {
        None => create(),
        Some(path) => {
            let namespace = interface::open_namespace(request, path)?;
            netns::within(namespace.as_fd(), create).and_then(|result| result)
        }
    };
    match result {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        Err(errno @ Errno::EAFNOSUPPORT) => Err(request
            .error(format_args!("{what}: only IPv4 (2) and IPv6 (10) have hooks for programs"))
            .with_source(errno)),
        Err(errno @ Errno::EBUSY) => Err(request
            .error(format_args!("{what}: a program is there with the same priority"))
            .with_source(errno)
            .with_hint("give another one with `--priority N`")),
        Err(errno) => Err(request.refused_since(what, errno, &[Cap::BPF, Cap::NET_ADMIN], KernelVersion::new(6, 4, 0))),
    }
}

fn family(pf: u32) -> String {
    match pf {
        NFPROTO_IPV4 => "ipv4".to_owned(),
        NFPROTO_IPV6 => "ipv6".to_owned(),
        other => format!("family {other}"),
    }
}

fn hook(number: u32) -> String {
    const NAMES: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];
    NAMES.get(number as usize).map_or_else(|| format!("hook {number}"), |name| (*name).to_owned())
}
