//! Attaching: from a loaded program to a place in the kernel where it runs.
//!
//! Everywhere the kernel's *links* come first. A link is a descriptor: when its last holder goes, by whatever death, the
//! program is detached. Where an old kernel has no link for a kind, the older way is taken, and what that way leaves
//! behind after a SIGKILL is given to a guard process that takes it back ([`skep_sys::undo`]).
//!
//! | place | link since | before that |
//! |---|---|---|
//! | tracepoint, kprobe, uprobe, USDT, perf event | 5.15 (perf link, with a cookie) | `PERF_EVENT_IOC_SET_BPF`, ends with the event |
//! | raw tracepoint | 4.17 (`BPF_RAW_TRACEPOINT_OPEN`) | |
//! | tp_btf, fentry, fexit, fmod_ret, lsm | 5.5, 5.7; with a cookie 5.19 | |
//! | iterator | 5.8 | |
//! | kprobe.multi, kprobe.session | 5.18, 6.10 | |
//! | uprobe.multi, uprobe.session | 6.6, 6.13 | one uprobe each (not session) |
//! | XDP | 5.9 | netlink, with a guard |
//! | tc | 6.6 (tcx) | clsact filter, with a guard |
//! | netkit | 6.7 | |
//! | cgroup, lsm_cgroup | 5.7, 6.0 | `BPF_PROG_ATTACH`, with a guard |
//! | sk_lookup, flow dissector | 5.9, 5.8 | |
//! | netfilter | 6.4 | |
//! | struct_ops | 6.4 | the map's element, with a guard |
//! | sk_skb, sk_msg | 6.10 | `BPF_PROG_ATTACH`, ends with the map |
//! | freplace | 5.5, other targets 5.10 | |
//! | lirc_mode2 | none | `BPF_PROG_ATTACH`, with a guard |
//! | socket filter | none | `SO_ATTACH_BPF`, ends with the socket |
//!
//! The section of a program says where it goes; what it leaves open is in [`Options`]. One file per kind of place, and
//! [`attach`] chooses among them.

mod attachment;
mod cgroup;
mod denied;
mod freplace;
pub(crate) mod functions;
mod interface;
mod iter;
mod kprobe;
mod kprobe_multi;
mod ksyscall;
mod lirc;
mod namespace;
mod netfilter;
mod netkit;
mod options;
mod perf_event;
mod perf_link;
mod query;
mod raw_tracepoint;
mod request;
mod sock_map;
mod socket;
mod struct_ops;
mod tc;
#[cfg(test)]
mod tests;
mod tracepoint;
mod tracing;
mod uprobe;
mod uprobe_multi;
mod usdt;
mod xdp;

use std::os::fd::BorrowedFd;

pub use attachment::Attachment;
pub use interface::{Interface, interfaces};
pub use ksyscall::syscall_function;
pub use options::{Options, PerfSample, Position, Rate, UsdtMaps};
pub use query::{Attached, AttachedProgram, Hook, link_info, links, query};
pub use struct_ops::attach as attach_struct_ops;
pub use usdt::UsdtIds;

use request::Request;
use skep_engine::Error;
use skep_spec::{AttachPoint, Program};

/// Attaches a loaded program where its section and `options` say.
///
/// `fd` is the program in the kernel. The attachment lives until it is dropped or detached, or longer if it is pinned.
///
/// # Errors
///
/// The message names the program, its section and the place; the hint says what is near, which capability is missing or
/// what has to be given.
pub fn attach(program: &Program, fd: BorrowedFd<'_>, options: &Options<'_>) -> Result<Attachment, Error> {
    let request = Request { program, fd, options };
    match &program.attach {
        AttachPoint::Tracepoint { category, name } => {
            let whole = request.named(&join(category, name), "tracepoint", "CATEGORY/NAME")?;
            let (category, name) = whole.split_once(['/', ':']).unwrap_or(("", &whole));
            tracepoint::attach(&request, category, name)
        }
        AttachPoint::RawTracepoint { name } => {
            raw_tracepoint::attach(&request, &request.named(name, "raw tracepoint", "NAME")?)
        }
        AttachPoint::BtfTracepoint { name } => tracing::attach(&request, &format!("tp_btf {name}")),
        AttachPoint::Function { module, function } => {
            let function = match module {
                Some(module) => format!("{module}:{function}"),
                None => function.clone(),
            };
            tracing::attach(&request, &format!("{} {function}", tracing::word(program.attach_type)))
        }
        AttachPoint::FunctionMulti { pattern } => tracing::attach_multi(&request, pattern),
        AttachPoint::Lsm { hook } if request.is(skep_spec::AttachType::LSM_CGROUP) => {
            cgroup::attach_lsm(&request, hook)
        }
        AttachPoint::Lsm { hook } => tracing::attach(&request, &format!("lsm {hook}")),
        AttachPoint::Iter { target } => iter::attach(&request, target),
        AttachPoint::Kprobe { function, off_bytes, ret } => {
            let function = request.named(function, "kernel function", "FUNCTION")?;
            let (function, off_bytes) = skep_binary::with_offset(&function, *off_bytes);
            kprobe::attach(&request, function, off_bytes, *ret)
        }
        AttachPoint::KprobeMulti { when, .. } if !options.places.is_empty() => kprobe_multi::at_places(&request, *when),
        AttachPoint::KprobeMulti { pattern, when } => {
            kprobe_multi::attach(&request, &request.named(pattern, "kernel function", "PATTERN")?, *when)
        }
        AttachPoint::Ksyscall { name, ret } => {
            ksyscall::attach(&request, &request.named(name, "system call", "NAME")?, *ret)
        }
        AttachPoint::Uprobe { path, function, off_bytes, ret } => {
            // An offset alone is a place in the file.
            let (function, off_bytes) = match (function.as_str(), *off_bytes, options.off_bytes) {
                ("", 0, Some(off_bytes)) => (String::new(), off_bytes),
                ("", 1.., _) => (String::new(), *off_bytes),
                _ => (request.named(function, "function", "PATH:FUNCTION")?, *off_bytes),
            };
            let (function, off_bytes) = skep_binary::with_offset(&function, off_bytes);
            uprobe::attach(&request, path, function, off_bytes, *ret)
        }
        AttachPoint::UprobeMulti { path, when, .. } if !options.places.is_empty() => {
            uprobe_multi::at_places(&request, path, *when)
        }
        AttachPoint::UprobeMulti { path, pattern, when } => {
            let pattern = request.named(pattern, "function", "PATH:PATTERN")?;
            uprobe_multi::attach(&request, path, &pattern, *when)
        }
        AttachPoint::Usdt { path, provider, name } => {
            let whole = request.named(&join(provider, name), "USDT probe", "PATH:PROVIDER:NAME")?;
            let (provider, name) = whole.split_once(['/', ':']).unwrap_or(("", &whole));
            usdt::attach(&request, path, provider, name)
        }
        AttachPoint::PerfEvent => perf_event::attach(&request),
        AttachPoint::Xdp => xdp::attach(&request),
        AttachPoint::Tc { direction } => tc::attach(&request, *direction),
        AttachPoint::Netkit => netkit::attach(&request),
        AttachPoint::Cgroup => cgroup::attach(&request),
        AttachPoint::NetNamespace => namespace::attach(&request),
        AttachPoint::Netfilter => netfilter::attach(&request),
        AttachPoint::Socket => socket::attach(&request),
        AttachPoint::SockMap => sock_map::attach(&request),
        AttachPoint::Lirc => lirc::attach(&request),
        AttachPoint::Freplace { function } => freplace::attach(&request, function),
        AttachPoint::Custom { place } => {
            Err(request.error(format_args!("`{place}` is a place that only its definition knows")))
        }
        AttachPoint::StructOps => Err(request
            .error("it is a member of a struct_ops map, which is attached as a whole")
            .with_hint("attach the map")),
        AttachPoint::None => Err(request.error("its section does not say where it goes").with_hint(
            "programs that are called by others (tail calls, devmap and cpumap, syscall) are not attached themselves",
        )),
    }
}

/// Two halves of a name, or nothing when there is no second one.
fn join(first: &str, second: &str) -> String {
    if second.is_empty() { String::new() } else { format!("{first}:{second}") }
}
