//! Uprobes: the entry, the return or any instruction of a function in a program or library.

use std::ffi::CString;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use skep_engine::Error;
use skep_sys::Errno;
use skep_sys::caps::Cap;
use skep_sys::perf_event::{PerfEvent, ProbePmu};
use skep_sys::tracefs::Tracefs;
use skep_sys::undo::{Guard, Undo};

use super::attachment::{Attachment, Hold, Legacy};
use super::perf_link;
use super::request::Request;
use crate::uprobe::elf::Binary;
use crate::uprobe::{archive, search};

/// A place in a file where a probe goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// In the file, in bytes.
    pub(super) off_bytes: u64,
    /// Of the semaphore in the file, in bytes.
    pub(super) semaphore_off_bytes: Option<u64>,
    pub(super) cookie: u64,
}

pub(super) fn attach(
    request: &Request<'_>,
    path: &str,
    function: &str,
    off_bytes: u64,
    ret: bool,
) -> Result<Attachment, Error> {
    let path = binary(request, path)?;
    let mut place = off_bytes;
    if function.is_empty() {
        if archive::split(&path).is_some() {
            let start = Binary::open(&path).map_err(|error| about(request, error))?.start();
            place = start.checked_add(off_bytes).ok_or_else(|| request.error("the offset is too large"))?;
        }
    } else {
        let found =
            Binary::open(&path).and_then(|binary| binary.find(function)).map_err(|error| about(request, error))?;
        place = found.off_bytes.checked_add(off_bytes).ok_or_else(|| request.error("the offset is too large"))?;
    }
    let word = if ret { "uretprobe" } else { "uprobe" };
    let what = match (function, off_bytes) {
        ("", _) => format!("{word} {}:{off_bytes:#x}", path.display()),
        (_, 0) => format!("{word} {}:{function}", path.display()),
        _ => format!("{word} {}:{function}+{off_bytes:#x}", path.display()),
    };
    let spot = Spot { off_bytes: place, semaphore_off_bytes: None, cookie: request.options.cookie };
    Ok(Attachment::of(&what, at(request, &path, ret, spot, &what)?))
}

/// The file that the section, or the caller in its place, means.
pub(super) fn binary(request: &Request<'_>, path: &str) -> Result<PathBuf, Error> {
    let given = request.options.binary.and_then(Path::to_str).unwrap_or(path);
    // `/proc/self/exe` as a section means the process that is probed.
    let found = match (given, request.options.pid) {
        ("/proc/self/exe" | "", Some(pid)) => search::resolve(&format!("/proc/{pid}/exe"), None),
        _ => search::resolve(given, request.options.pid),
    };
    found.map_err(|error| about(request, error))
}

/// Puts the program's name before an error about a file.
pub(super) fn about(request: &Request<'_>, error: Error) -> Error {
    let mut out = request.error(&error);
    if let Some(hint) = error.hint() {
        out = out.with_hint(hint);
    }
    out
}

/// The file that the kernel is told.
pub(super) fn c_path(request: &Request<'_>, path: &Path) -> Result<CString, Error> {
    request.c_string(archive::file_of(path).into_os_string().into_vec())
}

/// One probe at one place.
pub(super) fn at(request: &Request<'_>, path: &Path, ret: bool, spot: Spot, what: &str) -> Result<Vec<Hold>, Error> {
    let c_path = c_path(request, path)?;
    let semaphore = spot.semaphore_off_bytes.unwrap_or(0);
    let opened = match ProbePmu::find("uprobe") {
        Ok(pmu) => PerfEvent::uprobe(&pmu, &c_path, spot.off_bytes, ret, semaphore, request.options.pid)
            .map(|event| (event, None)),
        Err(_) if request.options.pid.is_none() => legacy(path, ret, spot),
        Err(errno) => Err(errno),
    };
    let (event, undo) = opened.map_err(|errno| refusal(request, path, what, errno))?;
    let mut holds = vec![perf_link::attach(request, event, spot.cookie, what)?];
    holds.extend(undo.map(Hold::Legacy));
    Ok(holds)
}

/// Kernels before 4.17: an event is made by writing to a file, and stays until it is written away.
pub(super) fn legacy(path: &Path, ret: bool, spot: Spot) -> Result<(PerfEvent, Option<Legacy>), Errno> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let tracefs = Tracefs::open()?;
    let mut control = tracefs.open_append("uprobe_events")?;
    let name = format!("u{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let removal = format!("-:skep/{name}\n").into_bytes();
    let guard = Guard::spawn(&[Undo::Write(control.as_fd(), removal.clone())])?;
    let kind = if ret { 'r' } else { 'p' };
    let semaphore = spot.semaphore_off_bytes.map(|offset| format!("({offset:#x})")).unwrap_or_default();
    let file = archive::file_of(path);
    let line = format!("{kind}:skep/{name} {}:{:#x}{semaphore}\n", file.display(), spot.off_bytes);
    control.write_all(line.as_bytes())?;
    let undo = Legacy::new("4.17", Some(guard), move || perf_link::write_away(&mut control, &removal));
    Ok((PerfEvent::tracepoint(tracefs.id("skep", &name)?)?, Some(undo)))
}

pub(super) fn refusal(request: &Request<'_>, path: &Path, what: &str, errno: Errno) -> Error {
    match errno {
        Errno::ESRCH => request.error(format_args!("there is no process {}", request.options.pid.unwrap_or(0))),
        Errno::EINVAL => request
            .error(format_args!("{what}: the kernel cannot probe there"))
            .with_source(errno)
            .with_hint("the offset must be that of an instruction, in the part of the file that is code; and all who probe one place must count the same semaphore"),
        Errno::EIO => request
            .error(format_args!("{what}: the file system of `{}` cannot be probed", path.display()))
            .with_source(errno),
        _ => request.refused(what, errno, &[Cap::PERFMON]),
    }
}
