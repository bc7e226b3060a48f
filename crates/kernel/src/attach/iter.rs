//! Iterators: a program that is called for each task, file, socket or map entry, and writes text.

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};

use skep_engine::Error;
use skep_spec::AttachType;
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget};
use skep_sys::caps::Cap;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::cgroup;
use super::request::Request;

/// Size of `union bpf_iter_link_info`, Linux 6.18.
const INFO_LEN_BYTES: usize = 16;
/// `BPF_CGROUP_ITER_DESCENDANTS_PRE`.
const DESCENDANTS_FIRST_PARENT: u32 = 2;
/// The first kernel in which tasks and cgroups can be chosen.
const CHOOSING: KernelVersion = KernelVersion::new(6, 1, 0);

pub(super) fn attach(request: &Request<'_>, target: &str) -> Result<Attachment, Error> {
    let options = request.options;
    let mut what = format!("iterator {target}");
    let mut cgroup: Option<File> = None;
    let mut info = None;
    if is_of_map(target) {
        let map = options.map.ok_or_else(|| request.needs("it walks a map, and none was given"))?;
        info = Some(words([map.as_raw_fd() as u32, 0, 0, 0]));
    } else if target.starts_with("task") {
        if let Some(pid) = options.pid {
            what = format!("{what} of process {pid}");
            info = Some(words([0, pid, 0, 0]));
        }
    } else if target == "cgroup" {
        let folder = match options.cgroup {
            Some(path) => cgroup::open(request, path)?,
            None => cgroup::open_root(request)?,
        };
        let fd: BorrowedFd<'_> = std::os::fd::AsFd::as_fd(&folder);
        info = Some(words([DESCENDANTS_FIRST_PARENT, fd.as_raw_fd() as u32, 0, 0]));
        cgroup = Some(folder);
    }
    let extra = info.as_ref().map_or(LinkExtra::None, |info| LinkExtra::Iter(info));
    let result = request.link(LinkTarget::None, AttachType::TRACE_ITER, 0, extra);
    drop(cgroup);
    match result {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        Err(Errno::ESRCH) => Err(request.error(format_args!("there is no process {}", options.pid.unwrap_or(0)))),
        Err(errno) => Err(request.refused_since(what, errno, &[Cap::BPF, Cap::PERFMON], CHOOSING)),
    }
}

/// Whether an iterator walks one map and not the machine.
fn is_of_map(target: &str) -> bool {
    matches!(target, "bpf_map_elem" | "bpf_sk_storage_map" | "sockmap")
}

fn words(words: [u32; INFO_LEN_BYTES / 4]) -> [u8; INFO_LEN_BYTES] {
    let mut bytes = [0; INFO_LEN_BYTES];
    for (word, out) in words.iter().zip(bytes.chunks_exact_mut(4)) {
        out.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}
