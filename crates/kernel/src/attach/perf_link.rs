//! Programs on perf events: the common part of tracepoints, kprobes, uprobes and samples.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use skep_engine::Error;
use skep_spec::AttachType;
use skep_sys::Errno;
use skep_sys::bpf::{LinkExtra, LinkTarget};
use skep_sys::caps::Cap;
use skep_sys::perf_event::PerfEvent;
use skep_sys::version::KernelVersion;

use super::attachment::Hold;
use super::request::Request;

/// The first kernel with perf links and cookies.
const PERF_LINK: KernelVersion = KernelVersion::new(5, 15, 0);

/// Removes an event that was made by writing to `kprobe_events` or `uprobe_events`. It is busy until the kernel has let go
/// of the last descriptor, which may be a moment after it was closed.
pub(super) fn write_away(control: &mut File, removal: &[u8]) -> Result<(), Errno> {
    for _ in 0..100 {
        match control.write_all(removal).map_err(Errno::from) {
            Err(Errno::EBUSY) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    Err(Errno::EBUSY)
}

/// Puts the program on the event and switches it on. `what` is the place, for messages.
pub(super) fn attach(request: &Request<'_>, event: PerfEvent, cookie: u64, what: &str) -> Result<Hold, Error> {
    put(request, event, cookie, what, true)
}

/// Puts the program on the event of a tracepoint, which stays off: the kernel runs programs before it looks for events that are
/// on (`perf_trace_run_bpf_submit`, kernel/events/core.c, 6.18). One that is on is counted behind every run on its CPU, and
/// nobody reads that.
pub(super) fn attach_off(request: &Request<'_>, event: PerfEvent, cookie: u64, what: &str) -> Result<Hold, Error> {
    put(request, event, cookie, what, false)
}

fn put(request: &Request<'_>, event: PerfEvent, cookie: u64, what: &str, on: bool) -> Result<Hold, Error> {
    let enable = |event: &PerfEvent| if on { event.enable() } else { Ok(()) };
    let needs = [Cap::BPF, Cap::PERFMON];
    let extra = LinkExtra::PerfEvent { cookie };
    let hold = match request.link(LinkTarget::Fd(event.as_fd()), AttachType::PERF_EVENT, 0, extra) {
        Ok(link) => {
            enable(&event).map_err(|errno| request.refused(format_args!("cannot enable {what}"), errno, &needs))?;
            // The link holds the event; its descriptor need not stay open.
            Hold::Link(link)
        }
        Err(errno @ Errno::EEXIST) => {
            return Err(request.error(format_args!("it is attached at {what} already")).with_source(errno));
        }
        Err(errno) if KernelVersion::running() >= PERF_LINK => {
            return Err(request.refused(format_args!("the kernel does not take it at {what}"), errno, &needs));
        }
        Err(errno) if cookie != 0 => {
            return Err(request.refused_since(format_args!("a cookie at {what}"), errno, &needs, PERF_LINK));
        }
        Err(_) => {
            event.set_bpf(request.fd).and_then(|()| enable(&event)).map_err(|errno| {
                request.refused(format_args!("the kernel does not take it at {what}"), errno, &needs)
            })?;
            Hold::Event(event)
        }
    };
    Ok(hold)
}
