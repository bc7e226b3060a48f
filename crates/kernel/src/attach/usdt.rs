//! USDT: every place of a statically defined probe, with its arguments described to the program.
//!
//! A program that uses `usdt.bpf.h` has two maps. Into `__bpf_usdt_specs` goes one description for each different way in
//! which the places keep their arguments; a place's cookie is the number of its description. A kernel without cookies
//! (before 5.15) is told by the address of the place instead, in `__bpf_usdt_ip_to_spec_id`.

use std::collections::BTreeSet;
use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::Path;

pub use skep_binary::usdt_specs::UsdtIds;
use skep_binary::usdt_specs::{self, Lease};
use skep_engine::Error;
use skep_spec::AttachType;
use skep_spec::program::MultiWhen;
use skep_sys::Errno;
use skep_sys::bpf::flags;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::options::UsdtMaps;
use super::request::Request;
use super::uprobe::{self, Spot};
use super::uprobe_multi;
use crate::uprobe::archive;
use crate::uprobe::elf::Binary;
use crate::uprobe::usdt::{self, Site};

/// The first kernel with cookies for uprobes.
const COOKIE: KernelVersion = KernelVersion::new(5, 15, 0);

pub(super) fn attach(request: &Request<'_>, path: &str, provider: &str, name: &str) -> Result<Attachment, Error> {
    let path = uprobe::binary(request, path)?;
    let binary = Binary::open(&path).map_err(|error| uprobe::about(request, error))?;
    let sites = usdt::find(&binary, provider, name).map_err(|error| uprobe::about(request, error))?;
    let what = format!("usdt {}:{provider}:{name}", path.display());
    let mut leases = Vec::new();
    let mut notes = BTreeSet::new();
    // A program that reads no argument has no maps, and needs no numbers.
    let ids = match request.options.usdt {
        Some(maps) => describe(request, maps, &sites, &mut leases, &mut notes)?,
        None => vec![0; sites.len()],
    };
    let by_cookie = KernelVersion::running() >= COOKIE;
    if let (Some(maps), false) = (request.options.usdt, by_cookie) {
        tell_addresses(request, maps, &binary, &archive::file_of(&path), &sites, &ids)?;
    }
    let spots: Vec<Spot> = sites
        .iter()
        .zip(&ids)
        .map(|(site, id)| Spot {
            off_bytes: site.off_bytes,
            semaphore_off_bytes: site.semaphore_off_bytes,
            cookie: if by_cookie { u64::from(*id) } else { 0 },
        })
        .collect();
    let mut holds = if request.is(AttachType::TRACE_UPROBE_MULTI) {
        uprobe_multi::at(request, &path, MultiWhen::Entry, &spots, &what)?
    } else {
        let mut holds = Vec::with_capacity(spots.len());
        for spot in spots {
            holds.extend(uprobe::at(request, &path, false, spot, &what)?);
        }
        holds
    };
    holds.extend(leases.into_iter().map(|lease| Hold::Lease(Box::new(lease))));
    let sites = sites.len();
    let what = if sites == 1 { what } else { format!("{what} ({sites} places)") };
    let mut attachment = Attachment::of(what, holds);
    for note in notes {
        attachment = attachment.note(note);
    }
    Ok(attachment)
}

/// Puts the descriptions into the map, and gives back the number for each place.
fn describe(
    request: &Request<'_>,
    maps: UsdtMaps<'_>,
    sites: &[Site],
    leases: &mut Vec<Lease>,
    notes: &mut BTreeSet<String>,
) -> Result<Vec<u32>, Error> {
    let limit =
        maps.specs.info().map_err(|errno| request.failed("cannot ask about `__bpf_usdt_specs`", errno))?.max_entries;
    let shape = (maps.specs.value_len(), limit);
    let described = usdt_specs::describe(maps.ids, shape, request.options.cookie, sites, |id, bytes| {
        maps.specs
            .update(&id.to_ne_bytes(), bytes, flags::ANY)
            .map_err(|errno| Error::new(format!("cannot write into `__bpf_usdt_specs`: {errno}")).with_source(errno))
    });
    let described = described.map_err(|error| uprobe::about(request, error))?;
    leases.extend(described.leases);
    notes.extend(described.notes);
    Ok(described.ids)
}

/// Writes the address of each place, as the running code has it.
fn tell_addresses(
    request: &Request<'_>,
    maps: UsdtMaps<'_>,
    binary: &Binary,
    path: &Path,
    sites: &[Site],
    ids: &[u32],
) -> Result<(), Error> {
    let relocated = binary.is_relocated().map_err(|error| uprobe::about(request, error))?;
    for (site, id) in sites.iter().zip(ids) {
        let address = if relocated {
            let pid = request.options.pid.ok_or_else(|| {
                request
                    .error("before kernel 5.15 a library or position-independent program can be probed in one process only")
                    .with_hint("name it with `-p PID`")
            })?;
            running_address(pid, path, site.off_bytes)
                .ok_or_else(|| request.error(format_args!("process {pid} has not mapped `{}`", path.display())))?
        } else {
            site.address
        };
        match maps.ip_to_spec_id.update(&address.to_ne_bytes(), &id.to_ne_bytes(), flags::NOEXIST) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => {
                return Err(request.failed("cannot write into `__bpf_usdt_ip_to_spec_id`", errno));
            }
        }
    }
    Ok(())
}

/// Where a place of a file is in a process: through the mapping of the same inode that covers it.
fn running_address(pid: u32, path: &Path, off_bytes: u64) -> Option<u64> {
    let inode = fs::metadata(path).ok()?.st_ino();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
        let mapped: u64 = fields.nth(1)?.parse().ok()?;
        let inside = off_bytes.checked_sub(offset)?;
        (mapped == inode && inside < end.checked_sub(start)?).then(|| start + inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_code_is_found_in_our_own_maps() {
        let exe = std::env::current_exe().unwrap();
        let binary = Binary::open(&exe).unwrap();
        let segment = binary.segments().unwrap().into_iter().find(|segment| segment.executable).unwrap();
        let address = running_address(std::process::id(), &exe, segment.off_bytes + 8).unwrap();
        assert!(address > 0);
        assert_eq!(running_address(std::process::id(), Path::new("/etc/passwd"), 0), None);
    }
}
