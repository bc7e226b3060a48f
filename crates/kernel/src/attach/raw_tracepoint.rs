//! Raw tracepoints: `raw_tp/name`, which give the arguments as the kernel's code has them.

use skep_engine::Error;
use skep_sys::Errno;
use skep_sys::bpf::raw_tracepoint_open;
use skep_sys::caps::Cap;
use skep_sys::tracefs::Tracefs;
use skep_sys::version::KernelVersion;

use super::attachment::{Attachment, Hold};
use super::request::Request;
use crate::near;

/// The first kernel with a cookie for raw tracepoints.
const COOKIE: KernelVersion = KernelVersion::new(6, 10, 0);

pub(super) fn attach(request: &Request<'_>, name: &str) -> Result<Attachment, Error> {
    let what = format!("raw tracepoint {name}");
    let cookie = request.options.cookie;
    match raw_tracepoint_open(Some(&request.c_string(name)?), request.fd, cookie) {
        Ok(link) => Ok(Attachment::new(what, Hold::Link(link))),
        Err(Errno::ENOENT) => Err(absent(request, name)),
        Err(errno) if cookie != 0 => Err(request.refused_since(what, errno, &[Cap::BPF, Cap::PERFMON], COOKIE)),
        Err(errno) => Err(request.refused(what, errno, &[Cap::BPF, Cap::PERFMON])),
    }
}

fn absent(request: &Request<'_>, name: &str) -> Error {
    let error = request.absent(format_args!("this kernel has no raw tracepoint `{name}`"));
    let mut names = Vec::new();
    if let Ok(tracefs) = Tracefs::open() {
        for category in tracefs.categories().unwrap_or_default() {
            // System calls have ordinary tracepoints each, but one raw one for all of them.
            if category == "syscalls" {
                continue;
            }
            names.extend(tracefs.events(&category).unwrap_or_default());
        }
    }
    if name.starts_with("sys_enter_") || name.starts_with("sys_exit_") {
        let all = if name.starts_with("sys_enter_") { "sys_enter" } else { "sys_exit" };
        return error.with_hint(format!("use `tp/syscalls/{name}`, or `raw_tp/{all}` for every system call"));
    }
    near::hint(error, name, names.iter().map(String::as_str))
}
