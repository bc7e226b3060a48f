//! One program on many functions of a file at once: `uprobe.multi/path:pattern` (kernel 6.6), and sessions over entry and
//! return (6.13). An older kernel gets one uprobe for each function.

use std::path::Path;

use skep_engine::Error;
use skep_spec::AttachType;
use skep_spec::program::MultiWhen;
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget, flags};
use skep_sys::caps::Cap;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::request::Request;
use super::uprobe::{self, Spot};
use crate::uprobe::elf::Binary;
use skep_spec::glob;

/// The first kernels with these links.
const MULTI: KernelVersion = KernelVersion::new(6, 6, 0);
const SESSION: KernelVersion = KernelVersion::new(6, 13, 0);

fn word(when: MultiWhen) -> &'static str {
    match when {
        MultiWhen::Entry => "uprobe.multi",
        MultiWhen::Return => "uretprobe.multi",
        MultiWhen::Session => "uprobe.session",
    }
}

pub(super) fn attach(request: &Request<'_>, path: &str, pattern: &str, when: MultiWhen) -> Result<Attachment, Error> {
    let path = uprobe::binary(request, path)?;
    let places =
        Binary::open(&path)
            .and_then(|binary| {
                if glob::is_pattern(pattern) { binary.matching(pattern) } else { Ok(vec![binary.find(pattern)?]) }
            })
            .map_err(|error| uprobe::about(request, error))?;
    let cookie = request.options.cookie;
    let spots: Vec<Spot> =
        places.iter().map(|place| Spot { off_bytes: place.off_bytes, semaphore_off_bytes: None, cookie }).collect();
    let what = format!("{} {}:{pattern} ({} functions)", word(when), path.display(), spots.len());
    Ok(Attachment::of(&what, at(request, &path, when, &spots, &what)?))
}

/// At functions or offsets of a file that the caller names, each with its own cookie.
pub(super) fn at_places(request: &Request<'_>, path: &str, when: MultiWhen) -> Result<Attachment, Error> {
    let path = uprobe::binary(request, path)?;
    let binary = Binary::open(&path).map_err(|error| uprobe::about(request, error))?;
    let mut spots = Vec::with_capacity(request.options.places.len());
    for place in request.options.places {
        let off_bytes = match place.off_bytes {
            Some(off_bytes) => off_bytes,
            None => binary.find(&place.function).map_err(|error| uprobe::about(request, error))?.off_bytes,
        };
        spots.push(Spot { off_bytes, semaphore_off_bytes: None, cookie: place.cookie });
    }
    let what = format!("{} {} ({} places)", word(when), path.display(), spots.len());
    Ok(Attachment::of(&what, at(request, &path, when, &spots, &what)?))
}

/// One program at many places of a file.
pub(super) fn at(
    request: &Request<'_>,
    path: &Path,
    when: MultiWhen,
    spots: &[Spot],
    what: &str,
) -> Result<Vec<Hold>, Error> {
    let offsets: Vec<u64> = spots.iter().map(|spot| spot.off_bytes).collect();
    let some = |wanted: bool, values: Vec<u64>| if wanted { values } else { Vec::new() };
    let cookies = some(spots.iter().any(|spot| spot.cookie != 0), spots.iter().map(|spot| spot.cookie).collect());
    let semaphores = some(
        spots.iter().any(|spot| spot.semaphore_off_bytes.is_some()),
        spots.iter().map(|spot| spot.semaphore_off_bytes.unwrap_or(0)).collect(),
    );
    let (attach_type, since) = match when {
        MultiWhen::Session => (AttachType::TRACE_UPROBE_SESSION, SESSION),
        _ => (AttachType::TRACE_UPROBE_MULTI, MULTI),
    };
    let c_path = uprobe::c_path(request, path)?;
    let extra = LinkExtra::UprobeMulti {
        path: &c_path,
        offsets: &offsets,
        ref_ctr_offsets: &semaphores,
        cookies: &cookies,
        flags: if when == MultiWhen::Return { flags::F_UPROBE_MULTI_RETURN } else { 0 },
        pid: request.options.pid.unwrap_or(0),
    };
    match request.link(LinkTarget::None, attach_type, 0, extra) {
        Ok(link) => Ok(vec![Hold::Link(link)]),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) if when != MultiWhen::Session && KernelVersion::running() < MULTI => {
            let mut holds = Vec::with_capacity(spots.len());
            for spot in spots {
                holds.extend(uprobe::at(request, path, when == MultiWhen::Return, *spot, what)?);
            }
            Ok(holds)
        }
        Err(errno) if KernelVersion::running() < since => {
            Err(request.refused_since(what, errno, &[Cap::BPF, Cap::PERFMON], since))
        }
        Err(errno) => Err(uprobe::refusal(request, path, what, errno)),
    }
}
