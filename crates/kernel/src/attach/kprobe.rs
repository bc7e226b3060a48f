//! Kprobes: the entry, the return or any instruction of a kernel function.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};

use skep_engine::{Error, ErrorKind};
use skep_sys::Errno;
use skep_sys::caps::Cap;
use skep_sys::kconfig::Kconfig;
use skep_sys::perf_event::{PerfEvent, ProbePmu};
use skep_sys::tracefs::Tracefs;
use skep_sys::undo::{Guard, Undo};

use super::attachment::{Attachment, Hold, Legacy};
use super::request::Request;
use super::{functions, perf_link};

pub(super) fn attach(request: &Request<'_>, function: &str, off_bytes: u64, ret: bool) -> Result<Attachment, Error> {
    let what = describe(function, off_bytes, ret);
    if ret && off_bytes != 0 {
        return Err(request.error(format_args!("{what}: a return has no offset")));
    }
    match open(request, function, off_bytes, ret)? {
        Ok((event, undo)) => {
            let mut holds = vec![perf_link::attach(request, event, request.options.cookie, &what)?];
            holds.extend(undo.map(Hold::Legacy));
            Ok(Attachment::of(what, holds))
        }
        Err(errno) => Err(refusal(request, function, &what, errno)),
    }
}

fn describe(function: &str, off_bytes: u64, ret: bool) -> String {
    let kind = if ret { "kretprobe" } else { "kprobe" };
    match off_bytes {
        0 => format!("{kind} {function}"),
        _ => format!("{kind} {function}+{off_bytes:#x}"),
    }
}

/// Opens the event of a kprobe. The inner error is the kernel's, about this function; the outer one is about kprobes at all.
pub(super) fn open(
    request: &Request<'_>,
    function: &str,
    off_bytes: u64,
    ret: bool,
) -> Result<Result<(PerfEvent, Option<Legacy>), Errno>, Error> {
    let name = request.c_string(function)?;
    match ProbePmu::find("kprobe") {
        Ok(pmu) => Ok(PerfEvent::kprobe(&pmu, &name, off_bytes, ret).map(|event| (event, None))),
        Err(_) => {
            match Tracefs::open().and_then(|tracefs| tracefs.open_append("kprobe_events").map(|file| (tracefs, file))) {
                Ok((tracefs, control)) => {
                    let kind = if ret { 'r' } else { 'p' };
                    Ok(open_legacy(&tracefs, control, kind, &format!("{function}+{off_bytes}")))
                }
                Err(_) => Err(without_kprobes(request)),
            }
        }
    }
}

/// Kernels before 4.17: an event is made by writing to a file, and stays until it is written away.
pub(super) fn open_legacy(
    tracefs: &Tracefs,
    mut control: std::fs::File,
    kind: char,
    place: &str,
) -> Result<(PerfEvent, Option<Legacy>), Errno> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("p{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let removal = format!("-:skep/{name}\n").into_bytes();
    let guard = Guard::spawn(&[Undo::Write(control.as_fd(), removal.clone())])?;
    control.write_all(format!("{kind}:skep/{name} {place}\n").as_bytes())?;
    let undo = Legacy::new("4.17", Some(guard), move || perf_link::write_away(&mut control, &removal));
    let id = tracefs.id("skep", &name)?;
    Ok((PerfEvent::tracepoint(id)?, Some(undo)))
}

fn without_kprobes(request: &Request<'_>) -> Error {
    let error = match Kconfig::read() {
        Ok(config) if !config.enabled("CONFIG_KPROBES") => {
            request.unsupported("this kernel has no kprobes (CONFIG_KPROBES is not set)")
        }
        _ => request.unsupported("this kernel offers no kprobes"),
    };
    error.with_hint("use a tracepoint near by (`tp/..`, `tp_btf/..`), or trace the function with fentry")
}

pub(super) fn refusal(request: &Request<'_>, function: &str, what: &str, errno: Errno) -> Error {
    match errno {
        Errno::ENOENT => {
            let error = request.absent(format_args!("there is no kernel function `{function}`")).with_source(errno);
            functions::near(function, error)
        }
        Errno::EADDRNOTAVAIL => request
            .error(format_args!("the kernel has several functions `{function}`"))
            .with_source(errno)
            .with_hint(format!("use `kprobe.multi/{function}` for all of them")),
        Errno::EINVAL | Errno::EILSEQ => request
            .error(format_args!("{what}: the kernel does not let this instruction be probed"))
            .with_kind(ErrorKind::Unsupported)
            .with_source(errno)
            .with_hint("some functions are kept from being probed (`/sys/kernel/debug/kprobes/blacklist`), and an offset must be that of an instruction"),
        Errno::EOPNOTSUPP => request
            .error(format_args!("{what}: the kernel cannot probe there"))
            .with_kind(ErrorKind::Unsupported)
            .with_source(errno),
        _ => request.refused(what, errno, &[Cap::PERFMON]),
    }
}
